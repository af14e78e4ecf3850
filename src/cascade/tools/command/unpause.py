"""`cascade unpause`."""

from __future__ import annotations

import typer

from cascade.adapters.telemetry.wording import harmless
from cascade.control.kept_limits import kept_limits, remove_limit
from cascade.runtime.clock import SystemClock
from cascade.tools.command.arguments import ScopeArgument, StoreOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.limits import scope_of
from cascade.tools.command.stores import existing_store


def unpause(scope: ScopeArgument, store: StoreOption = None) -> None:
    """End a pause, so that what it held back starts."""
    with existing_store(store) as opened:
        if not remove_limit(opened, scope_of(scope), "pause"):
            kept = kept_limits(opened, SystemClock().now())
            paused = ", ".join(limit.constraint.scope for limit in kept if limit.constraint.type == "pause")
            raise CommandError(
                f"there is no pause on {harmless(scope)}; "
                + (f"there are pauses on {harmless(paused, 1_000)}" if paused else "nothing is paused")
            )
    typer.echo(f"no pause on {harmless(scope)} any more")
