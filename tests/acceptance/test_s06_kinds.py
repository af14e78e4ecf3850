"""S6: where the calls of each kind of task run, and what can be a task."""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Generator
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.observed import await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")


def on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("policy", [{}, {"retry": 1}, {"cache": cs.InputsCache()}])
@pytest.mark.parametrize("mapped", [False, True])
def test_async_tasks_run_on_the_engines_loop(mapped: bool, policy: dict[str, Any]) -> None:  # S6
    async def where(x: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return threading.get_ident(), id(asyncio.get_running_loop())

    async def main() -> None:
        here = (threading.get_ident(), id(asyncio.get_running_loop()))
        task = cs.task(where, name=f"where{mapped}{sorted(policy)}", **policy)
        target = task.map([1, 2]) if mapped else [task(1), task(2)]
        found = await cs.arun(target, log_level="CRITICAL", cache=cs.InMemoryCacheBackend())
        assert found == [here, here]

    asyncio.run(main())


@pytest.mark.parametrize("policy", [{}, {"retry": 1}])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("executor", [None, "thread"])
def test_plain_tasks_run_on_worker_threads(executor: str | None, mapped: bool, policy: dict[str, Any]) -> None:  # S6
    def where(x: int) -> tuple[bool, bool]:
        return threading.current_thread() is threading.main_thread(), on_loop()

    task = cs.task(where, executor=executor, **policy)
    assert run(task.map([1, 2]) if mapped else [task(1), task(2)]) == [(False, False)] * 2


@pytest.mark.parametrize("policy", [{}, {"retry": 1}])
@pytest.mark.parametrize("mapped", [False, True])
def test_inline_tasks_run_on_the_loops_thread(mapped: bool, policy: dict[str, Any]) -> None:  # S6
    def where(x: int) -> int:
        return threading.get_ident()

    task = cs.task(where, executor="inline", **policy)
    assert run(task.map([1, 2]) if mapped else [task(1), task(2)]) == [threading.get_ident()] * 2


@pytest.mark.needs_extra("process")
def test_process_tasks_run_in_another_process() -> None:  # S6
    task = cs.task(os.getpid, executor="process")
    by_value = cs.task(lambda x: (os.getpid(), x + 1), executor="process")
    first, (second, value) = run([task(), by_value(1)])
    assert os.getpid() not in (first, second)
    assert value == 2


@pytest.mark.needs_extra("process")
def test_programs_without_a_main_guard_work(tmp_path: Path) -> None:  # S6
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "import cascade as cs\n"
        "print('top')\n"
        "@cs.task(executor='process')\n"
        "def double(x: int) -> int:\n"
        "    return 2 * x if os.getpid() != parent else -1\n"
        "parent = os.getpid()\n"
        "print(cs.run(double.map(x=[1, 2, 3]), log_level='CRITICAL'))\n"
    )
    ended = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(cs.__file__).parents[1])},
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout == "top\n[2, 4, 6]\n"


def test_an_executor_of_ones_own_can_be_named() -> None:  # S6
    class Noting:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def execute(self, node: Any, args: Any, kwargs: Any) -> Any:
            self.seen.append(node.name)
            return node.task.function(*args, **kwargs)

        async def close(self) -> None:
            pass

    async def main() -> None:
        noting = Noting()
        async with cs.create_engine(executors={"noting": noting}) as engine:
            there = cs.task(lambda x: x + 1, name="there", executor="noting")
            here = cs.task(lambda x: x + 1, name="here")
            assert await engine.run(there(here(1))) == 3
        assert noting.seen == ["there"]

    asyncio.run(main())


def test_an_unknown_executor_is_an_error_before_anything_runs() -> None:  # S6, S30
    ran: list[int] = []
    first = cs.task(lambda: ran.append(1), name="first")
    lost = cs.task(lambda x: x, name="lost", executor="moon")
    with pytest.raises(cs.ValidationError, match=r"'lost'.*'moon'.*thread"):
        run(lost(first()))
    assert ran == []


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_an_async_task_cannot_ask_for_a_thread_or_a_process(executor: str) -> None:  # S6, S30
    async def fetch() -> None: ...

    with pytest.raises(cs.ValidationError, match=r"'fetch'.*coroutine"):
        run(cs.task(fetch, executor=executor)())


