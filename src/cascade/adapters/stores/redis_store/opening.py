from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.spec.exceptions import MissingExtraError

if TYPE_CHECKING:
    from cascade.adapters.stores.redis_store.store import RedisStore
    from cascade.spec.protocols import Clock


def open_redis_store(url: str, *, clock: Clock | None = None, patience: float = 30.0) -> RedisStore:
    """Open a store in a database of a Redis server, and look whether the server keeps what it is given.

    What a server calls committed is on its disk only with `appendonly yes` and `appendfsync always`; each other way is
    told by a warning. To wait for the disk instead, with `WAITAOF`, would take up to a second a write: a server that
    syncs every second does not sync earlier because someone waits.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://...` with TLS, or `unix:///run/redis.sock?db=0`.
        clock: by which it is noted when a run was written last.
        patience: how long a lost connection is tried again, in seconds.

    Raises:
        DeclarationError: the URL is no address of a server.
        MissingExtraError: redis-py is not installed.
        StoreError: the server cannot be reached or used; the message says why and what to do.
    """
    try:
        from cascade.adapters.stores.redis_store.store import RedisStore
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise MissingExtraError("a store in Redis", "redis-py", "redis") from None
    return RedisStore(url, clock=clock, patience=patience)
