"""Becoming the owner of a durable run: one process at a time, told apart by epochs."""

from __future__ import annotations

import os
import platform
from functools import partial
from typing import TYPE_CHECKING

from cascade.runtime.durability.host_lock import HostLock
from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import RunOwnedError

if TYPE_CHECKING:
    from cascade.runtime.durability.writer import Writer
    from cascade.spec.protocols import Clock
    from cascade.spec.records import RunRow


class Ownership:
    """The right to write a run, from `claim` to `release`.

    Attributes:
        row: the run as it stood when it was claimed.
        lock: this machine's lock on it.
    """

    def __init__(self, row: RunRow, lock: HostLock) -> None:
        self.row = row
        self.lock = lock


async def claim(writer: Writer, clock: Clock, draft: RunRow) -> Ownership:
    """Become the owner of a run, new or not.

    An owner on this machine is known to be gone when its lock can be taken; for one elsewhere this waits until its
    lease has run out.

    Args:
        draft: the run as it shall be if it is new; host, owner and lease are filled in here.

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
            claimed = await writer.call(partial(store.claim, row, over=over))
            if claimed is not None:
                return Ownership(claimed, lock)
            found = await writer.call(lambda: store.find(draft.run_id))
            if found is None:
                over = None
                continue
            if found.lease_until and found.host != lock.token:
                await _outwait(writer, clock, found)
            over = found.epoch
    except BaseException:
        lock.release()
        raise


async def _outwait(writer: Writer, clock: Clock, found: RunRow) -> None:
    """Wait until the lease of an owner elsewhere has run out; an owner that renews it is alive.

    Raises:
        RunOwnedError: it is.
    """
    # Clocks of machines differ: no wait is longer than a lease can be, and a little is waited in any case.
    deadline = clock.monotonic() + min(max(found.lease_until - clock.now(), 0.0), 2 * writer.lease)
    while clock.monotonic() < deadline:
        await clock.sleep(min(0.25, max(0.0, deadline - clock.monotonic())))
        again = await writer.call(lambda: writer.store.find(found.run_id))
        if again is None or again.epoch != found.epoch or not again.lease_until:
            return
        if again.lease_until != found.lease_until:
            raise RunOwnedError(
                found.run_id,
                found.owner,
                "it is alive, since it goes on renewing its lease; wait until it has finished",
            )
