"""Whether a node runs: conditions, routers, demand, pruning, and the reasons of skips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.plan import AT_ONCE, DECIDE
from cascade.spec.exceptions import UnknownRouteError
from cascade.spec.flow import Fallback, Sequence
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from threading import Lock

    from cascade.runtime.scheduler import Due, Scheduler

CONDITION_FALSE: Final = "ConditionFalse"
CONDITION_MISSING: Final = "ConditionMissing"
SKIPPED_CONDITION: Final = "UpstreamSkipped_Condition"
SKIPPED_SEQUENCE: Final = "UpstreamSkipped_Sequence"
SKIPPED_ROUTE: Final = "UpstreamSkipped_Route"
SKIPPED_DATA: Final = "UpstreamSkipped_Data"
UPSTREAM_FAILED: Final = "UpstreamFailed"
PRUNED: Final = "Pruned"
RUN_STOPPED: Final = "RunStopped"

_UNDECIDED: Final = -1


class FlowManager:
    """Decides for one plan under way which nodes run. Keeps no results: it reads them where the scheduler has them.

    Demand is only counted where there are routers. A node is live when an unbroken chain of decided demand leads from
    it to the target; only live nodes start. Demand falls when a router takes another route or is skipped undecided; a
    node that nothing wants any more is pruned, and its inputs lose the demand that it had.

    Methods whose name ends in `_locked` expect the lock of the run to be held; the others take it themselves, because
    they call code of users (truth of conditions, hashes of selectors).
    """

    __slots__ = ("_choice", "_claimed", "_demand", "_live", "_lock", "_scheduler")

    def __init__(self, scheduler: Scheduler, lock: Lock) -> None:
        self._scheduler = scheduler
        self._lock = lock
        plan = scheduler.plan
        self._choice: dict[int, int] = dict.fromkeys(plan.routers, _UNDECIDED)
        self._demand: list[int] = plan.uses.copy() if plan.routers else []
        self._live: bytearray | None = None
        self._claimed = bytearray(plan.size if plan.routers else 0)

    @property
    def counts_demand(self) -> bool:
        """Whether there are routers, so that something may turn out not to be wanted."""
        return self._live is not None

    def claim_locked(self, index: int) -> bool:
        """Let one caller settle a node: it may become ready and become wanted in either order, or at once."""
        if not self.is_live(index) or self._claimed[index] or index in self._scheduler.skipped:
            return False
        self._claimed[index] = 1
        return True

    def start(self) -> None:
        """Find out what is wanted whatever routers decide; the rest waits."""
        scheduler = self._scheduler
        plan = scheduler.plan
        if not plan.routers:
            return
        self._live = bytearray(plan.size)
        scheduler.entries = bytearray(scheduler.usual)
        for index in range(plan.size):
            scheduler.entries[index] = DECIDE
        self._make_live_locked(plan.target, None)

    def _make_live_locked(self, first: int, due: Due | None) -> None:
        """Spread decided demand from a node over all that it needs."""
        live = self._live
        assert live is not None
        scheduler = self._scheduler
        plan = scheduler.plan
        stack = [first]
        while stack:
            index = stack.pop()
            if live[index] or index in scheduler.skipped:
                continue
            live[index] = 1
            tainted = any(source in scheduler.skipped or source in scheduler.failed for source in plan.needs[index])
            scheduler.entries[index] = DECIDE if tainted else scheduler.usual[index]
            if due is not None and not scheduler.pending[index]:
                due.append((scheduler, index))
            stack.extend(plan.needs[index])
            choice = self._choice.get(index, _UNDECIDED)
            if choice != _UNDECIDED:
                stack.append(choice)

    def is_live(self, index: int) -> bool:
        """Whether the target certainly wants this node."""
        return self._live is None or bool(self._live[index])

    def reason_to_skip(self, index: int) -> str | None:
        """Why a node whose dependencies have all ended must be skipped, or `None` if it may run.

        Raises whatever the truth of a condition raises.
        """
        scheduler = self._scheduler
        graph = scheduler.graph
        lazy = graph.lazies[index]
        skipped, failed = scheduler.skipped, scheduler.failed
        policy = lazy.policy
        condition = -1
        if policy is not None and policy.run_if is not None:
            condition = graph.index_of[policy.run_if]
            if condition in failed:
                return CONDITION_MISSING
            if condition in skipped:
                return SKIPPED_CONDITION
            if not scheduler.values[condition]:
                return CONDITION_FALSE
        if not skipped and not failed:
            return None
        earlier = set(scheduler.plan.order_edges.get(index, ()))
        if policy is not None:
            earlier.update(graph.index_of[value] for value in policy.after)
        needs = scheduler.plan.needs[index]
        if isinstance(lazy, (Sequence, Fallback)):
            needs = tuple(source for source in needs if source in earlier)
        inputs = [source for source in needs if source != condition or source in self._inputs(index)]
        if any(source in failed or skipped.get(source) == UPSTREAM_FAILED for source in inputs):
            return UPSTREAM_FAILED
        if any(source in skipped for source in earlier):
            return SKIPPED_SEQUENCE
        missing = [source for source in inputs if source in skipped]
        if any(skipped[source] == SKIPPED_ROUTE and type(graph.lazies[source]) is Router for source in missing):
            # A router that lacks its selector has taken no route, whatever became of the selector.
            return SKIPPED_DATA if type(lazy) is Router else SKIPPED_ROUTE
        return SKIPPED_DATA if missing else None

    def _inputs(self, index: int) -> tuple[int, ...]:
        """What a node uses as data, apart from its condition."""
        from cascade.graph.edges import wants_of
        from cascade.graph.model import EdgeType

        graph = self._scheduler.graph
        return tuple(
            graph.index_of[source]
            for source, kind, _ in wants_of(graph.lazies[index])
            if kind is not EdgeType.CONDITION
        )

    def decide(self, router: int, due: Due) -> list[int]:
        """Let a router whose selector has its value take its route; what is pruned by that.

        Raises:
            UnknownRouteError: there is no route for the selector's value.
        """
        scheduler = self._scheduler
        graph = scheduler.graph
        lazy = graph.lazies[router]
        assert isinstance(lazy, Router)
        value = scheduler.values[graph.index_of[lazy.selector]]
        try:
            chosen = lazy.routes.get(value)
        except TypeError:
            # What cannot be hashed is no key.
            chosen = None
        if chosen is None:
            raise UnknownRouteError(lazy.selector.name, value, tuple(lazy.routes))
        with self._lock:
            return self._take_locked(router, graph.index_of[chosen], due)

    def _take_locked(self, router: int, chosen: int, due: Due) -> list[int]:
        self._choice[router] = chosen
        pruned: list[int] = []
        for route in self._routes_of(router, but=chosen):
            self._scheduler.drop_use(route)
            self._lose_demand_locked(route, pruned)
        if self.is_live(router):
            self._make_live_locked(chosen, due)
        # The slot behind the nodes wakes the router when its route has ended; see `Plan`.
        self._wait_for_route_locked(router, due)
        return pruned

    def _routes_of(self, router: int, but: int = _UNDECIDED) -> list[int]:
        """The nodes of a router's routes, one for each route; two routes may share a node."""
        graph = self._scheduler.graph
        lazy = graph.lazies[router]
        assert isinstance(lazy, Router)
        routes = [graph.index_of[route] for route in lazy.routes.values()]
        if but != _UNDECIDED:
            routes.remove(but)
        return routes

    def _wait_for_route_locked(self, router: int, due: Due) -> None:
        """Arm the wake-up of a decided router, or finish it at once if its route has ended."""
        scheduler = self._scheduler
        slot = scheduler.plan.wake_of[router]
        if scheduler.has_ended(self._choice[router]):
            scheduler.pending[slot] = 0
            due.append((scheduler, slot))
        else:
            scheduler.pending[slot] = 1

    def choice_of(self, router: int) -> int | None:
        """The node of the route that a router has taken; `None` before its decision."""
        choice = self._choice.get(router, _UNDECIDED)
        return None if choice == _UNDECIDED else choice

    def release_routes_locked(self, router: int) -> list[int]:
        """A router that will never decide wants none of its routes; what is pruned by that."""
        pruned: list[int] = []
        if self._choice.get(router) == _UNDECIDED:
            for route in self._routes_of(router):
                self._scheduler.drop_use(route)
                self._lose_demand_locked(route, pruned)
        return pruned

    def _lose_demand_locked(self, first: int, pruned: list[int]) -> None:
        scheduler = self._scheduler
        plan = scheduler.plan
        stack = [first]
        while stack:
            index = stack.pop()
            self._demand[index] -= 1
            if self._demand[index] or scheduler.has_ended(index):
                continue
            scheduler.skipped[index] = PRUNED
            pruned.append(index)
            scheduler.remaining -= 1
            scheduler.release(index)
            stack.extend(plan.needs[index])
            choice = self._choice.get(index)
            if choice == _UNDECIDED:
                routes = self._routes_of(index)
                for route in routes:
                    scheduler.drop_use(route)
                stack.extend(routes)
            elif choice is not None:
                scheduler.drop_use(choice)
                stack.append(choice)

    def tail_of(self, index: int) -> tuple[Any, ...] | None:
        """Whether the target is nothing but this node's value handed through connectors.

        Returns:
            `None` if it is not; otherwise what would turn a skip of the node into a value, the innermost first:
            `("sequence",)` for a sequence, `("pipeline", value)` for the value before a pipeline's step.
        """
        scheduler = self._scheduler
        plan = scheduler.plan
        graph = scheduler.graph
        rescue: list[Any] = []
        current = index
        steps = 1
        while current != plan.target:
            followers = plan.successors[current]
            if len(followers) != 1:
                return None
            follower = followers[0]
            if follower >= plan.size:
                follower = plan.router_of[follower]
                if self._choice[follower] != current:
                    return None
            else:
                lazy = graph.lazies[follower]
                if plan.lanes[follower] != AT_ONCE or lazy.policy is not None:
                    return None
                if isinstance(lazy, Sequence) and graph.index_of[lazy.members[-1]] == current:
                    rescue.append(("sequence",))
                elif isinstance(lazy, Fallback) and graph.index_of[lazy.step] == current:
                    rescue.append(("pipeline", scheduler.values[graph.index_of[lazy.before]]))
                else:
                    return None
            current = follower
            steps += 1
        return tuple(rescue) if scheduler.remaining == steps else None
