"""`cascade gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.adapters.telemetry.wording import counted
from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import RunOwnedError
from cascade.tools.command.arguments import StoreOption
from cascade.tools.command.moments import age_of
from cascade.tools.command.rm import remove
from cascade.tools.command.standing import standing_of, was_interrupted
from cascade.tools.command.stores import existing_store


def gc(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help="Also remove runs that ended longer ago than this, well or badly, and were not interrupted: 12h, 30d.",
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Remove what nothing refers to any more, and values of caches that have expired."""
    age = None if older_than is None else age_of(older_than, "--older-than")
    now = SystemClock().now()
    removed = 0
    with existing_store(store) as opened:
        for row in [] if age is None else opened.runs():
            assert age is not None
            standing = standing_of(row, opened.url)
            if row.updated <= now - age and standing.has_ended and not was_interrupted(row, standing):
                try:
                    remove(opened, row.run_id)
                except RunOwnedError:
                    # Somebody goes on with it just now.
                    continue
                removed += 1
        swept = opened.sweep(now)
    runs = "" if age is None else f"{counted(removed, 'run')} and "
    typer.echo(f"removed {runs}{counted(swept, 'leftover')}")
