"""The command line `cascade`: runs workflows in a store, shows what the store knows of runs, and resumes them."""

from __future__ import annotations

import sys

from cascade.spec.exceptions import MissingExtraError


def main() -> None:
    """Be the program `cascade`; it ends with the status of the command.

    Without Typer and Rich one line says how to install them.
    """
    try:
        from cascade.tools.command.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f"error: {MissingExtraError('the command line cascade', 'Typer and Rich', 'cli')}\n")
        sys.exit(2)
    app(prog_name="cascade")
