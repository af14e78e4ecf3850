"""What people say about runs through their store, put into effect by the engine that has them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from cascade.control.kept_cancels import forget_cancel, reason_to_cancel
from cascade.control.kept_limits import kept_limit, limit_texts
from cascade.control.kept_progress import SECONDS_KEPT, forget_progress, keep_progress
from cascade.control.shared_limits import SharedLimits
from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import DeclarationError, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from cascade.runtime.durability.session import DurableStore
    from cascade.runtime.durability.writer import Writer
    from cascade.runtime.engine import Engine
    from cascade.spec.constraint import GlobalConstraint
    from cascade.spec.protocols import Timer

_BETWEEN_LOOKS: Final = 0.25
_BETWEEN_TELLINGS: Final = 1.0
_MOST_OF_TIME: Final = 0.02
"""The share of the store's time that telling how far runs have come may take."""
_SHORTEST_LEASE: Final = 8 * _BETWEEN_LOOKS
_log: Final = logging.getLogger("cascade.control")


class StoreControl:
    """Looks into a store while an engine has runs under way: one look for all of them, on the store's thread.

    Limits of the store are put in force on the engine; a limit that code sets on the same scope and type counts until
    the one in the store changes. Those on tasks, tags and everything are shared with other engines on the store; a run
    is one engine's. How far runs have come that take their time is told there too.

    Args:
        engine: obeys.
        durable: its store.
    """

    def __init__(self, engine: Engine, durable: DurableStore) -> None:
        self._engine = engine
        self._durable = durable
        # People and other processes have this time, whatever clock the engine has.
        self._clock = SystemClock()
        self._runs: set[str] = set()
        self._told: set[str] = set()
        self._next_telling = 0.0
        self._in_force: dict[str, tuple[str, GlobalConstraint | None]] = {}
        self._timer: Timer | None = None
        self._is_troubled = False
        holder = engine.chance.run_id(engine.clock.now())
        lease = max(durable.lease, _SHORTEST_LEASE)
        self._shared = SharedLimits(engine.constraints, lambda: self._writer, engine.clock, holder, lease)

    @asynccontextmanager
    async def over(self, run_id: str, *, had_owner: bool) -> AsyncGenerator[None]:
        """For its time, obey for a run; what was said before it began is in force when this is entered.

        Args:
            run_id: the run.
            had_owner: whether it had an owner before this one, who may have been killed and left behind what was told.

        Raises:
            StoreError: the store failed for good.
        """
        if not self._runs:
            self._next_telling = self._clock.monotonic() + _BETWEEN_TELLINGS
        self._runs.add(run_id)
        timer: Timer | None = None
        try:
            await self._writer.call(self._look)
            # On the loop, so that a run which is over before that needs no thread for a timer.
            at = self._clock.monotonic() + _BETWEEN_LOOKS
            timer = self._clock.call_at(at, self._ring, loop=asyncio.get_running_loop())
            yield
        finally:
            self._runs.discard(run_id)
            if timer is not None:
                timer.cancel()
            if had_owner or run_id in self._told:
                self._writer.post(partial(self._forget, run_id))
            if not self._runs:
                self._writer.post(self._rest)

    @cached_property
    def _writer(self) -> Writer:
        # Kept, since whoever closes the store has its lock while the thread does its last work.
        return self._durable.writer(self._engine.clock)

    def _look(self) -> None:
        """Take one look; on the store's thread, as everything below."""
        settings = self._durable.store.settings(self._engine.clock.now())
        self._obey_limits(limit_texts(settings))
        self._obey_cancels(settings)
        self._shared.look(settings)

    def _tell(self) -> None:
        """Tell how far the runs have come, for who watches them elsewhere; now and then."""
        began = self._clock.monotonic()
        if began < self._next_telling:
            return
        try:
            for strategy in tuple(self._engine.under_way):
                run_id = strategy.run.id
                # First it is noted, then looked: a run that ends meanwhile does that the other way round.
                self._told.add(run_id)
                if run_id in self._runs:
                    keep_progress(self._durable.store, strategy, self._engine.clock.now())
                else:
                    self._told.discard(run_id)
        finally:
            ended = self._clock.monotonic()
            pause = max(_BETWEEN_TELLINGS, (ended - began) / _MOST_OF_TIME)
            # One that had to wait for the store must not have the next one come too late.
            self._next_telling = ended + min(pause, SECONDS_KEPT / 2)

    def _forget(self, run_id: str) -> None:
        self._told.discard(run_id)
        with suppress(StoreError):
            forget_progress(self._durable.store, run_id)

    def _rest(self) -> None:
        """Leave nothing behind when no run is under way; the calls that were abandoned keep their slots."""
        if not self._runs:
            self._shared.rest()
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._runs or self._shared.holds_any:
            self._timer = self._clock.call_at(self._clock.monotonic() + _BETWEEN_LOOKS, self._ring)

    def _ring(self) -> None:
        self._writer.post(self._look_again)

    def _look_again(self) -> None:
        try:
            self._look()
            self._tell()
        except StoreError as error:
            if not self._is_troubled:
                self._is_troubled = True
                _log.warning("commands are not heard while the store fails: %s", error)
        else:
            self._is_troubled = False
        finally:
            self._set_timer()

    def _obey_limits(self, texts: Mapping[str, str]) -> None:
        for key in self._in_force.keys() - texts.keys():
            _, constraint = self._in_force.pop(key)
            if constraint is not None:
                self._engine.constraints.withdraw(constraint)
        for key, text in texts.items():
            if key not in self._in_force or self._in_force[key][0] != text:
                self._in_force[key] = (text, self._put_in_force(text))

    def _put_in_force(self, text: str) -> GlobalConstraint | None:
        try:
            kept = kept_limit(text)
        except DeclarationError as error:
            _log.warning("%s; it is passed over", error)
            return None
        constraint = kept.constraint
        if kept.until is not None:
            left = kept.until - self._engine.clock.now()
            if left <= 0.0:
                return None
            constraint = replace(constraint, ttl=left)
        is_shared = constraint.limit != 0 and constraint.type != "pause" and not constraint.scope.startswith("run:")
        if is_shared:
            self._engine.constraints.put(constraint, self._shared.handler(constraint))
        else:
            self._engine.constraints.set(constraint)
        return constraint

    def _obey_cancels(self, settings: Mapping[str, str]) -> None:
        for run_id in tuple(self._runs):
            reason = reason_to_cancel(settings, run_id)
            if reason is not None:
                self._engine.cancel(run_id, reason)
                forget_cancel(self._durable.store, run_id)
