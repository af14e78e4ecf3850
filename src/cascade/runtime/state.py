"""The state of a run in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class InMemoryStateBackend:
    """Keeps results and skips of one run in two dictionaries.

    Args:
        run_id: the run.

    >>> import asyncio
    >>> state = InMemoryStateBackend("nightly")
    >>> asyncio.run(state.put_result("a#0", None))
    >>> asyncio.run(state.has_result("a#0")), asyncio.run(state.get_result("a#0"))
    (True, None)
    """

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id
        self._results: dict[str, Any] = {}
        self._skips: dict[str, str] = {}

    async def put_result(self, node_id: str, value: Any) -> None:
        """Keep a result; it replaces a skip."""
        self._skips.pop(node_id, None)
        self._results[node_id] = value

    async def get_result(self, node_id: str) -> Any:
        """The result of a node; `KeyError` if it has none."""
        return self._results[node_id]

    async def has_result(self, node_id: str) -> bool:
        """Whether the node has a result."""
        return node_id in self._results

    async def mark_skipped(self, node_id: str, reason: str) -> None:
        """Note a skip; it replaces a result."""
        self._results.pop(node_id, None)
        self._skips[node_id] = reason

    async def get_skip_reason(self, node_id: str) -> str | None:
        """Why the node was skipped, or `None`."""
        return self._skips.get(node_id)

    async def put_many(self, results: Mapping[str, Any], skips: Mapping[str, str]) -> None:
        """Keep results and skips at once."""
        for node_id, value in results.items():
            await self.put_result(node_id, value)
        for node_id, reason in skips.items():
            await self.mark_skipped(node_id, reason)

    async def discard(self, node_ids: Iterable[str]) -> None:
        """Forget nodes, known or not."""
        for node_id in node_ids:
            self._results.pop(node_id, None)
            self._skips.pop(node_id, None)

    async def clear(self) -> None:
        """Forget everything."""
        self._results.clear()
        self._skips.clear()
