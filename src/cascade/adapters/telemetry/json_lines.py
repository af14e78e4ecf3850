"""Events for machines: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from math import isfinite
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.adapters.telemetry.levels import RARE, Level, level_of
from cascade.runtime.events import Event
from cascade.runtime.preview import preview
from cascade.spec.secret import mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cascade.runtime.bus import MessageBus

_DEEPEST: Final = 6
_MOST_MEMBERS: Final = 100
_LONGEST: Final = 2_000


class JsonLines:
    """Writes events to a stream, one JSON object a line.

    Each object has `event` (the name of the event's class), `level` (`"DEBUG"` to `"ERROR"`), `run_id`,
    `timestamp` (ISO 8601, UTC), and the fields of the event under their own names, durations in seconds.
    What JSON cannot say is a bounded `repr`. The line is ASCII. A stream that cannot be written to any more
    is left alone.

    Args:
        stream: where to; it is not closed.
        level: the least weight of what is written: `"DEBUG"` for every event, `"INFO"` for the rare ones.

    >>> import sys
    >>> from cascade.runtime.bus import MessageBus
    >>> from cascade.runtime.events import TaskBlocked
    >>> bus = MessageBus()
    >>> detach = JsonLines(sys.stdout).attach(bus)
    >>> bus.publish(TaskBlocked(run_id="r", task_id="t#0", task_name="t", reason="waiting for gpu"))
    {"event": "TaskBlocked", "level": "INFO", "run_id": "r", "timestamp": "1970-01-01T00:00:00.000000Z", ...
    >>> detach()
    """

    def __init__(self, stream: TextIO, level: str = "INFO") -> None:
        self._stream: TextIO | None = stream
        self._level = Level.named(level)
        self._lock = Lock()

    def attach(self, bus: MessageBus, *, only: Container[str] | None = None) -> Callable[[], None]:
        """Write what a bus publishes from now on.

        Args:
            bus: publishes.
            only: the ids of the runs whose events are written; of all by default.

        Returns:
            A function that ends this.
        """
        if self._level is Level.CRITICAL:
            return lambda: None

        def take(event: Event) -> None:
            if only is None or event.run_id in only:
                self.take(event)

        if self._level is Level.DEBUG:
            return bus.subscribe(Event, take)
        ends = [bus.subscribe(kind, take) for kind in RARE]

        def detach() -> None:
            for end in ends:
                end()

        return detach

    def take(self, event: Event) -> None:
        """Write an event, if it weighs enough."""
        level = level_of(event)
        if level >= self._level:
            told = {field.name: getattr(event, field.name) for field in fields(event)}
            run_id, timestamp = told.pop("run_id"), told.pop("timestamp")
            # What a call logs has a level itself.
            told.pop("level", None)
            self.write(type(event).__name__, level, run_id, timestamp, told)

    def write(self, name: str, level: Level, run_id: str, timestamp: float, told: Mapping[str, Any]) -> None:
        """Write one line.

        Args:
            name: what happened.
            level: how much it weighs.
            run_id: the run.
            timestamp: when, in seconds since the epoch.
            told: the other fields.
        """
        line = json.dumps(
            {
                "event": name,
                "level": level.name,
                "run_id": run_id,
                "timestamp": _iso(timestamp),
                **{key: _plain(value, _DEEPEST) for key, value in told.items()},
            }
        )
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                # Whoever read this has gone, which is no reason to say so for each event.
                self._stream = None


def _iso(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _plain(value: object, depth: int) -> Any:
    """A value as JSON can say it: bounded, with text keys, and without NaN."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, str):
        value = mask(value)
        return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(float(value))
    if depth and isinstance(value, (list, tuple)):
        sequence = cast(Sequence[Any], value)
        members = [_plain(member, depth - 1) for member in sequence[:_MOST_MEMBERS]]
        left = len(sequence) - _MOST_MEMBERS
        return members if left <= 0 else [*members, f"... {left} more"]
    if depth and isinstance(value, dict) and len(cast(Mapping[Any, Any], value)) <= _MOST_MEMBERS:
        return {
            mask(key) if type(key) is str else preview(key): _plain(member, depth - 1)
            for key, member in cast(Mapping[Any, Any], value).items()
        }
    return preview(value)
