"""The store of durable runs over a SQL database."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cascade.adapters.stores.sql.cached_payloads import CachedPayloads
from cascade.adapters.stores.sql.journal import Journal, NotTheOwner, fold
from cascade.adapters.stores.sql.large_payloads import LargePayloads
from cascade.adapters.stores.sql.ledger import places_of_run
from cascade.adapters.stores.sql.lines import Lines
from cascade.adapters.stores.sql.migrations import migrate
from cascade.adapters.stores.sql.postgresql import PostgresqlDatabase
from cascade.adapters.stores.sql.rows import (
    DAMAGED,
    DamagedRow,
    StoredRun,
    key_of,
    outline_from_row,
    owner_to_row,
    record_from_row,
    run_to_row,
    signal_from_row,
    signal_to_row,
    verify_record,
)
from cascade.adapters.stores.sql.settings import Settings
from cascade.adapters.stores.sql.slots import Slots
from cascade.adapters.stores.sql.sqlite import SqliteDatabase
from cascade.adapters.stores.sql.statements import statements_of
from cascade.adapters.stores.sql.token_buckets import TokenBuckets
from cascade.runtime.chance import Randomness
from cascade.runtime.clock import SystemClock
from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import DeclarationError, RunOwnedError, StoreError

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.spec.protocols import Clock
    from cascade.spec.records import Line, Record, RunRow, RunStatus, Signal

T = TypeVar("T")


class SqlStore:
    """Keeps durable runs in a SQLite file or in a PostgreSQL database.

    Args:
        url: `sqlite:///flows.db` or `postgresql://...`.
        clock: by which it is noted when a run was written last.

    Raises:
        DeclarationError: the URL names no store.
        StoreError: the store cannot be opened; the message says why and what to do.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._chance = Randomness()
        self._database = open_database(url, self._clock)
        self._sql = statements_of(self._database.dialect)
        self._payloads = LargePayloads(self._database, self._sql)
        self._lines = Lines(self._sql)
        self._cache = CachedPayloads(self._database, self._sql, self._payloads)
        self._settings = Settings(self._database, self._sql)
        self._slots = Slots(self._database, self._sql)
        self._buckets = TokenBuckets(self._database, self._sql)
        self._journals: dict[str, Journal] = {}
        self._runs_checked = False
        try:
            migrate(self._database)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return self._database.url

    def close(self) -> None:
        self._journals.clear()
        self._database.close()

    def claim(self, row: RunRow, *, over: int | None) -> RunRow | None:
        token = self._token()
        key = key_of(row.run_id)
        doing = f"claim the run {row.run_id!r}"

        def create(cursor: Cursor) -> StoredRun | None:
            found = self._find(cursor, doing, key)
            if found is not None:
                # Found when repeated after the connection was lost: this very claim was committed.
                return found if found.claim == token else None
            if not self._runs_checked:
                # A run that an index has lost would be started once more.
                self._check(cursor, doing, "cascade_runs")
                self._runs_checked = True
            cursor.execute(self._sql.add_run, run_to_row(row._replace(status="running", error=None)))
            cursor.execute(self._sql.run_number, (key,))
            (number,) = cursor.fetchone()
            owner = owner_to_row(number, 1, row.host, row.owner, token, row.lease_until, row.updated, 0)
            cursor.execute(self._sql.add_owner, owner)
            return self._find(cursor, doing, key)

        def take(cursor: Cursor) -> StoredRun | None:
            found = self._find(cursor, doing, key)
            if found is None or found.claim == token:
                return found
            epoch = found.row.epoch
            if epoch != over:
                return None
            owner = owner_to_row(
                found.number, epoch + 1, row.host, row.owner, token, row.lease_until, row.updated, found.records
            )
            cursor.execute(self._sql.set_owner, (*owner[1:], found.number, epoch))
            if cursor.rowcount != 1:
                return None
            if found.row.status != "succeeded":
                cursor.execute(self._sql.set_status, (*found.with_status("running", None), found.number))
            return self._find(cursor, doing, key)

        claimed = self._database.transact(doing, create if over is None else take, point="store.claim")
        if claimed is None:
            return None
        self._journals[row.run_id] = Journal(claimed.number, claimed.row.epoch, self._sql, new=over is None)
        return claimed.row

    def find(self, run_id: str) -> RunRow | None:
        doing = f"find the run {run_id!r}"
        found = self._database.read(doing, lambda cursor: self._find(cursor, doing, key_of(run_id)))
        return None if found is None else found.row

    def runs(self) -> list[RunRow]:
        def work(cursor: Cursor) -> list[RunRow]:
            cursor.execute(self._sql.all_runs)
            return [StoredRun(row).row for row in cursor.fetchall()]

        return self._sound("list the runs", work)

    def finish(self, run_id: str, epoch: int, status: RunStatus, error: str | None, ended: float) -> None:
        doing = f"finish the run {run_id!r}"

        def work(cursor: Cursor) -> None:
            found = self._find(cursor, doing, key_of(run_id))
            if found is None or found.row.epoch != epoch:
                raise _owned(run_id, found)
            owner = owner_to_row(found.number, epoch, "", "", found.claim, 0.0, ended, found.records)
            cursor.execute(self._sql.set_owner, (*owner[1:], found.number, epoch))
            if cursor.rowcount != 1:
                raise _owned(run_id, self._find(cursor, doing, key_of(run_id)))
            cursor.execute(self._sql.set_status, (*found.with_status(status, error), found.number))

        self._database.transact(doing, work, point="store.finish")
        self._journals.pop(run_id, None)

    def remove(self, run_id: str) -> bool:
        doing = f"remove the run {run_id!r}"
        freed: set[bytes] = set()

        def work(cursor: Cursor) -> bool:
            key = key_of(run_id)
            cursor.execute(self._sql.remove_signals, (key,))
            cursor.execute(self._sql.run_number, (key,))
            row = cursor.fetchone()
            if row is None:
                return False
            # The owner's row first: whoever writes holds it to the end of the transaction.
            cursor.execute(self._sql.remove_owner, row)
            places = places_of_run(row[0])
            cursor.execute(self._sql.files_of_run, places)
            freed.update(found[0] for found in cursor.fetchall())
            cursor.execute(self._sql.remove_records, places)
            self._lines.forget(cursor, row[0])
            cursor.execute(self._sql.remove_run, row)
            return True

        removed = self._database.transact(doing, work)
        self._journals.pop(run_id, None)
        self._payloads.remove_unused(doing, freed)
        return removed

    def records(self, run_id: str) -> list[Record]:
        doing = f"read the records of the run {run_id!r}"

        def work(cursor: Cursor) -> list[Sequence[Any]]:
            found = self._find(cursor, doing, key_of(run_id))
            if found is None:
                return []
            cursor.execute(self._sql.records, places_of_run(found.number))
            rows = cursor.fetchall()
            for row in rows:
                verify_record(row)
            if len(rows) != found.records:
                raise DamagedRow
            return rows

        rows = self._sound(doing, work)
        while True:
            journal = self._journals.get(run_id)
            if journal is not None:
                journal.learn(rows)
            try:
                return [record_from_row(row, lambda digest: self._payloads.read(doing, digest)) for row in fold(rows)]
            except StoreError:
                # Whoever only looks may come between a file and its row, which the owner has dropped meanwhile.
                again = self._sound(doing, work)
                if again == rows:
                    raise
                rows = again

    def outline(self, run_id: str) -> list[Record]:
        doing = f"read the records of the run {run_id!r}"

        def work(cursor: Cursor) -> list[Record]:
            found = self._find(cursor, doing, key_of(run_id))
            if found is None:
                return []
            cursor.execute(self._sql.outline, places_of_run(found.number))
            rows = cursor.fetchall()
            if len(rows) != found.records:
                raise DamagedRow
            return [outline_from_row(row) for row in fold(rows)]

        return self._sound(doing, work)

    def write(
        self, run_id: str, epoch: int, records: Sequence[Record], dropped: Sequence[bytes], lease_until: float
    ) -> None:
        reach("store.write.begin")
        self._write("store.write", run_id, epoch, records, dropped, lease_until)

    def take_signal(self, run_id: str, epoch: int, number: int, record: Record) -> None:
        self._write("store.signal", run_id, epoch, (record,), (), signal=number)

    def _write(
        self,
        point: str,
        run_id: str,
        epoch: int,
        records: Sequence[Record],
        dropped: Iterable[bytes],
        lease_until: float | None = None,
        signal: int | None = None,
    ) -> None:
        """Write records, and take a signal with them, in one transaction as the owner of the run."""
        doing = f"write to the run {run_id!r}"
        files = self._payloads.write_all(doing, records)

        def work(cursor: Cursor) -> tuple[Journal, set[bytes]]:
            journal = self._journal(cursor, doing, run_id, epoch)
            try:
                freed = journal.write(cursor, records, dropped, files, self._clock.now(), lease_until)
            except NotTheOwner:
                raise _owned(run_id, self._find(cursor, doing, key_of(run_id))) from None
            if signal is not None:
                cursor.execute(self._sql.take_signal, (signal, key_of(run_id)))
            for position, digest in files.items():
                self._payloads.ensure(digest, records[position].payload)
            return journal, freed

        try:
            journal, freed = self._database.transact(doing, work, point=point)
        except RunOwnedError:
            self._journals.pop(run_id, None)
            raise
        journal.committed()
        if freed:
            self._payloads.remove_unused(doing, freed.difference(files.values()))

    def note_lines(self, run_id: str, epoch: int, lines: Sequence[Line], most: int) -> None:
        if not lines:
            return
        doing = f"keep what the run {run_id!r} has logged and printed"

        def work(cursor: Cursor) -> tuple[Journal, int]:
            journal = self._journal(cursor, doing, run_id, epoch)
            # First of all statements, since it locks the run: whoever takes it over waits, or has it already.
            cursor.execute(self._sql.hold_owner, (journal.run, epoch))
            if cursor.rowcount != 1:
                raise _owned(run_id, self._find(cursor, doing, key_of(run_id)))
            # Should anything fail from here on, the count may be wrong.
            count, journal.lines = journal.lines, None
            return journal, self._lines.note(cursor, journal.run, lines, most, count)

        try:
            # Nobody waits for lines: whatever is committed after them makes them safe too.
            journal, count = self._database.transact(doing, work, point="store.lines", relaxed=True)
        except RunOwnedError:
            self._journals.pop(run_id, None)
            raise
        journal.lines = count

    def lines(self, run_id: str, after: int = 0) -> list[Line]:
        doing = f"read what the run {run_id!r} has logged and printed"

        def work(cursor: Cursor) -> list[Line]:
            found = self._find(cursor, doing, key_of(run_id))
            return [] if found is None else self._lines.find(cursor, found.number, after)

        return self._sound(doing, work)

    def _journal(self, cursor: Cursor, doing: str, run_id: str, epoch: int) -> Journal:
        journal = self._journals.get(run_id)
        if journal is None or journal.epoch != epoch:
            found = self._find(cursor, doing, key_of(run_id))
            if found is None or found.row.epoch != epoch:
                raise _owned(run_id, found)
            journal = self._journals[run_id] = Journal(found.number, epoch, self._sql, new=False)
        return journal

    def send(self, run_id: str, name: str, payload: str, sent: float) -> None:
        token = self._token()
        row = signal_to_row(run_id, name, payload, sent, token)

        def work(cursor: Cursor) -> None:
            cursor.execute(self._sql.find_signal, (token,))
            if cursor.fetchone() is None:
                cursor.execute(self._sql.add_signal, row)

        self._database.transact(f"send a signal to the run {run_id!r}", work)

    def signals(self, run_id: str) -> list[Signal]:
        def work(cursor: Cursor) -> list[Signal]:
            cursor.execute(self._sql.signals, (key_of(run_id),))
            return [signal_from_row(row) for row in cursor.fetchall()]

        return self._sound(f"read the signals of the run {run_id!r}", work)

    def cached(self, key: str, now: float) -> bytes | None:
        return self._cache.find(key, now)

    def cache(self, key: str, payload: bytes, now: float, expires: float | None, most_bytes: int) -> None:
        self._cache.keep(key, payload, now, expires, most_bytes)

    def uncache(self, key: str) -> None:
        self._cache.forget(key)

    def put_setting(self, key: str, text: str, expires: float | None) -> None:
        self._settings.put(key, text, expires)

    def settings(self, now: float) -> dict[str, str]:
        return self._settings.all(now)

    def remove_setting(self, key: str) -> bool:
        return self._settings.remove(key)

    def take_slots(self, scope: str, holder: str, count: int, limit: int, now: float, until: float) -> bool:
        return self._slots.take(scope, holder, count, limit, now, until, self._token())

    def give_slots(self, scope: str, holder: str, count: int) -> None:
        self._slots.give(scope, holder, count, self._token())

    def renew_slots(self, holder: str, until: float) -> None:
        self._slots.renew(holder, until)

    def take_token(self, scope: str, rate: float, burst: float, now: float) -> float:
        return self._buckets.take(scope, rate, burst, now, self._token())

    def sweep(self, now: float) -> int:
        doing = "remove what nothing refers to"
        files = self._database.files

        def expire(cursor: Cursor) -> int:
            kinds = (self._cache, self._settings, self._slots, self._buckets)
            return sum(kind.expire(cursor, now) for kind in kinds)

        removed = self._database.transact(doing, expire, point="store.sweep")
        if files is not None:
            removed += self._payloads.remove_unused(doing, files.digests(), unfinished=True)
        return removed

    def _find(self, cursor: Cursor, doing: str, key: bytes) -> StoredRun | None:
        cursor.execute(self._sql.find_run, (key,))
        row = cursor.fetchone()
        if row is None:
            return None
        try:
            return StoredRun(row)
        except DamagedRow:
            raise self._damaged(doing) from None

    def _check(self, cursor: Cursor, doing: str, table: str) -> None:
        for check in self._database.checks_of(table):
            cursor.execute(check)
            if cursor.fetchall() != [("ok",)]:
                raise self._damaged(doing)

    def _sound(self, doing: str, work: Callable[[Cursor], T]) -> T:
        try:
            return self._database.read(doing, work)
        except DamagedRow:
            raise self._damaged(doing) from None

    def _damaged(self, doing: str) -> StoreError:
        return self._database.failure(doing, DAMAGED)

    def _token(self) -> bytes:
        return struct.pack("<dd", self._chance.random(), self._chance.random())


