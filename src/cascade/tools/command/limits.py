"""`cascade limits`."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.text import Text

from cascade.adapters.telemetry.wording import harmless, lasting
from cascade.control.kept_limits import kept_limits
from cascade.runtime.clock import SystemClock
from cascade.spec.constraint import split_scope
from cascade.spec.exceptions import DeclarationError
from cascade.tools.command.arguments import JsonOption, StoreOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.machine_output import write_json
from cascade.tools.command.moments import age_of, iso, shown_moment
from cascade.tools.command.stores import existing_store
from cascade.tools.command.tables import Column, write_table

if TYPE_CHECKING:
    from cascade.control.kept_limits import KeptLimit

_COLUMNS: Final = (Column("SCOPE"), Column("LIMIT", weight=90), Column("SINCE", weight=40), Column("ENDS", weight=60))


def limits(as_json: JsonOption = False, store: StoreOption = None) -> None:
    """List the limits that were put on the runs of a store."""
    now = SystemClock().now()
    with existing_store(store) as opened:
        url = opened.url
        kept = kept_limits(opened, now)
    if as_json:
        write_json([_told(limit) for limit in kept])
    elif kept:
        write_table(_COLUMNS, [_row(limit, now) for limit in kept])
    else:
        typer.echo(f"no limits in {harmless(url)}")


def scope_of(text: str) -> str:
    """A scope as it was given.

    Raises:
        CommandError: it is none.
    """
    try:
        split_scope(text)
    except DeclarationError as error:
        raise CommandError(str(error)) from None
    return text


def ttl_of(text: str | None) -> float | None:
    """After how many seconds a limit ends by itself, as it was given; `None` for never.

    Raises:
        CommandError: it is no age, or none that a limit can have.
    """
    if text is None:
        return None
    seconds = age_of(text, "--ttl")
    if not 0 < seconds < inf:
        raise CommandError(f"--ttl: expected an age above 0 such as 90s, 30m or 2h, got '{harmless(text)}'")
    return seconds


def _told(limit: KeptLimit) -> dict[str, Any]:
    constraint = limit.constraint
    is_rate = constraint.type == "rate_limit"
    return {
        "scope": constraint.scope,
        "type": constraint.type,
        "limit": constraint.limit,
        "rate": constraint.rate,
        "burst": constraint.burst if is_rate else None,
        "since": iso(limit.since),
        "until": None if limit.until is None else iso(limit.until),
    }


def _row(limit: KeptLimit, now: float) -> list[Text]:
    constraint = limit.constraint
    what = str(constraint).removesuffix(f" on {constraint.scope}")
    return [
        Text(harmless(constraint.scope, 1_000)),
        Text(what),
        Text(shown_moment(limit.since)),
        Text("" if limit.until is None else f"in {lasting(limit.until - now)}"),
    ]
