"""`cascade watch`."""

from __future__ import annotations

import sys
from heapq import nlargest
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

import typer

from cascade.adapters.telemetry.live_view import LiveView
from cascade.adapters.telemetry.screen import Pane, screen_of
from cascade.adapters.telemetry.slowest import LEAST_SHARE, MOST
from cascade.adapters.telemetry.standing import WORTH_TELLING
from cascade.adapters.telemetry.standing import Standing as Progress
from cascade.adapters.telemetry.wording import clocked, harmless, lasting
from cascade.control.kept_cancels import reason_to_cancel
from cascade.control.kept_limits import kept_limits
from cascade.control.kept_progress import kept_progress
from cascade.control.run_view import RunView, view_of
from cascade.runtime.clock import SystemClock
from cascade.runtime.events import RunFinished
from cascade.spec.constraint import split_scope
from cascade.spec.records import ROOT
from cascade.tools.command.arguments import RunArgument, StoreOption
from cascade.tools.command.endings import FAILED, INTERRUPTED
from cascade.tools.command.journal_tree import all_places, tree_of
from cascade.tools.command.lines import shown_line
from cascade.tools.command.looking import looks
from cascade.tools.command.standing import Standing, standing_of, was_interrupted
from cascade.tools.command.stores import existing_store, run_in, way_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cascade.runtime.events import Status
    from cascade.runtime.progress import CallUnderWay
    from cascade.spec.constraint import GlobalConstraint
    from cascade.spec.protocols import Store
    from cascade.spec.records import Line, Record, RunRow

_BETWEEN_DRAWINGS: Final = 0.2
_BETWEEN_LINES: Final = 2.0
_FIRST_LINES: Final = 10
"""Of what was logged and printed before."""
_STATUSES: Final[dict[Standing, Status]] = {Standing.SUCCEEDED: "Succeeded", Standing.FAILED: "Failed"}


class _Seen(NamedTuple):
    row: RunRow
    standing: Standing
    records: Sequence[Record]
    view: RunView
    calls: tuple[CallUnderWay, ...]
    limits: tuple[str, ...]
    lines: list[Line]


def watch(run_id: RunArgument, store: StoreOption = None) -> None:
    """Show how far a run has come that another process has, until it ends; then end as it did."""
    clock = SystemClock()
    with existing_store(store) as opened:
        row = run_in(opened, run_id)
        display = _Live(row, clock) if sys.stdout.isatty() else _Lines(row, clock)
        seen: _Seen | None = None
        newest = _Newest()
        try:
            for seen, is_new in looks(lambda: _look(opened, run_id, clock, newest), clock, _BETWEEN_DRAWINGS):
                if is_new:
                    display.tell_lines(seen)
                if seen.standing is not Standing.RUNNING:
                    break
                display.show(seen, is_new=is_new)
        except KeyboardInterrupt:
            display.clear()
            typer.echo(f"run {harmless(run_id)} goes on", err=True)
            raise typer.Exit(INTERRUPTED) from None
        url = opened.url
    assert seen is not None
    display.clear()
    display.tell_errors(seen)
    typer.echo(display.ending(seen))
    if seen.standing.can_be_resumed:
        typer.echo(f"go on {way_on(run_id, store, url)}", err=True)
    raise typer.Exit(_exit_status(seen))


class _Newest:
    """Which lines were seen already."""

    def __init__(self) -> None:
        self._number: int | None = None

    def of(self, store: Store, run_id: str) -> list[Line]:
        """Those that were not; of what there was before anybody looked the last few."""
        found = store.lines(run_id, self._number or 0)
        if self._number is None:
            self._number, found = 0, found[-_FIRST_LINES:]
        if found:
            self._number = found[-1].number
        return found


def _look(store: Store, run_id: str, clock: SystemClock, newest: _Newest) -> _Seen:
    # First the run: when it has ended, no line comes any more.
    row = run_in(store, run_id)
    now = clock.now()
    standing = standing_of(row, store.url)
    records = store.outline(run_id)
    lines = newest.of(store, run_id)
    settings = store.settings(now)
    is_stopping = reason_to_cancel(settings, run_id) is not None
    limits = tuple(_limits(run_id, (kept.constraint for kept in kept_limits(store, now))))
    kept = kept_progress(settings, run_id) if standing is Standing.RUNNING else None
    view = view_of(row, records, now, is_stopping=is_stopping, told=None if kept is None else kept.progress)
    return _Seen(row, standing, records, view, () if kept is None else kept.calls, limits, lines)


def _limits(run_id: str, constraints: Iterable[GlobalConstraint]) -> Iterator[str]:
    """The limits of a store that hold for a run, as far as they are known to; first those that hold back all of it."""
    all_held: list[str] = []
    others: list[str] = []
    for constraint in constraints:
        kind, pattern = split_scope(constraint.scope)
        if kind == "run" and pattern != run_id:
            continue
        is_pause = constraint.type == "pause" or constraint.limit == 0
        holds_all = is_pause and kind in ("global", "run")
        (all_held if holds_all else others).append(harmless(str(constraint)))
    yield from (f"nothing new starts: {told}" for told in all_held)
    yield from (f"limit: {told}" for told in others)


