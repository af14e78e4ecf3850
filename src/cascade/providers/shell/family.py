"""The processes that a command has started, wherever they have gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from stat import S_IWUSR
from typing import Final, NamedTuple

_PROCESSES: Final = "/proc"


class _Standing(NamedTuple):
    parent: int
    session: int


class Family:
    """What descends from the leader of a process group, in other groups and sessions too.

    Members are found while their parents live, by the leader's session, or by an output of the command that they hold
    open. So what has made a session of its own is not found when its parent has gone and it holds no output. Only Linux
    has the means: `/proc`, and descriptors of processes. Elsewhere a family is empty.

    A descriptor means one process for ever: a signal meets that one or nobody, whoever has its number then.

    Args:
        leader: a child of this process, in a session of its own, that is not reaped before `close`.
    """

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._members: dict[int, int] = {}

    def find(self, outputs: Collection[str] = ()) -> bool:
        """Look for members.

        Args:
            outputs: the pipes that the command writes to, as `/proc` names them; looking who has them open takes long.

        Returns:
            Whether some were found that were not known.
        """
        if not hasattr(os, "pidfd_open") or not os.path.exists(f"{_PROCESSES}/self/stat"):
            return False
        for pid, descriptor in list(self._members.items()):
            if not _is_there(descriptor):
                del self._members[pid]
                os.close(descriptor)
        others = {pid: standing for pid in _all_processes() if (standing := _standing_of(pid)) is not None}
        others.pop(self._leader, None)
        for pid in self._members:
            others.pop(pid, None)
        has_found = False
        while near := [pid for pid, standing in others.items() if self._is_kin(standing)]:
            for pid in near:
                del others[pid]
                has_found |= self._adopt(pid, ())
        # What this process forks has its session, and may have got an output by accident.
        own = os.getsid(0)
        for pid, standing in others.items() if outputs else ():
            if standing.session != own and _holds(pid, outputs):
                has_found |= self._adopt(pid, outputs)
        return has_found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the members outside the leader's process group."""
        for pid, descriptor in self._members.items():
            # It has ended, or has given itself to another user.
            with suppress(OSError):
                if os.getpgid(pid) != self._leader:
                    signal.pidfd_send_signal(descriptor, number)

    def close(self) -> None:
        """Give back the descriptors."""
        while self._members:
            os.close(self._members.popitem()[1])

    def _is_kin(self, standing: _Standing) -> bool:
        return self._leader in standing or standing.parent in self._members

    def _adopt(self, pid: int, outputs: Collection[str]) -> bool:
        """Take a process in, unless its number has gone to another one since it was seen."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return False
        # All that is asked now is about the process of the descriptor, or else that has ended and gets no signals.
        standing = _standing_of(pid)
        is_kin = standing is not None and self._is_kin(standing)
        if is_kin and standing is not None and standing.parent in self._members:
            # Asked after the standing was read, so the number was still the parent's then.
            is_kin = _is_there(self._members[standing.parent])
        if not is_kin and not _holds(pid, outputs):
            os.close(descriptor)
            return False
        self._members[pid] = descriptor
        return True


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir(_PROCESSES) if name.isdecimal()]


def _standing_of(pid: int) -> _Standing | None:
    try:
        with open(f"{_PROCESSES}/{pid}/stat", "rb") as file:
            # The name of a program may contain anything, brackets included.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return _Standing(int(fields[1]), int(fields[3]))


def _holds(pid: int, outputs: Collection[str]) -> bool:
    """Whether a process can write to one of these pipes."""
    folder = f"{_PROCESSES}/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder) if outputs else ():
            with suppress(OSError):
                path = f"{folder}/{name}"
                if os.readlink(path) in outputs and os.lstat(path).st_mode & S_IWUSR:
                    return True
    return False


def _is_there(descriptor: int) -> bool:
    """Whether a process has not been reaped."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
