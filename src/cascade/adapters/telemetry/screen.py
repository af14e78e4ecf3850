"""The part of a terminal that is drawn again and again, below everything that is printed meanwhile.

The cursor always stands below what is drawn and is never hidden, so that a program that is killed leaves a
terminal that needs no repair.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unicodedata import east_asian_width

from cascade.runtime.output import PRINTS, overwritten
from cascade.spec.log import handling

if TYPE_CHECKING:
    from typing import TextIO

    from cascade.spec.protocols import Clock, Timer

_BETWEEN_DRAWINGS: Final = 0.05
_MOST_HALVES: Final = 4
"""Lines without an end that are drawn: bars, most often."""
_LONGEST_HALF: Final = 10_000
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])|[\x00-\x1f\x7f-\x9f]")
_USUAL_SIZE: Final = (80, 24)


class _Printed(NamedTuple):
    """What was printed to a stream, and how it gets there."""

    write: Callable[[str], object]
    flush: Callable[[], object]
    text: str


class Pane:
    """One of the things that are drawn, one below the other.

    Attributes:
        lines: its lines, with their colours.
        widths: how many columns each takes.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.widths: list[int] = []


class Screen:
    """Draws panes on a terminal.

    While something is drawn, lines that Python prints to the terminal go above it: each stream that leads
    there has its `write` and its `flush` replaced, and stays what it is otherwise, so that what is piped elsewhere is
    not touched. Lines come whole, whichever threads print at once. What has no end of line yet is drawn with the rest,
    as it stands: a bar that draws itself again and again. What comes right after a drawing waits a moment for the next.

    Args:
        stream: leads to the terminal.
        clock: what time is taken from.
    """

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        # Re-entrant: a signal handler or a finalizer may print in the middle of a drawing.
        self._lock = RLock()
        self._panes: list[Pane] = []
        self._drawn: list[int] = []
        self._columns = 0
        self._drawn_at = 0.0
        self._timer: Timer | None = None
        self._held: list[_Printed] = []
        self._halves: dict[tuple[int, int], _Printed] = {}
        self._wrapped: list[tuple[Any, str, Any, Any]] = []
        self._write: Callable[[str], object] = self._stream.write
        self._flush: Callable[[], object] = self._stream.flush

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return _USUAL_SIZE
        return columns or _USUAL_SIZE[0], rows or _USUAL_SIZE[1]

    def show(self, pane: Pane) -> None:
        """Draw this too from now on, or again if it has changed."""
        with self._lock:
            if pane not in self._panes:
                if not self._panes:
                    PRINTS.drawings += 1
                    self._wrap()
                self._panes.append(pane)
            self._draw()

    def hide(self, pane: Pane) -> None:
        """Draw it no more; the terminal is as if it had never been drawn."""
        with self._lock:
            if pane not in self._panes:
                return
            self._panes.remove(pane)
            if self._panes:
                self._draw()
                return
            self._put(self._erasure())
            self._release()
            halves, self._halves = self._halves, {}
            for printed in halves.values():
                self._print(printed)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._unwrap()
            PRINTS.drawings -= 1

    def forget(self) -> None:
        """Draw nothing more, in a process that has the streams of its parent but none of its threads."""
        self._unwrap()
        self._reset()

    def _draw(self) -> None:
        if not self._is_ours():
            self._put(self._erasure())
            self._release()
            return
        columns, rows = self.size()
        halves = [_fitted(printed.text, columns) for printed in [*self._halves.values()][-_MOST_HALVES:]]
        lines = [*halves, *(line for pane in self._panes for line in pane.lines)][: max(1, rows - 1)]
        widths = [*map(_columns_of, halves), *(width for pane in self._panes for width in pane.widths)]
        erasure = self._erasure()
        if self._held:
            self._put(erasure)
            self._release()
            erasure = ""
        self._put("".join([erasure, *(f"{line}\n" for line in lines)]))
        self._drawn = widths[: len(lines)]
        self._columns = columns
        self._drawn_at = self._clock.monotonic()

    def _release(self) -> None:
        """Print the whole lines that have come since the last drawing, which must not stand any more."""
        held, self._held = self._held, []
        for printed in held:
            self._print(printed)

    def _print(self, printed: _Printed) -> None:
        # Whose print it is was noted when it came.
        outer, handling.is_on = handling.is_on, True
        try:
            with suppress(OSError, ValueError):
                printed.write(printed.text)
                printed.flush()
        finally:
            handling.is_on = outer

    def _draw_soon(self) -> None:
        """Draw again at once, or where that was done just now in a moment, so that a flood of lines costs little."""
        due = self._drawn_at + _BETWEEN_DRAWINGS
        if self._clock.monotonic() >= due:
            self._draw()
        elif self._timer is None:
            self._timer = self._clock.call_at(due, self._time_has_come)

    def _time_has_come(self) -> None:
        with self._lock:
            self._timer = None
            if self._panes:
                self._draw()

    def _erasure(self) -> str:
        """What takes away the last drawing."""
        if not self._drawn:
            return ""
        height = len(self._drawn)
        columns = self.size()[0]
        if columns < self._columns:
            # The terminal has become narrower, and has broken the lines that are now too long for it.
            height = sum(max(1, -(-width // columns)) for width in self._drawn)
        self._drawn = []
        return f"\r\x1b[{height}A\x1b[J"

    def _is_ours(self) -> bool:
        """Whether the terminal listens to this process: what runs in the background must not draw."""
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return True

    def _put(self, text: str) -> None:
        # Whoever prints while something is drawn has it drawn again; that is none of its prints.
        outer, handling.is_on = handling.is_on, True
        try:
            with suppress(OSError, ValueError):
                self._write(text)
                self._flush()
        finally:
            handling.is_on = outer

    def _wrap(self) -> None:
        self._write, self._flush = self._stream.write, self._stream.flush
        for stream in dict.fromkeys((self._stream, sys.stdout, sys.stderr)):
            if stream is self._stream or _is_same_terminal(stream, self._stream):
                write, flush = stream.write, stream.flush
                self._replace(stream, "write", partial(self._pass_on, stream, write, flush))
                self._replace(stream, "flush", partial(self._pass_flush_on, flush))

    def _replace(self, stream: TextIO, name: str, passing: Callable[..., object]) -> None:
        before = getattr(stream, "__dict__", {}).get(name)
        with suppress(AttributeError):
            setattr(stream, name, passing)
            self._wrapped.append((stream, name, passing, before))

    def _unwrap(self) -> None:
        for stream, name, passing, before in self._wrapped:
            # Whoever has wrapped it once more since then keeps a function that only passes on.
            if getattr(stream, name) is passing:
                delattr(stream, name)
                if before is not None:
                    setattr(stream, name, before)
        self._wrapped = []

    def _pass_on(self, stream: TextIO, write: Callable[[str], int], flush: Callable[[], object], text: str) -> int:
        with self._lock:
            if not self._panes or not text:
                return write(text)
            source = id(stream), threading.get_ident()
            begun = self._halves.pop(source, None)
            whole, newline, rest = f"{begun.text if begun is not None else ''}{text}".rpartition("\n")
            if len(rest) > _LONGEST_HALF:
                whole, newline, rest = f"{whole}{newline}{rest}", "\n", ""
            if newline:
                self._held.append(_Printed(write, flush, f"{whole}\n"))
            if rest:
                self._halves[source] = _Printed(write, flush, overwritten(rest))
            self._draw_soon()
        if not handling.is_on:
            PRINTS.take("stderr" if stream is sys.stderr else "stdout", text)
        return len(text)

    def _pass_flush_on(self, flush: Callable[[], object]) -> None:
        with self._lock:
            if self._panes and self._held:
                self._draw()
        flush()

    @property
    def is_closed(self) -> bool:
        """Whether the stream is of no use any more."""
        return self._stream.closed


_screens: Final[dict[int, Screen]] = {}


def screen_of(stream: TextIO, clock: Clock) -> Screen:
    """The one screen of a stream that leads to a terminal."""
    for key, screen in list(_screens.items()):
        if screen.is_closed:
            _screens.pop(key, None)
    return _screens.setdefault(id(stream), Screen(stream, clock))


def _fitted(text: str, columns: int) -> str:
    """Half a line as it can be drawn: in one row, without what a terminal obeys."""
    shown = _ESCAPES.sub("", text)[:columns]
    # The last column stays free: terminals differ in where the cursor is behind it.
    while _columns_of(shown) >= columns:
        shown = shown[:-1]
    return shown


def _columns_of(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _is_same_terminal(stream: Any, other: TextIO) -> bool:
    try:
        return bool(stream.isatty()) and os.path.samestat(os.fstat(stream.fileno()), os.fstat(other.fileno()))
    except (AttributeError, OSError, ValueError):
        return False


def _forget_all() -> None:
    for screen in _screens.values():
        screen.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
