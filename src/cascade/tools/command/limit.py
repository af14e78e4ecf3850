"""`cascade limit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from cascade.adapters.telemetry.wording import harmless
from cascade.control.kept_limits import keep_limit, remove_limit
from cascade.runtime.clock import SystemClock
from cascade.spec.constraint import GlobalConstraint
from cascade.spec.exceptions import DeclarationError
from cascade.tools.command.arguments import ScopeArgument, StoreOption, TtlOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.limits import scope_of, ttl_of
from cascade.tools.command.stores import existing_store

if TYPE_CHECKING:
    from cascade.spec.constraint import ConstraintType

_LIMITS: Final[tuple[ConstraintType, ...]] = ("concurrency", "rate_limit")


def limit(
    scope: ScopeArgument,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", min=0, help="How many calls may run at once.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="How many calls may start: 5/s, 10/m, 2/h, 100/d.")
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            "--burst",
            metavar="B",
            min=1,
            help="With --rate: how many may start at once after a time without any.",
            show_default="1",
        ),
    ] = None,
    ttl: TtlOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="End the limits on the scope instead.")] = False,
    store: StoreOption = None,
) -> None:
    """Limit the calls in a scope, in all runs on the store together; the last limit on a scope counts."""
    seconds = ttl_of(ttl)
    scope_of(scope)
    if remove:
        if concurrency is not None or rate is not None or burst is not None or ttl is not None:
            raise CommandError("--remove: takes nothing else, since it ends what there is")
        _remove(scope, store)
        return
    if concurrency is None and rate is None:
        raise CommandError("expected --concurrency N or --rate RATE, or both; or --remove")
    if burst is not None and rate is None:
        raise CommandError("--burst: says how many calls may start at once under a --rate, and there is none")
    constraints: list[GlobalConstraint] = []
    try:
        if concurrency is not None:
            constraints.append(GlobalConstraint.concurrency(concurrency, scope, ttl=seconds))
        if rate is not None:
            constraints.append(GlobalConstraint.rate_limit(rate, burst or 1, scope, ttl=seconds))
    except DeclarationError as error:
        raise CommandError(str(error)) from None
    except OverflowError:
        raise CommandError(f"--rate: no number of calls is as large as '{harmless(rate or '')}'") from None
    with existing_store(store) as opened:
        for constraint in constraints:
            keep_limit(opened, constraint, SystemClock().now())
    for constraint in constraints:
        typer.echo(harmless(str(constraint), 1_000))


def _remove(scope: str, store: str | None) -> None:
    with existing_store(store) as opened:
        ended = [kind for kind in _LIMITS if remove_limit(opened, scope, kind)]
    if not ended:
        raise CommandError(f"there is no limit on {harmless(scope)}; `cascade limits` lists those that there are")
    typer.echo(f"no limit on {harmless(scope)} any more")
