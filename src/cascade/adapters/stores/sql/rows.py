"""Records and runs as rows, and back; a row that was altered is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from cascade.adapters.stores.sql.checksums import record_checksum, row_checksum
from cascade.adapters.stores.sql.stored_text import ODD, escape, escape_any, unescape, unescape_any
from cascade.spec.records import Line, Record, RunRow, Signal

Row = Sequence[Any]


DAMAGED: Final = "a row is not as it was written; restore the store from a backup, or delete it to begin anew"


class DamagedRow(Exception):
    """A row is not as it was written."""


def key_of(text: str) -> bytes:
    """What a text is found by, of any length and with anything in it."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()


def record_to_row(record: Record, place: int, file: bytes | None) -> tuple[Any, ...]:
    """The columns of `cascade_records` in their order; with a file the payload is not in the row.

    Bytes are given as `bytearray`, which SQLite's drivers take as it is; for `bytes` they look for an adapter first,
    which takes 0.9 us each.
    """
    scope, node, kind, turn, label, name, attempt, began, ended, detail, preview, payload, inner = record
    if ODD.search(f"{label}{name}{detail}{preview}"):
        label, name, detail, preview = escape(label), escape(name), escape_any(detail), escape_any(preview)
    if file is not None:
        payload = None
    checksum = record_checksum(
        place, scope, node, kind, turn, label, name, attempt, began, ended, detail, preview, payload, file, inner
    )
    return (
        place,
        bytearray(scope),
        bytearray(node),
        kind,
        turn,
        label,
        name,
        attempt,
        began,
        ended,
        detail,
        preview,
        None if payload is None else bytearray(payload),
        None if file is None else bytearray(file),
        None if inner is None else bytearray(inner),
        checksum,
    )


