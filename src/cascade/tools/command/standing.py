"""How a run stands: a run that says it is running may have lost its process."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cascade.runtime.clock import SystemClock
from cascade.runtime.durability.host_lock import HostLock

if TYPE_CHECKING:
    from cascade.spec.records import RunRow

# `struct flock`; whatever other fields a system has come after these.
_IS_LINUX: Final = sys.platform.startswith("linux")
_FLOCK: Final = "hhqqi0q" if _IS_LINUX else "qqihh0q"


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


def has_owner(row: RunRow, store_url: str) -> bool:
    """Whether a process that is alive owns the run: one elsewhere is, as long as its lease goes on."""
    if not row.lease_until:
        return False
    lock = _LookedAtLock(store_url, row.run_id)
    if row.host == lock.token:
        return lock.is_taken()
    return row.lease_until > SystemClock().now()


class _LookedAtLock(HostLock):
    """A lock that is looked at without being taken: who took it for a moment would keep an owner from it."""

    def is_taken(self) -> bool:
        """Whether another process has the lock."""
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            wanted = (fcntl.F_WRLCK, os.SEEK_SET)
            asked = struct.pack(_FLOCK, *wanted, 0, 0, 0) if _IS_LINUX else struct.pack(_FLOCK, 0, 0, 0, *wanted)
            answer = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
            return bool(answer[0 if _IS_LINUX else 3] != fcntl.F_UNLCK)
        finally:
            os.close(file)
