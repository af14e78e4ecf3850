"""Capacities of the system: shared out all amounts at once, first come first served, exactly.

Invariants, at every release of the lock:
- what is used of a resource is the exact sum over the live grants, and never more than its capacity;
- no request waits that could be granted: the head of all its queues, with all its amounts there;
- a request of a nested run stands in no queue, but before all of them (see `_nested`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from cascade.runtime.capacity import Demand, Grant, Pool, Request, plain, refuse_if_stuck, shown
from cascade.runtime.waiter import wake
from cascade.spec.constraint import exact_amount
from cascade.spec.exceptions import CapacityError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cascade.runtime.capacity import Exact, Shares
    from cascade.spec.constraint import Amount


class ResourceManager:
    """Shares out the capacities of the system.

    Managers belong to no event loop: coroutines of several loops and plain threads may use one at the same
    time.

    Args:
        capacities: how much there is of each resource; what is not listed is unlimited.

    Raises:
        CapacityError: a capacity is no finite number of at least 0.

    >>> manager = ResourceManager({"gpu": 2, "memory_gb": 1.0})
    >>> grant = manager.try_acquire({"gpu": 1, "memory_gb": 0.1})
    >>> manager.usage()
    {'gpu': (1, 2), 'memory_gb': (0.1, 1)}
    >>> grant.release()
    >>> manager.usage()
    {'gpu': (0, 2), 'memory_gb': (0, 1)}
    """

    def __init__(self, capacities: Mapping[str, Amount]) -> None:
        self._pools = {name: Pool(name, exact_amount(name, capacity)) for name, capacity in capacities.items()}
        self._lock = threading.Lock()
        # What was given back but not yet counted as free. Giving back must never wait for the lock: a garbage
        # collection may end a coroutine that holds a grant while this very thread is inside the critical
        # section.
        self._returned: deque[Grant | Request] = deque()
        # Requests of nested runs, whose callers hold capacity until the request is served. If they stood in
        # the queues, one could wait behind a request that waits for its own caller. So they come before all
        # queues, and may overtake each other.
        self._nested: OrderedDict[Request, None] = OrderedDict()

    def check(self, amounts: Mapping[str, Amount]) -> Demand:
        """Check amounts against the capacities.

        Args:
            amounts: how much of each resource, all finite numbers of at least 0.

        Returns:
            What `acquire` takes in place of the amounts, without checking again.

        Raises:
            CapacityError: an amount is no such number, or more than there is; lists all such amounts.
        """
        shares: list[tuple[Pool, Exact]] = []
        problems: list[str] = []
        for name, amount in amounts.items():
            try:
                exact = exact_amount(name, amount)
            except CapacityError as error:
                problems += error.problems
                continue
            pool = self._pools.get(name)
            if pool is None or not exact:
                continue
            if exact > pool.capacity:
                problems.append(
                    f"{shown(exact)} of the resource '{name}' is asked for, but the system has only "
                    f"{shown(pool.capacity)}; ask for less, or raise system_resources={{{name!r}: ...}}"
                )
            shares.append((pool, exact))
        if problems:
            raise CapacityError(*problems)
        return Demand(tuple(shares))

    async def acquire(
        self,
        amounts: Mapping[str, Amount] | Demand,
        *,
        holder: object = None,
        on_wait: Callable[[tuple[str, ...]], object] | None = None,
        held: Collection[Grant] = (),
    ) -> Grant:
        """Take all amounts together, waiting until they are there.

        Requests are served first come first served per resource: one is overtaken only by requests that share
        no resource with it, and by those of nested runs. If the wait is cancelled, nothing stays taken.

        Args:
            amounts: how much of each resource, or what `check` returned for them.
            holder: who asks; kept on the grant.
            on_wait: called once, before the wait, if there is one, with the names of the resources waited
                for.
            held: the grants of the calls that wait until this request's own run has ended.

        Raises:
            CapacityError: an amount is no amount, or more than there is.
            CapacityHeldError: it could never be granted, because of what is held by those who wait for it.
        """
        shares = (amounts if isinstance(amounts, Demand) else self.check(amounts)).shares
        freed: list[Request] = []
        try:
            with self._lock:
                freed = self._count_returned()
                ancestors = _still_held(held) if held else ()
                missing = self._missing(shares, bool(ancestors))
                if not missing:
                    return self._take(shares, holder)
                request = Request(shares, holder, ancestors)
                self._enqueue(request)
        finally:
            self._wake(freed)
        try:
            if on_wait is not None:
                on_wait(missing)
            await request.woken()
        except BaseException:
            self._give_back(request)
            raise
        assert request.grant is not None
        return request.grant

    def try_acquire(
        self, amounts: Mapping[str, Amount] | Demand, *, holder: object = None, held: Collection[Grant] = ()
    ) -> Grant | None:
        """Take all amounts together if that needs no waiting and overtakes nobody; otherwise take nothing.

        The arguments are those of `acquire`.

        Raises:
            CapacityError: an amount is no amount, or more than there is.
        """
        shares = (amounts if isinstance(amounts, Demand) else self.check(amounts)).shares
        with self._lock:
            freed = self._count_returned()
            is_nested = bool(held and _still_held(held))
            grant = None if self._missing(shares, is_nested) else self._take(shares, holder)
        self._wake(freed)
        return grant

    def usage(self) -> dict[str, tuple[int | float, int | float]]:
        """How much of each listed resource is used, and how much there is."""
        with self._lock:
            freed = self._count_returned()
            usage = {name: (plain(pool.used), plain(pool.capacity)) for name, pool in self._pools.items()}
        self._wake(freed)
        return usage

    def _missing(self, shares: Shares, is_nested: bool) -> tuple[str, ...]:
        """The resources for which such a request would have to wait now."""
        missing: tuple[str, ...] = ()
        for pool, amount in shares:
            if pool.used + amount > pool.capacity or ((pool.queue or pool.nested) and not is_nested):
                missing += (pool.name,)
        return missing

    def _take(self, shares: Shares, holder: object) -> Grant:
        for pool, amount in shares:
            pool.used += amount
        return Grant(shares, holder, self._give_back)

    def _enqueue(self, request: Request) -> None:
        if not request.held:
            for pool, _ in request.shares:
                pool.queue[request] = None
            return
        refuse_if_stuck(request, [*self._nested, request])
        self._nested[request] = None
        for pool, _ in request.shares:
            pool.nested += 1

    def _dequeue(self, request: Request) -> None:
        if request.held:
            del self._nested[request]
        for pool, _ in request.shares:
            if request.held:
                pool.nested -= 1
            else:
                del pool.queue[request]

    def _give_back(self, item: Grant | Request) -> None:
        self._returned.append(item)
        self._settle()

    def _settle(self) -> None:
        # Whoever holds the lock looks here again after leaving it, so nothing returned is ever left lying.
        while self._returned and self._lock.acquire(blocking=False):
            try:
                freed = self._count_returned()
            finally:
                self._lock.release()
            if freed:
                self._returned.extend(wake(freed))

    def _wake(self, granted: Collection[Request]) -> None:
        if granted:
            self._returned.extend(wake(granted))
        if self._returned:
            self._settle()

    def _count_returned(self) -> list[Request]:
        """Count as free what was given back, and grant what this makes possible; under the lock."""
        freed: dict[Pool, None] = {}
        while self._returned:
            item = self._returned.popleft()
            grant = item if isinstance(item, Grant) else item.grant
            if grant is None:
                assert isinstance(item, Request)
                self._dequeue(item)
            elif grant.live:
                grant.live = False
                for pool, amount in grant.shares:
                    pool.used -= amount
            else:
                continue
            freed.update(dict.fromkeys(pool for pool, _ in item.shares))
        return self._grant(freed) if freed else []

    def _grant(self, freed: dict[Pool, None]) -> list[Request]:
        granted: list[Request] = []
        for request in list(self._nested):
            if not self._missing(request.shares, is_nested=True):
                self._serve(request, granted)
                freed.update(dict.fromkeys(pool for pool, _ in request.shares))
        # Only heads of queues are looked at: the cost grows with what is granted, not with what waits.
        while freed:
            pool, _ = freed.popitem()
            while pool.queue and self._is_first(request := next(iter(pool.queue))):
                self._serve(request, granted)
                freed.update(dict.fromkeys(other for other, _ in request.shares if other is not pool))
        return granted

    def _is_first(self, request: Request) -> bool:
        return all(
            next(iter(pool.queue)) is request and not pool.nested and pool.used + amount <= pool.capacity
            for pool, amount in request.shares
        )

    def _serve(self, request: Request, granted: list[Request]) -> None:
        self._dequeue(request)
        request.grant = self._take(request.shares, request.holder)
        granted.append(request)


def _still_held(grants: Collection[Grant]) -> tuple[Grant, ...]:
    return tuple(grant for grant in grants if grant.live and grant.shares)
