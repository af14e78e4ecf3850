"""Looking at runs from time to time, and not at all while they are short."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Final

from cascade.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.runtime.engine import Engine
    from cascade.runtime.run import Run
    from cascade.runtime.strategies.graph import GraphExecutionStrategy

PATIENCE: Final = 0.5
"""How long a run may last, in seconds, before anything is told of how far it has come."""
_BETWEEN_LOOKS: Final = 0.2
_MOST_REMEMBERED: Final = 1_000
_TRIES: Final = 8
_log: Final = logging.getLogger("cascade.telemetry")


class Watch:
    """Calls something a few times a second, on a thread of its own, once some time has passed.

    Under an event loop the thread is not even made for what ends before that. A clock that is not this
    machine's has times of its own, which nobody could watch: there nothing is called.

    Args:
        engine: whose clock counts.
        look: what is called; if it raises, that is logged and was the last time.
    """

    def __init__(self, engine: Engine, look: Callable[[], None]) -> None:
        self._is_real = isinstance(engine.clock, SystemClock)
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._over: threading.Event | None = None

    def start(self) -> None:
        """Begin; where an event loop is running, on its thread."""
        if not self._is_real:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._begin(PATIENCE)
        else:
            self._timer = loop.call_later(PATIENCE, self._begin, 0.0)

    def stop(self) -> None:
        """End; when this returns, nothing is called any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None and self._over is not None:
            self._over.set()
            self._thread.join()

    def _begin(self, wait: float) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._over, wait), name="cascade-watch", daemon=True)
        self._thread.start()

    def _run(self, over: threading.Event, wait: float) -> None:
        while not over.wait(wait):
            wait = _BETWEEN_LOOKS
            try:
                self._look()
            except Exception:
                _log.exception("a run cannot be watched any more; it goes on")
                return


class OwnRuns:
    """Which runs are an engine's own: engines may share a bus."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, str] = {}

    def __contains__(self, run_id: object) -> bool:
        assert isinstance(run_id, str)
        return self.outermost_of(run_id) is not None

    def outermost_of(self, run_id: str) -> str | None:
        """The run that a run is a part of, or itself; `None` for a run of another engine."""
        known = self._known.get(run_id)
        if known is not None:
            return known
        run = next((strategy.run for strategy in self.under_way() if strategy.run.id == run_id), None)
        if run is None:
            # One that waits for another owner has begun nowhere, but it is this engine that waits.
            return run_id if self._engine.openings.has(run_id) else None
        # What a run has left behind may tell something after its end, so it is remembered for a while.
        outermost = self._known[run_id] = outermost_run(run).id
        while len(self._known) > _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        return outermost

    def under_way(self) -> list[GraphExecutionStrategy]:
        """The runs of the engine that have begun and not ended, from any thread."""
        for _ in range(_TRIES):
            try:
                return list(self._engine.under_way)
            except RuntimeError:
                # Changed by another thread meanwhile.
                continue
        return []


def outermost_run(run: Run) -> Run:
    """The run that waits, by way of others, for this one; itself where none does."""
    while run.parent is not None:
        run = run.parent
    return run
