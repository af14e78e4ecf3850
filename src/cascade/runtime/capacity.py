"""What is shared out of the system: resources, what is asked of them, what is taken."""

from __future__ import annotations

from collections import Counter, OrderedDict
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

from cascade.runtime.waiter import Waiter
from cascade.spec.exceptions import NestedRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

Exact: TypeAlias = int | Fraction


class Pool:
    """One resource: how much there is, how much is used, and who waits for it."""

    __slots__ = ("capacity", "name", "nested", "queue", "used")

    def __init__(self, name: str, capacity: Exact) -> None:
        self.name = name
        self.capacity = capacity
        self.used: Exact = 0
        # Ordered, and not a plain dict: removing the first again and again must not cost more each time.
        self.queue: OrderedDict[Request, None] = OrderedDict()
        self.nested = 0


Shares: TypeAlias = tuple[tuple[Pool, Exact], ...]


class CapacityHeldError(NestedRunError):
    """A nested run needs capacity that cannot become free before the run itself has ended.

    Attributes:
        resource: what it needs.
        amount: how much of it.
        held: how much of it is held by calls that wait for nested runs.
        capacity: how much there is.
    """

    def __init__(self, resource: str, amount: Exact, held: Exact, capacity: Exact) -> None:
        super().__init__(resource, amount, held, capacity)
        self.resource = resource
        self.amount = amount
        self.held = held
        self.capacity = capacity

    def __str__(self) -> str:
        return (
            f"a nested run needs {shown(self.amount)} of the resource '{self.resource}', but "
            f"{shown(self.held)} of its capacity of {shown(self.capacity)} is held by calls that wait for "
            "nested runs, so it would wait for ever: return the lazy value instead of running it inside the "
            "task, or let the outer task take less"
        )


class Demand:
    """Amounts that were checked against the capacities once, to be acquired any number of times."""

    __slots__ = ("shares",)

    def __init__(self, shares: Shares) -> None:
        self.shares = shares

    @property
    def resources(self) -> tuple[str, ...]:
        """The names of the limited resources of which this takes something."""
        return tuple(pool.name for pool, _ in self.shares)


class Grant:
    """Amounts taken together, until released.

    Attributes:
        shares: how much of which resource.
        holder: who asked, as given to `acquire`.
        live: whether it is not yet counted as given back; belongs to the manager.
    """

    __slots__ = ("_give_back", "holder", "live", "shares")

    def __init__(self, shares: Shares, holder: object, give_back: Callable[[Grant], None]) -> None:
        self._give_back = give_back
        self.shares = shares
        self.live = True
        self.holder = holder

    @property
    def resources(self) -> tuple[str, ...]:
        """The names of the limited resources of which this holds something."""
        return tuple(pool.name for pool, _ in self.shares)

    def release(self) -> None:
        """Give everything back, from any thread; a second time has no effect."""
        self._give_back(self)


class Request(Waiter):
    """A request that has to wait."""

    __slots__ = ("grant", "held", "holder", "shares")

    def __init__(self, shares: Shares, holder: object, held: Collection[Grant]) -> None:
        super().__init__()
        self.shares = shares
        self.holder = holder
        self.held = held
        self.grant: Grant | None = None


def refuse_if_stuck(newest: Request, nested: Collection[Request]) -> None:
    """Refuse a request of a nested run if it could wait for ever.

    Looks for an order in which all requests of nested runs can be served, as the banker's algorithm does:
    whatever their callers hold comes back only after them; everything else that is taken now ends by itself.

    Args:
        newest: the request that is about to wait.
        nested: all requests of nested runs that wait, the newest included.

    Raises:
        CapacityHeldError: there is no such order for the newest.
    """
    waiting_for = Counter(grant for request in nested for grant in request.held if grant.live)
    free: dict[Pool, Exact] = {}

    def give(grants: Iterable[Grant], sign: int) -> None:
        for grant in grants:
            for pool, amount in grant.shares:
                free[pool] = free.get(pool, pool.capacity) + sign * amount

    give(waiting_for, -1)
    unserved = list(nested)
    progress = True
    while progress:
        left_over: list[Request] = []
        for request in unserved:
            if any(free.get(pool, pool.capacity) < amount for pool, amount in request.shares):
                left_over.append(request)
                continue
            for grant in request.held:
                waiting_for[grant] -= 1
                if waiting_for[grant] == 0:
                    give([grant], 1)
        progress = len(left_over) < len(unserved)
        unserved = left_over
    if newest not in unserved:
        return
    for pool, amount in newest.shares:
        left = free.get(pool, pool.capacity)
        if left < amount:
            raise CapacityHeldError(pool.name, amount, pool.capacity - left, pool.capacity)


def plain(number: Exact) -> int | float:
    """The number as people write it."""
    return number.numerator if number.denominator == 1 else float(number)


def shown(number: Exact) -> str:
    """The number as text."""
    return str(plain(number))
