"""`cascade plan`."""

from __future__ import annotations

import typer

from cascade.tools.command.arguments import ParamOption, TargetArgument
from cascade.tools.command.inputs import texts_of, values_of
from cascade.tools.command.locating import locate
from cascade.tools.dry_run import dry_run


def plan(target: TargetArgument, param: ParamOption = None) -> None:
    """Check a workflow with its inputs and show in which order it would run; nothing is run."""
    texts = texts_of(param or ())
    located = locate(target)
    params = values_of(located.target, texts)
    typer.echo(str(dry_run(located.target, params, resources=located.resources)))