def _exit_status(seen: _Seen) -> int:
    """The status with which the process ended that had the run, as far as the store knows."""
    if seen.standing is Standing.SUCCEEDED:
        return 0
    return INTERRUPTED if was_interrupted(seen.row, seen.standing) else FAILED


class _Display:
    """What is told of a run."""

    def __init__(self, row: RunRow, clock: SystemClock) -> None:
        self._clock = clock
        self._progress = Progress(row.created)
        self._told: set[tuple[bytes, bytes, int]] = set()

    def show(self, seen: _Seen, *, is_new: bool) -> None:
        """Tell how far the run has come."""
        if is_new:
            self._progress.update(seen.view.progress, self._clock.now())
            self._progress.retries = seen.view.retries
        self._show(seen, is_new=is_new)

    def _show(self, seen: _Seen, *, is_new: bool) -> None: ...

    def clear(self) -> None:
        """Take away what is drawn."""

    def tell_lines(self, seen: _Seen) -> None:
        """Tell what was logged and printed since the last look."""
        if seen.lines:
            typer.echo("\n".join(map(shown_line, seen.lines)))

    def tell_errors(self, seen: _Seen) -> None:
        """Tell the errors that were not told yet."""
        for error in reversed(seen.view.errors):
            known = error.scope, error.node, error.attempt
            if known not in self._told:
                self._told.add(known)
                typer.echo(_error_line(error))

    def ending(self, seen: _Seen) -> str:
        """How the run ended, in one line; of a longer run also which calls were slowest, a line each."""
        row = seen.row
        self._progress.update(seen.view.progress, self._clock.now())
        self._progress.retries = seen.view.retries
        if seen.standing is Standing.INTERRUPTED:
            return f"{self._progress.line()}; interrupted: its process is gone"
        status = _STATUSES.get(seen.standing, "Cancelled")
        ended = RunFinished(run_id=row.run_id, status=status, duration=row.updated - row.created, error=row.error)
        error = f": {harmless(row.error)}" if row.error else ""
        return "\n".join([f"{self._progress.summary(ended)}{error}", *_slowest(seen)])


class _Lines(_Display):
    """Lines for who reads no terminal: when something has changed, and not too often."""

    def __init__(self, row: RunRow, clock: SystemClock) -> None:
        super().__init__(row, clock)
        self._last = ""
        self._last_at = -_BETWEEN_LINES

    def _show(self, seen: _Seen, *, is_new: bool) -> None:
        if not is_new:
            return
        self.tell_errors(seen)
        line = "; ".join([self._progress.line(), *seen.limits])
        now = self._clock.monotonic()
        if line != self._last and now - self._last_at >= _BETWEEN_LINES:
            self._last, self._last_at = line, now
            typer.echo(f"[{clocked(self._clock.now() - self._progress.began)}] {line}")


class _Live(_Display):
    """A drawing on a terminal."""

    def __init__(self, row: RunRow, clock: SystemClock) -> None:
        super().__init__(row, clock)
        self._view = LiveView(sys.stdout)
        self._screen = screen_of(sys.stdout, clock)
        self._pane = Pane()

    def _show(self, seen: _Seen, *, is_new: bool) -> None:
        columns, rows = self._screen.size()
        width = max(10, columns - 3)
        told = [_error_line(error) for error in reversed(seen.view.errors)]
        told += (_call_line(call, width) for call in seen.calls)
        told += seen.limits
        told = [f"  {line[:width]}" for line in told[: max(0, rows // 2)]]
        lines, widths = self._view.lines(self._progress, self._clock.now(), columns, rows - len(told))
        self._pane.lines, self._pane.widths = [*lines, *told], [*widths, *(len(line) for line in told)]
        self._screen.show(self._pane)

    def clear(self) -> None:
        self._screen.hide(self._pane)

    def tell_lines(self, seen: _Seen) -> None:
        if seen.lines:
            # What is drawn comes again below them.
            self.clear()
            super().tell_lines(seen)


def _error_line(error: Record) -> str:
    where = f"{error.name}{error.label}" if error.label.startswith("[") else error.label
    declared = f", {harmless(error.preview)}" if error.preview else ""
    return f"{harmless(where)} failed: {harmless(error.detail or '')}{declared}"


def _call_line(call: CallUnderWay, width: int) -> str:
    """A call that is being made; where there is no room for all, the beginning of the path goes first."""
    line = f"active: {harmless(call.task_id)}"
    if call.declared_at is None:
        return line
    path, number = call.declared_at
    whole = f"{line}, called at {harmless(f'{path}:{number}')}"
    return whole if len(whole) <= width else f"{line}, called at {harmless(f'{PurePath(path).name}:{number}')}"


def _slowest(seen: _Seen) -> Iterator[str]:
    """The calls that took a good part of the time of a run that is worth it, the longest first."""
    duration = seen.row.updated - seen.row.created
    if duration < WORTH_TELLING:
        return
    calls = [
        (record.ended - record.began, place.path)
        for place in all_places(tree_of(seen.records))
        if (record := place.record) is not None
        and record.scope != ROOT
        and record.kind != "skipped"
        and not record.is_of_map
    ]
    for seconds, path in nlargest(MOST, calls):
        if seconds >= duration * LEAST_SHARE:
            yield f"    {harmless(path)} took {lasting(seconds)}"
