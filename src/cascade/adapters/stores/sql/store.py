"""The store of durable runs over a SQL database."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cascade.adapters.stores.sql.journal import Journal, NotTheOwner, fold
from cascade.adapters.stores.sql.ledger import places_of_run
from cascade.adapters.stores.sql.migrations import migrate
from cascade.adapters.stores.sql.payload_files import INLINE_BYTES
from cascade.adapters.stores.sql.postgresql import PostgresqlDatabase
from cascade.adapters.stores.sql.rows import (
    DamagedRow,
    StoredRun,
    cached_from_row,
    cached_to_row,
    key_of,
    owner_to_row,
    record_from_row,
    run_to_row,
    signal_from_row,
    signal_to_row,
    verify_record,
)
from cascade.adapters.stores.sql.sqlite import SqliteDatabase
from cascade.adapters.stores.sql.statements import Statements
from cascade.runtime.chance import Randomness
from cascade.runtime.clock import SystemClock
from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import RunOwnedError, StoreError

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.spec.protocols import Clock
    from cascade.spec.records import Record, RunRow, RunStatus, Signal

T = TypeVar("T")


class SqlStore:
    """Keeps durable runs in a SQLite file or in a PostgreSQL database.

    Args:
        url: `sqlite:///flows.db` or `postgresql://...`.
        clock: by which it is noted when a run was written last.

    Raises:
        StoreError: the store cannot be opened; the message says why and what to do.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._chance = Randomness()
        self._database = open_database(url, self._clock)
        self._sql = Statements(self._database.dialect)
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

    # Runs

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
            cursor.execute(self._sql.remove_run, row)
            return True

        removed = self._database.transact(doing, work)
        self._journals.pop(run_id, None)
        self._remove_files(doing, freed)
        return removed

    # Records

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
        journal = self._journals.get(run_id)
        if journal is not None:
            journal.learn(rows)
        return [record_from_row(row, lambda digest: self._read_file(doing, digest)) for row in fold(rows)]

    def write(
        self, run_id: str, epoch: int, records: Sequence[Record], dropped: Sequence[bytes], lease_until: float
    ) -> None:
        reach("store.write.begin")

        def renew(cursor: Cursor, run: int, count: int) -> None:
            cursor.execute(self._sql.renew_lease, (lease_until, self._clock.now(), count, run, epoch))

        self._write("store.write", run_id, epoch, records, dropped, renew)

    def take_signal(self, run_id: str, epoch: int, number: int, record: Record) -> None:
        def take(cursor: Cursor, run: int, count: int) -> None:
            cursor.execute(self._sql.take_signal, (number, key_of(run_id)))
            cursor.execute(self._sql.count_records, (self._clock.now(), count, run, epoch))

        self._write("store.signal", run_id, epoch, (record,), (), take)

    def _write(
        self,
        point: str,
        run_id: str,
        epoch: int,
        records: Sequence[Record],
        dropped: Iterable[bytes],
        update_owner: Callable[[Cursor, int, int], None],
    ) -> None:
        """Write records in one transaction with an update of the owner of the run, whose epoch must be right."""
        doing = f"write to the run {run_id!r}"
        files = self._write_files(doing, records)
        freed: set[bytes] = set()

        def work(cursor: Cursor) -> Journal:
            journal = self._journal(cursor, doing, run_id, epoch)
            run = journal.run
            freed.clear()
            try:
                freed.update(
                    journal.write(cursor, records, dropped, files, lambda count: update_owner(cursor, run, count))
                )
            except NotTheOwner:
                raise _owned(run_id, self._find(cursor, doing, key_of(run_id))) from None
            for position, digest in files.items():
                self._ensure_file(digest, records[position].payload)
            return journal

        try:
            journal = self._database.transact(doing, work, point=point)
        except RunOwnedError:
            self._journals.pop(run_id, None)
            raise
        journal.committed()
        self._remove_files(doing, freed.difference(files.values()))

    def _journal(self, cursor: Cursor, doing: str, run_id: str, epoch: int) -> Journal:
        journal = self._journals.get(run_id)
        if journal is None or journal.epoch != epoch:
            found = self._find(cursor, doing, key_of(run_id))
            if found is None or found.row.epoch != epoch:
                raise _owned(run_id, found)
            journal = self._journals[run_id] = Journal(found.number, epoch, self._sql, new=False)
        return journal

    # Signals

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

    # The cache

    def cached(self, key: str, now: float) -> bytes | None:
        doing = "read a cached value"
        digest = key_of(key)

        def look(cursor: Cursor) -> tuple[bytes | None, bytes | None] | None:
            cursor.execute(self._sql.find_cached, (digest,))
            row = cursor.fetchone()
            if row is None:
                return None
            payload, file, _, expires = cached_from_row(row)
            return None if expires is not None and expires <= now else (payload, file)

        def use(cursor: Cursor) -> tuple[bytes | None, bytes | None] | None:
            found = look(cursor)
            if found is not None:
                cursor.execute(self._sql.use_cached, (now, digest))
            return found

        if self._sound(doing, look) is None:
            return None
        # That a value was used may be forgotten with the power; a hit shall not wait for the disk.
        found = self._database.transact(doing, use, relaxed=True)
        if found is None:
            return None
        payload, file = found
        return payload if file is None else self._read_file(doing, file)

    def cache(self, key: str, payload: bytes, now: float, expires: float | None, most_bytes: int) -> None:
        doing = "keep a cached value"
        digest = key_of(key)
        kept = len(payload) <= most_bytes
        file = self._write_file(doing, payload) if kept else None
        freed: set[bytes] = set()

        def work(cursor: Cursor) -> None:
            freed.clear()
            # The total first: it is the lock that keeps two processes from evicting at once.
            cursor.execute(self._sql.grow_cache, (len(payload) if kept else 0,))
            freed.update(self._let_go(cursor, self._cached_sizes(cursor, digest)))
            if kept:
                cursor.execute(self._sql.add_cached, cached_to_row(key, payload, file, expires, now))
            cursor.execute(self._sql.cache_bytes)
            (total,) = cursor.fetchone()
            if total > most_bytes:
                cursor.execute(self._sql.least_used)
                evicted: list[tuple[bytes, int, bytes | None]] = []
                for entry in cursor.fetchall():
                    if total <= most_bytes:
                        break
                    if entry[0] != digest:
                        evicted.append(entry)
                        total -= entry[1]
                freed.update(self._let_go(cursor, evicted))
            if file is not None:
                self._ensure_file(file, payload)

        self._database.transact(doing, work)
        self._remove_files(doing, freed - {file})

    def uncache(self, key: str) -> None:
        doing = "forget a cached value"

        def work(cursor: Cursor) -> set[bytes]:
            cursor.execute(self._sql.grow_cache, (0,))
            return self._let_go(cursor, self._cached_sizes(cursor, key_of(key)))

        self._remove_files(doing, self._database.transact(doing, work))

    def _cached_sizes(self, cursor: Cursor, digest: bytes) -> list[tuple[bytes, int, bytes | None]]:
        cursor.execute(self._sql.find_cached, (digest,))
        return [(row[0], row[4], row[3]) for row in cursor.fetchall()]

    def _let_go(self, cursor: Cursor, entries: Sequence[tuple[bytes, int, bytes | None]]) -> set[bytes]:
        """Forget cached values of known keys, sizes and files; the files that may not be used any more."""
        if entries:
            cursor.executemany(self._sql.remove_cached, [entry[:1] for entry in entries])
            cursor.execute(self._sql.grow_cache, (-sum(entry[1] for entry in entries),))
        return {file for _, _, file in entries if file is not None}

    # What is left over

    def sweep(self, now: float) -> int:
        doing = "remove what nothing refers to"
        files = self._database.files

        def work(cursor: Cursor) -> int:
            cursor.execute(self._sql.grow_cache, (0,))
            cursor.execute(self._sql.expired, (now,))
            expired = cursor.fetchall()
            self._let_go(cursor, expired)
            return len(expired)

        removed = self._database.transact(doing, work, point="store.sweep")
        if files is not None:
            removed += self._remove_files(doing, files.digests(), unfinished=True)
        return removed

    # Files of large payloads

    def _write_files(self, doing: str, records: Sequence[Record]) -> dict[int, bytes]:
        if self._database.files is None:
            return {}
        found: dict[int, bytes] = {}
        for position, record in enumerate(records):
            payload = record[11]
            if payload is not None and len(payload) > INLINE_BYTES:
                digest = self._write_file(doing, payload)
                assert digest is not None
                found[position] = digest
        return found

    def _write_file(self, doing: str, payload: bytes) -> bytes | None:
        files = self._database.files
        if files is None or len(payload) <= INLINE_BYTES:
            return None
        try:
            return files.write(payload)
        except FileNotFoundError:
            # Somebody who swept took it for left over; it is written under the lock.
            return files.digest(payload)
        except OSError as error:
            raise self._file_failure(doing, error) from error

    def _ensure_file(self, digest: bytes, payload: bytes | None) -> None:
        files = self._database.files
        assert files is not None
        assert payload is not None
        if not files.has(digest):
            files.write(payload)

    def _read_file(self, doing: str, digest: bytes) -> bytes:
        files = self._database.files
        assert files is not None
        try:
            return files.read(digest)
        except FileNotFoundError:
            problem = "is missing; restore it from a backup, or remove the run to begin anew"
        except ValueError:
            problem = "was altered; restore it from a backup, or remove the run to begin anew"
        except OSError as error:
            raise self._file_failure(doing, error) from error
        raise self._database.failure(doing, f"the file {str(files.path(digest))!r} {problem}")

    def _remove_files(self, doing: str, digests: Iterable[bytes], *, unfinished: bool = False) -> int:
        """Remove files that no row names, under the lock for writing."""
        files = self._database.files
        candidates = [] if files is None else list(digests)
        if files is None or not (candidates or unfinished):
            return 0

        def work(cursor: Cursor) -> int:
            removed = files.remove_unfinished() if unfinished else 0
            for digest in candidates:
                cursor.execute(self._sql.file_is_used, (digest, digest))
                if not cursor.fetchone()[0]:
                    files.remove(digest)
                    removed += 1
            return removed

        return self._database.transact(doing, work)

    def _file_failure(self, doing: str, error: OSError) -> StoreError:
        return self._database.failure(doing, f"{error.strerror or error} ({error.filename})")

    # What all share

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
        return self._database.failure(
            doing, "a row is not as it was written; restore the store from a backup, or delete it to begin anew"
        )

    def _token(self) -> bytes:
        return struct.pack("<dd", self._chance.random(), self._chance.random())


def open_database(url: str, clock: Clock) -> Database:
    """The database of a URL, not connected yet."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(url, "this is no URL; it should be like sqlite:///flows.db") from None
    shown = parsed.render_as_string(hide_password=True)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
            raise StoreError(shown, "name a file, as in sqlite:///flows.db or sqlite:////var/lib/flows.db")
        return SqliteDatabase(Path(parsed.database).absolute(), shown, clock)
    if backend == "postgresql":
        return PostgresqlDatabase(parsed, shown, clock)
    raise StoreError(shown, f"{backend!r} is no database for runs; there are sqlite and postgresql")


def _owned(run_id: str, found: StoredRun | None) -> RunOwnedError:
    if found is None:
        return RunOwnedError(run_id, "", "it was removed")
    return RunOwnedError(run_id, found.row.owner, f"it was taken over and is in epoch {found.row.epoch}")
