"""What calls log and print, told to who listens, and kept in the store of a durable run."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

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
_MOST_HALVES: Final = 1_000
"""Beginnings of lines that are remembered in a run, of calls the other halves of which may never come."""

Channel = Literal["stdout", "stderr"]


class _Source(NamedTuple):
    """Which attempt of which call prints where."""

    task_id: str
    task_name: str
    attempt: int
    channel: Channel


def _tell_log(record: logging.LogRecord, is_handled: bool) -> bool:
    run = run_here()
    if run is None:
        return False
    is_wanted = run.engine.bus.wants(TaskLogged)
    if not is_wanted and run.lines is None:
        return False
    told = vars(record)
    task_id, task_name, attempt = told.get("task_id", ""), told.get("task_name", ""), told.get("attempt", 0)
    text = _cut(mask(log.text_of(record)))
    if run.lines is not None:
        run.lines.take(record.levelname, run.path_of(task_id), task_name, attempt, text)
    if is_wanted:
        run.teller.tell(
            TaskLogged(
                run_id=run.id,
                timestamp=run.clock.now(),
                task_id=task_id,
                task_name=task_name,
                attempt=attempt,
                level=record.levelname,
                text=text,
                is_handled=is_handled,
            )
        )
    # Who keeps it does not show it.
    return is_wanted


log.listeners.append(_tell_log)


class Prints:
    """Lets who listens know what calls print, while it goes where it went before.

    Standard streams have their `write` replaced while there is a run that keeps its prints, or that somebody wants to
    hear them of.

    Attributes:
        drawings: how many draw on a terminal now, which other processes must not write to meanwhile: what calls print
            there is printed here.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.drawings = 0
        self._lock = threading.RLock()
        self._runs: dict[Run, dict[_Source, str]] = {}
        self._wrapped: list[tuple[Any, Any, Any]] = []

    def begin(self, run: Run) -> None:
        """Tell what calls of a run print, if anybody wants to know."""
        if run.lines is None and not run.engine.bus.wants(TaskOutput):
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
            for source, text in halves.items():
                if text:
                    self._tell(run, source, text)
            if not self._runs:
                self._unwrap()

    def forget(self) -> None:
        """Tell nothing any more, in a process that was forked: it has none of the threads that may have the lock."""
        self._reset()

    def _wrap(self) -> None:
        channels: tuple[Channel, ...] = ("stdout", "stderr")
        for channel in channels:
            stream: Any = getattr(sys, channel)
            if stream is None:
                continue
            passing = partial(self._pass_on, channel, stream.write)
            before = getattr(stream, "__dict__", {}).get("write")
            with suppress(AttributeError):
                stream.write = passing
                self._wrapped.append((stream, passing, before))

    def _unwrap(self) -> None:
        for stream, passing, before in self._wrapped:
            # Whoever has wrapped it once more since then keeps a function that only passes on.
            if stream.write is passing:
                del stream.write
                if before is not None:
                    stream.write = before
        self._wrapped = []

    def _pass_on(self, channel: Channel, original: Callable[[str], int], text: str) -> int:
        # Whoever draws takes what it is given itself, unless it was taken here.
        outer, log.handling.is_on = log.handling.is_on, True
        try:
            written = original(text)
        finally:
            log.handling.is_on = outer
        if isinstance(text, str) and not outer:
            self.take(channel, text)
        return written

    def wants_here(self) -> bool:
        """Whether anybody wants to know what the call that runs here prints."""
        run = run_here()
        return run is not None and run in self._runs

    def take(self, channel: Channel, text: str) -> None:
        """Tell what the call that runs here has printed."""
        run = run_here()
        if run is not None and run in self._runs:
            context = call_context()
            if context is not None and context.task_id:
                self._take(run, _Source(context.task_id, context.task_name, context.attempt, channel), text)

    def _take(self, run: Run, source: _Source, text: str) -> None:
        with self._lock:
            halves = self._runs.get(run)
            if halves is None:
                return
            half = halves.pop(source, None)
            # Of a line that was too long to wait for its end, that is all that comes.
            text = text.removeprefix("\n") if half == "" else f"{half or ''}{text}"
            whole, newline, rest = text.rpartition("\n")
            rest = overwritten(rest)
            is_too_long = len(rest) > _LONGEST
            if is_too_long:
                whole, rest = text, ""
            if newline or is_too_long:
                self._tell(run, source, whole)
            if rest or is_too_long:
                halves[source] = rest
                if len(halves) > _MOST_HALVES:
                    oldest = next(iter(halves))
                    half = halves.pop(oldest)
                    if half:
                        self._tell(run, oldest, half)

    def _tell(self, run: Run, source: _Source, text: str) -> None:
        text = mask(text)
        if run.lines is not None:
            place = run.path_of(source.task_id)
            for line in text.split("\n"):
                shown = overwritten(line).removesuffix("\r")
                run.lines.take(source.channel, place, source.task_name, source.attempt, _cut(shown))
        if run.engine.bus.wants(TaskOutput):
            run.teller.tell(
                TaskOutput(
                    run_id=run.id,
                    timestamp=run.clock.now(),
                    task_id=source.task_id,
                    task_name=source.task_name,
                    channel=source.channel,
                    text=_cut(text),
                )
            )


def overwritten(line: str) -> str:
    """What a line shows in the end: a bar goes back to its beginning and draws itself again."""
    shown = line.rstrip("\r")
    # Where it has gone back at last, what comes next may overwrite it.
    return shown[shown.rfind("\r") + 1 :] + line[len(shown) : len(shown) + 1]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


PRINTS: Final = Prints()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PRINTS.forget)
