"""What calls log and print, told to who listens."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from cascade.runtime.events import TaskLogged, TaskOutput
from cascade.runtime.run import run_here
from cascade.spec import log
from cascade.spec.context import call_context
from cascade.spec.secret import mask

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from cascade.runtime.run import Run

_LONGEST: Final = 10_000
"""Characters of a log message or of a line that are told."""

Channel = Literal["stdout", "stderr"]


def _tell_log(record: logging.LogRecord, is_handled: bool) -> bool:
    run = run_here()
    if run is None or not run.engine.bus.wants(TaskLogged):
        return False
    told = vars(record)
    run.teller.tell(
        TaskLogged(
            run_id=run.id,
            timestamp=run.clock.now(),
            task_id=told.get("task_id", ""),
            task_name=told.get("task_name", ""),
            attempt=told.get("attempt", 0),
            level=record.levelname,
            text=_cut(mask(log.text_of(record))),
            is_handled=is_handled,
        )
    )
    return True


log.listeners.append(_tell_log)


class Prints:
    """Lets who listens know what calls print, while it goes where it went before.

    Standard streams have their `write` replaced while there is a run that somebody wants to hear the prints of.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: dict[Run, dict[tuple[str, str, Channel], str]] = {}
        self._wrapped: list[tuple[Any, Any]] = []

    def begin(self, run: Run) -> None:
        """Tell what calls of a run print, if anybody wants to know."""
        if not run.engine.bus.wants(TaskOutput):
            return
        with self._lock:
            if not self._runs:
                self._wrap()
            self._runs[run] = {}

    def end(self, run: Run) -> None:
        """Tell what was printed without an end of line, and no more after it."""
        if run not in self._runs:
            return
        with self._lock:
            halves = self._runs.pop(run)
            for (task_id, name, channel), text in halves.items():
                self._tell(run, task_id, name, channel, text)
            if not self._runs:
                self._unwrap()

    def _wrap(self) -> None:
        channels: tuple[Channel, ...] = ("stdout", "stderr")
        for channel in channels:
            stream: Any = getattr(sys, channel)
            if stream is None:
                continue
            passing = partial(self._pass_on, channel, stream.write)
            with suppress(AttributeError):
                stream.write = passing
                self._wrapped.append((stream, passing))

    def _unwrap(self) -> None:
        for stream, passing in self._wrapped:
            # Whoever has wrapped it once more since then keeps a function that only passes on.
            if stream.write is passing:
                del stream.write
        self._wrapped = []

    def _pass_on(self, channel: Channel, original: Callable[[str], int], text: str) -> int:
        written = original(text)
        run = run_here()
        if run is not None and run in self._runs and isinstance(text, str):
            context = call_context()
            if context is not None and context.task_id:
                self._take(run, context.task_id, context.task_name, channel, text)
        return written

    def _take(self, run: Run, task_id: str, name: str, channel: Channel, text: str) -> None:
        with self._lock:
            halves = self._runs.get(run)
            if halves is None:
                return
            key = task_id, name, channel
            text = halves.pop(key, "") + text
            whole, newline, rest = text.rpartition("\n")
            if len(rest) > _LONGEST:
                whole, newline, rest = text, "\n", ""
            if rest:
                halves[key] = rest
            if newline:
                self._tell(run, task_id, name, channel, whole)

    def _tell(self, run: Run, task_id: str, name: str, channel: Channel, text: str) -> None:
        run.teller.tell(
            TaskOutput(
                run_id=run.id,
                timestamp=run.clock.now(),
                task_id=task_id,
                task_name=name,
                channel=channel,
                text=_cut(mask(text)),
            )
        )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


PRINTS: Final = Prints()
