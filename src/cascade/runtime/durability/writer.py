"""Who writes to a store: one at a time, and everything that waits goes in one transaction."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import StoreError

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
    disk (2-core development machine). It writes one group of its own run and no more: what came meanwhile, and what
    other runs wait for, is the writer's.

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
        self._gone = False
        self._thread = threading.Thread(target=self._work, name="cascade-store", daemon=True)
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        """Have a record written, after all that were submitted before; from any thread."""
        self._put(entry)

    def leave(self, entry: Entry) -> None:
        """The same, but whoever calls this will at once `ring`, or `write_here`."""
        self._clock.busy()
        self._waiting.append(entry)

    def ring(self) -> None:
        """Have the writer's own thread write what waits."""
        self._bell.put(None)
        if self._gone:
            self._turn_away()

    def write_here(self, journal: Journal) -> None:
        """Write a group of one journal on this thread; not if another one has the store, or others come first."""
        if self._turn.acquire(blocking=False):
            try:
                if not self._closed:
                    self._work_once(journal)
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
        return await self.ask(function)

    def ask(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """The same, to be waited for: who stops waiting does not stop the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Question(loop, future, function))
        return future

    def post(self, function: Callable[[], object]) -> None:
        """The same without waiting for it; a failure is logged."""
        self._put(partial(_attempted, function))

    def enlist(self, journal: Journal) -> None:
        """Renew a run's lease from now on; by who has the store."""
        self._journals[journal] = self._clock.monotonic()

    def dismiss(self, journal: Journal) -> None:
        """Renew a run's lease no more; by who has the store."""
        self._journals.pop(journal, None)

    def renew(self, journal: Journal) -> None:
        """Renew a run's lease now, if it has run out; by who has the store."""
        if journal.may_be_lost():
            journal.commit(self.store, [], self._clock.now() + self.lease)

    def close(self) -> None:
        """Write what waits, close the store, and end the thread."""
        if self._thread.is_alive():
            self._put(self._close)
            self._thread.join()

    def _close(self) -> None:
        self._closed = True

    def _put(self, item: Entry | Callable[[], object]) -> None:
        self._clock.busy()
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
            # First told, then looked: whoever comes from now on looks as well.
            self._gone = True
            self._turn_away()

    def _turn_away(self) -> None:
        """Leave nobody waiting who came after the store was closed."""
        while True:
            try:
                item = self._waiting.popleft()
            except IndexError:
                return
            error = StoreError(self.store.url, "the engine was closed while a run was under way")
            if isinstance(item, Entry):
                item.journal.fail(error)
            elif isinstance(item, _Question):
                item.refuse(error)
            self._clock.idle()

    def _work_once(self, only: Journal | None = None) -> None:
        """Write a group, or call what comes before one; by who has the store.

        Args:
            only: write what comes first of this journal, if anything, and call nothing.
        """
        waiting = self._waiting
        group: list[Entry] = []
        while waiting and len(group) < _MOST_IN_GROUP:
            item = waiting[0]
            if not isinstance(item, Entry):
                if not group and only is None:
                    waiting.popleft()
                    item()
                    self._clock.idle()
                break
            if only is not None and item.journal is not only:
                break
            group.append(item)
            waiting.popleft()
        if group:
            self._write(group)
            self._clock.idle(len(group))
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


class _Question(Generic[T]):
    """What a coroutine has the store asked, and waits for."""

    __slots__ = ("_function", "_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> None:
        self._loop = loop
        self._future = future
        self._function = function

    def __call__(self) -> None:
        try:
            value = self._function()
        except BaseException as error:
            self.refuse(error)
        else:
            _on_loop(self._loop, partial(_resolve, self._future, value))

    def refuse(self, error: BaseException) -> None:
        """Answer with an error."""
        _on_loop(self._loop, partial(_fail, self._future, error))


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
