"""A short wait for runs that are over in no time: on a lock, which costs less than putting an event loop to sleep."""

from __future__ import annotations

import contextlib
import threading
from typing import Final

_SECONDS: Final = 0.0005


class FirstMoment:
    """Blocks a loop's thread for half a millisecond at most, unless somebody needs the loop.

    A loop that sleeps is woken through a socket, which takes three calls of the system, and then goes round twice; a
    lock takes one. Only for loops that nobody else uses.
    """

    __slots__ = ("_lock", "_waits")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._waits = False

    def wait(self) -> None:
        """Wait; on the loop's thread, once. What ends the wait must be looked for afterwards."""
        self._waits = True
        self._lock.acquire(timeout=_SECONDS)
        self._waits = False

    def end(self) -> bool:
        """Let the thread go on, after what it is to find was put there; whether it was waiting. From any thread."""
        if not self._waits:
            return False
        self._waits = False
        # Where two come at the same time, the other one has done it.
        with contextlib.suppress(RuntimeError):
            self._lock.release()
        return True
