"""The journal of one durable run: what has ended, in the order in which it ended, and what was known before."""

from __future__ import annotations

import warnings
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.durability.kept_lines import KeptLines
from cascade.runtime.durability.keys import (
    RESULT,
    ROOT_GRAPH,
    TARGET,
    run_key,
    scope_of_items,
    scope_of_turn,
    signed_for,
)
from cascade.runtime.durability.writer import Entry
from cascade.runtime.fault_points import reach
from cascade.runtime.preview import describe_error, preview
from cascade.runtime.trouble import declared_at, is_cancellation
from cascade.spec.exceptions import ResumeError, UnserializableValueError, VolatileValueWarning
from cascade.spec.lazy_types import next_order
from cascade.spec.records import ROOT, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cascade.runtime.durability.ownership import Ownership
    from cascade.runtime.durability.writer import Writer
    from cascade.runtime.mapping import MapExecution
    from cascade.runtime.run import Helper
    from cascade.runtime.scheduler import Continuation, Scheduler
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.protocols import Clock, Serializer, Store
    from cascade.spec.records import RecordKind, RunStatus, Signal

Rescue = tuple[tuple[Any, ...], ...]
_order: Final = attrgetter("order")


class TakenSignal:
    """A signal's value on its way to the place that waited for it; journaling it takes the signal from the store."""

    __slots__ = ("number", "value")

    def __init__(self, number: int, value: Any) -> None:
        self.number = number
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


