"""S15: the first failure stops the run, or the run goes on with all that does not depend on a failure."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished, TaskExecutionFinished
from tests.acceptance.kinds import KINDS, Log, each_kind, made
from tests.acceptance.observed import Trace, await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")


class Custom(Exception):
    """An error with a constructor that cannot be guessed, and with state."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code


def fails() -> None:
    raise Custom(7, hint="look here")


# Stopping.


@each_kind
@pytest.mark.parametrize("mapped", [False, True])
def test_the_original_exception_is_raised_with_its_type_untouched(kind: str, mapped: bool) -> None:  # S15
    error = Custom(7, hint="x")

    def raises(*_: Any) -> None:
        raise error

    task = made(kind, raises)
    with pytest.raises(Custom) as caught:
        run(gather(task.map([1]) if mapped else task()))
    assert caught.value is error
    assert type(caught.value) is Custom
    assert caught.value.code == 7


@each_kind
def test_the_traceback_shows_the_users_line(kind: str) -> None:  # S15
    with pytest.raises(Custom) as caught:
        run(made(kind, fails)())
    frames = [entry.name for entry in caught.traceback]
    assert frames[-1] == "fails"


@each_kind
def test_causes_and_contexts_are_kept(kind: str) -> None:  # S15
    def chained() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer") as caught:
        run(made(kind, chained)())
    assert isinstance(caught.value.__cause__, KeyError)


@each_kind
def test_notes_tell_task_line_and_path_from_the_target(kind: str) -> None:  # S15
    task = made(kind, fails, name="falls")
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    failing = task()
    middle = gather(failing).named("middle")
    with pytest.raises(Custom) as caught:
        run(gather(middle).named("top"))
    notes = "\n".join(caught.value.__notes__)
    assert "'falls'" in notes
    assert f"{__file__}:{line}" in notes
    path = next(note for note in caught.value.__notes__ if "top" in note)
    assert path.index("top#") < path.index("middle#") < path.index("falls#")


@each_kind
def test_notes_tell_which_attempt(kind: str) -> None:  # S15, S16
    with pytest.raises(Custom) as caught:
        run(made(kind, fails)().with_retry(3))
    assert "attempt 3" in "\n".join(caught.value.__notes__)


@each_kind
def test_notes_tell_the_first_attempt_too(kind: str) -> None:  # S15
    with pytest.raises(Custom) as caught:
        run(made(kind, fails)())
    assert "attempt 1" in "\n".join(caught.value.__notes__)


@each_kind
def test_notes_of_a_nested_graph_tell_task_and_line(kind: str) -> None:  # S15, S18
    inner = made(kind, fails, name="inner")
    outer = made(kind, lambda: gather(inner()), name="outer")
    with pytest.raises(Custom) as caught:
        run(gather(outer()).named("top"))
    notes = "\n".join(caught.value.__notes__)
    for word in ("'inner'", "outer#", "top#", __file__):
        assert word in notes, notes


@each_kind
def test_the_notes_are_written_once_however_far_the_error_travels(kind: str) -> None:  # S15, S18
    value: Any = made(kind, fails)()
    for _ in range(3):
        inner = value
        value = gather(made(kind, lambda inner=inner: gather(inner), name="wrap")())
    with pytest.raises(Custom) as caught:
        run(value)
    assert len([note for note in caught.value.__notes__ if note.startswith("declared")]) == 1
    assert len(caught.value.__notes__) == len(set(caught.value.__notes__))


def test_an_exception_that_takes_no_notes_arrives_all_the_same() -> None:  # S15
    class Stubborn(Exception):
        def add_note(self, note: str) -> None:
            raise TypeError("no notes")

    def stubborn() -> None:
        raise Stubborn("mine")

    for kind in KINDS:
        with pytest.raises(Stubborn, match="mine"):
            run(made(kind, stubborn)())


def test_an_exception_whose_message_raises_arrives_all_the_same() -> None:  # S15, S28
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no message")

        def __repr__(self) -> str:
            return "Mute()"

    def mute() -> None:
        raise Mute

    trace = Trace()
    for kind in KINDS:
        with pytest.raises(Mute):
            run(gather(made(kind, mute)()), bus=trace.bus)
    assert len(trace.of(RunFinished)) == len(KINDS)


