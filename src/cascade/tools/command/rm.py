"""`cascade rm`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.adapters.telemetry.wording import counted, harmless
from cascade.control.kept_progress import forget_progress
from cascade.runtime.durability.host_lock import HostLock
from cascade.spec.exceptions import RunOwnedError
from cascade.tools.command.arguments import RunArgument, StoreOption
from cascade.tools.command.endings import CommandError
from cascade.tools.command.standing import has_owner, standing_of
from cascade.tools.command.stores import existing_store, run_in

if TYPE_CHECKING:
    from cascade.spec.protocols import Store


def rm(
    run_id: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove a run with all that the store has of it; one that is running is refused."""
    with existing_store(store) as opened:
        row = run_in(opened, run_id)
        shown = harmless(run_id)
        if not yes:
            standing = standing_of(row, opened.url)
            kept = counted(len(opened.outline(run_id)), "result")
            _confirm(f"remove run {shown!r} ({standing.value}, {kept})?")
        remove(opened, run_id)
    typer.echo(f"removed run {shown}", err=True)


def remove(store: Store, run_id: str) -> None:
    """Remove a run that nobody owns.

    Raises:
        RunOwnedError: a process that is alive has it.
    """
    lock = HostLock(store.url, run_id)
    # Held meanwhile, so that no process of this machine begins to go on with it.
    taken = lock.take()
    try:
        found = store.find(run_id)
        if not taken or (found is not None and found.host != lock.token and has_owner(found, store.url)):
            owner = "" if found is None else found.owner
            raise RunOwnedError(run_id, owner, "it is running; stop it first, or wait until it has finished")
        store.remove(run_id)
        forget_progress(store, run_id)
    finally:
        lock.release()


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f"{question} There is nobody to ask: give --yes")
    if not typer.confirm(question, err=True):
        raise CommandError("nothing was removed")