@pytest.mark.parametrize("policy", [{}, {"retry": 1}])
def test_a_plain_task_that_blocks_does_not_block_the_loop(policy: dict[str, Any]) -> None:  # S6
    opened = threading.Event()
    blocks = cs.task(lambda: opened.wait(30), name="blocks", **policy)

    async def opens() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        opened.set()

    assert promptly(lambda: run([blocks(), cs.task(opens)()])) == [True, None]


@pytest.mark.parametrize("policy", [{}, {"retry": 1}])
def test_a_coroutine_lives_in_one_asyncio_task(policy: dict[str, Any]) -> None:  # S6
    @cs.task(**policy)
    async def lives() -> bool:
        before = asyncio.current_task()
        async with asyncio.timeout(30):
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        return before is asyncio.current_task() and before is not None

    assert run([lives() for _ in range(20)]) == [True] * 20


def test_asyncio_timeouts_work_inside_async_tasks() -> None:  # S6
    @cs.task
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "gave up"
        return "waited"

    @cs.task
    async def goes_on(_: str) -> str:
        await asyncio.sleep(0)
        return "fine"

    value = gives_up()
    assert run([value, goes_on(value), gives_up()]) == ["gave up", "fine", "gave up"]


def test_what_one_coroutine_does_to_its_asyncio_task_does_not_reach_the_next() -> None:  # S6, S7
    @cs.task
    async def survives_its_own_cancellation() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return

    @cs.task
    async def has_failing_children(_: None) -> str:
        async def fails() -> None:
            raise ValueError("child")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.Event().wait()
        except ExceptionGroup:
            return "the group's own error"
        return "none"

    assert promptly(lambda: run(has_failing_children(survives_its_own_cancellation()))) == "the group's own error"


def test_many_coroutines_wait_at_the_same_time() -> None:  # S6, S8
    async def main() -> None:
        arrived = 0
        everybody = asyncio.Event()

        async def meets(_: int) -> None:
            nonlocal arrived
            arrived += 1
            if arrived == 500:
                everybody.set()
            await everybody.wait()

        task = cs.task(meets)
        await asyncio.wait_for(
            cs.arun([task(i) for i in range(250)] + [task.map(range(250))], log_level="CRITICAL"), 30
        )

    asyncio.run(main())


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    @cs.task
    def plus(self, x: int) -> int:
        return self.start + x

    @cs.task
    async def times(self, x: int) -> int:
        await asyncio.sleep(0)
        return self.start * x

    @staticmethod
    @cs.task
    def double(x: int) -> int:
        return 2 * x

    def minus(self, x: int) -> int:
        return self.start - x

    def __call__(self, x: int) -> int:
        return 100 + self.start + x


class AsyncCallable:
    async def __call__(self, x: int) -> int:
        await asyncio.sleep(0)
        return x + 1


