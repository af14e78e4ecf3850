"""Signals: values that are sent to a run from outside, and the tasks that wait for them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.durability.journal import TakenSignal
from cascade.runtime.waiter import Waiter, wake
from cascade.spec.exceptions import DeclarationError, NestedRunError
from cascade.spec.kinds import Misfit

if TYPE_CHECKING:
    from cascade.runtime.durability.journal import Journal
    from cascade.runtime.run import Run
    from cascade.spec.kinds import Kind

_log: Final = logging.getLogger("cascade")
_BETWEEN_LOOKS: Final = 0.2
"""Seconds between two looks into a store, while somebody waits."""


def as_json(name: str, value: Any) -> str:
    """A signal's value as text.

    Raises:
        DeclarationError: JSON has no form for it.
    """
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise DeclarationError(
            f"signal '{name}': the value must be plain data (text, numbers, lists, dicts): {error}"
        ) from None


class Signals:
    """The signals of one engine's runs: those of durable runs are in the store, the others here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._waiters: defaultdict[tuple[str, str], list[Waiter]] = defaultdict(list)
        self._inboxes: dict[Journal, _Inbox] = {}

    @property
    def has_any(self) -> bool:
        """Whether something was sent that nobody has taken."""
        return bool(self._sent)

    def send(self, run_id: str, name: str, payload: str) -> None:
        """Keep a signal for a run in memory, and wake who waits for it; from any thread."""
        with self._lock:
            self._sent[run_id, name].append(payload)
            waiters = self._waiters.pop((run_id, name), [])
        wake(waiters)

    async def take(self, run: Run, name: str, kind: Kind) -> Any:
        """Wait for the next signal of a name whose value is of a kind; others of that name are passed over."""
        outermost = run
        while outermost.parent is not None:
            outermost = outermost.parent
        if run.journal is not None:
            return await self._take_from_store(run, run.journal, name, kind)
        if outermost.journal is not None:
            raise NestedRunError(
                f"a run inside a task of the durable run '{outermost.id}' cannot wait for the signal '{name}': what it "
                "takes would be taken again after a crash; return cs.wait_for_signal(...) from the task instead"
            )
        while True:
            waiter = Waiter()
            with self._lock:
                sent = self._sent.get((outermost.id, name))
                payload = sent.pop(0) if sent else None
                if payload is None:
                    self._waiters[outermost.id, name].append(waiter)
            if payload is None:
                await self._wait(outermost.id, name, waiter)
                continue
            value, fits = _read(outermost.id, name, payload, kind)
            if fits:
                return value

    async def _wait(self, run_id: str, name: str, waiter: Waiter) -> None:
        try:
            await waiter.woken()
        except BaseException:
            with self._lock:
                waiters = self._waiters.get((run_id, name), [])
                if waiter in waiters:
                    waiters.remove(waiter)
                if not waiters:
                    self._waiters.pop((run_id, name), None)
            raise

    async def _take_from_store(self, run: Run, journal: Journal, name: str, kind: Kind) -> TakenSignal:
        inbox = self._inboxes.setdefault(journal, _Inbox(journal))
        while True:
            for signal in await inbox.look():
                if signal.name != name or signal.number in inbox.taken:
                    continue
                inbox.taken.add(signal.number)
                value, fits = _read(run.id, name, signal.payload, kind)
                if fits:
                    return TakenSignal(signal.number, value)
            await run.clock.sleep(_BETWEEN_LOOKS)

    def forget(self, run: Run) -> None:
        """Let go of what belongs to a run that has ended."""
        if run.journal is not None:
            self._inboxes.pop(run.journal, None)
        elif run.parent is None:
            with self._lock:
                for key in [key for key in self._sent if key[0] == run.id]:
                    del self._sent[key]


class _Inbox:
    """A durable run's signals in the store: all who wait look together."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._look: asyncio.Task[Any] | None = None
        self.taken: set[int] = set()

    async def look(self) -> list[Any]:
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().create_task(self._journal.signals())
        found: list[Any] = await asyncio.shield(self._look)
        return found


def _read(run_id: str, name: str, payload: str, kind: Kind) -> tuple[Any, bool]:
    """The value of a signal, and whether it is of a kind."""
    try:
        return kind.accept(json.loads(payload)), True
    except (Misfit, ValueError) as error:
        _log.warning("run %r: a signal %r is passed over: %s", run_id, name, error)
        return None, False
