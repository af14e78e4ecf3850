"""Worker processes for `executor="process"`: real processes, real signals, no sleeps to steer them."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import operator
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cascade.adapters.executors import _process_worker as inside
from cascade.adapters.executors.processes import PoolClosedError, ProcessPool
from cascade.adapters.executors.shipping import RemoteTaskError, ShippingError
from cascade.adapters.executors.worker_process import TERMINATE_PATIENCE, WorkerDiedError


def with_pool(scenario: Callable[[ProcessPool], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def run() -> Any:
        pool = ProcessPool(**{"max_workers": 2, "grace": 0.2, **options})
        try:
            return await scenario(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What one call in a pool of its own gives."""
    return with_pool(lambda pool: pool.call(function, args, kwargs, name="job"))


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process whose parent died may be left unreaped where no init does that; it runs no more.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


async def line_of(read: int) -> str:
    """What a worker wrote to a FIFO or file descriptor, without blocking the loop."""
    return (await asyncio.to_thread(os.read, read, 1000)).decode()


class Signs:
    """A FIFO through which tasks tell that they are at a certain point."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "signs")
        os.mkfifo(self.path)
        self.read = os.open(self.path, os.O_RDWR)

    async def next(self) -> str:
        return await line_of(self.read)

    def close(self) -> None:
        os.close(self.read)


@pytest.fixture
def signs(tmp_path: Path) -> Any:
    made = Signs(tmp_path)
    yield made
    made.close()


class Passing:
    """A clock on which some waits are over at once, and others never."""

    def __init__(self, *over: float) -> None:
        self.over = over
        self.slept: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds not in self.over:
            await asyncio.Event().wait()


def tell(path: str, text: object = None) -> None:
    with open(path, "w") as signs:
        signs.write(str(os.getpid() if text is None else text))


def run_forever(path: str) -> None:
    tell(path)
    while True:
        time.sleep(0.01)


def stop_when_asked(path: str, after: str) -> str:
    tell(path)
    assert inside.cancel_requested.wait(20)
    Path(after).write_text("stopped by itself")
    return "late"


def clean_up_at_the_end(path: str, after: str) -> None:
    try:
        tell(path)
        while True:
            time.sleep(0.01)
    finally:
        Path(after).write_text("cleaned up")


def hold_the_interpreter(path: str) -> int:
    tell(path)
    return sum(range(10**13))


def spawn_and_run_forever(path: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    tell(path, child.pid)
    child.wait()


def die(how: str) -> None:
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(1000)


class Greeter:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def greet(self, name: str) -> str:
        return f"{self.greeting} {name}"

    @staticmethod
    def shout(name: str) -> str:
        return name.upper()

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    def __call__(self, name: str) -> str:
        return self.greet(name)


class OddError(Exception):
    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"code {code} at {where}")
        self.code = code
        self.where = where


class StubbornError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("never")


def fail(kind: str) -> None:
    if kind == "odd":
        error = OddError(3, where="here")
        error.add_note("a note of its own")
        raise error from KeyError("the cause")
    if kind == "stubborn":
        raise StubbornError("no way")
    if kind == "lock":
        raise ValueError(threading.Lock())
    if kind == "group":
        raise ExceptionGroup("several", [OddError(1, where="a"), StubbornError("b"), OSError(2, "gone", "file")])
    if kind == "unicode":
        b"\xff".decode()
    if kind == "exit":
        sys.exit("the end")
    if kind == "interrupt":
        raise KeyboardInterrupt
    raise FileNotFoundError(2, "missing", "some/file")


def double(x: int) -> int:
    return 2 * x


def both_ways(payload: bytes) -> bytes:
    return payload[::-1]


# S6
@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (double, (21,), 42),
        (math.sqrt, (9.0,), 3.0),
        (sum, ([1, 2, 3],), 6),
        (Greeter("hello").greet, ("you",), "hello you"),
        (Greeter.shout, ("you",), "YOU"),
        (Greeter.named, (), "Greeter"),
        (Greeter("hello"), ("you",), "hello you"),
        (functools.partial(pow, 2), (10,), 1024),
        (operator.itemgetter(1), ("ab",), "b"),
        ("-".join, (["a", "b"],), "a-b"),
        (int, ("12",), 12),
    ],
)
def test_whatever_has_a_name_runs_in_another_process(function: Any, args: Any, expected: Any) -> None:
    assert call(function, *args) == expected


# S6
@pytest.mark.needs_extra("process")
def test_lambdas_closures_and_local_functions_go_by_value() -> None:
    base = 100

    def add(x: int, *, twice: bool = False) -> tuple[int, int]:
        return os.getpid(), base + x * (2 if twice else 1)

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    async def scenario(pool: ProcessPool) -> None:
        pid, value = await pool.call(add, (1,), {"twice": True}, name="add")
        assert pid != os.getpid()
        assert value == 102
        assert await pool.call(lambda x: x + base, (1,), {}, name="lambda") == 101
        assert await pool.call(functools.partial(lambda x, y: x - y, 1), (2,), {}, name="partial") == -1
        point = await pool.call(lambda p: Point(p.x + 1), (Point(1),), {}, name="point")
        assert type(point) is Point
        assert point.x == 2

    with_pool(scenario)


def test_the_worker_knows_the_context_of_its_call_and_forgets_it_after() -> None:
    async def scenario(pool: ProcessPool) -> None:
        context = {"task": "t", "attempt": 2}
        assert await pool.call(current_context, (), {}, name="t", context=context) == context
        assert await pool.call(current_context, (), {}, name="t") == {}

    with_pool(scenario, max_workers=1)


def current_context() -> Any:
    return dict(inside.current_context)


def test_the_path_and_the_directory_of_the_moment_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(pool: ProcessPool) -> None:
        assert await pool.call(os.getcwd, (), {}, name="where") == os.getcwd()
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert await pool.call(surroundings, (), {}, name="where") == (str(tmp_path), str(tmp_path), sys.argv)

    with_pool(scenario, max_workers=1)


def surroundings() -> tuple[str, str, list[str]]:
    return os.getcwd(), sys.path[0], sys.argv


# S30
def test_what_cannot_be_pickled_is_named_and_the_worker_goes_on() -> None:
    lock = threading.Lock()

    async def scenario(pool: ProcessPool) -> None:
        before = await pool.call(os.getpid, (), {}, name="pid")
        with pytest.raises(ShippingError, match=r"'greet' runs .* argument 'name' \(position 1\) of type lock cannot"):
            await pool.call(Greeter.greet, (Greeter("a"), lock), {}, name="greet")
        with pytest.raises(ShippingError, match="argument 'x' of type lock"):
            await pool.call(double, (), {"x": lock}, name="double")
        with pytest.raises(ShippingError, match=r"the result, of type _thread.lock, cannot be pickled"):
            await pool.call(threading.Lock, (), {}, name="make")
        with pytest.raises(ShippingError, match=r"the result is an awaitable \(coroutine\)"):
            await pool.call(asyncio.sleep, (0,), {}, name="make")
        assert await pool.call(os.getpid, (), {}, name="pid") == before

    with_pool(scenario, max_workers=1)


# S30
@pytest.mark.needs_extra("process")
def test_a_closure_over_something_that_cannot_be_pickled_names_the_variable() -> None:
    lock = threading.Lock()
    with pytest.raises(ShippingError, match=r"its function .*<lambda> .*it uses 'lock' from around it"):
        call(lambda: (lock.locked(), 1))


# S15
def test_exceptions_keep_their_type_their_attributes_and_their_notes_and_show_the_line() -> None:
    with pytest.raises(OddError) as odd:
        call(fail, "odd")
    assert odd.value.args == ("code 3 at here",)
    assert (odd.value.code, odd.value.where) == (3, "here")
    assert isinstance(odd.value.__cause__, KeyError)
    own, remote = odd.value.__notes__
    assert own == "a note of its own"
    assert "raise error from KeyError" in remote
    assert "_process_worker.py" not in remote

    with pytest.raises(FileNotFoundError) as missing:
        call(fail, "file")
    assert (missing.value.errno, missing.value.filename) == (2, "some/file")
    with pytest.raises(UnicodeDecodeError, match="invalid start byte"):
        call(fail, "unicode")


# S15
def test_exceptions_that_cannot_be_pickled_keep_their_name_and_text() -> None:
    with pytest.raises(RemoteTaskError, match=r"StubbornError: no way") as stubborn:
        call(fail, "stubborn")
    assert stubborn.value.type_name.endswith(".StubbornError")
    assert 'raise StubbornError("no way")' in stubborn.value.__notes__[0]
    with pytest.raises(RemoteTaskError, match="ValueError: <unlocked"):
        call(fail, "lock")
    with pytest.raises(ExceptionGroup, match="several") as group:
        call(fail, "group")
    assert [type(member) for member in group.value.exceptions] == [
        OddError,
        RemoteTaskError,
        FileNotFoundError,
    ]


# S15
def test_exit_and_interrupt_of_a_task_arrive_as_such() -> None:
    async def scenario(pool: ProcessPool) -> None:
        for kind, expected in (("exit", SystemExit), ("interrupt", KeyboardInterrupt)):
            caught: BaseException | None = None
            try:
                await pool.call(fail, (kind,), {}, name="fail")
            except (SystemExit, KeyboardInterrupt) as error:
                caught = error
            assert type(caught) is expected
            if isinstance(caught, SystemExit):
                assert caught.code == "the end"

    with_pool(scenario)


# S20
@pytest.mark.parametrize(
    ("how", "told"),
    [("SIGKILL", "killed by SIGKILL"), ("SIGSEGV", "killed by SIGSEGV"), ("exit", "exit code 7")],
)
def test_a_worker_that_dies_costs_only_its_own_call(how: str, told: str, signs: Signs) -> None:
    async def scenario(pool: ProcessPool) -> None:
        other = asyncio.create_task(pool.call(stop_when_asked, (signs.path, os.devnull), {}, name="other"))
        bystander = int(await signs.next())
        with pytest.raises(WorkerDiedError, match=f"task 'dies': .*{told}") as died:
            await pool.call(die, (how,), {}, name="dies")
        assert died.value.pid != bystander
        assert not other.done()
        assert await pool.call(double, (4,), {}, name="next") == 8
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other

    with_pool(scenario, grace=20)


def test_a_worker_killed_from_outside_in_the_middle_of_a_call_is_replaced(signs: Signs) -> None:
    async def scenario(pool: ProcessPool) -> None:
        running = asyncio.create_task(pool.call(run_forever, (signs.path,), {}, name="forever"))
        os.kill(int(await signs.next()), signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            await running
        assert await pool.call(double, (4,), {}, name="next") == 8

    with_pool(scenario, max_workers=1)


def test_a_worker_killed_while_idle_costs_no_call() -> None:
    async def scenario(pool: ProcessPool) -> None:
        pid = await pool.call(os.getpid, (), {}, name="pid")
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: not is_there(pid))
        await asyncio.to_thread(wait_until, lambda: not any(w.alive for w in pool._roster.workers))
        assert await pool.call(os.getpid, (), {}, name="pid") != pid

    with_pool(scenario, max_workers=1)


# S20
def test_a_cancelled_call_that_heeds_the_flag_keeps_its_worker(signs: Signs, tmp_path: Path) -> None:
    after = tmp_path / "after"

    async def scenario(pool: ProcessPool) -> None:
        task = asyncio.create_task(pool.call(stop_when_asked, (signs.path, str(after)), {}, name="stops"))
        pid = int(await signs.next())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert after.read_text() == "stopped by itself"
        assert await pool.call(os.getpid, (), {}, name="pid") == pid
        assert not await pool.call(is_asked_to_stop, (), {}, name="flag")

    with_pool(scenario, max_workers=1, grace=20)


def is_asked_to_stop() -> bool:
    return inside.cancel_requested.is_set()


# S20
def test_a_cancelled_call_that_ignores_the_flag_is_ended_with_its_clean_up(signs: Signs, tmp_path: Path) -> None:
    after = tmp_path / "after"

    async def scenario(pool: ProcessPool) -> None:
        task = asyncio.create_task(pool.call(clean_up_at_the_end, (signs.path, str(after)), {}, name="ignores"))
        pid = int(await signs.next())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_there(pid)
        assert after.read_text() == "cleaned up"
        assert await pool.call(double, (4,), {}, name="next") == 8

    # The grace is over at once, and after SIGTERM there is all the time that a busy machine may need.
    with_pool(scenario, max_workers=1, grace=3600.0, clock=Passing(3600.0))


# S20
def test_a_call_that_holds_the_interpreter_is_killed(signs: Signs) -> None:
    async def scenario(pool: ProcessPool) -> None:
        task = asyncio.create_task(pool.call(hold_the_interpreter, (signs.path,), {}, name="holds"))
        pid = int(await signs.next())
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # no more patience, twice: straight to the kill
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_there(pid)

    with_pool(scenario, max_workers=1, grace=1000)


# S20
def test_the_grace_is_measured_by_the_given_clock(signs: Signs) -> None:
    clock = Passing(3600.0, TERMINATE_PATIENCE)

    async def scenario(pool: ProcessPool) -> None:
        task = asyncio.create_task(pool.call(hold_the_interpreter, (signs.path,), {}, name="forever"))
        await signs.next()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_pool(scenario, grace=3600.0, clock=clock)
    assert clock.slept == [3600.0, TERMINATE_PATIENCE]


# S20
def test_what_a_task_started_dies_with_its_worker(signs: Signs) -> None:
    async def scenario(pool: ProcessPool) -> None:
        task = asyncio.create_task(pool.call(spawn_and_run_forever, (signs.path,), {}, name="spawns"))
        grandchild = int(await signs.next())
        assert is_there(grandchild)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until, lambda: not is_there(grandchild))

    with_pool(scenario, grace=0.01)


def test_a_call_that_waits_for_a_worker_can_be_cancelled(signs: Signs, tmp_path: Path) -> None:
    async def scenario(pool: ProcessPool) -> None:
        first = asyncio.create_task(pool.call(stop_when_asked, (signs.path, os.devnull), {}, name="first"))
        await signs.next()
        mark = tmp_path / "ran"
        second = asyncio.create_task(pool.call(Path.touch, (mark,), {}, name="second"))
        third = asyncio.create_task(pool.call(double, (1,), {}, name="third"))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        await asyncio.wait([first, second])
        assert await third == 2
        assert not mark.exists()

    with_pool(scenario, max_workers=1, grace=20)


# S8
def test_calls_beyond_the_number_of_workers_wait_first_come_first_served(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def scenario(pool: ProcessPool) -> None:
        await asyncio.gather(*(pool.call(append, (str(log), number), {}, name="append") for number in range(50)))

    with_pool(scenario, max_workers=1)
    assert log.read_text().split() == [str(number) for number in range(50)]


def append(path: str, number: int) -> None:
    with open(path, "a") as log:
        log.write(f"{number}\n")


def test_large_payloads_travel_both_ways_and_leave_the_loop_alone() -> None:
    payload = os.urandom(1 << 20) * 50

    async def scenario(pool: ProcessPool) -> None:
        assert await pool.call(both_ways, (payload,), {}, name="large") == payload[::-1]

    with_pool(scenario)


def test_a_worker_that_dies_under_a_large_payload_is_told() -> None:
    async def scenario(pool: ProcessPool) -> None:
        pid = await pool.call(os.getpid, (), {}, name="pid")
        os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(pool.call(both_ways, (bytes(10_000_000),), {}, name="large"))
        await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            await task

    with_pool(scenario, max_workers=1)


def test_two_loops_in_two_threads_share_the_workers() -> None:
    pool = ProcessPool(2)
    sums: list[int] = []

    async def many() -> None:
        sums.append(sum(await asyncio.gather(*(pool.call(double, (n,), {}, name="double") for n in range(100)))))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [9900, 9900]
    assert len(pool._roster.workers) == 2
    pool.shutdown()


def test_a_loop_that_ends_in_the_middle_of_a_call_gives_its_place_to_others(signs: Signs) -> None:
    pool = ProcessPool(1, grace=0.2)
    loop = asyncio.new_event_loop()
    running = loop.create_task(pool.call(run_forever, (signs.path,), {}, name="forever"))
    pid = int(loop.run_until_complete(signs.next()))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    running._log_destroy_pending = False  # type: ignore[attr-defined]
    del running
    gc.collect()
    assert asyncio.run(pool.call(double, (4,), {}, name="next")) == 8
    wait_until(lambda: not is_there(pid))
    pool.shutdown()


def test_nothing_is_left_after_the_end() -> None:
    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    def children() -> set[int]:
        """Other tests may have left some in a pool that runs share, so `waitpid(-1)` would tell nothing."""
        return {int(pid) for some in Path("/proc/self/task").glob("*/children") for pid in some.read_text().split()}

    call(double, 1)
    before = children(), descriptors(), threading.active_count()
    pids: list[int] = []

    async def scenario(pool: ProcessPool) -> None:
        pids.extend(await asyncio.gather(*(pool.call(os.getpid, (), {}, name="pid") for _ in range(8))))
        with pytest.raises(WorkerDiedError):
            await pool.call(die, ("SIGKILL",), {}, name="dies")
        await pool.call(both_ways, (bytes(1_000_000),), {}, name="large")
        await pool.close()
        with pytest.raises(PoolClosedError, match="task 'late'"):
            await pool.call(double, (1,), {}, name="late")
        await pool.close()
        pool.shutdown()

    with_pool(scenario)
    assert not any(map(is_there, pids))
    assert (children(), descriptors(), threading.active_count()) == before


def test_closing_refuses_who_waits_and_ends_who_runs(signs: Signs) -> None:
    async def scenario(pool: ProcessPool) -> None:
        running = asyncio.create_task(pool.call(run_forever, (signs.path,), {}, name="runs"))
        pid = int(await signs.next())
        waiting = asyncio.create_task(pool.call(double, (1,), {}, name="waits"))
        await asyncio.sleep(0)
        await pool.close()
        for task in (running, waiting):
            with pytest.raises(PoolClosedError):
                await task
        assert not is_there(pid)

    with_pool(scenario, max_workers=1, grace=0.01)


def test_a_pool_that_is_dropped_ends_its_workers() -> None:
    pool = ProcessPool(1)
    pid = asyncio.run(pool.call(os.getpid, (), {}, name="pid"))
    threads = threading.active_count()
    del pool
    gc.collect()
    wait_until(lambda: not is_there(pid))
    wait_until(lambda: threading.active_count() == threads - 1)


def test_a_forked_process_leaves_the_workers_alone() -> None:
    async def scenario(pool: ProcessPool) -> None:
        assert await pool.call(double, (1,), {}, name="double") == 2
        await asyncio.to_thread(fork_and_wait)
        assert await pool.call(double, (2,), {}, name="double") == 4

    with_pool(scenario)


def fork_and_wait() -> None:
    import warnings

    with warnings.catch_warnings():
        # Forking with threads is what this test is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_task_that_forks_does_not_hide_its_own_death(signs: Signs) -> None:
    async def scenario(pool: ProcessPool) -> None:
        running = asyncio.create_task(pool.call(fork_and_die, (signs.path,), {}, name="forks"))
        child = int(await signs.next())
        with pytest.raises(WorkerDiedError):
            await running
        await asyncio.to_thread(wait_until, lambda: not is_there(child))

    with_pool(scenario)


def fork_and_die(path: str) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    tell(path, child)
    os._exit(1)


def run_program(tmp_path: Path, source: str, *, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-W", "error", *options, str(program)],
        capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip


# S6
@pytest.mark.needs_extra("process")
def test_a_program_without_a_main_guard_works_and_gets_its_own_classes_back(tmp_path: Path) -> None:
    done = run_program(
        tmp_path,
        """
        import asyncio, dataclasses, enum, os, sys
        from cascade.adapters.executors.processes import ProcessPool

        print("the program starts", flush=True)

        @dataclasses.dataclass
        class Point:
            x: int

        class Colour(enum.Enum):
            RED = 1

        class WrongError(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a} {b}")

        class Task:
            def __init__(self, function):
                self.function = function
                self.__module__, self.__qualname__ = function.__module__, function.__qualname__

        @Task
        def factorial(n):
            return 1 if n < 2 else n * factorial.function(n - 1)

        def move(point, by):
            print("moving in a worker")
            assert isinstance(point, Point)
            assert sys.flags.optimize == 1 and "asyncio" not in sys.modules["__main__"].__dict__
            return Point(point.x + by), Colour.RED, os.getpid()

        def fail():
            raise WrongError(1, 2)

        async def main():
            pool = ProcessPool(1)
            for _ in range(3):
                moved, colour, pid = await pool.call(move, (Point(1),), {"by": 2}, name="move")
                assert type(moved) is Point and moved == Point(3), moved
                assert colour is Colour.RED and pid != os.getpid()
            assert await pool.call(factorial.function, (10,), {}, name="factorial") == 3628800
            assert await pool.call(str, ("__main__",), {}, name="text") == "__main__"
            try:
                await pool.call(fail, (), {}, name="fail")
            except WrongError as error:
                assert error.args == ("1 2",) and "raise WrongError(1, 2)" in error.__notes__[0]

        asyncio.run(main())
        print("the program ends")
        """,
        options=("-O",),
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == "the program starts\n" + "moving in a worker\n" * 3 + "the program ends\n"


# S6
def test_without_cloudpickle_the_error_says_what_needs_it_and_how_to_get_it(tmp_path: Path) -> None:
    done = run_program(
        tmp_path,
        """
        import asyncio, math, sys
        sys.modules["cloudpickle"] = None
        from cascade.adapters.executors.processes import ProcessPool

        class Point:
            pass

        def move():
            pass

        async def main():
            pool = ProcessPool(1)
            assert await pool.call(math.sqrt, (4,), {}, name="sqrt") == 2
            assert await pool.call(str, ("__main__",), {}, name="text") == "__main__"
            for function, *args in (move,), (lambda: 1,), (str, Point()), (str, move):
                try:
                    await pool.call(function, tuple(args), {}, name="step")
                except ImportError as error:
                    print(error)

        asyncio.run(main())
        """,
    )
    assert done.stderr == ""
    told = done.stdout.splitlines()
    assert len(told) == 4
    assert all(line.endswith("needs cloudpickle: pip install 'cascade-py[process]'") for line in told)
    assert "'step' runs in another process, and its function move (" in told[0]
    assert "which the main program defines" in told[0]
    assert "which is a lambda" in told[1]
    assert "argument" in told[2]
    assert "Point" in told[2]


# S6
@pytest.mark.needs_extra("process")
def test_a_module_that_a_worker_cannot_import_is_shipped_by_value(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "flow.py").write_text(
        "class Point:\n    def __init__(self, x): self.x = x\n"
        "def inner(p): return Point(p.x + 1)\n"
        "def move(p): return inner(p)\n"
    )
    done = run_program(
        tmp_path,
        """
        import asyncio, importlib.util, sys
        from cascade.adapters.executors.processes import ProcessPool
        spec = importlib.util.spec_from_file_location("flow_xyz", "sub/flow.py")
        flow = sys.modules["flow_xyz"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(flow)

        async def main():
            pool = ProcessPool(1)
            for function in (flow.move, flow.inner):
                moved = await pool.call(function, (flow.Point(1),), {}, name="move")
                assert type(moved) is flow.Point and moved.x == 2

        asyncio.run(main())
        """,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_module_that_runs_a_workflow_when_imported_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "import asyncio, math\n"
        "from cascade.adapters.executors.processes import ProcessPool\n"
        "def double(x): return 2 * x\n"
        "async def main():\n"
        "    pool = ProcessPool(1)\n"
        "    try: return await pool.call(double, (1,), {}, name='double')\n"
        "    finally: await pool.close()\n"
        "asyncio.run(main())\n"
    )
    done = run_program(tmp_path, "import flow")
    assert "ShippingError: task 'double'" in done.stderr
    assert '__name__ == "__main__"' in done.stderr
    assert "NestedRunError" in done.stderr


def test_a_program_that_ends_with_an_open_pool_prints_nothing_and_leaves_nobody(tmp_path: Path) -> None:
    done = run_program(
        tmp_path,
        """
        import asyncio, os
        from cascade.adapters.executors.processes import ProcessPool
        pool = ProcessPool(2)
        async def main():
            print(await pool.call(os.getpid, (), {}, name="pid"))
        asyncio.run(main())
        """,
    )
    assert done.stderr == ""
    assert not is_there(int(done.stdout))


# S20
@pytest.mark.parametrize("task", ["time.sleep(1000)", "sum(range(10**13))", "(lambda: None)()"])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, task: str) -> None:
    (tmp_path / "work.py").write_text(
        f"import os, sys, time, subprocess\ndef run(path):\n"
        f"    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"    with open(path, 'w') as f: f.write(f'{{os.getpid()}} {{child.pid}}')\n    {task}\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\nfrom cascade.adapters.executors.processes import ProcessPool\nimport work\n"
        "async def main():\n    pool = ProcessPool(1)\n"
        "    await pool.call(work.run, (sys.argv[1],), {}, name='run')\n    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    signs = Signs(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, str(program), signs.path], env=environment)
    worker, grandchild = map(int, asyncio.run(signs.next()).split())
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_there(worker))
    if not task.startswith("(lambda"):
        wait_until(lambda: not is_there(grandchild))
    elif is_there(grandchild):
        os.kill(grandchild, signal.SIGKILL)
    signs.close()


def test_prints_of_a_task_reach_the_output_of_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(say, "hello") == 5
    out, err = capfd.readouterr()
    assert (out, err) == ("hello\n", "hello\n")


def say(text: str) -> int:
    os.write(1, b"")
    print(text)
    print(text, file=sys.stderr)
    return len(text)


def test_a_pool_needs_room_for_a_worker() -> None:
    with pytest.raises(ValueError, match="max_workers must be at least 1, got 0"):
        ProcessPool(0)
