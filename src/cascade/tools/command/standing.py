"""How a run stands: a run that says it is running may have lost its process."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from cascade.runtime.clock import SystemClock
from cascade.runtime.durability.host_lock import HostLock
from cascade.spec.exceptions import RunCancelledError

if TYPE_CHECKING:
    from cascade.spec.records import RunRow


class Standing(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def can_be_resumed(self) -> bool:
        """Whether there is something left to do, and nobody does it."""
        return self in (Standing.INTERRUPTED, Standing.FAILED, Standing.CANCELLED)

    @property
    def has_ended(self) -> bool:
        """Whether the run was brought to its end, good or bad."""
        return self in (Standing.SUCCEEDED, Standing.FAILED, Standing.CANCELLED)


def standing_of(row: RunRow, store_url: str) -> Standing:
    """How a run stands; nothing is claimed to find out."""
    if row.status != "running":
        return Standing(row.status)
    return Standing.RUNNING if has_owner(row, store_url) else Standing.INTERRUPTED


def was_interrupted(row: RunRow, standing: Standing) -> bool:
    """Whether a run was kept from its end by a signal or by the loss of its process, and by nobody's decision."""
    if standing is Standing.CANCELLED:
        return not (row.error or "").startswith(RunCancelledError.__name__)
    return standing is Standing.INTERRUPTED


def has_owner(row: RunRow, store_url: str) -> bool:
    """Whether a process that is alive owns the run: one elsewhere is, as long as its lease goes on."""
    if not row.lease_until:
        return False
    lock = HostLock(store_url, row.run_id)
    if row.host == lock.token:
        return lock.is_taken()
    return row.lease_until > SystemClock().now()
