"""A cache in memory, for one process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from cascade.adapters.cache.serialization import dumps, loads
from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import DeclarationError

if TYPE_CHECKING:
    from cascade.spec.protocols import Clock


class InMemoryCacheBackend:
    """Keeps values as serialized copies, so that no one who changes a value changes the cache.

    May be used from any threads and event loops at once. When it is full, the value not asked for the longest
    goes.

    Args:
        max_entries: how many values at most; `None` for no bound.
        clock: by which values expire.

    >>> import asyncio
    >>> cache = InMemoryCacheBackend()
    >>> asyncio.run(cache.put("answer", 42))
    >>> asyncio.run(cache.get("answer"))
    42
    """

    def __init__(self, max_entries: int | None = 4096, *, clock: Clock | None = None) -> None:
        if max_entries is not None and max_entries < 1:
            raise DeclarationError(f"max_entries must be at least 1 or None, not {max_entries!r}")
        self._max_entries = max_entries
        self._clock: Clock = SystemClock() if clock is None else clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float | None]] = OrderedDict()

    async def get(self, key: str) -> Any:
        """A new copy of the value; `KeyError` where there is none."""
        with self._lock:
            content, expiry = self._entries[key]
            if expiry is not None and expiry <= self._clock.monotonic():
                del self._entries[key]
                raise KeyError(key)
            self._entries.move_to_end(key)
        return loads(content)

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Keep a copy of the value, for `ttl` seconds if given."""
        content = dumps(value)
        with self._lock:
            expiry = None if ttl is None else self._clock.monotonic() + ttl
            self._entries[key] = (content, expiry)
            self._entries.move_to_end(key)
            while self._max_entries is not None and len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    async def discard(self, key: str) -> None:
        """Forget the key, if it is there."""
        with self._lock:
            self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)
