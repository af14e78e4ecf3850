"""Becoming the owner of a durable run: one process at a time, told apart by epochs."""

from __future__ import annotations

import asyncio
import os
import platform
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cascade.runtime.durability.host_lock import HostLock
from cascade.runtime.durability.journal import status_after
from cascade.runtime.fault_points import reach
from cascade.runtime.preview import describe_error
from cascade.spec.exceptions import RunOwnedError, StoreError

if TYPE_CHECKING:
    from cascade.runtime.durability.opening import Opening
    from cascade.runtime.durability.writer import Writer
    from cascade.spec.protocols import Clock
    from cascade.spec.records import RunRow, RunStatus

T = TypeVar("T")


class Ownership:
    """The right to write a run, from `claim` until it is given up.

    Args:
        writer: has the store.
        updated: when the run had been written before it was claimed, in seconds since the epoch.

    Attributes:
        row: the run as it stood when it was claimed.
        lock: this machine's lock on it.
    """

    def __init__(self, writer: Writer, row: RunRow, lock: HostLock, updated: float) -> None:
        self.row = row
        self.lock = lock
        self._writer = writer
        self._updated = updated

    async def leave(self) -> None:
        """Give the run up as it was found; being cancelled waits until that is done."""
        await self._give_up(self.row.status, self.row.error, self._updated)

    async def fail(self, error: BaseException, now: float) -> None:
        """Give the run up because of what kept it from beginning; one that has finished stays as it is.

        The error is what people shall hear of, and not that the store failed to note it.
        """
        with suppress(StoreError, RunOwnedError):
            if self.row.status == "succeeded":
                await self.leave()
            else:
                await self._give_up(status_after(error), describe_error(error), now)

    async def _give_up(self, status: RunStatus, error: str | None, ended: float) -> None:
        finish = partial(self._writer.store.finish, self.row.run_id, self.row.epoch, status, error, ended)
        try:
            await _done_before_cancelled(self._writer.ask(finish))
        finally:
            self.lock.release()


async def claim(writer: Writer, clock: Clock, draft: RunRow, opening: Opening) -> Ownership:
    """Become the owner of a run, new or not.

    An owner on this machine is known to be gone when its lock can be taken; for one elsewhere this waits until its
    lease has run out.

    Args:
        draft: the run as it shall be if it is new, with the time at which it was last written if it is not; host, owner
            and lease are filled in here.
        opening: is told of a wait, and may end it.

    Raises:
        RunOwnedError: another process owns the run and is alive.
    """
    store = writer.store
    lock = HostLock(store.url, draft.run_id)
    if not lock.take():
        raise RunOwnedError(
            draft.run_id,
            "a process on this machine",
            "wait until it has finished, or stop it; a run has one owner at a time",
        )
    reach("run.locked")
    try:
        owner = f"process {os.getpid()} on {platform.node()}"
        over: int | None = None
        while True:
            row = draft._replace(
                host=lock.token, owner=owner, lease_until=clock.now() + writer.lease, updated=clock.now()
            )
            claiming = writer.ask(partial(store.claim, row, over=over))
            try:
                claimed = await _done_before_cancelled(claiming)
            except asyncio.CancelledError as cancelled:
                claimed = None if claiming.exception() else claiming.result()
                if claimed is not None:
                    # Nobody else knows that the run has an owner now.
                    await Ownership(writer, claimed, lock, draft.updated).fail(cancelled, clock.now())
                raise
            if claimed is not None:
                return Ownership(writer, claimed, lock, draft.updated)
            found = await writer.call(lambda: store.find(draft.run_id))
            if found is None:
                over = None
                continue
            if found.lease_until and found.host != lock.token:
                await _outwait(writer, clock, found, opening)
            over = found.epoch
    except BaseException:
        lock.release()
        raise


async def _done_before_cancelled(done: asyncio.Future[T]) -> T:
    """Wait for what the store does in any case; a cancellation takes effect when it is done."""
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Looked at, so that nobody complains of an exception that was never retrieved.
        done.exception()
        raise cancelled
    return done.result()


async def _outwait(writer: Writer, clock: Clock, found: RunRow, opening: Opening) -> None:
    """Wait until the lease of an owner elsewhere has run out, and say so; an owner that renews it is alive.

    Raises:
        RunOwnedError: it is.
    """
    # Clocks of machines differ: no wait is longer than the owner's lease was when it last wrote, or twice our own.
    longest = max(2 * writer.lease, found.lease_until - found.updated)
    most = min(max(found.lease_until - clock.now(), 0.0), longest)
    deadline = clock.monotonic() + most
    if most > 0.0:
        opening.tell_blocked(found.owner, most)
    while (left := deadline - clock.monotonic()) > 0.0:
        await opening.wait(min(0.25, left))
        again = await writer.call(lambda: writer.store.find(found.run_id))
        if again is None or again.epoch != found.epoch or not again.lease_until:
            return
        if again.lease_until != found.lease_until:
            raise RunOwnedError(
                found.run_id,
                found.owner,
                "it is alive, since it goes on renewing its lease; wait until it has finished",
            )
