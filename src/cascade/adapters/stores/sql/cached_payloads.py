"""The cache of a SQL store: payloads under keys, within a size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.adapters.stores.sql.rows import DAMAGED, DamagedRow, cached_from_row, cached_to_row, key_of

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.adapters.stores.sql.large_payloads import LargePayloads
    from cascade.adapters.stores.sql.statements import Statements


class CachedPayloads:
    """The cached payloads of a database; the methods are those of `Store` for its cache."""

    def __init__(self, database: Database, statements: Statements, payloads: LargePayloads) -> None:
        self._database = database
        self._sql = statements
        self._payloads = payloads

    def find(self, key: str, now: float) -> bytes | None:
        doing = "read a cached value"
        digest = key_of(key)

        def look(cursor: Cursor) -> tuple[bytes | None, bytes | None] | None:
            cursor.execute(self._sql.find_cached, (digest,))
            row = cursor.fetchone()
            if row is None:
                return None
            try:
                payload, file, _, expires = cached_from_row(row)
            except DamagedRow:
                raise self._database.failure(doing, DAMAGED) from None
            return None if expires is not None and expires <= now else (payload, file)

        def use(cursor: Cursor) -> bytes | None:
            found = look(cursor)
            if found is None:
                return None
            cursor.execute(self._sql.use_cached, (now, digest))
            payload, file = found
            # Read under the lock: nobody evicts the file meanwhile.
            return payload if file is None else self._payloads.read(doing, file)

        if self._database.read(doing, look) is None:
            return None
        # That a value was used may be forgotten with the power; a hit shall not wait for the disk.
        return self._database.transact(doing, use, relaxed=True)

    def keep(self, key: str, payload: bytes, now: float, expires: float | None, most_bytes: int) -> None:
        doing = "keep a cached value"
        digest = key_of(key)
        kept = len(payload) <= most_bytes
        file = self._payloads.write(doing, payload) if kept else None
        freed: set[bytes] = set()

        def work(cursor: Cursor) -> None:
            freed.clear()
            # The total first: it is the lock that keeps two processes from evicting at once.
            cursor.execute(self._sql.grow_cache, (len(payload) if kept else 0,))
            freed.update(self._let_go(cursor, self._entries(cursor, digest)))
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
                self._payloads.ensure(file, payload)

        self._database.transact(doing, work)
        self._payloads.remove_unused(doing, freed - {file})

    def forget(self, key: str) -> None:
        doing = "forget a cached value"

        def work(cursor: Cursor) -> set[bytes]:
            cursor.execute(self._sql.grow_cache, (0,))
            return self._let_go(cursor, self._entries(cursor, key_of(key)))

        self._payloads.remove_unused(doing, self._database.transact(doing, work))

    def _entries(self, cursor: Cursor, digest: bytes) -> list[tuple[bytes, int, bytes | None]]:
        cursor.execute(self._sql.find_cached, (digest,))
        return [(row[0], row[4], row[3]) for row in cursor.fetchall()]

    def _let_go(self, cursor: Cursor, entries: Sequence[tuple[bytes, int, bytes | None]]) -> set[bytes]:
        """Forget cached values of known keys, sizes and files; the files that may not be used any more."""
        if entries:
            cursor.executemany(self._sql.remove_cached, [entry[:1] for entry in entries])
            cursor.execute(self._sql.grow_cache, (-sum(entry[1] for entry in entries),))
        return {file for _, _, file in entries if file is not None}

    def expire(self, cursor: Cursor, now: float) -> int:
        """Forget what has expired, and count it; its files are left to a sweep."""
        cursor.execute(self._sql.grow_cache, (0,))
        cursor.execute(self._sql.expired, (now,))
        expired = cursor.fetchall()
        self._let_go(cursor, expired)
        return len(expired)
