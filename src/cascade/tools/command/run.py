"""`cascade run`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.chance import Randomness
from cascade.runtime.clock import SystemClock
from cascade.tools.command.arguments import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    ParamOption,
    StoreOption,
    TargetArgument,
)
from cascade.tools.command.endings import CommandError
from cascade.tools.command.inputs import given_again, storable, texts_of, values_of
from cascade.tools.command.launching import Log, launch
from cascade.tools.command.loading import working_directory
from cascade.tools.command.locating import locate
from cascade.tools.command.programs import Program, program_shown
from cascade.tools.command.stores import exists, new_or_existing_durable, way_on


class OnFailure(StrEnum):
    """What a run does after a failure."""

    STOP = "stop"
    CONTINUE = "continue"


class Durability(StrEnum):
    """On what tasks start."""

    COMMITTED = "committed"
    RELAXED = "relaxed"


def run(
    target: TargetArgument,
    param: ParamOption = None,
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", metavar="ID", help="The run's id; a run that exists goes on. Made if not given."),
    ] = None,
    store: StoreOption = None,
    on_failure: Annotated[
        OnFailure, typer.Option("--on-failure", help="Stop at the first failure, or do all that does not need it.")
    ] = OnFailure.STOP,
    max_workers: Annotated[
        int | None,
        typer.Option("--max-workers", metavar="N", min=1, help="The most threads at a time.", show_default="64"),
    ] = None,
    durability: Annotated[
        Durability,
        typer.Option("--durability", help="Start tasks on what is safely stored, or sooner."),
    ] = Durability.COMMITTED,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.HUMAN,
) -> None:
    """Run a workflow, so that it can be resumed if it is interrupted; print what it gives."""
    if run_id == "":
        raise CommandError("--run-id: expected an id, got an empty text")
    log = Log(log_level.value, log_format.value)
    texts = texts_of(param or ())
    located = locate(target)
    made = run_id or Randomness().run_id(SystemClock().now())
    program = Program(
        file=None if located.file is None else str(located.file),
        module=located.module,
        name=located.name,
        params=storable(located.target, texts),
        folder=str(working_directory()),
        on_failure=on_failure.value,
        max_workers=max_workers,
        durability=durability.value,
    )
    # What is wrong with the inputs of a new run is told before a store is made; one that exists has its parameters.
    params = values_of(located.target, texts) if run_id is None or not exists(store) else None
    with new_or_existing_durable(store) as durable:
        found = None if run_id is None else durable.store.find(made)
        before = None if found is None else program_shown(found)
        if before is not None and not before.is_same_workflow(program):
            raise CommandError(
                f"run '{harmless(made)}' is one of {harmless(before.file or before.module, 1_000)}:"
                f"{harmless(before.name)}; choose another --run-id"
            )
        if found is not None:
            params = given_again(texts)
        elif params is None:
            params = values_of(located.target, texts)
        again = way_on(made, store, durable.store.url, texts.keys() - program.params.keys())
        launch(found, located, program, params, made, durable, log, again)
