"""Slots and tokens of limits that all who use a server share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade.adapters.stores.redis_store import limit_scripts
from cascade.adapters.stores.redis_store.packing import encode

if TYPE_CHECKING:
    from cascade.adapters.stores.redis_store.connection import Connection

SET_BACK: Final = 10.0
"""A clock that is behind by more seconds than this was set back; by less, it is the clock of another machine."""

_SLOTS: Final = (b"cascade:{slots}",)
_TOKENS: Final = (b"cascade:{tokens}", b"cascade:{tokens}:full")


class SharedLimits:
    """Slots and tokens in a database; the methods are those of `Store`, with a claim for each call.

    A change that is repeated, since the connection was lost and nobody knows whether it was made, finds its claim and
    is made once; as long as a holder changes its slots by one store only, and nobody else took a token meanwhile.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take_slots(
        self, scope: str, holder: str, count: int, limit: int, now: float, until: float, claim: bytes
    ) -> bool:
        taken = self._connection.run(
            f"take slots of {scope!r}",
            limit_scripts.TAKE_SLOTS,
            _SLOTS,
            encode(scope),
            encode(holder),
            claim,
            count,
            limit,
            repr(now),
            repr(until),
        )
        return bool(taken)

    def give_slots(self, scope: str, holder: str, count: int, claim: bytes) -> None:
        doing = f"give back slots of {scope!r}"
        self._connection.run(doing, limit_scripts.GIVE_SLOTS, _SLOTS, encode(scope), encode(holder), claim, count)

    def renew_slots(self, holder: str, until: float) -> None:
        doing = f"renew the slots of {holder!r}"
        self._connection.run(doing, limit_scripts.RENEW_SLOTS, _SLOTS, encode(holder), repr(until))

    def take_token(self, scope: str, rate: float, burst: float, now: float, claim: bytes) -> float:
        wait = self._connection.run(
            f"take a token of {scope!r}",
            limit_scripts.TAKE_FROM_BUCKET,
            _TOKENS,
            encode(scope),
            claim,
            repr(rate),
            repr(burst),
            repr(now),
            SET_BACK,
        )
        return float(wait)

    def expire(self, doing: str, now: float, at_once: int) -> int:
        """Forget holders whose time is over and buckets that are full again, and count them."""
        expired: int = self._connection.run(doing, limit_scripts.EXPIRE_SLOTS, _SLOTS, repr(now))
        while full := self._connection.run(doing, limit_scripts.EXPIRE_BUCKETS, _TOKENS, repr(now), at_once):
            expired += full
        return expired
