"""`cascade resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.tools.command.arguments import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    ParamOption,
    RunArgument,
    StoreOption,
)
from cascade.tools.command.explaining import explain
from cascade.tools.command.inputs import check_secrets, given_again, texts_of
from cascade.tools.command.launching import Log, launch
from cascade.tools.command.programs import program_to_load
from cascade.tools.command.stores import existing_durable, run_in, way_on


def resume(
    run_id: RunArgument,
    explained: Annotated[
        bool, typer.Option("--explain", help="Tell what will be reused, what runs again and why; run nothing.")
    ] = False,
    param: ParamOption = None,
    store: StoreOption = None,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.HUMAN,
) -> None:
    """Go on with a run, from the folder and with the parameters that it was started with.

    Secrets are in no store: give them again with --param.
    """
    texts = texts_of(param or ())
    log = Log(log_level.value, log_format.value)
    with existing_durable(store) as durable:
        row = run_in(durable.store, run_id)
        program = program_to_load(row, durable.serializer)
        # Before the folder of the run is entered: a path is one in this folder.
        again = way_on(run_id, store, durable.store.url, texts.keys() - program.params.keys())
        if explained:
            explain(row, program, durable.store, durable.serializer)
            return
        located = program.load()
        check_secrets(located.target, texts)
        launch(row, located, program, given_again(texts), run_id, durable, log, again)
