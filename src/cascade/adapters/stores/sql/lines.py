"""The lines that a SQL store keeps of its runs: what calls have logged and printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.adapters.stores.sql.rows import line_from_row, line_to_row

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor
    from cascade.adapters.stores.sql.statements import Statements
    from cascade.spec.records import Line


class Lines:
    """The lines in a database, of runs that are known by their numbers."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    def note(self, cursor: Cursor, run: int, lines: Sequence[Line], most: int, count: int | None) -> int:
        """Keep lines, and only so many of the run; in a transaction that holds the run's owner.

        Args:
            count: how many the run has, if that is known: then nobody looks at all of them.

        Returns:
            How many it has now.
        """
        cursor.execute(self._sql.remove_lines_from, (run, lines[0].number))
        replaced = cursor.rowcount
        if count is None:
            cursor.execute(self._sql.count_lines, (run,))
            found: int = cursor.fetchone()[0]
        else:
            found = count - replaced
        kept = lines[-most:]
        excess = found + len(kept) - most
        if excess > 0:
            cursor.execute(self._sql.remove_oldest_lines, (run, run, excess - 1))
            found -= excess
        cursor.executemany(self._sql.add_line, [line_to_row(run, line) for line in kept])
        return found + len(kept)

    def find(self, cursor: Cursor, run: int, after: int) -> list[Line]:
        """Those above a number; `DamagedRow` where one is not as it was written."""
        cursor.execute(self._sql.lines, (run, after))
        return [line_from_row(row) for row in cursor.fetchall()]

    def forget(self, cursor: Cursor, run: int) -> None:
        """Remove those of a run."""
        cursor.execute(self._sql.remove_lines, (run,))
