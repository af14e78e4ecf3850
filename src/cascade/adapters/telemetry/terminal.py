"""What people see of runs, on a terminal or in a log."""

from __future__ import annotations

import asyncio
import os
import sys
from threading import RLock
from typing import TYPE_CHECKING, Final

from cascade.adapters.telemetry.levels import RARE, Level, level_of
from cascade.adapters.telemetry.sentences import logged, sentence
from cascade.adapters.telemetry.standing import Standing
from cascade.adapters.telemetry.watch import PATIENCE, OwnRuns, Watch, outermost_run
from cascade.adapters.telemetry.wording import clocked
from cascade.runtime.events import (
    Event,
    LoopBlocked,
    RunBlocked,
    RunFinished,
    TaskBlocked,
    TaskEvent,
    TaskLogged,
    TaskOutput,
)
from cascade.runtime.progress import calls_under_way, progress_of_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TextIO

    from cascade.adapters.telemetry.live_view import LiveView
    from cascade.adapters.telemetry.screen import Pane, Screen
    from cascade.runtime.engine import Engine
    from cascade.runtime.progress import RunProgress
    from cascade.runtime.strategies.graph import GraphExecutionStrategy

_FIRST_LINE: Final = 5.0
_MOST_OF_TIME: Final = 0.05
"""The share of its time that looking at the calls of a large graph one by one may take."""
_TOLD: Final[dict[Level, tuple[type[Event], ...]]] = {
    # Of a blocked loop a Python warning tells, at once and not when it goes on.
    least: (
        TaskLogged,
        *(
            kind
            for kind, level in RARE.items()
            if level >= least and issubclass(kind, TaskEvent | RunBlocked) and kind is not LoopBlocked
        ),
    )
    for least in (Level.INFO, Level.WARNING, Level.ERROR)
}
_COLOURS: Final = {Level.WARNING: "33", Level.ERROR: "31"}