@each_kind
def test_stop_iteration_arrives_as_an_error_with_its_cause_and_never_hangs(kind: str) -> None:  # S15
    """No coroutine can raise it, so `RuntimeError` stands for it, as in Python itself."""

    def exhausted() -> None:
        next(iter(()))

    for on_failure in ("stop", "continue"):
        with pytest.raises((StopIteration, RuntimeError, ExceptionGroup)) as caught:
            promptly(lambda on_failure=on_failure: run([gather(made(kind, exhausted)())], on_failure=on_failure))
        error: BaseException = caught.value
        if isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, StopIteration) or isinstance(error.__cause__, StopIteration)
        told = "\n".join([*getattr(error, "__notes__", []), *getattr(error.__cause__, "__notes__", [])])
        assert "'exhausted'" in told


@each_kind
def test_nothing_new_starts_after_a_failure(kind: str) -> None:  # S15
    log = Log()
    note = log.task(kind)
    failing = made(kind, fails)()
    with pytest.raises(Custom):
        run([note("after", failing), gather(failing), cs.sequence([failing, note("next")])])
    assert log.entries == []


def test_with_one_worker_nothing_that_was_ready_starts_after_a_failure() -> None:  # S15, S8
    log = Log()
    note = log.task()
    first = note("first")
    failing = cs.task(fails)()
    late = [note(place) for place in range(100)]
    with pytest.raises(Custom):
        run([first, failing, *late, note.map(range(100))], max_workers=1)
    assert log.entries == ["first"]


def test_a_map_under_way_starts_no_further_items_after_a_failure() -> None:  # S15, S17
    log = Log()

    def item(x: int) -> int:
        log.entries.append(x)
        if x == 3:
            raise Custom(x, hint="item")
        return x

    with pytest.raises(Custom) as caught:
        run(cs.task(item).map(range(1_000)), max_workers=1)
    assert log.entries == [0, 1, 2, 3]
    assert any("item 3" in note or "[3]" in note for note in caught.value.__notes__)


def test_threads_that_run_are_waited_for() -> None:  # S15
    """The sibling is inside its call when the failure happens; its side effect comes before `run` returns."""
    inside, failed = threading.Event(), threading.Event()
    log = Log()
    bus = cs.MessageBus()
    bus.subscribe(TaskExecutionFinished, lambda event: failed.set() if event.status == "Failed" else None)

    @cs.task
    def sibling() -> None:
        inside.set()
        await_sign(failed)
        log.entries.append("side effect")

    @cs.task
    def failing() -> None:
        await_sign(inside)
        raise Custom(1, hint="stop")

    def main() -> None:
        with pytest.raises(Custom):
            run([sibling(), failing()], bus=bus)
        log.entries.append("returned")

    promptly(main)
    assert log.entries == ["side effect", "returned"]


@pytest.mark.parametrize("kind", ["sync", "policy"])
@pytest.mark.parametrize("_", range(10))
def test_no_side_effect_comes_after_run_has_returned(kind: str, _: int) -> None:  # S15
    returned = threading.Event()
    late: list[int] = []
    inside = threading.Barrier(4)

    def work(place: int) -> None:
        inside.wait(30)
        if place == 0:
            raise Custom(1, hint="stop")
        if returned.is_set():
            late.append(place)

    task = made(kind, work)
    tail = made(kind, lambda *_: late.append(-1) if returned.is_set() else None, name="tail")
    values = [task(place) for place in range(4)]
    with pytest.raises(Custom):
        run([*values, *(tail(value) for value in values)], max_workers=4)
    returned.set()
    assert late == []


@pytest.mark.parametrize("policy", [{}, {"retry": 3}])
@pytest.mark.parametrize("mapped", [False, True])
def test_async_work_is_cancelled_and_waited_for(mapped: bool, policy: dict[str, Any]) -> None:  # S15
    log = Log()

    async def main() -> None:
        inside = asyncio.Event()

        async def waits(x: int) -> None:
            inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                log.entries.append("cleaned up")
                raise

        async def failing() -> None:
            await inside.wait()
            raise Custom(1, hint="stop")

        task = cs.task(waits, **policy)
        with pytest.raises(Custom):
            await cs.arun([task.map([1]) if mapped else task(1), cs.task(failing)()], log_level="CRITICAL")
        log.entries.append("returned")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    promptly(lambda: asyncio.run(main()))
    assert log.entries == ["cleaned up", "returned"]


