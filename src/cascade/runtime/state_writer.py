"""Writing through to the state backend of a run, in batches and in the order of completion."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from cascade.spec.protocols import StateBackend


class StateWriter:
    """Gathers what ended and hands it to the backend, one batch after another.

    Entries are added from any thread; the writing happens on the run's loop. What is written is always the beginning
    of what happened: after a batch that failed nothing more is written.
    """

    def __init__(self, backend: StateBackend, loop: asyncio.AbstractEventLoop) -> None:
        self.backend = backend
        self._loop = loop
        self._entries: deque[tuple[str, bool, Any]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._start_is_due = False
        self._error: BaseException | None = None

    def result(self, node_id: str, value: Any) -> None:
        """Note a result."""
        self._add((node_id, True, value))

    def skip(self, node_id: str, reason: str) -> None:
        """Note a skip."""
        self._add((node_id, False, reason))

    def _add(self, entry: tuple[str, bool, Any]) -> None:
        if self._error is not None:
            return
        self._entries.append(entry)
        if not self._start_is_due:
            self._start_is_due = True
            try:
                self._loop.call_soon_threadsafe(self._start)
            except RuntimeError:
                # The loop has been closed under an abandoned call; nobody reads what it gave.
                self._entries.clear()

    def _start(self) -> None:
        self._start_is_due = False
        if self._entries and (self._writing is None or self._writing.done()):
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._entries:
                batch = [self._entries.popleft() for _ in range(len(self._entries))]
                results = {node_id: value for node_id, is_result, value in batch if is_result}
                skips = {node_id: reason for node_id, is_result, reason in batch if not is_result}
                await self.backend.put_many(results, skips)
        except BaseException as error:
            self._error = error
            self._entries.clear()

    async def flush(self) -> None:
        """Wait until everything that was noted is written; raises what the backend raised first."""
        self._start()
        while self._writing is not None and not self._writing.done():
            await self._writing
            self._start()
        if self._error is not None:
            raise self._error
