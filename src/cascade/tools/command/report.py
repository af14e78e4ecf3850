"""`cascade report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.tools.command.arguments import RunArgument, StoreOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.loading import shown_path
from cascade.tools.command.programs import program_to_load
from cascade.tools.command.stores import existing_durable, existing_store, run_in
from cascade.tools.report_page import write_report

HtmlOption = Annotated[
    Path, typer.Option("--html", metavar="FILE", help="The file to write; one that exists is replaced.")
]


def report(
    run_id: RunArgument,
    html: HtmlOption,
    graph: Annotated[
        bool, typer.Option("--graph", help="Load the workflow too, and draw what needs what; nothing is run.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Write a page about a run, for a browser: its graph, a timeline, tasks and errors."""
    # Loading a workflow goes to the folder of the run.
    path = html.absolute()
    try:
        if graph:
            with existing_durable(store) as durable:
                row = run_in(durable.store, run_id)
                target = program_to_load(row, durable.serializer).load().target
                write_report(durable.store, run_id, path, target=target)
        else:
            with existing_store(store) as opened:
                run_in(opened, run_id)
                write_report(opened, run_id, path)
    except OSError as error:
        if error.filename != str(path):
            raise
        raise CommandError(f"{shown_path(path)} cannot be written: {error.strerror}; choose another --html") from None
    typer.echo(shown_path(path))