def test_a_coroutine_that_goes_on_after_its_cancellation_is_waited_for() -> None:  # S15
    log = Log()

    @cs.task
    async def stubborn(inside: threading.Event) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for place in range(10):
                await asyncio.sleep(0)
                log.entries.append(place)

    @cs.task
    def failing(inside: threading.Event) -> None:
        await_sign(inside)
        raise Custom(1, hint="stop")

    inside = threading.Event()
    with pytest.raises(Custom):
        promptly(lambda: run([stubborn(inside), gather(stubborn(inside)), failing(inside)]))
    assert log.entries[-1] == 9
    count = len(log.entries)
    assert count in (10, 20)


def test_errors_of_siblings_while_stopping_do_not_replace_the_first() -> None:  # S15
    failed = threading.Event()
    inside = threading.Event()
    bus = cs.MessageBus()
    bus.subscribe(TaskExecutionFinished, lambda event: failed.set() if event.status == "Failed" else None)

    @cs.task
    def second() -> None:
        inside.set()
        await_sign(failed)
        raise KeyError("second")

    @cs.task
    def first() -> None:
        await_sign(inside)
        raise Custom(1, hint="first")

    for order in (lambda: [first(), second()], lambda: [second(), first()]):
        failed.clear()
        inside.clear()
        with pytest.raises(Custom, match="first"):
            promptly(lambda order=order: run(order(), bus=bus))


def test_teardown_runs_before_the_error_is_raised() -> None:  # S15, S22
    log = Log()

    @cs.resource
    def connection() -> Any:
        yield 1
        log.entries.append("torn down")

    @cs.task
    def failing(db: Any = cs.inject(connection)) -> None:
        raise Custom(1, hint="stop")

    with pytest.raises(Custom):
        run(gather(failing()))
    assert log.entries == ["torn down"]


def test_an_endless_loop_of_turns_ends_when_a_sibling_fails() -> None:  # S15, S18
    turns = threading.Event()

    def forever(n: int) -> Any:
        if n > 1_000:
            turns.set()
        return task(n + 1)

    @cs.task
    def failing() -> None:
        await_sign(turns)
        raise Custom(1, hint="stop")

    for kind in ("sync", "async", "waiting"):
        turns.clear()
        task = made(kind, forever)
        with pytest.raises(Custom):
            promptly(lambda task=task: run([task(0), failing()]))
        turns.clear()
        with pytest.raises(Custom):
            promptly(lambda task=task: run([gather(gather(task(0))), failing()]))


def test_the_engine_serves_on_after_a_failure() -> None:  # S15, S21
    async def main() -> None:
        async with cs.create_engine(max_workers=2, system_resources={"gpu": 1}) as engine:
            for _ in range(20):
                with pytest.raises(Custom):
                    await engine.run([cs.task(fails)().with_constraints(gpu=1), gather().with_constraints(gpu=1)])
                assert await engine.run(gather(1).with_constraints(gpu=1)) == [1]

    asyncio.run(main())


# Going on.


@each_kind
@pytest.mark.parametrize("mapped", [False, True])
def test_a_run_that_continues_finishes_all_that_does_not_depend_on_a_failure(kind: str, mapped: bool) -> None:  # S15
    log = Log()
    note = log.task(kind)
    failing = made(kind, fails)()
    free = note.map(range(5)) if mapped else gather(*(note(place) for place in range(5)))
    with pytest.raises(cs.RunFailedGroup):
        run([failing, note("lost", failing), free, note("last", free)], on_failure="continue", max_workers=1)
    assert sorted(map(str, log.entries)) == ["0", "1", "2", "3", "4", "last"]


@each_kind
def test_even_one_failure_is_a_group_with_the_original_inside(kind: str) -> None:  # S15
    with pytest.raises(ExceptionGroup) as caught:
        run(made(kind, fails)(), on_failure="continue")
    group = caught.value
    assert isinstance(group, cs.RunFailedGroup)
    assert isinstance(group, cs.CascadeError)
    (error,) = group.exceptions
    assert type(error) is Custom
    assert "'fails'" in "\n".join(error.__notes__)


@each_kind
def test_all_failures_are_in_one_group(kind: str) -> None:  # S15
    def numbered(place: int) -> None:
        raise Custom(place, hint="one of many")

    task = made(kind, numbered)
    returning = made(kind, lambda: gather(task(10)), name="returning")
    with pytest.raises(cs.RunFailedGroup) as caught:
        run([*(task(place) for place in range(5)), gather(returning())], on_failure="continue")
    assert sorted(error.code for error in caught.value.exceptions) == [0, 1, 2, 3, 4, 10]  # type: ignore[attr-defined]


