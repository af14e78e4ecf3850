"""`cascade cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.adapters.telemetry.wording import harmless, lasting
from cascade.control.kept_cancels import SECONDS_KEPT, keep_cancel
from cascade.runtime.clock import SystemClock
from cascade.tools.command.arguments import RunArgument, StoreOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.standing import Standing, standing_of
from cascade.tools.command.stores import existing_store, run_in


def cancel(
    run_id: RunArgument,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is told with the end of the run.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Stop a run, so that it can be resumed: what runs is cancelled or waited for, resources are torn down."""
    with existing_store(store) as opened:
        standing = standing_of(run_in(opened, run_id), opened.url)
        if standing.has_ended:
            raise CommandError(f"run '{harmless(run_id)}' is not running: it has {_ENDED[standing]}")
        keep_cancel(opened, run_id, reason or "cancelled by `cascade cancel`", SystemClock().now())
    shown = harmless(run_id)
    if standing is Standing.RUNNING:
        typer.echo(f"asked run {shown} to stop")
    else:
        typer.echo(
            f"run {shown} was interrupted, and nobody runs it now; if it is resumed within {lasting(SECONDS_KEPT)} it "
            "is stopped then"
        )


_ENDED = {
    Standing.SUCCEEDED: "succeeded",
    Standing.FAILED: "failed",
    Standing.CANCELLED: "been cancelled",
}
