"""The slots of limits that all who use a SQL store share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.adapters.stores.sql.rows import key_of
from cascade.adapters.stores.sql.stored_text import escape

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.adapters.stores.sql.statements import Statements


class Slots:
    """The slots that are taken in a database; the methods are those of `Store`, with a token for each call.

    The row of a holder has the token of its last change. So a change that is repeated, since the connection was lost
    and nobody knows whether it was committed, is made once; as long as a holder changes its slots by one store only.
    """

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._sql = statements
        # A holder that ends with the database needs no slots any more; another would hold more than there are.
        self._relaxed = database.falls_with_its_users

    def take(self, scope: str, holder: str, count: int, limit: int, now: float, until: float, token: bytes) -> bool:
        key, holder_key = key_of(scope), key_of(holder)

        def work(cursor: Cursor) -> bool:
            self._database.lock(cursor, key)
            # Removed, and not just passed over: a holder that renews them later must not have them again.
            cursor.execute(self._sql.free_slots, (key, now))
            cursor.execute(self._sql.slots, (key,))
            found = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
            held, claim = found.get(holder_key, (0, b""))
            if claim == token:
                return True
            if sum(taken for taken, _ in found.values()) + count > limit:
                return False
            cursor.execute(self._sql.set_slots, (held + count, until, token, key, holder_key))
            if cursor.rowcount != 1:
                row = (key, holder_key, escape(scope), escape(holder), count, until, token)
                cursor.execute(self._sql.add_slots, row)
            return True

        return self._database.transact(f"take slots of {scope!r}", work, relaxed=self._relaxed)

    def give(self, scope: str, holder: str, count: int, token: bytes) -> None:
        key, holder_key = key_of(scope), key_of(holder)

        def work(cursor: Cursor) -> None:
            self._database.lock(cursor, key)
            cursor.execute(self._sql.slots_of, (key, holder_key))
            held, claim = cursor.fetchone() or (0, token)
            if claim == token:
                return
            if held > count:
                cursor.execute(self._sql.leave_slots, (held - count, token, key, holder_key))
            else:
                cursor.execute(self._sql.remove_slots, (key, holder_key))

        self._database.transact(f"give back slots of {scope!r}", work, relaxed=self._relaxed)

    def renew(self, holder: str, until: float) -> None:
        def work(cursor: Cursor) -> None:
            cursor.execute(self._sql.renew_slots, (until, key_of(holder)))

        self._database.transact(f"renew the slots of {holder!r}", work, relaxed=self._relaxed)

    def expire(self, cursor: Cursor, now: float) -> int:
        """Forget holders whose time is over, and count them."""
        cursor.execute(self._sql.expire_slots, (now,))
        return cursor.rowcount
