"""A pool of plain threads that are started as needed and end when they have had nothing to do for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

_log: Final = logging.getLogger("cascade.threads")
_IDLE_SECONDS: Final = 5.0


class ThreadPool:
    """Runs jobs on daemon threads, first come first served.

    Args:
        max_workers: the most threads at a time. Threads that are lent away (see `lend`) do not count.
    """

    def __init__(self, max_workers: int = 64) -> None:
        self.max_workers = max_workers
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._idle = 0
        self._count = 0
        self._lent = 0
        self._closed = False

    def is_waited_for(self) -> bool:
        """Whether jobs wait for a free thread."""
        return not self._queue.empty()

    def submit(self, job: Callable[[], None]) -> None:
        """Have a thread call the job; what it raises is logged."""
        with self._lock:
            self._queued += 1
            self._queue.put(job)
            grow = self._queued > self._idle and self._count - self._lent < self.max_workers
            if grow:
                self._count += 1
        if grow:
            self._start()

    def lend(self) -> None:
        """Say that a thread is out of reach for a while, in a call that nobody waits for or that waits for others."""
        with self._lock:
            self._lent += 1
            grow = self._queued > self._idle
            if grow:
                self._count += 1
        if grow:
            self._start()

    def take_back(self) -> None:
        """Say that such a thread is back."""
        with self._lock:
            self._lent -= 1

    def close(self) -> None:
        """Let idle threads end, and the others once they are done."""
        with self._lock:
            self._closed = True
            for _ in range(self._count):
                self._queue.put(None)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="cascade-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._count -= 1
                alone = self._count == 0
            if alone:
                raise
            _log.warning("no more threads can be started; going on with %d", self._count)

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._count - self._lent > self.max_workers and self._lent >= 0 and not self._queued:
                    self._count -= 1
                    return
                self._idle += 1
            try:
                job = self._queue.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    self._idle -= 1
                    if self._queued <= self._idle:
                        self._count -= 1
                        return
                continue
            with self._lock:
                self._idle -= 1
                if job is None:
                    self._count -= 1
                    return
                self._queued -= 1
            try:
                job()
            except BaseException:
                _log.exception("a job of the engine raised; this is a defect of Cascade")
            del job
