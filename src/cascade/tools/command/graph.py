"""`cascade graph`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cascade.tools.command.arguments import TargetArgument
from cascade.tools.command.locating import locate
from cascade.tools.pictures import visualize


class PictureFormat(StrEnum):
    """What a picture is written in."""

    MERMAID = "mermaid"
    DOT = "dot"


def graph(
    target: TargetArgument,
    form: Annotated[
        PictureFormat, typer.Option("--format", "-f", help="Mermaid, or dot for Graphviz.")
    ] = PictureFormat.MERMAID,
) -> None:
    """Draw what a workflow consists of, as text; nothing is run."""
    typer.echo(visualize(locate(target).target, form.value))
