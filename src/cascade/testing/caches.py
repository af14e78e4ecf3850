"""Spies and fakes for the two ports of caching."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cascade.adapters.cache.memory import InMemoryCacheBackend

if TYPE_CHECKING:
    from cascade.spec.protocols import CacheBackend


class SpyCacheBackend:
    """Counts hits and misses, and has another backend keep the values.

    Args:
        inner: who keeps them; an `InMemoryCacheBackend` by default.

    Attributes:
        hits: the keys that were found, in order.
        misses: the keys that were not.
        puts: keys and values as they were put, in order.

    >>> import cascade as cs
    >>> spy = SpyCacheBackend()
    >>> count = cs.task(len).with_cache(cs.InputsCache(spy))
    >>> cs.run(count("four"), log_level="CRITICAL"), cs.run(count("four"), log_level="CRITICAL")
    (4, 4)
    >>> len(spy.misses), len(spy.hits), [value for _, value in spy.puts]
    (1, 1, [4])
    """

    def __init__(self, inner: CacheBackend | None = None) -> None:
        self._inner = inner or InMemoryCacheBackend()
        self._lock = threading.Lock()
        self.hits: list[str] = []
        self.misses: list[str] = []
        self.puts: list[tuple[str, Any]] = []

    async def get(self, key: str) -> Any:
        """The value under a key; `KeyError` if there is none."""
        try:
            value = await self._inner.get(key)
        except KeyError:
            with self._lock:
                self.misses.append(key)
            raise
        with self._lock:
            self.hits.append(key)
        return value

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value."""
        with self._lock:
            self.puts.append((key, value))
        await self._inner.put(key, value, ttl=ttl)

    async def discard(self, key: str) -> None:
        """Forget a key."""
        await self._inner.discard(key)


class FailingCacheBackend:
    """Raises whatever is asked of it, as a server that is down.

    Args:
        error: what is raised.

    Attributes:
        calls: how often it was asked for anything.

    >>> import cascade as cs
    >>> failing = FailingCacheBackend()
    >>> cs.run(cs.task(len)("four").with_cache(cs.InputsCache(failing)), log_level="CRITICAL")
    4
    >>> failing.calls
    2
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or ConnectionError("the cache is down")
        self.calls = 0

    def _fail(self) -> None:
        self.calls += 1
        raise self.error

    async def get(self, key: str) -> Any:
        """Fail."""
        self._fail()

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Fail."""
        self._fail()

    async def discard(self, key: str) -> None:
        """Fail."""
        self._fail()


class FakeCachePolicy:
    """A policy whose keys a test decides.

    Args:
        key: the key for all calls, or a function of a call's arguments by name.
        backend: where values are kept; `None` for the engine's own cache.
        ttl: how long values are good, in seconds; `None` for ever.
        product: what consumers get in place of a value that was computed and kept.

    Attributes:
        asked: the arguments of every call for which a key was made.

    >>> import cascade as cs
    >>> policy = FakeCachePolicy("always the same", InMemoryCacheBackend())
    >>> count = cs.task(len).with_cache(policy)
    >>> cs.run(count("four"), log_level="CRITICAL"), cs.run(count("something longer"), log_level="CRITICAL")
    (4, 4)
    """

    def __init__(
        self,
        key: str | Callable[[Mapping[str, Any]], str] = "key",
        backend: CacheBackend | None = None,
        *,
        ttl: float | None = None,
        product: Callable[[Any], Any] | None = None,
    ) -> None:
        self._key = key
        self._product = product
        self.backend = backend
        self.ttl = ttl
        self.asked: list[Mapping[str, Any]] = []

    def key(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
        """The key for one call."""
        self.asked.append(dict(arguments))
        return self._key if isinstance(self._key, str) else self._key(arguments)

    def product(self, key: str, value: Any) -> Any:
        """What consumers receive after a value was computed and kept."""
        return value if self._product is None else self._product(value)