async def awaited_sum(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


def test_methods_lambdas_builtins_partials_and_callables_can_be_tasks() -> None:  # S6
    counter = Counter(10)
    assert run([counter.plus(1), counter.times(2), Counter.double(3), Counter.plus(counter, 4)]) == [11, 20, 6, 14]
    assert run(cs.task(counter.minus)(1)) == 9
    assert run(cs.task(counter)(1)) == 111
    assert run(cs.task(AsyncCallable())(1)) == 2
    assert run(cs.task(lambda x: x + 1)(1)) == 2
    assert run(cs.task(sum)([cs.task(len)("ab"), 1])) == 3
    assert run(cs.task(functools.partial(operator.add, 1))(2)) == 3
    assert run(cs.task(functools.partial(awaited_sum, 1))(2)) == 3
    assert run(cs.task(int)("5")) == 5
    assert run(cs.task([].append)(1)) is None
    assert run(counter.plus.map(x=[1, 2])) == [11, 12]


def test_asyncness_is_seen_through_partials_and_bound_methods() -> None:  # S6
    class Client:
        async def get(self) -> int:
            return 1

    for function in (functools.partial(awaited_sum, 1), Client().get, AsyncCallable(), awaited_sum):
        assert cs.task(function).is_async


def test_sixty_four_calls_block_at_once_by_default() -> None:  # S6
    gate = threading.Barrier(64)
    waits = cs.task(lambda _: gate.wait(30) >= 0, name="waits")
    assert promptly(lambda: run([waits(i) for i in range(64)])) == [True] * 64


def test_no_more_than_max_workers_run_at_once() -> None:  # S6
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    @cs.task
    def works(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(30)
        with lock:
            running -= 1

    promptly(lambda: run([works(i) for i in range(12)] + [works.map(range(12))], max_workers=3))
    assert most == 3


def test_threads_are_started_as_needed() -> None:  # S6
    seen: set[int] = set()

    @cs.task
    def note(x: int) -> int:
        seen.add(threading.get_ident())
        return x + 1

    value = note(0)
    for _ in range(200):
        value = note(value)
    assert run(value, max_workers=64) == 201
    assert len(seen) <= 2


class Promise:
    def __await__(self) -> Generator[Any, Any, None]:
        yield


@pytest.mark.parametrize("policy", [{}, {"retry": 1}, {"executor": "inline"}])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("what", ["coroutine", "object", "lambda"])
def test_an_awaitable_returned_by_a_sync_task_is_an_error(
    what: str, mapped: bool, policy: dict[str, Any]
) -> None:  # S6
    def gives(x: int) -> Awaitable[Any]:
        return awaited_sum(x, 1) if what == "coroutine" else Promise()

    task = (
        cs.task(lambda x: awaited_sum(x, 1), name="gives", **policy) if what == "lambda" else cs.task(gives, **policy)
    )
    with pytest.raises(cs.TaskResultError, match=r"'gives'.*async def"):
        run(task.map([1]) if mapped else task(1))


def test_an_awaitable_returned_by_an_async_task_is_an_error_too() -> None:  # S6
    async def gives() -> Any:
        return Promise()

    with pytest.raises(TypeError, match="gives"):
        run(cs.task(gives)())


def test_generator_functions_are_refused_where_they_are_declared() -> None:  # S6, S30
    async def slow_numbers() -> Any:
        yield 1

    def numbers(last: int) -> Any:
        yield last

    class Source:
        def numbers(self) -> Any:
            yield 1

    for function in (numbers, slow_numbers, functools.partial(numbers, 1), Source().numbers):
        with pytest.raises(cs.DeclarationError, match=r"numbers' is an? (async )?generator function") as caught:
            cs.task(function)
        assert "wrong:" in str(caught.value)
        assert "@cs.resource" in str(caught.value)


def test_sync_and_async_tasks_feed_each_other() -> None:  # S6
    @cs.task
    async def slow(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    quick = cs.task(lambda x: x + 1, name="quick")
    inline = cs.task(lambda x: x + 1, name="inline", executor="inline")
    value: Any = 0
    for place in range(300):
        value = (slow, quick, inline)[place % 3](value)
    assert run(value) == 300


def test_a_worker_that_waits_does_not_hold_up_coroutines_that_it_waits_for() -> None:  # S6, S8
    opened = threading.Event()

    @cs.task
    async def opens(_: Any) -> None:
        opened.set()

    waits = cs.task(lambda: await_sign(opened), name="waits")
    promptly(lambda: run([waits(), opens(cs.task(lambda: 1)())], max_workers=2))


@pytest.mark.parametrize("leaves", ["a cancellation", "a timeout that came too late"])
def test_a_coroutine_that_is_being_cancelled_when_it_ends_harms_no_other(leaves: str) -> None:  # S6
    @cs.task
    async def first() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if leaves != "a cancellation":
            task.uncancel()
        return "first"

    @cs.task
    async def other(x: int) -> int:
        await asyncio.sleep(0)
        return x

    values = [first(), *(other(x) for x in range(3))]
    assert promptly(lambda: run(values)) == ["first", 0, 1, 2]
