"""`cascade pause`."""

from __future__ import annotations

import typer

from cascade.adapters.telemetry.wording import harmless
from cascade.control.kept_limits import keep_limit
from cascade.runtime.clock import SystemClock
from cascade.spec.constraint import GlobalConstraint
from cascade.tools.command.arguments import ScopeArgument, StoreOption, TtlOption
from cascade.tools.command.limits import scope_of, ttl_of
from cascade.tools.command.stores import existing_store


def pause(scope: ScopeArgument, ttl: TtlOption = None, store: StoreOption = None) -> None:
    """Let no call in a scope start, in all runs on the store, until unpaused; those that run go on."""
    constraint = GlobalConstraint.pause(scope_of(scope), ttl=ttl_of(ttl))
    with existing_store(store) as opened:
        keep_limit(opened, constraint, SystemClock().now())
    typer.echo(harmless(str(constraint), 1_000))
