"""Writes the records of the runs that this process owns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.adapters.stores.sql.ledger import Ledger, places_of_run
from cascade.adapters.stores.sql.rows import record_to_row, result_of_row

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor
    from cascade.adapters.stores.sql.statements import Statements
    from cascade.spec.records import Record


class NotTheOwner(Exception):
    """The run has another epoch."""


class Journal:
    """The journal of one run, as long as this process is its owner.

    Args:
        run: the number of the run.
        epoch: that of this owner.
        statements: the database's.
        new: the run has no records yet.

    Attributes:
        lines: how many lines are kept of the run; `None` where that is not known.
    """

    def __init__(self, run: int, epoch: int, statements: Statements, *, new: bool) -> None:
        self.run = run
        self.epoch = epoch
        self.lines: int | None = None
        self._sql = statements
        self._ledger = Ledger(run) if new else None
        self._written: Ledger | None = None

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take note of all records that there are, so that they need not be looked up again."""
        ledger = Ledger(self.run)
        ledger.load((row[0], row[1], row[2], row[3], row[13]) for row in rows)
        self._ledger = ledger

    def write(
        self,
        cursor: Cursor,
        records: Sequence[Record],
        dropped: Iterable[bytes],
        files: Mapping[int, bytes],
        now: float,
        lease_until: float | None,
    ) -> set[bytes]:
        """Drop scopes and keep records.

        Args:
            files: the digests of payloads that are in files, by the records' positions in `records`.
            now: the time of the write.
            lease_until: when the owner's lease runs out; `None` if that stays as it is.

        Returns:
            The digests of files that may not be used any more.

        Raises:
            NotTheOwner: the run has another epoch.
        """
        sql = self._sql
        ledger = self._known(cursor)
        # Should anything fail from here on, what is remembered may be wrong; `committed` puts it back.
        self._ledger = None
        ledger.has_files = ledger.has_files or bool(files)
        spans = [(known.first, known.last, scope) for scope in dropped if (known := ledger.drop(scope)) is not None]
        results: list[tuple[Any, ...]] = []
        added: list[tuple[Any, ...]] = []
        replaced: list[tuple[Any, ...]] = []
        for position, record in enumerate(records):
            scope, node, kind = record[:3]
            file = files.get(position) if files else None
            place = ledger.place_of(scope, node, kind)
            if place is None:
                place = ledger.next_place
                ledger.note(place, scope, node, kind)
                row = record_to_row(record, place, file)
                result = result_of_row(row)
                if result is None:
                    added.append(row)
                else:
                    results.append(result)
            else:
                replaced.append((*record_to_row(record, place, file)[3:], place))

        # First of all statements, since it locks the run: whoever takes it over waits, or has it already.
        if lease_until is None:
            cursor.execute(sql.count_records, (now, ledger.count, self.run, self.epoch))
        else:
            cursor.execute(sql.renew_lease, (lease_until, now, ledger.count, self.run, self.epoch))
        if cursor.rowcount != 1:
            raise NotTheOwner
        freed = self._files_let_go(cursor, spans, replaced) if ledger.has_files else set[bytes]()
        for span in spans:
            cursor.execute(sql.drop_scope, span)
        if results:
            cursor.executemany(sql.add_result, results)
        if added:
            cursor.executemany(sql.add_record, added)
        if replaced:
            cursor.executemany(sql.replace_record, replaced)
        self._written = ledger
        return freed

    def committed(self) -> None:
        """What was written is there."""
        self._ledger = self._written

    def _known(self, cursor: Cursor) -> Ledger:
        """The ledger; where it is not known what became of the last write, from the database."""
        if self._ledger is not None:
            return self._ledger
        # Locks the run, so that a commit whose connection was lost is over, one way or the other.
        cursor.execute(self._sql.hold_owner, (self.run, self.epoch))
        if cursor.rowcount != 1:
            raise NotTheOwner
        ledger = Ledger(self.run)
        cursor.execute(self._sql.places, places_of_run(self.run))
        ledger.load(cursor.fetchall())
        return ledger

    def _files_let_go(
        self, cursor: Cursor, spans: Iterable[tuple[int, int, bytes]], replaced: Iterable[tuple[Any, ...]]
    ) -> set[bytes]:
        freed: set[bytes] = set()
        for span in spans:
            cursor.execute(self._sql.files_of_scope, span)
            freed.update(row[0] for row in cursor.fetchall())
        for row in replaced:
            cursor.execute(self._sql.file_of_record, (row[-1],))
            freed.update(found[0] for found in cursor.fetchall())
        return freed


def fold(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Of several rows for one place in the workflow the last, where the first one was."""
    latest: dict[tuple[bytes, bytes], Sequence[Any]] = {}
    for row in rows:
        latest[row[1], row[2]] = row
    return list(latest.values())
