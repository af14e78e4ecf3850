"""`cascade runs`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cascade.adapters.telemetry.wording import harmless, lasting
from cascade.runtime.clock import SystemClock
from cascade.tools.command.arguments import JsonOption, StoreOption
from cascade.tools.command.machine_output import told_run, write_json
from cascade.tools.command.moments import moment_of, shown_moment
from cascade.tools.command.programs import program_shown
from cascade.tools.command.standing import Standing, standing_of
from cascade.tools.command.stores import existing_store
from cascade.tools.command.tables import Column, state_text, write_table

if TYPE_CHECKING:
    from cascade.spec.records import RunRow

_COLUMNS = (
    Column("RUN"),
    Column("STATUS", weight=90),
    Column("WORKFLOW", least=12, weight=60),
    Column("BEGAN", weight=50),
    Column("TOOK", weight=40),
    Column("ERROR", least=16, weight=30),
)


def runs(
    status: Annotated[
        list[Standing] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only runs that stand so: running, interrupted, succeeded, failed, cancelled. Several may be given.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="GLOB", help="Only runs whose workflow or target is called so: 'train*'."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only runs begun since then: 2h, 30d, 2030-01-31.")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List the runs in a store, the newest first."""
    now = SystemClock().now()
    oldest = None if since is None else moment_of(since, "--since", now)
    with existing_store(store) as opened:
        url = opened.url
        found = [
            (row, standing_of(row, url))
            for row in opened.runs()
            if (oldest is None or row.created >= oldest) and (name is None or _is_called(row, name))
        ]
    if status:
        found = [(row, standing) for row, standing in found if standing in status]
    if as_json:
        write_json([told_run(row, standing) for row, standing in found])
        return
    if not found:
        typer.echo(f"no such runs in {harmless(url)}" if status or name or since else f"no runs in {harmless(url)}")
        return
    write_table(_COLUMNS, [_row(row, standing, now) for row, standing in found])


def workflow_of(row: RunRow) -> str:
    """What a run runs, in a few words."""
    program = program_shown(row)
    return row.target if program is None else program.shown


def took(row: RunRow, standing: Standing, now: float) -> str:
    """How long a run has taken, or takes by now."""
    return lasting((now if standing is Standing.RUNNING else row.updated) - row.created)


def _is_called(row: RunRow, glob: str) -> bool:
    program = program_shown(row)
    names = [row.target, *row.target.split(", ")]
    if program is not None:
        names += [program.name, program.shown]
    return any(fnmatchcase(name, glob) for name in names)


def _row(row: RunRow, standing: Standing, now: float) -> list[Text]:
    return [
        Text(harmless(row.run_id, 10_000)),
        state_text(standing.value),
        Text(harmless(workflow_of(row))),
        Text(shown_moment(row.created)),
        Text(took(row, standing, now)),
        Text(harmless(row.error or ""), style="red" if standing is Standing.FAILED else ""),
    ]
