"""What happened in a run, as lines that a test can compare as a whole."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.events import (
    Event,
    ResourceAcquired,
    ResourceReleased,
    RunFinished,
    RunStarted,
    TaskAbandoned,
    TaskBlocked,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskRetrying,
    TaskSkipped,
)

if TYPE_CHECKING:
    from typing import Self

    from cascade.runtime.bus import MessageBus

_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")


class TraceRecorder:
    """Writes down the events of a bus, one line each, without what differs from run to run.

    Lines name nodes, reasons, attempts and errors; run ids, moments, durations and addresses are left out. Events of
    independent nodes come in any order: compare `sorted_lines` there, or run with `max_workers=1`.

    Args:
        bus: where it listens, from now on.
        event_types: which events are written down; all of them by default.

    >>> import cascade as cs
    >>> bus = cs.MessageBus()
    >>> trace = TraceRecorder(bus)
    >>> one = cs.task(lambda: 1, name="one")
    >>> cs.run(one().run_if(cs.Param("on", default=True)), bus=bus, log_level="CRITICAL")
    1
    >>> print(trace)
    run started: one
    started one#1
    finished one#1 Succeeded
    run finished Succeeded
    """

    def __init__(self, bus: MessageBus, *event_types: type[Event]) -> None:
        self._lock = threading.Lock()
        self._entries: list[tuple[str, str]] = []
        self._cancels = [bus.subscribe(kind, self._hear) for kind in _distinct(event_types or (Event,))]

    @property
    def lines(self) -> list[str]:
        """All lines so far, in the order of delivery; a list of its own."""
        with self._lock:
            return [line for _, line in self._entries]

    @property
    def sorted_lines(self) -> list[str]:
        """All lines so far in the order of their texts, for what may happen in any order."""
        return sorted(self.lines)

    def lines_of(self, run_id: str) -> list[str]:
        """The lines of one run, where several share the bus."""
        with self._lock:
            return [line for run, line in self._entries if run == run_id]

    def clear(self) -> None:
        """Forget what was written down."""
        with self._lock:
            self._entries.clear()

    def close(self) -> None:
        """Stop listening; what was written down stays."""
        for cancel in self._cancels:
            cancel()

    def _hear(self, event: Event) -> None:
        line = trace_line(event)
        with self._lock:
            self._entries.append((event.run_id, line))

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def trace_line(event: Event) -> str:
    """One event as a line of a trace."""
    write = _WRITERS.get(type(event), _any_event)
    return _ADDRESS.sub("0x...", write(event))


def _distinct(event_types: tuple[type[Event], ...]) -> list[type[Event]]:
    """Without types whose base is among them, so that no event is written twice."""
    return [
        kind
        for kind in dict.fromkeys(event_types)
        if not any(kind is not other and issubclass(kind, other) for other in event_types)
    ]


def _finished(event: TaskExecutionFinished) -> str:
    line = f"finished {event.task_id} {event.status}"
    if event.error is not None:
        line += f": {event.error}"
    if event.continues_as is not None:
        line += f", continues as {event.continues_as}"
    return line


def _retrying(event: TaskRetrying) -> str:
    wait = f" after {event.delay:g} s" if event.delay else ""
    return f"retrying {event.task_id} attempt {event.attempt} of {event.max_attempts}{wait}: {event.error}"


def _run_finished(event: RunFinished) -> str:
    return f"run finished {event.status}" + ("" if event.error is None else f": {event.error}")


def _any_event(event: Event) -> str:
    told = (field.name for field in dataclasses.fields(event) if field.name not in ("run_id", "timestamp"))
    return " ".join([type(event).__name__, *(f"{name}={getattr(event, name)!r}" for name in told)])


_WRITERS: Final[dict[type[Event], Callable[[Any], str]]] = {
    RunStarted: lambda event: f"run started: {', '.join(event.target_tasks)}",
    RunFinished: _run_finished,
    TaskExecutionStarted: lambda event: f"started {event.task_id}",
    TaskExecutionFinished: _finished,
    TaskSkipped: lambda event: f"skipped {event.task_id} {event.reason}",
    TaskRetrying: _retrying,
    TaskBlocked: lambda event: f"blocked {event.task_id}: {event.reason}",
    TaskAbandoned: lambda event: f"abandoned {event.task_id} after {event.timeout:g} s",
    ResourceAcquired: lambda event: f"acquired {event.resource_name}",
    ResourceReleased: lambda event: f"released {event.resource_name}",
}
