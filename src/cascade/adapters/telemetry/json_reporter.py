"""What machines see of the runs of an engine."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.adapters.telemetry.json_lines import JsonLines
from cascade.adapters.telemetry.levels import Level
from cascade.adapters.telemetry.watch import OwnRuns, Watch
from cascade.runtime.progress import progress_of_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TextIO

    from cascade.runtime.engine import Engine

_BETWEEN_LINES: Final = 5.0


class JsonReporter:
    """Writes JSON lines about the runs of an engine: events, and every five seconds how far they have come.

    The latter is an object like those of events, with `event` being `Progress` and the fields of
    `RunProgress` without those of single tasks; see `JsonLines` for all others.

    Args:
        engine: whose runs.
        level: the least weight of what is written.
        stream: where to.
    """

    def __init__(self, engine: Engine, level: str, stream: TextIO) -> None:
        self._engine = engine
        self._level = Level.named(level)
        self._stream = _OwnLines(stream)
        self._lines = JsonLines(cast("TextIO", self._stream), level)
        self._own = OwnRuns(engine)
        self._watch = Watch(engine, self._look)
        self._next_line = 0.0
        self._detach: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self._stream.begin()
        self._detach = self._lines.attach(self._engine.bus, only=self._own)
        if self._level <= Level.INFO:
            self._next_line = self._engine.clock.monotonic() + _BETWEEN_LINES
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        if self._detach is not None:
            self._detach()
        self._stream.end()

    def _look(self) -> None:
        now = self._engine.clock.monotonic()
        if now < self._next_line:
            return
        self._next_line = now + _BETWEEN_LINES
        for strategy in self._own.under_way():
            progress = progress_of_run(strategy)
            told = {
                "parent_id": progress.parent_id,
                "target": progress.target,
                "is_stopping": progress.is_stopping,
                "total": progress.total,
                "done": progress.done,
                "active": progress.active,
                "skipped": progress.skipped,
                "failed": progress.failed,
                "graphs": progress.graphs,
                "is_complete": progress.is_complete,
            }
            self._lines.write("Progress", Level.INFO, progress.run_id, self._engine.clock.now(), told)


class _OwnLines:
    """A stream on which each text begins a line, whatever this process has printed there meanwhile.

    The stream has its `write` replaced between `begin` and `end`, and stays what it is otherwise.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: Any = stream
        self._has_half = False
        self._passing: Callable[[str], int] | None = None
        self._before: Any = None

    def begin(self) -> None:
        """Look from now on how what is printed ends."""
        original = self._stream.write

        def passing(text: str) -> int:
            written: int = original(text)
            if text:
                self._has_half = not text.endswith("\n")
            return written

        self._before = getattr(self._stream, "__dict__", {}).get("write")
        with suppress(AttributeError):
            self._stream.write = self._passing = passing

    def end(self) -> None:
        """Look no more."""
        # Whoever has wrapped it once more since then keeps a function that only passes on.
        if self._passing is not None and self._stream.write is self._passing:
            del self._stream.write
            if self._before is not None:
                self._stream.write = self._before
        self._passing = None

    def write(self, text: str) -> object:
        """Write a text on lines of its own."""
        return self._stream.write(f"\n{text}" if self._has_half else text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()
