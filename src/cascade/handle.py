"""Runs that go on while the program that started them does something else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from cascade.app import create_engine, run_on_engine, run_options
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Event
from cascade.spec.exceptions import RunCancelledError

if TYPE_CHECKING:
    from typing import Unpack

    from cascade.app import RunOptions
    from cascade.runtime.engine import Engine
    from cascade.spec.lazy_types import LazyResult

R = TypeVar("R")

HandleStatus = Literal["running", "succeeded", "failed", "cancelled"]


class RunHandle(Generic[R]):
    """A run under way on a thread of its own; made by `start`. May be used from any thread.

    Attributes:
        run_id: the run.
    """

    def __init__(self, engine: Engine, run_id: str, bus: MessageBus) -> None:
        self.run_id = run_id
        self._engine = engine
        self._bus = bus
        self._ended = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._reason: str | None = None
        self._lock = threading.Lock()
        self._listeners: list[SimpleQueue[Event | None]] = []

    @property
    def status(self) -> HandleStatus:
        """How the run stands."""
        if not self._ended.is_set():
            return "running"
        if self._error is None:
            return "succeeded"
        return "cancelled" if isinstance(self._error, RunCancelledError) else "failed"

    def result(self, timeout: float | None = None) -> R:
        """Wait for the run and return what it gave, or raise what it failed by.

        Args:
            timeout: how long to wait, in seconds; the run goes on after that.

        Raises:
            TimeoutError: it has not ended in that time.
            RunCancelledError: it was cancelled.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(
                f"run '{self.run_id}' has not ended in {timeout:g} s; it goes on, cancel() would stop it"
            )
        if self._error is not None:
            raise self._error
        return cast(R, self._value)

    def cancel(self, reason: str = "") -> None:
        """Stop the run: nothing new starts, async work is cancelled, threads that run are waited for, teardown runs.

        One that waits for another owner waits no longer, and leaves the run to that. Without effect on a run that has
        ended. `result` then raises `RunCancelledError` with the reason.
        """
        with self._lock:
            self._reason = self._reason or reason or "cancelled by its handle"
        self._engine.cancel(self.run_id, self._reason)

    def events(self) -> Iterator[Event]:
        """What the run tells from now on, until it has ended.

        >>> import cascade as cs
        >>> @cs.task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> handle = cs.start(double(cs.wait_for_signal("number", int)), log_level="CRITICAL")
        >>> events = handle.events()
        >>> handle.send_signal("number", 21)
        >>> finished = [event.task_name for event in events if type(event).__name__ == "TaskExecutionFinished"]
        >>> finished[-1], handle.result()
        ('double', 42)
        """
        queue: SimpleQueue[Event | None] = SimpleQueue()
        with self._lock:
            unsubscribe = self._bus.subscribe(Event, queue.put)
            self._listeners.append(queue)
            if self._ended.is_set():
                queue.put(None)
        return _until_end(queue, unsubscribe)

    def send_signal(self, name: str, value: Any = None) -> None:
        """Send a signal to the run, which a `wait_for_signal` in it takes; see `Engine.send_signal`."""
        self._engine.post_signal(self.run_id, name, value)

    def _end(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            self._value, self._error = value, error
            self._ended.set()
            for queue in self._listeners:
                queue.put(None)


def _until_end(queue: SimpleQueue[Event | None], unsubscribe: Any) -> Iterator[Event]:
    try:
        while (event := queue.get()) is not None:
            yield event
    finally:
        unsubscribe()


@overload
def start(
    target: LazyResult[R], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> RunHandle[R]: ...
@overload
def start(target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> RunHandle[Any]: ...
def start(target: Any, params: Mapping[str, Any] | None = None, **options: Any) -> RunHandle[Any]:
    """Start a run on a thread of its own and return at once.

    The thread is no daemon: a program that ends waits for its runs, or cancels them before.

    Args:
        target: a lazy value, a container of them, or a plain value.
        params: the values of parameters, by name.
        options: as for `run`.

    >>> import cascade as cs
    >>> @cs.task
    ... def add(x: int, y: int) -> int:
    ...     return x + y
    >>> handle = cs.start(add(1, 2))
    >>> handle.result(), handle.status
    (3, 'succeeded')
    """
    checked = run_options(**options)
    bus = checked["bus"] = MessageBus() if checked["bus"] is None else checked["bus"]
    engine = create_engine(
        bus=bus,
        system_resources=checked["system_resources"],
        cache=checked["cache"],
        clock=checked["clock"],
        max_workers=checked["max_workers"],
        store=checked["store"],
    )
    run_id = checked["run_id"] = checked["run_id"] or engine.chance.run_id(engine.clock.now())
    handle: RunHandle[Any] = RunHandle(engine, run_id, bus)
    context = copy_context()

    def work() -> None:
        try:
            value = context.run(run_on_engine, engine, target, params, checked)
        except BaseException as error:
            handle._end(None, error)  # pyright: ignore[reportPrivateUsage]
        else:
            handle._end(value, None)  # pyright: ignore[reportPrivateUsage]

    threading.Thread(target=work, name=f"cascade-run-{run_id}").start()
    return handle
