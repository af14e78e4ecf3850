"""The settings of a SQL store: texts under keys, some of which expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.adapters.stores.sql.rows import DAMAGED, DamagedRow, key_of, setting_from_row, setting_to_row

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.adapters.stores.sql.statements import Statements


class Settings:
    """The settings in a database; the methods are those of `Store`."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._sql = statements

    def put(self, key: str, text: str, expires: float | None) -> None:
        row = setting_to_row(key, text, expires)

        def work(cursor: Cursor) -> None:
            cursor.execute(self._sql.remove_setting, row[:1])
            cursor.execute(self._sql.add_setting, row)

        self._database.transact(f"keep the setting {key!r}", work)

    def all(self, now: float) -> dict[str, str]:
        doing = "read the settings"

        def work(cursor: Cursor) -> dict[str, str]:
            cursor.execute(self._sql.all_settings)
            found = [setting_from_row(row) for row in cursor.fetchall()]
            return {key: text for key, text, expires in found if expires is None or expires > now}

        try:
            return self._database.read(doing, work)
        except DamagedRow:
            raise self._database.failure(doing, DAMAGED) from None

    def remove(self, key: str) -> bool:
        removed: list[bool] = []

        def work(cursor: Cursor) -> None:
            cursor.execute(self._sql.remove_setting, (key_of(key),))
            removed.append(cursor.rowcount == 1)

        self._database.transact(f"remove the setting {key!r}", work)
        # Where it was repeated, the first attempt may have been the one that was committed.
        return any(removed)

    def expire(self, cursor: Cursor, now: float) -> int:
        """Forget what has expired, and count it."""
        cursor.execute(self._sql.expire_settings, (now,))
        return cursor.rowcount
