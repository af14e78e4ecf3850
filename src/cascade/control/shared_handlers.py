"""Limits that all engines on a store share, as one engine's gate sees them.

A handler lets start what has been fetched from the store: slots that this engine holds, tokens that it has taken. So
a call that starts never waits for the store with something in its hands; `SharedLimits` fetches what calls wait for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

from cascade.runtime.constraints.handlers import Handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.spec.constraint import GlobalConstraint

LINGER: Final = 0.02
"""For how many seconds slots that nobody needs are kept: calls that follow each other need no new ones."""
FIRST_RETRY: Final = 0.02
"""After how many seconds a store is asked again that had nothing; each time twice as many, up to `LAST_RETRY`."""
LAST_RETRY: Final = 0.1


class SharedConcurrency(Handler):
    """Lets a number of calls run at once, on all engines together: those for which this engine holds slots.

    Calls that run without one (since they began before the limit, came back to it from a nested run, or lost their
    slots to a stopped clock) count, and are the first to get slots.

    Args:
        constraint: the limit.
        ask: has the store asked soon, in so many seconds; called under the manager's lock.

    Attributes:
        key: the limit in the store.
        held: how many slots this engine holds.
        owed: how many of those that it does not use any more are still to be given back.
        yields: whether the next slot that gets free is for another engine.
        has_yielded: whether one was, and the store must not be asked at once for another.
        retry_at: the store has nothing before that moment.
        idle_since: since when slots are held that nobody needs.
    """

    __slots__ = (
        "_ask", "delay", "has_yielded", "held", "idle_since", "key", "limit", "owed", "reserved", "retry_at",
        "running", "yields",
    )  # fmt: skip

    is_shared: ClassVar[bool] = True

    def __init__(self, constraint: GlobalConstraint, ask: Callable[[float], object]) -> None:
        assert constraint.limit is not None
        self._ask = ask
        self.key = f"concurrency {constraint.scope}"
        self.limit = constraint.limit
        self.running = 0
        self.reserved = 0
        self.held = 0
        self.owed = 0
        self.yields = False
        self.has_yielded = False
        self.retry_at = -math.inf
        self.delay = FIRST_RETRY
        self.idle_since: float | None = None

    def inherit(self, earlier: Handler | None, running: int, now: float) -> None:
        """See `Handler`: slots of an earlier limit on the same calls are those of this one."""
        self.running = running
        if isinstance(earlier, SharedConcurrency):
            self.held, earlier.held = earlier.held, 0
        self._ask(0.0)

    def allows(self) -> bool:
        """Whether one more call may start now that may have to wait for capacity."""
        return self.running + self.reserved < min(self.held, self.limit)

    def ready_at(self, now: float) -> float:
        """See `Handler`."""
        return now if self.allows() else math.inf

    def spare_at(self, now: float) -> float:
        """See `Handler`."""
        return now if self.running < min(self.held, self.limit) else math.inf

    def back_at(self, now: float) -> float:
        """See `Handler`."""
        return self.spare_at(now)

    def asked(self) -> None:
        """See `Handler`."""
        if self.held < self.limit:
            self._ask(0.0)

    def enter(self) -> None:
        """See `Handler`."""
        self.running += 1
        if self.running > self.held:
            self._ask(0.0)

    def leave(self) -> bool:
        """See `Handler`."""
        self.running -= 1
        if self.yields and self.running < self.held:
            self.held -= 1
            self.owed += 1
            self.yields, self.has_yielded = False, True
            self._ask(0.0)
        else:
            self._ask(LINGER)
        return self.running < min(self.held, self.limit)

    def reserve(self) -> None:
        """See `Handler`."""
        self.reserved += 1

    def unreserve(self) -> bool:
        """See `Handler`."""
        self.reserved -= 1
        self._ask(LINGER)
        return self.allows()


class SharedRate(Handler):
    """Lets calls start at a rate, on all engines together: those for which this engine has taken tokens.

    A token that was not used after all is kept for the next call.

    Args:
        constraint: the limit.
        ask: as for `SharedConcurrency`.

    Attributes:
        key: the limit in the store.
        tokens: how many starts were paid for and not made.
        retry_at: the store has nothing before that moment.
    """

    __slots__ = ("_ask", "burst", "key", "rate", "retry_at", "tokens")

    is_shared: ClassVar[bool] = True

    def __init__(self, constraint: GlobalConstraint, ask: Callable[[float], object]) -> None:
        assert constraint.rate is not None
        self._ask = ask
        self.key = f"rate {constraint.scope}"
        self.rate = constraint.rate
        self.burst = constraint.burst
        self.tokens = 0
        self.retry_at = -math.inf

    def inherit(self, earlier: Handler | None, running: int, now: float) -> None:
        """See `Handler`."""
        if isinstance(earlier, SharedRate):
            self.tokens = min(earlier.tokens, self.burst)

    def allows(self) -> bool:
        """Whether one more call may start now."""
        return self.tokens > 0

    def ready_at(self, now: float) -> float:
        """See `Handler`."""
        return now if self.tokens else math.inf

    def back_at(self, now: float) -> float:
        """See `Handler`."""
        return now

    def asked(self) -> None:
        """See `Handler`."""
        if not self.tokens:
            self._ask(0.0)

    def pay(self, now: float) -> None:
        """See `Handler`."""
        self.tokens -= 1

    def refund(self, now: float) -> None:
        """See `Handler`."""
        self.tokens += 1
