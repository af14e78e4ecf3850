"""Keeps large payloads outside of the database, where that has files, and removes those that no row names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cascade.adapters.stores.sql.payload_files import INLINE_BYTES

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.adapters.stores.sql.statements import Statements
    from cascade.spec.exceptions import StoreError
    from cascade.spec.records import Record


class LargePayloads:
    """The large payloads of a database."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._sql = statements

    def write_all(self, doing: str, records: Sequence[Record]) -> dict[int, bytes]:
        """Write the large payloads of records; their digests, by position."""
        if self._database.files is None:
            return {}
        found: dict[int, bytes] = {}
        for position, record in enumerate(records):
            payload = record[11]
            if payload is not None and len(payload) > INLINE_BYTES:
                digest = self.write(doing, payload)
                assert digest is not None
                found[position] = digest
        return found

    def write(self, doing: str, payload: bytes) -> bytes | None:
        """Write a payload if it is large, and return its digest."""
        files = self._database.files
        if files is None or len(payload) <= INLINE_BYTES:
            return None
        try:
            return files.write(payload)
        except FileNotFoundError:
            # Somebody who swept took it for left over; it is written under the lock.
            return files.digest(payload)
        except OSError as error:
            raise self._failure(doing, error) from error

    def ensure(self, digest: bytes, payload: bytes | None) -> None:
        """Have a file that was written, in the transaction that names it."""
        files = self._database.files
        assert files is not None
        assert payload is not None
        if not files.has(digest):
            files.write(payload)

    def read(self, doing: str, digest: bytes) -> bytes:
        """The payload of a file; `StoreError` where it is missing or was altered."""
        files = self._database.files
        assert files is not None
        try:
            return files.read(digest)
        except FileNotFoundError:
            problem = "is missing; restore it from a backup, or remove the run to begin anew"
        except ValueError:
            problem = "was altered; restore it from a backup, or remove the run to begin anew"
        except OSError as error:
            raise self._failure(doing, error) from error
        raise self._database.failure(doing, f"the file {str(files.path(digest))!r} {problem}")

    def remove_unused(self, doing: str, digests: Iterable[bytes], *, unfinished: bool = False) -> int:
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

    def _failure(self, doing: str, error: OSError) -> StoreError:
        return self._database.failure(doing, f"{error.strerror or error} ({error.filename})")
