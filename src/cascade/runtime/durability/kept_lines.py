"""What the calls of a durable run log and print, on its way to the store."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from cascade.spec.exceptions import RunOwnedError
from cascade.spec.records import Line

if TYPE_CHECKING:
    from cascade.runtime.durability.writer import Writer
    from cascade.spec.protocols import Clock

MOST: Final = 10_000
"""How many lines of a run are kept, and how many wait at most: of more the store would keep no more."""

_NUMBERS_OF_OWNER: Final = 36
"""Bits: the numbers of an owner come after those of all owners before it, which nobody has to look up."""

_log: Final = logging.getLogger("cascade.store")


class KeptLines:
    """Gathers the lines of one run and has them written in groups: what has come while the group before was written.

    A line is handed over before its call has ended, and so before the record of that: of a call that is committed all
    lines are there. Taking a line never waits for the store, and a store that fails at lines harms nobody.

    Args:
        run_id: the run.
        epoch: that of its owner.
        writer: has the store.
        clock: what times are taken from.
    """

    def __init__(self, run_id: str, epoch: int, writer: Writer, clock: Clock) -> None:
        self._run_id = run_id
        self._epoch = epoch
        self._writer = writer
        self._clock = clock
        self._process = os.getpid()
        # Re-entrant: a signal handler or a finalizer may print in the middle of taking a line.
        self._lock = threading.RLock()
        self._waiting: deque[Line] = deque()
        self._is_due = False
        self._number = epoch << _NUMBERS_OF_OWNER
        self._dropped = 0
        self._has_failed = False

    def take(self, source: str, place: str, name: str, attempt: int, text: str) -> None:
        """Keep a line, without secrets; from any thread."""
        if os.getpid() != self._process:
            # In a process that a call has forked nobody has the store, and the lock may be held for ever.
            return
        line = Line(0, self._clock.now(), source, place, name, attempt, text)
        with self._lock:
            self._waiting.append(line)
            if len(self._waiting) > MOST:
                self._waiting.popleft()
                self._dropped += 1
            if self._is_due:
                return
            self._is_due = True
        self._writer.post(self._write)

    def _write(self) -> None:
        """Write what waits; by who has the store."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            dropped, self._dropped = self._dropped, 0
            self._is_due = False
        if dropped:
            text = f"lines dropped before this, since the store did not take them in time: {dropped}"
            waiting.appendleft(Line(0, waiting[0].at, "WARNING", "", "", 0, text))
        numbered = [line._replace(number=self._number + count) for count, line in enumerate(waiting, 1)]
        try:
            self._writer.store.note_lines(self._run_id, self._epoch, numbered, MOST)
        except RunOwnedError:
            # The run itself finds that out when it writes next.
            return
        except Exception:
            with self._lock:
                self._dropped += len(waiting) - bool(dropped) + dropped
            if not self._has_failed:
                self._has_failed = True
                _log.exception("run '%s': lines that it has logged and printed are lost; it goes on", self._run_id)
        else:
            self._number += len(numbered)
