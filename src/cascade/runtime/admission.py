"""What a call needs before it begins: leave from the limits in force, and capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.runtime.run import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cascade.runtime.capacity import Demand
    from cascade.runtime.constraints.gate import Claim
    from cascade.runtime.scheduler import Continuation
    from cascade.runtime.strategies.graph import GraphExecutionStrategy


class Admission(Caller):
    """Waits for leave and capacity for one call, and gives both back.

    Args:
        strategy: has the run.
        parent: whose call it is, with `place`.
        demand: the capacity that the call takes.
        tell_blocked: called with what holds the call back, each time that it has to wait.
    """

    def __init__(
        self,
        strategy: GraphExecutionStrategy,
        parent: Continuation,
        place: int,
        demand: Demand | None,
        tell_blocked: Callable[[str], object],
    ) -> None:
        super().__init__(strategy.run, parent, place)
        self._subject = strategy.places.subject_of(parent, place)
        self._demand = demand
        self._tell_blocked = tell_blocked
        self._order = self.run.engine.constraints.next_order()
        self._is_again = False

    async def enter(self) -> None:
        """Wait until limits and capacities allow the call, and the run is surely this process's."""
        await self._wait_for_leave()
        await self.run.assure()

    async def _wait_for_leave(self) -> None:
        constraints, capacities = self.run.engine.constraints, self.run.engine.capacities
        subject, demand, blocked = self._subject, self._demand, self._tell_blocked
        held = self.run.held_by_callers()
        # In a nested run the slot may be reserved for a call that waits for what the nested run's caller holds.
        claim: Claim = "spare_at" if demand is None or held else "ready_at"
        waited = False

        def waits(names: Sequence[str]) -> None:
            nonlocal waited
            waited = True
            if self.permit is not None:
                self.permit.reserve()
            blocked(f"waiting for {', '.join(names)}")

        while True:
            if constraints.active:
                self.permit = await constraints.admit(
                    subject, blocked, claim, order=self._order, is_again=self._is_again
                )
            if demand is None:
                return
            waited = False
            self.grant = await capacities.acquire(demand, holder=self, on_wait=waits, held=held)
            if not waited:
                return
            if self.permit is not None:
                self.permit = await constraints.come_back(self.permit, claim)
            elif constraints.active:
                self.permit = constraints.try_admit(subject, claim, order=self._order)
            if self.permit is not None or not constraints.active:
                return
            # Limits that were set meanwhile hold it back: what it has is for others then.
            self._is_again = True
            self._give_capacity_back()

    def may_begin(self) -> bool:
        """Whether the call may still begin, now that its turn has come: limits may have changed; from any thread."""
        constraints = self.run.engine.constraints
        if not constraints.active or constraints.still_allows(self.permit, self._subject):
            return self.run.may_call
        self._withdraw_permit()
        self.permit = constraints.try_admit(self._subject, "spare_at", order=self._order)
        return self.permit is not None and self.run.may_call

    def withdraw(self) -> None:
        """Give back everything for a call that has not begun and asks again, tokens of rates included."""
        self._is_again = True
        self._withdraw_permit()
        self._give_capacity_back()

    def _withdraw_permit(self) -> None:
        if self.permit is not None:
            self.permit.reserve()
            self.give_permit_back()

    def give_back(self) -> None:
        """Let others have what the call had."""
        self.give_permit_back()
        self._give_capacity_back()

    def _give_capacity_back(self) -> None:
        if self.grant is not None:
            self.grant.release()
            self.grant = None