def result_of_row(row: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The columns that a record of a small result has; `None` if it has others."""
    return (*row[:10], *row[11:13], row[15]) if row[10] is row[13] is row[14] is None else None


def record_from_row(row: Row, read_file: Callable[[bytes], bytes]) -> Record:
    """The record of a row whose checksum was verified."""
    _, scope, node, kind, turn, label, name, attempt, began, ended, detail, preview, payload, file, inner, _ = row
    if file is not None:
        payload = read_file(file)
    if "\x1a" in f"{label}{name}{detail}{preview}":
        label, name, detail, preview = unescape(label), unescape(name), unescape_any(detail), unescape_any(preview)
    return Record(scope, node, kind, turn, label, name, attempt, began, ended, detail, preview, payload, inner)


def outline_from_row(row: Row) -> Record:
    """The record of a row that was read without what its checksum is over; `DamagedRow` if it can be none."""
    _, scope, node, kind, turn, label, name, attempt, began, ended, detail, preview, inner = row
    try:
        return Record(
            scope,
            node,
            kind,
            turn,
            unescape(label),
            unescape(name),
            attempt,
            float(began),
            float(ended),
            unescape_any(detail),
            unescape_any(preview),
            None,
            inner,
        )
    except (TypeError, ValueError):
        # A column of another type than was written.
        raise DamagedRow from None


def verify_record(row: Row) -> None:
    """Raise `DamagedRow` unless the row of a record is as it was written."""
    try:
        right = record_checksum(*row[:-1]) == row[-1]
    except Exception:
        # A column of another type than was written.
        right = False
    if not right:
        raise DamagedRow


def run_checksum(
    key: bytes,
    run_id: str,
    status: str,
    created: float,
    target: str,
    params: bytes,
    program: str | None,
    error: str | None,
) -> int:
    return row_checksum(key, run_id, status, float(created), target, params, program, error)


def owner_checksum(run: int, epoch: int, host: str, owner: str, claim: bytes) -> int:
    return row_checksum(run, epoch, host, owner, claim)


class StoredRun:
    """A run with what only the store knows of it."""

    __slots__ = ("claim", "columns", "number", "records", "row")

    def __init__(self, row: Row) -> None:
        number, *columns, checksum = row[:10]
        epoch, host, owner, claim, checksum_of_owner, lease_until, updated, records = row[10:]
        try:
            right = (
                run_checksum(*columns) == checksum
                and owner_checksum(number, epoch, host, owner, claim) == checksum_of_owner
                and isinstance(lease_until, float)
                and isinstance(updated, float)
            )
        except Exception:
            right = False
        if not right:
            raise DamagedRow
        _, run_id, status, created, target, params, program, error = columns
        self.number: int = number
        self.claim: bytes = claim
        self.records: int = records
        self.columns: Final[list[Any]] = columns
        """The columns that the checksum of the run is over, as they are stored."""
        self.row = RunRow(
            run_id=unescape(run_id),
            status=status,
            epoch=epoch,
            host=unescape(host),
            owner=unescape(owner),
            lease_until=lease_until,
            created=created,
            updated=updated,
            target=unescape(target),
            params=params,
            program=unescape_any(program),
            error=unescape_any(error),
        )

    def with_status(self, status: str, error: str | None) -> tuple[str, str | None, int]:
        """The columns to set with a new status: that, the error and the checksum."""
        key, run_id, _, created, target, params, program, _ = self.columns
        error = escape_any(error)
        return status, error, run_checksum(key, run_id, status, created, target, params, program, error)


def run_to_row(row: RunRow) -> tuple[Any, ...]:
    """The columns of `cascade_runs` after the number."""
    columns = (
        key_of(row.run_id),
        escape(row.run_id),
        row.status,
        float(row.created),
        escape(row.target),
        row.params,
        escape_any(row.program),
        escape_any(row.error),
    )
    return (*columns, run_checksum(*columns))


def owner_to_row(
    run: int, epoch: int, host: str, owner: str, claim: bytes, lease_until: float, updated: float, records: int
) -> tuple[Any, ...]:
    """The columns of `cascade_owners`."""
    host, owner = escape(host), escape(owner)
    checksum = owner_checksum(run, epoch, host, owner, claim)
    return (run, epoch, host, owner, claim, lease_until, updated, records, checksum)


def signal_to_row(run_id: str, name: str, payload: str, sent: float, token: bytes) -> tuple[Any, ...]:
    """The columns of `cascade_signals` after the number."""
    columns = (token, key_of(run_id), escape(run_id), escape(name), escape(payload), float(sent))
    return (*columns, row_checksum(*columns))


def signal_from_row(row: Row) -> Signal:
    number, *columns, checksum = row
    if row_checksum(*columns) != checksum or not isinstance(number, int):
        raise DamagedRow
    _, _, _, name, payload, _ = columns
    return Signal(number, unescape(name), unescape(payload))


def line_to_row(run: int, line: Line) -> tuple[Any, ...]:
    """The columns of `cascade_lines`."""
    number, at, source, place, name, attempt, text = line
    columns = (run, number, float(at), escape(source), escape(place), escape(name), attempt, escape(text))
    return (*columns, row_checksum(*columns))


def line_from_row(row: Row) -> Line:
    *columns, checksum = row
    if row_checksum(*columns) != checksum:
        raise DamagedRow
    _, number, at, source, place, name, attempt, text = columns
    return Line(number, at, unescape(source), unescape(place), unescape(name), attempt, unescape(text))


def setting_to_row(key: str, text: str, expires: float | None) -> tuple[Any, ...]:
    """The columns of `cascade_settings`."""
    columns = (key_of(key), escape(key), escape(text), None if expires is None else float(expires))
    return (*columns, row_checksum(*columns))


def setting_from_row(row: Row) -> tuple[str, str, float | None]:
    """The key, the text, and when it expires."""
    *columns, checksum = row
    if row_checksum(*columns) != checksum:
        raise DamagedRow
    _, name, text, expires = columns
    return unescape(name), unescape(text), expires


def cached_to_row(key: str, payload: bytes, file: bytes | None, expires: float | None, used: float) -> tuple[Any, ...]:
    """The columns of `cascade_cache`."""
    kept = payload if file is None else None
    covered = (key_of(key), escape(key), kept, file, len(payload), None if expires is None else float(expires))
    return (*covered, used, row_checksum(*covered))


def cached_from_row(row: Row) -> tuple[bytes | None, bytes | None, int, float | None]:
    """The payload, its file, its size, and when it expires."""
    *covered, _, checksum = row
    if row_checksum(*covered) != checksum:
        raise DamagedRow
    _, _, payload, file, size, expires = covered
    return payload, file, size, expires