def open_database(url: str, clock: Clock) -> Database:
    """The database of a URL, not connected yet.

    Raises:
        DeclarationError: it can be that of none.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not shown: it may have a password in it, wherever that ends.
        raise DeclarationError("the URL of the store cannot be read; it should be like sqlite:///flows.db") from None
    # A password may also stand among the options.
    shown = parsed.difference_update_query(("password", "sslpassword")).render_as_string(hide_password=True)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
            raise DeclarationError(
                f"{shown} is no store; name a file, as in sqlite:///flows.db or sqlite:////var/lib/flows.db"
            )
        # Absolute also where it is shown: it is what tells the stores of one machine apart.
        file = Path(parsed.database).absolute()
        return SqliteDatabase(file, f"sqlite:///{file}", clock)
    if backend == "postgresql":
        if not 0 < (parsed.port or 5432) < 65536 or "[" in (parsed.host or ""):
            raise DeclarationError(f"{shown} is no address of a server; expected postgresql://user@host:5432/database")
        return PostgresqlDatabase(parsed, shown, clock)
    raise DeclarationError(f"{shown}: {backend!r} is no database for runs; there are sqlite and postgresql")


def _owned(run_id: str, found: StoredRun | None) -> RunOwnedError:
    if found is None:
        return RunOwnedError(run_id, "", "it was removed")
    return RunOwnedError(run_id, found.row.owner, f"it was taken over and is in epoch {found.row.epoch}")
