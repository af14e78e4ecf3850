"""`cascade signal`."""

from __future__ import annotations

import json
from typing import Annotated, Any, NoReturn

import typer

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.clock import SystemClock
from cascade.runtime.signals import as_json
from cascade.tools.command.arguments import RunArgument, StoreOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.stores import existing_store, run_in


def signal(
    run_id: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run waits for.", show_default=False)],
    value: Annotated[
        str, typer.Argument(metavar="[VALUE]", help="JSON, or else it is text.", show_default=False)
    ] = "null",
    store: StoreOption = None,
) -> None:
    """Send a value to a run, for `cs.wait_for_signal(NAME)` in it; it is kept until then."""
    with existing_store(store) as opened:
        row = run_in(opened, run_id)
        if row.status == "succeeded":
            raise CommandError(f"run '{harmless(run_id)}' has succeeded, and waits for nothing any more")
        opened.send(run_id, name, as_json(name, _value_of(value)), SystemClock().now())
    typer.echo(f"sent {harmless(name)} to run {harmless(run_id)}")


def _value_of(text: str) -> Any:
    """What a text says in JSON, or the text itself.

    >>> _value_of("[1, true]"), _value_of("yes please"), _value_of("NaN")
    ([1, True], 'yes please', 'NaN')
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")
