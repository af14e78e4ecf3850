"""Spies and a fake for the port that keeps the state of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cascade.runtime.state import InMemoryStateBackend

if TYPE_CHECKING:
    from cascade.spec.protocols import StateBackend


class SpyStateBackend:
    """Notes every access and has another backend do it.

    Args:
        inner: who keeps the state; an `InMemoryStateBackend` by default.

    Attributes:
        calls: the method and its arguments of each access, in order.
        written: every result that was ever put, by node id, also those discarded since.
        skipped: every skip that was ever marked, by node id.

    >>> import asyncio
    >>> spy = SpyStateBackend()
    >>> asyncio.run(spy.put_result("a#0", 1))
    >>> spy.calls
    [('put_result', ('a#0', 1))]
    """

    def __init__(self, inner: StateBackend | None = None) -> None:
        self._inner = inner or InMemoryStateBackend()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.written: dict[str, Any] = {}
        self.skipped: dict[str, str] = {}

    def _note(self, method: str, *arguments: Any) -> None:
        self.calls.append((method, arguments))

    async def put_result(self, node_id: str, value: Any) -> None:
        """Keep a result."""
        self._note("put_result", node_id, value)
        await self._inner.put_result(node_id, value)
        self.written[node_id] = value

    async def get_result(self, node_id: str) -> Any:
        """The result of a node; `KeyError` if it has none."""
        self._note("get_result", node_id)
        return await self._inner.get_result(node_id)

    async def has_result(self, node_id: str) -> bool:
        """Whether the node has a result."""
        self._note("has_result", node_id)
        return await self._inner.has_result(node_id)

    async def mark_skipped(self, node_id: str, reason: str) -> None:
        """Note a skip."""
        self._note("mark_skipped", node_id, reason)
        await self._inner.mark_skipped(node_id, reason)
        self.skipped[node_id] = reason

    async def get_skip_reason(self, node_id: str) -> str | None:
        """Why the node was skipped, or `None`."""
        self._note("get_skip_reason", node_id)
        return await self._inner.get_skip_reason(node_id)

    async def put_many(self, results: Mapping[str, Any], skips: Mapping[str, str]) -> None:
        """Keep results and skips at once."""
        self._note("put_many", dict(results), dict(skips))
        await self._inner.put_many(results, skips)
        self.written.update(results)
        self.skipped.update(skips)

    async def discard(self, node_ids: Iterable[str]) -> None:
        """Forget nodes, known or not."""
        gone = tuple(node_ids)
        self._note("discard", gone)
        await self._inner.discard(gone)

    async def clear(self) -> None:
        """Forget everything."""
        self._note("clear")
        await self._inner.clear()


class SpyStates:
    """Makes a `SpyStateBackend` for each run: what to pass an engine as `state_backend`.

    Args:
        inner: makes the backends within, called with the run's id.

    Attributes:
        by_run: the backends made so far, by run id.

    >>> import asyncio
    >>> import cascade as cs
    >>> states = SpyStates()
    >>> async def main() -> int:
    ...     async with cs.create_engine(state_backend=states) as engine:
    ...         return await engine.run(cs.task(len)("four"), run_id="nightly")
    >>> asyncio.run(main())
    4
    >>> states.by_run["nightly"].written
    {'len#0': 4}
    """

    def __init__(self, inner: Callable[[str], StateBackend] = InMemoryStateBackend) -> None:
        self._inner = inner
        self.by_run: dict[str, SpyStateBackend] = {}

    def __call__(self, run_id: str) -> SpyStateBackend:
        """The backend of a new run."""
        backend = self.by_run[run_id] = SpyStateBackend(self._inner(run_id))
        return backend


class FailingStateBackend(SpyStateBackend):
    """Raises at every write, as a disk that is full.

    Args:
        error: what is raised.
        after: how many writes succeed before.
    """

    def __init__(self, error: Exception | None = None, *, after: int = 0) -> None:
        super().__init__()
        self.error = error or OSError("the state cannot be written")
        self._left = after

    def _write(self) -> None:
        if self._left <= 0:
            raise self.error
        self._left -= 1

    async def put_result(self, node_id: str, value: Any) -> None:
        """Keep a result, or fail."""
        self._write()
        await super().put_result(node_id, value)

    async def mark_skipped(self, node_id: str, reason: str) -> None:
        """Note a skip, or fail."""
        self._write()
        await super().mark_skipped(node_id, reason)

    async def put_many(self, results: Mapping[str, Any], skips: Mapping[str, str]) -> None:
        """Keep results and skips, or fail."""
        self._write()
        await super().put_many(results, skips)