def test_the_group_can_be_caught_by_kind() -> None:  # S15
    caught: list[int] = []
    try:
        run([cs.task(fails)(), cs.task(lambda: 1 / 0)()], on_failure="continue")
    except* Custom as group:
        caught.append(len(group.exceptions) if isinstance(group, cs.RunFailedGroup) else -1)
    except* ZeroDivisionError as group:
        caught.append(10 * len(group.exceptions))
    assert sorted(caught) == [1, 10]


@each_kind
def test_results_are_there_by_lazy_value(kind: str) -> None:  # S15
    number = made(kind, lambda x: x, name="number")
    one, two = number(1), number(2)
    total = gather(one, two)
    mapped = number.map([1, 2])
    item = total[1]
    nothing = number(None)
    returned = made(kind, lambda: number(5), name="returning")()
    failing = made(kind, fails)()
    lost = gather(failing)
    with pytest.raises(cs.RunFailedGroup) as caught:
        run([total, mapped, item, nothing, returned, lost], on_failure="continue")
    results = caught.value.results
    expected = {one: 1, two: 2, total: [1, 2], mapped: [1, 2], item: 2, nothing: None, returned: 5}
    for lazy, value in expected.items():
        assert results[lazy] == value
    assert failing not in results
    assert lost not in results


def test_results_of_chosen_routes_and_sequences_are_there() -> None:  # S15, S10
    chosen, other = gather(1), gather(2)
    router = cs.Router(cs.task(lambda: 1)(), {1: chosen, 2: other})
    aborted = cs.sequence([gather().run_if(cs.task(lambda: False)())])
    with pytest.raises(cs.RunFailedGroup) as caught:
        run([gather(router), aborted, cs.task(fails)()], on_failure="continue")
    results = caught.value.results
    assert results[chosen] == [1]
    assert results[router] == [1]
    assert results[aborted] is None
    assert other not in results


@each_kind
def test_without_a_failure_going_on_changes_nothing(kind: str) -> None:  # S15
    number = made(kind, lambda x: x, name="number")
    assert run([number(1), number.map([2])], on_failure="continue") == [1, [2]]
    with pytest.raises(cs.DependencyMissingError):
        run(number(1).run_if(number(0)), on_failure="continue")


def test_a_failure_that_the_target_does_not_show_still_fails_the_run() -> None:  # S15
    """A failed condition skips its node, and a sequence could have made a value of that."""
    failing = cs.task(fails)()
    for target in (
        cs.sequence([gather().run_if(failing)]),
        cs.pipeline(1, [gather.run_if(failing)]),
    ):
        with pytest.raises(cs.RunFailedGroup):
            run(target, on_failure="continue")
        with pytest.raises(cs.RunFailedGroup):
            run([target], on_failure="continue")


@pytest.mark.parametrize("mode", ["ignore", None, "Stop", True])
def test_another_mode_is_refused(mode: Any) -> None:  # S15, S30
    with pytest.raises(ValueError, match="'stop' or 'continue'"):
        run(gather(), on_failure=mode)


# What stops every run.


