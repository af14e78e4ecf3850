"""Who writes to a store: one at a time, and everything that waits goes in one transaction."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cascade.runtime.fault_points import reach

if TYPE_CHECKING:
    from cascade.runtime.durability.journal import Journal
    from cascade.spec.protocols import Clock, Store
    from cascade.spec.records import Record

T = TypeVar("T")
_log: Final = logging.getLogger("cascade.store")

_MOST_IN_GROUP: Final = 500
_MOST_WAITING: Final = 1_000
_RENEWALS_IN_LEASE: Final = 3


class Entry:
    """A record on its way to the store, and what follows when it is there.

    Attributes:
        journal: whose record it is.
        record: the record.
        dropped: scopes to forget with it.
        signal: the number of the signal that was taken with it.
        place: what is complete when it is committed, with its value: continuation, place, value.
        then: what else is done when it is committed.
    """

    __slots__ = ("dropped", "journal", "place", "record", "signal", "then")

    def __init__(
        self,
        journal: Journal,
        record: Record,
        place: tuple[Any, int, Any] | None = None,
        dropped: tuple[bytes, ...] = (),
        then: Callable[[], object] | None = None,
        signal: int | None = None,
    ) -> None:
        self.journal = journal
        self.record = record
        self.place = place
        self.dropped = dropped
        self.then = then
        self.signal = signal


class Writer:
    """Writes the journals of all runs of one engine, in the order in which their entries come.

    A group is what has come while the one before was written: nothing is held back to fill it. One thread at a time has
    the store, most often the writer's own. A worker thread that has nothing else to do, as in a chain, makes the commit
    itself that its next call waits for: that saves handing over twice, 40 us of the 180 that a step costs beside the
    disk (2-core development machine).

    Args:
        store: the store, which belongs to this object from now on.
        clock: what leases are measured by.
        lease: for how long an owner that writes nothing keeps its run, in seconds.
    """

    def __init__(self, store: Store, clock: Clock, lease: float) -> None:
        self.store = store
        self.lease = lease
        self._clock = clock
        self._waiting: deque[Entry | Callable[[], object]] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._turn = threading.Lock()
        self._journals: dict[Journal, float] = {}
        self._room = threading.Condition()
        self._held_up = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="cascade-store", daemon=True)
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        """Have a record written, after all that were submitted before; from any thread."""
        self._put(entry)

    def leave(self, entry: Entry) -> None:
        """The same, but whoever calls this will at once `ring`, or `write_here`."""
        self._waiting.append(entry)

    def ring(self) -> None:
        """Have the writer's own thread write what waits."""
        self._bell.put(None)

    def write_here(self) -> None:
        """Write what waits on this thread, unless another one is at it, which then goes on with it."""
        if self._turn.acquire(blocking=False):
            try:
                while self._waiting and type(self._waiting[0]) is Entry:
                    self._work_once()
            finally:
                self._turn.release()
        if self._waiting:
            self.ring()

    def wait_for_room(self) -> None:
        """Hold up a worker thread that is far ahead of the store: what waits is kept in memory."""
        if len(self._waiting) > _MOST_WAITING:
            with self._room:
                self._held_up += 1
                self._room.wait_for(lambda: len(self._waiting) <= _MOST_WAITING // 2, timeout=1.0)
                self._held_up -= 1

    async def call(self, function: Callable[[], T]) -> T:
        """Have the writer's own thread call something with the store, after all that was submitted before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(partial(_answer, loop, future, function))
        return await future

    def post(self, function: Callable[[], object]) -> None:
        """The same without waiting for it; a failure is logged."""
        self._put(partial(_attempted, function))

    def enlist(self, journal: Journal) -> None:
        """Renew a run's lease from now on; by who has the store."""
        self._journals[journal] = self._clock.monotonic()

    def dismiss(self, journal: Journal) -> None:
        """Renew a run's lease no more; by who has the store."""
        self._journals.pop(journal, None)

    def close(self) -> None:
        """Write what waits, close the store, and end the thread."""
        if self._thread.is_alive():
            self._put(self._close)
            self._thread.join()

    def _close(self) -> None:
        self._closed = True

    def _put(self, item: Entry | Callable[[], object]) -> None:
        self._waiting.append(item)
        try:
            is_first = self._waiting[0] is item
        except IndexError:
            return
        # Whoever takes what came before it looks again afterwards.
        if is_first:
            self.ring()

    def _work(self) -> None:
        try:
            while not self._closed:
                try:
                    self._bell.get(timeout=self._until_renewal())
                except Empty:
                    with self._turn:
                        self._renew()
                    continue
                with self._turn:
                    while self._waiting and not self._closed:
                        self._work_once()
        finally:
            self.store.close()

    def _work_once(self) -> None:
        """Write a group, or call what comes before one; by who has the store."""
        waiting = self._waiting
        group: list[Entry] = []
        while waiting and len(group) < _MOST_IN_GROUP:
            item = waiting[0]
            if not isinstance(item, Entry):
                if not group:
                    waiting.popleft()
                    item()
                break
            group.append(item)
            waiting.popleft()
        if group:
            self._write(group)
        self._renew()
        if self._held_up:
            with self._room:
                self._room.notify_all()

    def _write(self, group: list[Entry]) -> None:
        by_journal: dict[Journal, list[Entry]] = {}
        for entry in group:
            by_journal.setdefault(entry.journal, []).append(entry)
        for journal, entries in by_journal.items():
            journal.commit(self.store, entries, self._clock.now() + self.lease)
            if journal in self._journals:
                self._journals[journal] = self._clock.monotonic()

    def _until_renewal(self) -> float | None:
        renewed = list(self._journals.values())
        if not renewed:
            return None
        due = min(renewed) + self.lease / _RENEWALS_IN_LEASE
        return max(0.0, due - self._clock.monotonic())

    def _renew(self) -> None:
        if not self._journals:
            return
        now = self._clock.monotonic()
        for journal, renewed in list(self._journals.items()):
            if now - renewed >= self.lease / _RENEWALS_IN_LEASE:
                self._journals[journal] = now
                reach("lease.renew")
                journal.commit(self.store, [], self._clock.now() + self.lease)


def _attempted(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        _log.exception("the store failed at what nobody waits for")


def _answer(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> None:
    try:
        value = function()
    except BaseException as error:
        _on_loop(loop, partial(_fail, future, error))
    else:
        _on_loop(loop, partial(_resolve, future, value))


def _on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop was closed under a run that nobody waits for any more.
        return


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
