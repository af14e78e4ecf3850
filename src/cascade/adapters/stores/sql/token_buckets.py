"""The tokens of rates that all who use a SQL store share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade.adapters.stores.sql.rows import key_of
from cascade.adapters.stores.sql.stored_text import escape

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.database import Cursor, Database
    from cascade.adapters.stores.sql.statements import Statements

SET_BACK: Final = 10.0
"""A clock that is behind by more seconds than this was set back; by less, it is the clock of another machine."""


class TokenBuckets:
    """Buckets of tokens in a database, each as the tokens that were in it at a moment.

    A bucket has the token of its last taker, which so finds itself when repeated. If somebody else has taken one
    meanwhile it takes another: one too many is lost then, and never one too many taken.
    """

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._sql = statements
        self._relaxed = database.falls_with_its_users

    def take(self, scope: str, rate: float, burst: float, now: float, token: bytes) -> float:
        """Take one token; see `Store.take_token`."""
        key = key_of(scope)

        def work(cursor: Cursor) -> float:
            self._database.lock(cursor, key)
            cursor.execute(self._sql.find_tokens, (key,))
            kept_tokens, kept_at, claim = cursor.fetchone() or (burst, now, b"")
            if claim == token:
                return 0.0
            tokens, at = filled(kept_tokens, kept_at, rate, burst, now)
            wait = at - now + (1.0 - tokens) / rate if tokens < 1.0 else 0.0
            # A wait that is lost between two readings of the clock is none; it is owed by those who come later.
            taken = now + wait / 2.0 == now
            if taken:
                tokens -= 1.0
            if taken or at < kept_at:
                full = at + (burst - tokens) / rate
                cursor.execute(self._sql.remove_tokens, (key,))
                row = (key, escape(scope), tokens, at, full, token if taken else claim)
                cursor.execute(self._sql.add_tokens, row)
            return 0.0 if taken else wait

        return self._database.transact(f"take a token of {scope!r}", work, relaxed=self._relaxed)

    def expire(self, cursor: Cursor, now: float) -> int:
        """Forget buckets that are full again, and count them."""
        cursor.execute(self._sql.expire_tokens, (now,))
        return cursor.rowcount


def filled(tokens: float, at: float, rate: float, burst: float, now: float) -> tuple[float, float]:
    """What is in a bucket now, and the moment up to which it was filled.

    >>> filled(1.0, 20.0, rate=0.5, burst=4.0, now=22.0), filled(1.0, 20.0, rate=0.5, burst=4.0, now=99.0)
    ((2.0, 22.0), (4.0, 99.0))
    >>> filled(1.0, 20.0, rate=0.5, burst=4.0, now=19.0), filled(1.0, 20.0, rate=0.5, burst=4.0, now=1.0)
    ((1.0, 20.0), (1.0, 1.0))
    """
    if at - now > SET_BACK:
        at = now
    reached = max(at, now)
    return min(burst, tokens + (reached - at) * rate), reached
