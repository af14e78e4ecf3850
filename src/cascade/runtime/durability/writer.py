"""The one thread that talks to a store: everything that waits for it goes in one transaction."""

from __future__ import annotations

import asyncio
import logging
import threading
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

_MOST_IN_GROUP: Final = 1_000
_MOST_WAITING: Final = 2_000
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

    A group is what has come while the one before was written: nothing is held back to fill it.

    Args:
        store: the store, which belongs to this thread from now on.
        clock: what leases are measured by.
        lease: for how long an owner that writes nothing keeps its run, in seconds.
    """

    def __init__(self, store: Store, clock: Clock, lease: float) -> None:
        self.store = store
        self.lease = lease
        self._clock = clock
        self._queue: SimpleQueue[Entry | Callable[[], object] | None] = SimpleQueue()
        self._journals: dict[Journal, float] = {}
        self._room = threading.Condition()
        self._lost: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="cascade-store", daemon=True)
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        """Have a record written, after all that were submitted before; from any thread."""
        self._queue.put(entry)

    def wait_for_room(self) -> None:
        """Hold up a worker thread that is far ahead of the store: what waits is kept in memory."""
        if self._queue.qsize() > _MOST_WAITING:
            with self._room:
                self._room.wait_for(lambda: self._queue.qsize() <= _MOST_WAITING // 2, timeout=1.0)

    async def call(self, function: Callable[[], T]) -> T:
        """Have the thread call something with the store, after all that was submitted before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(partial(_answer, loop, future, function))
        return await future

    def post(self, function: Callable[[], object]) -> None:
        """The same without waiting for it; a failure is logged."""
        self._queue.put(partial(_attempted, function))

    def enlist(self, journal: Journal) -> None:
        """Renew a run's lease from now on; on the thread."""
        self._journals[journal] = self._clock.monotonic()

    def dismiss(self, journal: Journal) -> None:
        """Renew a run's lease no more; on the thread."""
        self._journals.pop(journal, None)

    def close(self) -> None:
        """Write what waits, close the store, and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        get = self._queue.get
        held: Callable[[], object] | None = None
        try:
            while True:
                try:
                    item = get(timeout=self._until_renewal())
                except Empty:
                    self._renew()
                    continue
                group: list[Entry] = []
                while isinstance(item, Entry):
                    group.append(item)
                    if len(group) >= _MOST_IN_GROUP:
                        break
                    try:
                        item = get(block=False)
                    except Empty:
                        break
                else:
                    if item is None:
                        self._write(group)
                        return
                    assert not isinstance(item, Entry)
                    held = item
                if group:
                    self._write(group)
                if held is not None:
                    call, held = held, None
                    call()
                self._renew()
                with self._room:
                    self._room.notify_all()
        finally:
            self.store.close()

    def _write(self, group: list[Entry]) -> None:
        by_journal: dict[Journal, list[Entry]] = {}
        for entry in group:
            by_journal.setdefault(entry.journal, []).append(entry)
        for journal, entries in by_journal.items():
            journal.commit(self.store, entries, self._clock.now() + self.lease)
            if journal in self._journals:
                self._journals[journal] = self._clock.monotonic()

    def _until_renewal(self) -> float | None:
        if not self._journals:
            return None
        due = min(self._journals.values()) + self.lease / _RENEWALS_IN_LEASE
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
