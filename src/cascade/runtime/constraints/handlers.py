"""When a constraint lets the next call start: one class a type, all behind one base."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.spec.constraint import GlobalConstraint


class Handler:
    """The state of one constraint in force; by itself it lets every call start.

    The manager calls all methods under its lock; `now` is the present moment of the clock's `monotonic()`. A
    handler may become more generous only because time passes (`ready_at` says when), because of `leave`, of
    `unreserve` or of `refund`. A call that starts is both entered and paid for.

    A call that was let go may find that it has to wait for capacity. It does not run meanwhile, but its slot is
    reserved: others that may have to wait for capacity cannot have it, or all of them would be let go to wait there.
    Calls that start at once may use it.

    Attributes:
        is_shared: whether others than this engine decide too: what it has to give is fetched from elsewhere, through
            `ConstraintManager.adjust`, and only for calls that everything else allows.
    """

    __slots__ = ()

    is_shared: ClassVar[bool] = False

    def __init__(self, constraint: GlobalConstraint) -> None:
        pass

    def inherit(self, earlier: Handler | None, running: int, now: float) -> None:
        """Begin: take over from the constraint that this one replaces and from the calls that run."""

    def ready_at(self, now: float) -> float:
        """The first moment from now on at which one more call may start; `math.inf` if time does not help."""
        return now

    def spare_at(self, now: float) -> float:
        """As `ready_at`, for a call that may use a reserved slot."""
        return self.ready_at(now)

    def back_at(self, now: float) -> float:
        """As `ready_at`, for a call that has paid and has a slot reserved."""
        return self.ready_at(now)

    def asked(self) -> None:
        """Requests wait, and something has changed for them."""

    def enter(self) -> None:
        """One more call runs."""

    def leave(self) -> bool:
        """One call less runs; whether another may start because of that."""
        return False

    def reserve(self) -> None:
        """A slot is reserved for one more call."""

    def unreserve(self) -> bool:
        """A slot is reserved for one call less; whether another may start because of that."""
        return False

    def pay(self, now: float) -> None:
        """A call starts."""

    def refund(self, now: float) -> None:
        """A call that was paid for does not start after all."""


class PauseHandler(Handler):
    """Lets nothing start."""

    __slots__ = ()

    def ready_at(self, now: float) -> float:
        """See `Handler`."""
        return math.inf


class ConcurrencyHandler(Handler):
    """Lets a number of calls run at once; if more run already when it begins, they are left alone."""

    __slots__ = ("_limit", "_reserved", "_running")

    def __init__(self, constraint: GlobalConstraint) -> None:
        assert constraint.limit is not None
        self._limit = constraint.limit
        self._running = 0
        self._reserved = 0

    def inherit(self, earlier: Handler | None, running: int, now: float) -> None:
        """See `Handler`."""
        self._running = running

    def ready_at(self, now: float) -> float:
        """See `Handler`."""
        return now if self._running + self._reserved < self._limit else math.inf

    def spare_at(self, now: float) -> float:
        """See `Handler`."""
        return now if self._running < self._limit else math.inf

    def back_at(self, now: float) -> float:
        """See `Handler`."""
        return self.spare_at(now)

    def enter(self) -> None:
        """See `Handler`."""
        self._running += 1

    def leave(self) -> bool:
        """See `Handler`."""
        self._running -= 1
        return self._running < self._limit

    def reserve(self) -> None:
        """See `Handler`."""
        self._reserved += 1

    def unreserve(self) -> bool:
        """See `Handler`."""
        self._reserved -= 1
        return self._running + self._reserved < self._limit


class RateLimitHandler(Handler):
    """A bucket of `burst` tokens, filled at a steady rate; each start takes one.

    Kept as the moment at which the bucket is full again (the generic cell rate algorithm), so that the moment
    at which a token is there is a number to wait for, and not a sum of fractions that may stay just below
    one.
    """

    __slots__ = ("_burst", "_full_at", "_interval")

    def __init__(self, constraint: GlobalConstraint) -> None:
        assert constraint.rate is not None
        self._interval = 1.0 / constraint.rate
        self._burst = constraint.burst
        self._full_at = -math.inf

    def inherit(self, earlier: Handler | None, running: int, now: float) -> None:
        """See `Handler`: only the tokens that are left stay, so that a change is no way to start more."""
        if isinstance(earlier, RateLimitHandler):
            lacking = max(0.0, earlier._full_at - now) / earlier._interval
            tokens = min(earlier._burst - lacking, float(self._burst))
            self._full_at = now + (self._burst - tokens) * self._interval

    def ready_at(self, now: float) -> float:
        """See `Handler`."""
        return max(now, self._full_at - (self._burst - 1) * self._interval)

    def back_at(self, now: float) -> float:
        """See `Handler`."""
        return now

    def pay(self, now: float) -> None:
        """See `Handler`."""
        self._full_at = max(self._full_at, now) + self._interval

    def refund(self, now: float) -> None:
        """See `Handler`."""
        self._full_at -= self._interval


HANDLERS: Final[Mapping[str, Callable[[GlobalConstraint], Handler]]] = {
    "pause": PauseHandler,
    "concurrency": ConcurrencyHandler,
    "rate_limit": RateLimitHandler,
}
