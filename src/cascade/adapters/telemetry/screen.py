"""The part of a terminal that is drawn again and again, below everything that is printed meanwhile.

The cursor always stands below what is drawn and is never hidden, so that a program that is killed leaves a
terminal that needs no repair.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.output import PRINTS
from cascade.spec.log import handling

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cascade.spec.protocols import Clock

_BETWEEN_DRAWINGS: Final = 0.05
_USUAL_SIZE: Final = (80, 24)


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

    While something is drawn, text that Python prints to the terminal goes above it: each stream that leads
    there has its `write` replaced, and stays what it is otherwise, so that what is piped elsewhere is not
    touched.

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
        self._line_is_open = False
        self._drawn_at = 0.0
        self._wrapped: list[tuple[Any, Any, Any]] = []
        self._write: Callable[[str], object] = self._stream.write

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
            self._unwrap()
            PRINTS.drawings -= 1

    def forget(self) -> None:
        """Draw nothing more, in a process that has the streams of its parent but none of its threads."""
        self._unwrap()
        self._reset()

    def _draw(self) -> None:
        if self._line_is_open or not self._is_ours():
            return
        columns, rows = self.size()
        lines = [line for pane in self._panes for line in pane.lines][: max(1, rows - 1)]
        widths = [width for pane in self._panes for width in pane.widths]
        self._put("".join([self._erasure(), *(f"{line}\n" for line in lines)]))
        self._drawn = widths[: len(lines)]
        self._columns = columns
        self._drawn_at = self._clock.monotonic()

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
                self._stream.flush()
        finally:
            handling.is_on = outer

    def _wrap(self) -> None:
        self._write = self._stream.write
        for stream in dict.fromkeys((self._stream, sys.stdout, sys.stderr)):
            if stream is self._stream or _is_same_terminal(stream, self._stream):
                original = stream.write
                passing = partial(self._pass_on, stream, original)
                before = getattr(stream, "__dict__", {}).get("write")
                with suppress(AttributeError):
                    stream.write = passing  # type: ignore[method-assign]
                    self._wrapped.append((stream, passing, before))

    def _unwrap(self) -> None:
        for stream, passing, before in self._wrapped:
            # Whoever has wrapped it once more since then keeps a function that only passes on.
            if stream.write is passing:
                del stream.write
                if before is not None:
                    stream.write = before
        self._wrapped = []

    def _pass_on(self, stream: TextIO, original: Callable[[str], int], text: str) -> int:
        with self._lock:
            if not self._panes or not text:
                return original(text)
            erasure = self._erasure()
            if erasure:
                self._put(erasure)
            written = original(text)
            # Nothing is drawn behind half a line; its other half will come.
            self._line_is_open = not text.endswith("\n")
            if not self._line_is_open:
                stream.flush()
                if self._clock.monotonic() - self._drawn_at > _BETWEEN_DRAWINGS:
                    self._draw()
            return written

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