class Journal:
    """Notes how places end, hands them to the writer, and tells when they are committed.

    Args:
        ownership: the right to write the run.
        writer: writes what ends.
        serializer: turns values into signed bytes.
        clock: what times are taken from.
        records: what is known of the run from earlier.
        waits: whether what follows waits until an ending is committed.

    Attributes:
        lines: keeps what calls log and print.
        committed: called by who has the store, with the places that are complete: continuation, place, value.
        failed: called there when the store has failed for good, or another process owns the run.
    """

    def __init__(
        self,
        ownership: Ownership,
        writer: Writer,
        serializer: Serializer,
        clock: Clock,
        records: Sequence[Record],
        *,
        waits: bool,
    ) -> None:
        self.run_id = ownership.row.run_id
        self.epoch = ownership.row.epoch
        self.waits = waits
        self.lines = KeptLines(self.run_id, self.epoch, writer, clock)
        self.committed: Callable[[list[tuple[Any, int, Any]]], None] | None = None
        self.failed: Callable[[BaseException], None] | None = None
        self._run = run_key(self.run_id)
        self._ownership = ownership
        self._writer = writer
        self._serializer = serializer
        self._clock = clock
        self._lease_until = ownership.row.lease_until
        self._error: BaseException | None = None
        self._is_over = False
        self._known: dict[bytes, dict[bytes, Record]] = {}
        self._inner: dict[tuple[bytes, bytes], bytes] = {}
        self._scopes_in: dict[bytes, list[bytes]] = {}
        self._attempts: dict[tuple[bytes, bytes], int] = {}
        self._volatile: set[str] = set()
        self._kept: set[tuple[bytes, bytes]] = set()
        for record in records:
            if record.kind == "failed":
                self._attempts[record.scope, record.node] = record.attempt
            if record.kind in ("value", "continues"):
                self._kept.add((record.scope, record.node))
                self._known.setdefault(record.scope, {})[record.node] = record
            if record.inner is not None and record.kind == "continues":
                self._inner[record.scope, record.node] = record.inner
            if record.inner is not None:
                self._scopes_in.setdefault(record.scope, []).append(record.inner)

    # What was known before.

    def enter(self, scheduler: Scheduler, scope: bytes = ROOT_GRAPH) -> None:
        """Name the places of a graph, and find out which of them have ended before.

        Raises:
            UndigestibleError: a literal has no content that is sure to be the same in another process.
        """
        from cascade.graph.hashing import identities_of

        scheduler.scope = scope
        scheduler.identities = identities = identities_of(scheduler.graph)
        known = self._known.pop(scope, None)
        if known:
            found = {index: known[key] for index, key in enumerate(identities.keys) if key in known}
            if found:
                scheduler.recall(found)
        elif not identities.can_wait:
            # The turn of a loop is most often left behind without anybody having asked what its call is called.
            identities.compute()

    def enter_map(self, mapping: MapExecution) -> None:
        """Name the items of a map, and find out which of them have ended before."""
        scope, node = mapping.scheduler.key_of(mapping.index)
        mapping.scope = scope_of_items(scope, node)
        self._scopes_in.setdefault(scope, []).append(mapping.scope)
        known = self._known.pop(mapping.scope, None)
        if known:
            mapping.recalled = {int.from_bytes(key, "big"): record for key, record in known.items()}

    def earlier_attempts(self, scope: bytes, node: bytes) -> int:
        """How many attempts at a call have failed before the run was resumed."""
        return self._attempts.get((scope, node), 0) if self._attempts else 0

    def target(self) -> Record | None:
        """What the whole run goes on with, if its first graph has been left behind."""
        return self._known.get(ROOT, {}).pop(TARGET, None)

    def result(self) -> tuple[bool, Any]:
        """Whether the run has finished with a value that was kept, and the value."""
        record = self._known.get(ROOT, {}).get(RESULT)
        if record is None or record.payload is None:
            return False, None
        return True, self.load(record)

    def load(self, record: Record) -> Any:
        """The value of a record; `CorruptedValueError` if it is not what was written there."""
        assert record.payload is not None
        context = signed_for(self._run, record.scope, record.node, record.turn)
        return self._serializer.loads(record.payload, context=context)

    def load_continuation(self, record: Record) -> tuple[LazyResult[Any], Rescue]:
        """What goes on in a place, and what turns a skip of it into a value."""
        loaded = self.load(record)
        if type(loaded) is not tuple or len(loaded) != 3:
            raise ResumeError(f"run '{self.run_id}': the record of {record.label} holds no lazy value to go on with")
        lazy, rescue, declared = loaded
        for value in declared:
            value.order = next_order()
        return lazy, rescue

    # What ends now.

    def value(
        self, parent: Continuation, place: int, value: Any, began: float | None, attempt: int, helper: Helper | None
    ) -> bool:
        """Note the value of a place; whether it is complete only when `committed` tells.

        Args:
            helper: the worker thread that this is, if it will `write_here` or `wake_writer` before anything else.
        """
        signal: int | None = None
        if type(value) is TakenSignal:
            signal, value = value.number, value.value
        scope, node = parent.key_of(place)
        payload = self._payload(scope, node, 0, value, parent, place)
        record = self._record(
            parent, place, "value" if payload is not None else "volatile", began, attempt, payload, preview(value)
        )
        waits = self.waits and payload is not None
        self._submit(Entry(self, record, (parent, place, value) if waits else None, signal=signal), helper)
        return waits

    def write_here(self) -> None:
        """Commit on this thread what was noted, as nothing else can be done before that."""
        self._writer.write_here(self)

    def wake_writer(self) -> None:
        """Have what was noted committed meanwhile."""
        self._writer.ring()

    def wait_for_room(self) -> None:
        """Hold up a worker thread whose calls end faster than the store writes."""
        self._writer.wait_for_room()

    def mapped(self, mapping: MapExecution, error: BaseException | None = None) -> None:
        """Note that all items of a map have ended: its value is theirs, and so is its failure."""
        place = mapping.scheduler, mapping.index
        if error is None:
            record = self._record(*place, "mapped", mapping.began, 1, None, f"{len(mapping.results)} items")
        else:
            record = self._record(*place, "failed", mapping.began, 1, None, _declared(*place), describe_error(error))
        self._submit(Entry(self, record._replace(inner=mapping.scope)))

    def skipped(self, parent: Continuation, place: int, reason: str) -> None:
        """Note a skip."""
        self._submit(Entry(self, self._record(parent, place, "skipped", None, 1, None, None, reason)))

    def failure(
        self, parent: Continuation, place: int, error: BaseException, began: float | None, attempt: int
    ) -> None:
        """Note a failure, which is tried again on resume.

        Where no call was made and an ending is known, it is that which cannot be loaded or cannot go on, with another
        key or changed code. It stays, so that it can be used when that is put right.
        """
        if began is None and parent.key_of(place) in self._kept:
            return
        record = self._record(
            parent, place, "failed", began, attempt, None, _declared(parent, place), describe_error(error)
        )
        self._submit(Entry(self, record))

    def continues(
        self,
        scheduler: Scheduler,
        lazy: LazyResult[Any],
        left: Scheduler | None,
        then: Callable[[], object],
        helper: Helper | None,
    ) -> bool:
        """Note that a place goes on with what its call returned.

        Args:
            scheduler: the graph of what goes on; it is named here.
            left: the graph in whose place it goes on, which is given up.
            then: called by who has the store, when this is committed.
            helper: the worker thread that this is, as for `value`.

        Returns:
            Whether `then` will be called; otherwise the caller goes on at once.
        """
        waiting, place = scheduler.parent, scheduler.parent_place
        scope, node = (ROOT, TARGET) if waiting is None else waiting.key_of(place)
        inner = scope_of_turn(scope, node, scheduler.turn)
        self.enter(scheduler, inner)
        dropped = self._leave(left) if left is not None and left.turn else ()
        # Loaded again they would be numbered as they are met, but calls that are alike are told apart by their order.
        declared = sorted(scheduler.graph.index_of, key=_order) if len(scheduler.graph) > 1 else []
        payload = self._payload(scope, node, scheduler.turn, (lazy, scheduler.rescue, declared), waiting, place)
        self._scopes_in.setdefault(scope, []).append(inner)
        if payload is None:
            self._inner[scope, node] = inner
            return False
        if waiting is None:
            now = self._clock.now()
            name = scheduler.base
            record = Record(
                scope, node, "continues", scheduler.turn, name, lazy.name, 1, now, now, None, None, payload, inner
            )
        else:
            record = self._record(waiting, place, "continues", None, 1, payload, None)
            record = record._replace(turn=scheduler.turn, inner=inner)
        self._inner[scope, node] = inner
        self._submit(Entry(self, record, None, dropped, then if self.waits else None), helper)
        return self.waits

    def _leave(self, left: Scheduler) -> tuple[bytes, ...]:
        """The scopes of a graph in tail position that is given up, with all inside it."""
        dropped = [left.scope]
        for scope in dropped:
            dropped.extend(self._scopes_in.pop(scope, ()))
        if left.parent is not None or left.turn:
            outer = ROOT if left.parent is None else left.parent.key_of(left.parent_place)[0]
            inside = self._scopes_in.get(outer)
            if inside is not None and left.scope in inside:
                inside.remove(left.scope)
        return tuple(dropped)

    def _payload(
        self, scope: bytes, node: bytes, turn: int, value: Any, parent: Continuation | None, place: int
    ) -> bytes | None:
        """The value as bytes; `None` with a warning, once a task, where it has none."""
        try:
            return self._serializer.dumps(value, context=signed_for(self._run, scope, node, turn))
        except UnserializableValueError as error:
            name = "the run itself" if parent is None else parent.name_of(place)
            error.task_name = name
            if name not in self._volatile:
                self._volatile.add(name)
                warnings.warn(
                    f"{error}. The value can be used in this process; a resumed run calls the task again",
                    VolatileValueWarning,
                    stacklevel=2,
                )
            return None

    def _record(
        self,
        parent: Continuation,
        place: int,
        kind: RecordKind,
        began: float | None,
        attempt: int,
        payload: bytes | None,
        shown: str | None,
        detail: str | None = None,
    ) -> Record:
        scope, node = parent.key_of(place)
        now = self._clock.now()
        since = now if not began else now - max(0.0, self._clock.monotonic() - began)
        inner = self._inner.pop((scope, node), None) if self._inner else None
        attempt += self.earlier_attempts(scope, node)
        label = parent.label_of(place)
        return Record(
            scope, node, kind, 0, label, parent.name_of(place), attempt, since, now, detail, shown, payload, inner
        )

    def _submit(self, entry: Entry, helper: Helper | None = None) -> None:
        if self._error is not None:
            return
        if helper is None:
            self._writer.submit(entry)
        else:
            helper.unwritten = self
            self._writer.leave(entry)

    async def signals(self) -> list[Signal]:
        """The signals of the run that were not taken."""
        return await self._writer.call(partial(self._writer.store.signals, self.run_id))

    # Whose the run is.

    def may_be_lost(self) -> bool:
        """Whether another process may have the run: the lease has run out, as while the machine slept."""
        return self._clock.now() > self._lease_until

    async def confirm(self) -> None:
        """Renew the lease; then the run is this process's, or it has been stopped."""
        await self._writer.call(partial(self._writer.renew, self))

    # By who has the store.

    def commit(self, store: Store, entries: list[Entry], lease_until: float) -> None:
        """Write what has come, and let what waited for it go on."""
        if self._error is not None or self._is_over:
            # What a call gives that was left behind when its run ended belongs to nobody.
            return
        try:
            entries = self._written(store, entries, lease_until)
            complete = [entry.place for entry in entries if entry.place is not None]
            if complete and self.committed is not None:
                self.committed(complete)
            for entry in entries:
                if entry.then is not None:
                    entry.then()
        except BaseException as error:
            # Whatever it was: nobody must wait for ever, and the thread serves other runs.
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Write nothing more, and stop the run."""
        self._error = error
        self._writer.dismiss(self)
        if self.failed is not None:
            self.failed(error)

    def _written(self, store: Store, entries: list[Entry], lease_until: float) -> list[Entry]:
        """Write what has come; the entries, in the order in which they were written."""
        reach("journal.commit.begin")
        taken = [entry for entry in entries if entry.signal is not None]
        if taken:
            entries = [entry for entry in entries if entry.signal is None]
        dropped = {scope: None for entry in entries for scope in entry.dropped}
        if entries or not taken:
            records = [entry.record for entry in entries if entry.record.scope not in dropped]
            store.write(self.run_id, self.epoch, records, list(dropped), lease_until)
            self._lease_until = lease_until
        for entry in taken:
            assert entry.signal is not None
            store.take_signal(self.run_id, self.epoch, entry.signal, entry.record)
        reach("journal.commit.end")
        return [*entries, *taken]

    # From start to end.

    def start(self) -> None:
        """Renew the lease from now on."""
        self._writer.post(partial(self._writer.enlist, self))

    async def flush(self) -> None:
        """Wait until all that was noted is written; raises what the store raised."""
        await self._writer.call(_nothing)
        if self._error is not None:
            raise self._error

    async def finish(self, status: RunStatus, error: str | None, value: Any = None) -> None:
        """Note how the run ended, with its value if it succeeded, and give it up; raises what the store raised."""
        try:
            if self._error is None:
                if status == "succeeded":
                    self._note_result(value)
                await self.flush()
                await self._writer.call(partial(self._finish, status, error))
            # Also where the run has failed of something else: nobody would hear that this is not in the store.
            if self._error is not None:
                raise self._error
        finally:
            try:
                await self._writer.call(partial(self._writer.dismiss, self))
            finally:
                reach("run.unlock")
                self._ownership.lock.release()

    def _finish(self, status: RunStatus, error: str | None) -> None:
        self._is_over = True
        self._writer.store.finish(self.run_id, self.epoch, status, error, self._clock.now())

    def _note_result(self, value: Any) -> None:
        payload = self._payload(ROOT, RESULT, 0, value, None, 0)
        now = self._clock.now()
        kind: RecordKind = "value" if payload is not None else "volatile"
        record = Record(ROOT, RESULT, kind, 0, "result", "", 1, now, now, None, preview(value), payload, None)
        self._submit(Entry(self, record))

    def let_go(self) -> None:
        """Give the run up as it is, for a process that ends at once."""
        self._ownership.lock.release()


def status_after(error: BaseException) -> RunStatus:
    """How a run stands that an error has ended."""
    return "cancelled" if is_cancellation(error) else "failed"


def _declared(parent: Continuation, place: int) -> str | None:
    """Where people find a call that has failed."""
    at = declared_at(parent, place)
    return None if at is None else f"declared at {at[0]}:{at[1]}"


def _nothing() -> None:
    return None