@each_kind
@pytest.mark.parametrize("on_failure", ["stop", "continue"])
@pytest.mark.parametrize("kind_of_exit", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("mapped", [False, True])
def test_exits_stop_the_run_in_either_mode_and_propagate(  # S15
    kind: str, on_failure: str, kind_of_exit: type[BaseException], mapped: bool
) -> None:
    log, trace = Log(), Trace()
    error = kind_of_exit(3)

    def leaves(*_: Any) -> None:
        raise error

    task = made(kind, leaves)
    leaving = task.map([1]) if mapped else task()
    with pytest.raises(kind_of_exit) as caught:
        promptly(lambda: run([gather(leaving), log.task()("after", leaving)], on_failure=on_failure, bus=trace.bus))
    assert caught.value is error
    assert caught.value.args == (3,)
    assert log.entries == []
    assert len(trace.of(RunFinished)) == 1


def test_an_exit_after_a_failure_wins_in_a_run_that_continues() -> None:  # S15
    def leaves(_: Any) -> None:
        raise SystemExit(4)

    failing = cs.task(fails)()
    with pytest.raises(SystemExit) as caught:
        run([failing, cs.task(leaves)(1).after(gather(1))], on_failure="continue", max_workers=1)
    assert caught.value.code == 4


@pytest.mark.parametrize("kind", ["sync", "async", "waiting", "inline"])
def test_an_exit_is_never_retried(kind: str) -> None:  # S15, S16
    calls: list[int] = []

    def leaves() -> None:
        calls.append(1)
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        promptly(lambda: run(made(kind, leaves)().with_retry(5)))
    assert calls == [1]


@each_kind
def test_other_base_exceptions_stop_the_run_too(kind: str) -> None:  # S15
    class Halt(BaseException):
        pass

    def halts() -> None:
        raise Halt

    for on_failure in ("stop", "continue"):
        with pytest.raises(Halt):
            promptly(lambda on_failure=on_failure: run([made(kind, halts)(), gather()], on_failure=on_failure))


# Whatever goes wrong ends the run.


@each_kind
@pytest.mark.parametrize("on_failure", ["stop", "continue"])
@pytest.mark.parametrize("tail", [True, False], ids=["tail", "waited for"])
def test_a_returned_graph_that_cannot_be_run_fails_its_call(kind: str, on_failure: str, tail: bool) -> None:  # S15, S19
    log = Log()
    returning = made(kind, lambda: gather(cs.Param("not_given", type=int)), name="returning")
    value = returning() if tail else gather(returning())
    target = value if tail else [value, log.task()("free")]
    expected = cs.ParameterError if on_failure == "stop" else cs.RunFailedGroup
    with pytest.raises(expected) as caught:
        promptly(lambda: run(target, on_failure=on_failure), 10)
    error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert "not_given" in str(error)
    assert "returning" in "\n".join(error.__notes__)
    if on_failure == "continue" and not tail:
        assert log.entries == ["free"]


@each_kind
def test_an_item_of_a_map_that_returns_a_graph_that_cannot_be_run_fails_the_map(kind: str) -> None:  # S15, S17
    returning = made(kind, lambda x: gather(cs.inject("nowhere")), name="returning")
    with pytest.raises(NameError, match="nowhere"):
        promptly(lambda: run(returning.map([1, 2])), 10)


@each_kind
def test_a_returned_circle_fails_its_call(kind: str) -> None:  # S15, S13
    def circle() -> Any:
        first = gather(1)
        return cs.sequence([gather(first), first])

    with pytest.raises(cs.ValidationError):
        promptly(lambda: run(gather(made(kind, circle)())), 10)


@each_kind
def test_a_returned_dict_with_a_lazy_key_fails_its_call(kind: str) -> None:  # S15, S18
    with pytest.raises(TypeError, match="key"):
        promptly(lambda: run(gather(made(kind, lambda: {gather(1): 1}, name="keyed")())), 10)


def test_a_warning_turned_error_inside_the_engine_ends_the_run() -> None:  # S15
    """Warnings are errors here: the one about a thread's timeout is raised while a returned graph is checked."""
    slow = cs.task(lambda: 1, name="slow")
    returning = cs.task(lambda: gather(slow().with_timeout(60)), name="returning")
    with pytest.raises(cs.ThreadTimeoutWarning):
        promptly(lambda: run(gather(returning())), 10)


@pytest.mark.parametrize("mode", ["stop", "continue"])
def test_a_state_backend_that_raises_ends_the_run(mode: str) -> None:  # S15
    from cascade.runtime.state import InMemoryStateBackend

    class Broken(InMemoryStateBackend):
        async def put_many(self, *args: Any, **kwargs: Any) -> None:
            raise OSError("disk full")

        put_result = put_many

    async def main() -> None:
        async with cs.create_engine(state_backend=lambda run_id: Broken()) as engine:
            with pytest.raises((OSError, cs.RunFailedGroup)):
                await engine.run([gather(1)], on_failure=mode)

    promptly(lambda: asyncio.run(main()), 20)


def test_an_exception_whose_repr_raises_harms_neither_this_run_nor_the_next() -> None:  # S15
    """In a process of its own: the main thread's signal handler must not be left behind, and shows what it holds."""
    program = (
        "import cascade as cs\n"
        "class Mute(Exception):\n"
        "    def __repr__(self):\n"
        "        raise RuntimeError('no repr')\n"
        "@cs.task\n"
        "def falls():\n"
        "    raise Mute('message')\n"
        "try:\n"
        "    cs.run(falls(), log_level='CRITICAL')\n"
        "except Mute as error:\n"
        "    print('Mute')\n"
        "print(cs.run(cs.task(len)('abc'), log_level='CRITICAL'))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(cs.__file__).parents[1])},
        check=False,
    )
    assert ended.stdout == "Mute\n3\n", ended.stderr