class TerminalReporter:
    """Tells people how the runs of an engine are doing, for the time of a `with` block.

    On a terminal a view of what goes on is drawn below everything that is printed, once a run has lasted
    half a second; elsewhere there is a line every five seconds, and ever fewer the longer it takes. What is
    tried again, held back or left behind is told at once, and at the end one line says how it went; of a
    short run without trouble nothing is told. That a run failed is for its caller to tell.

    Args:
        engine: whose runs.
        level: the least weight of what is told; `"DEBUG"` is a line for every event, which slows runs.
        stream: where to, `sys.stderr` by default.
        live: whether a view may be drawn; by default it is where the stream is a terminal and Rich is
            installed.

    Raises:
        ValueError: there is no such level.

    >>> import asyncio
    >>> import cascade as cs
    >>> async def main() -> int:
    ...     async with cs.create_engine() as engine:
    ...         with TerminalReporter(engine, "WARNING"):
    ...             return await engine.run(cs.task(abs)(-1))
    >>> asyncio.run(main())
    1
    """

    def __init__(self, engine: Engine, level: str = "INFO", stream: TextIO | None = None, *, live: bool = True) -> None:
        self._engine = engine
        self._level = Level.named(level)
        self._given = stream
        self._stream: TextIO | None = None
        self._live = live
        self._is_terminal = False
        self._lock = RLock()
        self._own = OwnRuns(engine)
        self._standings: dict[str, Standing] = {}
        self._ends: list[Callable[[], None]] = []
        self._watch: Watch | None = None
        self._listens = False
        self._began = 0.0
        self._next_line = _FIRST_LINE
        self._next_close_look = 0.0
        self._view: LiveView | None = None
        self._screen: Screen | None = None
        self._pane: Pane | None = None

    def __enter__(self) -> Self:
        self._stream = self._given or sys.stderr
        if self._level is Level.CRITICAL or self._stream is None:
            return self
        self._began = self._engine.clock.monotonic()
        self._is_terminal = self._live and _leads_to_terminal(self._stream)
        if self._level is Level.DEBUG:
            self._ends = [self._engine.bus.subscribe(Event, self._take)]
        else:
            self._ends = [self._engine.bus.subscribe(kind, self._take) for kind in _TOLD[self._level]]
        if self._level <= Level.INFO:
            self._watch = Watch(self._engine, self._look)
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.stop()
        for end in self._ends:
            end()
        with self._lock:
            if self._screen is not None and self._pane is not None:
                self._screen.hide(self._pane)

    # Events, on the threads of the runs.

    def _take(self, event: Event) -> None:
        # What was printed is on the screen already, and what `logging` has handled is where the program wants it.
        is_shown = isinstance(event, TaskOutput) or (isinstance(event, TaskLogged) and event.is_handled)
        if is_shown or event.run_id not in self._own or level_of(event) < self._level:
            return
        with self._lock:
            if isinstance(event, RunFinished):
                self._take_end(event)
                if self._level > Level.DEBUG:
                    return
            said: str | None = ""
            # Nothing is kept of a run that has not begun, and may never.
            if not isinstance(event, RunBlocked):
                # What happens in a run that a call has started happens in that call.
                standing = self._standing_of(self._own.outermost_of(event.run_id) or event.run_id)
                said = standing.note(event)
            if isinstance(event, TaskLogged):
                self._print(logged(event), level_of(event))
            elif said is not None and not (self._is_terminal and isinstance(event, TaskBlocked)):
                # What holds calls back is a part of the live view.
                self._print(sentence(event) + said, level_of(event))

    def _take_end(self, event: RunFinished) -> None:
        standing = self._standings.pop(event.run_id, None)
        if event.duration < PATIENCE or self._level > Level.INFO:
            return
        for strategy in self._own.under_way():
            if strategy.run.id == event.run_id and strategy.run.parent is None:
                now = self._engine.clock.monotonic()
                standing = standing or Standing(now - event.duration)
                standing.update(progress_of_run(strategy), now)
                if self._screen is not None and self._pane is not None and not self._standings:
                    self._screen.hide(self._pane)
                self._print(standing.summary(event, _errors_of(strategy)), level_of(event))

    def _standing_of(self, run_id: str) -> Standing:
        standing = self._standings.get(run_id)
        if standing is None:
            standing = self._standings[run_id] = Standing(self._engine.clock.monotonic())
        return standing

    # Looks, on the thread of the watch.

    def _look(self) -> None:
        now = self._engine.clock.monotonic()
        with self._lock:
            self._listen_for_end()
            outermost = self._update(now)
            if not outermost:
                return
            if self._is_terminal:
                self._draw(outermost, now)
            elif now - self._began >= self._next_line:
                elapsed = now - self._began
                self._next_line = elapsed + (5.0 if elapsed < 60.0 else 15.0 if elapsed < 300.0 else 60.0)
                for standing in outermost:
                    self._print(standing.line(), Level.INFO)

    def _listen_for_end(self) -> None:
        """Hear when runs end, which of short ones nobody wants to know."""
        if not self._listens and self._level > Level.DEBUG:
            self._listens = True
            self._ends.append(self._engine.bus.subscribe(RunFinished, self._take))

    def _update(self, now: float) -> list[Standing]:
        """Look at all runs; the outermost ones, with what belongs to their nested ones."""
        nested: dict[str, list[RunProgress]] = {}
        outermost: list[tuple[GraphExecutionStrategy, RunProgress]] = []
        for strategy, progress in self._progress(now):
            if strategy.run.parent is None:
                outermost.append((strategy, progress))
            else:
                nested.setdefault(outermost_run(strategy.run).id, []).append(progress)
        found: list[Standing] = []
        for strategy, progress in outermost:
            standing = self._standings.get(strategy.run.id)
            if standing is None:
                # Of runs that are watched from the start the time is known.
                began = self._began if not self._standings else now
                standing = self._standings[strategy.run.id] = Standing(began)
            standing.update(progress, now, tuple(nested.get(strategy.run.id, ())))
            standing.slowest.look(calls_under_way(strategy), now)
            found.append(standing)
        return found

    def _progress(self, now: float) -> list[tuple[GraphExecutionStrategy, RunProgress]]:
        """How far the runs have come; by task only now and then where that takes its time."""
        strategies = self._own.under_way()
        if now < self._next_close_look:
            return [(strategy, progress_of_run(strategy)) for strategy in strategies]
        found = [(strategy, progress_of_run(strategy, sys.maxsize)) for strategy in strategies]
        self._next_close_look = now + (self._engine.clock.monotonic() - now) / _MOST_OF_TIME
        return found

    def _draw(self, standings: list[Standing], now: float) -> None:
        assert self._stream is not None
        if self._view is None:
            try:
                from cascade.adapters.telemetry.live_view import LiveView
            except ModuleNotFoundError:
                # Without the extra there are lines, as everywhere else.
                self._is_terminal = False
                return
            from cascade.adapters.telemetry.screen import Pane, screen_of

            self._view = LiveView(self._stream)
            self._screen = screen_of(self._stream, self._engine.clock)
            self._pane = Pane()
        assert self._screen is not None
        assert self._pane is not None
        columns, rows = self._screen.size()
        lines: list[str] = []
        widths: list[int] = []
        for standing in standings:
            more, wide = self._view.lines(standing, now, columns, rows // len(standings))
            lines += more
            widths += wide
        self._pane.lines, self._pane.widths = lines, widths
        self._screen.show(self._pane)

    def _print(self, text: str, level: Level) -> None:
        assert self._stream is not None
        elapsed = clocked(self._engine.clock.monotonic() - self._began)
        line = f"[cascade {elapsed}] {text}"
        colour = _COLOURS.get(level)
        if colour is not None and self._is_terminal and not os.environ.get("NO_COLOR"):
            line = f"\x1b[{colour}m{line}\x1b[0m"
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads this any more.
            return


def _errors_of(strategy: GraphExecutionStrategy) -> list[BaseException]:
    """What failed in a run: in one that went on all of it, otherwise what stopped it."""
    if strategy.failures:
        return list(strategy.failures)
    error = strategy.run.error
    # That somebody has cancelled it, the line before says.
    return [] if error is None or isinstance(error, asyncio.CancelledError) else [error]


def _leads_to_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False
