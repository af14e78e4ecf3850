"""`cascade top`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.cells import cell_len
from rich.text import Text

from cascade.adapters.telemetry.screen import Pane, screen_of
from cascade.adapters.telemetry.wording import clocked, counted, harmless, per_second
from cascade.control.kept_progress import kept_progress
from cascade.control.run_view import view_of
from cascade.runtime.clock import SystemClock
from cascade.tools.command.arguments import JsonOption, StoreOption
from cascade.tools.command.looking import looks
from cascade.tools.command.machine_output import told_run, write_json
from cascade.tools.command.runs import workflow_of
from cascade.tools.command.standing import Standing, standing_of
from cascade.tools.command.stores import existing_store
from cascade.tools.command.tables import Column, stdout, table_of, write_table

if TYPE_CHECKING:
    from cascade.control.run_view import RunView
    from cascade.runtime.progress import RunProgress
    from cascade.spec.protocols import Store
    from cascade.spec.records import RunRow

_COLUMNS: Final = (
    Column("RUN"),
    Column("WORKFLOW", least=12, weight=60),
    Column("TIME", weight=80),
    Column("DONE", weight=90),
    Column("ACTIVE", weight=85),
    Column("RETRYING", weight=72),
    Column("BLOCKED", weight=75),
    Column("FAILED", weight=70),
    Column("RATE", weight=50),
    Column("OWNER", least=12, weight=30),
    Column("LAST ERROR", least=16, weight=40),
)
_BETWEEN_DRAWINGS: Final = 0.5


def top(as_json: JsonOption = False, store: StoreOption = None) -> None:
    """Show all runs that are running now, until Ctrl-C; once, where there is no terminal."""
    clock = SystemClock()
    with existing_store(store) as opened:
        if as_json:
            write_json([_told(row, view) for row, view in _running(opened, clock)])
        elif sys.stdout.isatty():
            _draw(opened, clock)
        else:
            found = _running(opened, clock)
            if found:
                write_table(_COLUMNS, _rows(found, clock))
            else:
                typer.echo(_nothing(opened))


def _running(store: Store, clock: SystemClock) -> list[tuple[RunRow, RunView]]:
    now = clock.now()
    running = [row for row in store.runs() if standing_of(row, store.url) is Standing.RUNNING]
    settings = store.settings(now) if running else {}
    views: list[tuple[RunRow, RunView]] = []
    for row in running:
        kept = kept_progress(settings, row.run_id)
        told = None if kept is None else kept.progress
        views.append((row, view_of(row, store.outline(row.run_id), now, told=told)))
    return views


def _draw(store: Store, clock: SystemClock) -> None:
    """Draw again and again, in the place of what was drawn before."""
    screen, pane, console = screen_of(sys.stdout, clock), Pane(), stdout()
    try:
        for found, _ in looks(lambda: _running(store, clock), clock, _BETWEEN_DRAWINGS):
            columns, rows = screen.size()
            width = max(10, columns - 1)
            shown = found[: max(1, rows - 4)]
            with console.capture() as captured:
                if shown:
                    console.print(table_of(_COLUMNS, _rows(shown, clock), width), width=width)
                    if len(found) > len(shown):
                        console.print(f"and {counted(len(found) - len(shown), 'run')} more", width=width)
                else:
                    console.print(_nothing(store), width=width)
            pane.lines = captured.get().rstrip("\n").split("\n")
            pane.widths = [cell_len(Text.from_ansi(line).plain) for line in pane.lines]
            screen.show(pane)
    except KeyboardInterrupt:
        # Ending it is what Ctrl-C is for here; the last drawing stays.
        return


def _nothing(store: Store) -> str:
    return f"nothing is running in {harmless(store.url)}"


def _rows(found: list[tuple[RunRow, RunView]], clock: SystemClock) -> list[list[Text]]:
    return [_row(row, view, clock.now()) for row, view in found]


def _row(row: RunRow, view: RunView, now: float) -> list[Text]:
    progress = view.progress
    failed, waiting = progress.failed, _waiting(progress)
    error = view.errors[0] if view.errors else None
    return [
        Text(harmless(row.run_id, 10_000)),
        Text(harmless(workflow_of(row))),
        Text(clocked(now - row.created)),
        Text(f"{progress.done:,}/{progress.total:,}{'' if progress.is_complete else '+'}"),
        *(Text(counted(calls) if calls else "") for calls in waiting.values()),
        Text(counted(failed), style="red" if failed else ""),
        Text(per_second(view.rate) if view.rate else ""),
        Text(harmless(row.owner)),
        Text("" if error is None else f"{harmless(error.name)}: {harmless(error.detail or '')}", style="red"),
    ]


def _waiting(progress: RunProgress) -> dict[str, int]:
    """How many calls are made now, wait for their next attempt, and are held back; each is counted once."""
    retrying = sum(calls for _, calls in progress.retrying)
    blocked = sum(held.calls for held in progress.held_back or ())
    return {"active": max(0, (progress.active or 0) - retrying - blocked), "retrying": retrying, "blocked": blocked}


def _told(row: RunRow, view: RunView) -> dict[str, Any]:
    progress = view.progress
    return {
        **told_run(row, Standing.RUNNING),
        "total": progress.total if progress.is_complete else None,
        "done": progress.done,
        **_waiting(progress),
        "failed": progress.failed,
        "skipped": progress.skipped,
        "retries": view.retries,
        "rate": view.rate,
        "tasks": [
            {"name": task.name, "done": task.done, "failed": task.failed, "skipped": task.skipped}
            for task in progress.tasks or ()
        ],
    }
