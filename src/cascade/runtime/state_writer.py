"""Writing through to the state backend of a run, in batches and in the order of completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from cascade.spec.protocols import StateBackend


class StateWriter:
    """Gathers what ended and hands it to the backend, one batch after another.

    Entries are added from any thread; the writing happens on the run's loop.
    """

    def __init__(self, backend: StateBackend, loop: asyncio.AbstractEventLoop) -> None:
        self.backend = backend
        self._loop = loop
        self._entries: list[tuple[str, bool, Any]] = []
        self._writing: asyncio.Task[None] | None = None
        self._asked = False

    def result(self, node_id: str, value: Any) -> None:
        """Note a result."""
        self._add((node_id, True, value))

    def skip(self, node_id: str, reason: str) -> None:
        """Note a skip."""
        self._add((node_id, False, reason))

    def _add(self, entry: tuple[str, bool, Any]) -> None:
        self._entries.append(entry)
        if not self._asked:
            self._asked = True
            self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        while self._entries:
            self._asked = False
            batch, self._entries = self._entries, []
            results = {node_id: value for node_id, is_result, value in batch if is_result}
            skips = {node_id: reason for node_id, is_result, reason in batch if not is_result}
            await self.backend.put_many(results, skips)
        self._asked = False

    async def flush(self) -> None:
        """Wait until everything that was noted is written; raises what the backend raised."""
        while self._entries or self._writing is not None:
            if self._writing is None or (self._writing.done() and self._entries):
                self._start()
            writing, self._writing = self._writing, None
            if writing is not None:
                await writing
