"""Which calls may start under the limits in force: no locks, no time, no coroutines, only the rules.

Invariants, after each operation:
- a limit counts as running exactly the calls that entered and did not leave and whose subject it matches, and has slots
  reserved for exactly those that were let go and wait for capacity;
- requests with the same limits and the same claim wait in one line, those who ask again in one of their own, oldest
  first, and no line is empty;
- no line waits whose limits all allow a call at the moment at which it was last looked at.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from cascade.runtime.constraints.scopes import matcher
from cascade.runtime.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cascade.runtime.constraints.handlers import Handler
    from cascade.runtime.constraints.manager import Permit
    from cascade.runtime.constraints.scopes import Subject
    from cascade.spec.constraint import GlobalConstraint

# Subjects come from runs and tasks without end; what is remembered of them is not.
_REMEMBERED_SUBJECTS: Final = 4096


class Limit:
    """One constraint in force."""

    __slots__ = ("constraint", "expires_at", "handler", "lines", "matches")

    def __init__(self, constraint: GlobalConstraint, handler: Handler, now: float) -> None:
        self.constraint = constraint
        self.handler = handler
        self.matches = matcher(constraint.scope)
        self.expires_at = math.inf if constraint.ttl is None else now + constraint.ttl
        self.lines: dict[Line, None] = {}


Limits: TypeAlias = tuple[Limit, ...]
Claim: TypeAlias = Literal["ready_at", "spare_at", "back_at"]
"""What a request asks of each limit, by the name of the handler's method."""


class Line:
    """Those who wait for the same limits with the same claim, for the first time or again."""

    __slots__ = ("claim", "is_again", "limits", "queue", "ready_at")

    def __init__(self, limits: Limits, claim: Claim, is_again: bool) -> None:
        self.limits = limits
        self.claim: Claim = claim
        self.is_again = is_again
        # Ordered, and not a plain dict: removing the first again and again must not cost more each time.
        self.queue: OrderedDict[Request, None] = OrderedDict()
        self.ready_at = math.inf

    @property
    def first(self) -> Request:
        """The oldest."""
        return next(iter(self.queue))

    def look(self, now: float) -> bool:
        """Whether a call may start; notes from when on time alone allows one."""
        self.ready_at = _moment(self.limits, self.claim, now)
        return self.ready_at <= now


class Request(Waiter):
    """A call that is held back.

    Attributes:
        returning: its permit, if it was let go before and had to wait for capacity.
        is_again: whether it was let go before and has not begun; it comes before those who are younger.
        turned_away: whether it has to start over, since the limits on it have changed.
    """

    __slots__ = ("admitted", "claim", "is_again", "line", "order", "returning", "subject", "turned_away")

    line: Line

    def __init__(
        self, subject: Subject, order: int, claim: Claim, returning: Permit | None = None, *, is_again: bool = False
    ) -> None:
        super().__init__()
        self.is_again = is_again
        self.subject = subject
        self.order = order
        self.claim: Claim = claim
        self.returning = returning
        self.admitted = False
        self.turned_away = False


class Gate:
    """The limits in force, the lines before them, and the count of the calls behind them."""

    def __init__(self) -> None:
        self.limits: dict[tuple[str, str], Limit] = {}
        self._lines: dict[tuple[Limits, Claim, bool], Line] = {}
        self._running: dict[Subject, int] = {}
        self._reserved: dict[Subject, int] = {}
        self._known: dict[Subject, Limits] = {}
        self._has_shared = False

    def put(self, constraint: GlobalConstraint, handler: Handler, now: float) -> None:
        """Put a limit in the place of the one of the same scope and type; `rearrange` has to follow."""
        limit = Limit(constraint, handler, now)
        key = (constraint.scope, constraint.type)
        earlier = self.limits.get(key)
        running = sum(calls for subject, calls in self._running.items() if limit.matches(subject))
        handler.inherit(earlier.handler if earlier else None, running, now)
        for _ in range(sum(calls for subject, calls in self._reserved.items() if limit.matches(subject))):
            handler.reserve()
        self.limits[key] = limit

    def expire(self, now: float) -> bool:
        """Drop limits whose time is over, and say whether there were any; `rearrange` has to follow."""
        expired = [key for key, limit in self.limits.items() if limit.expires_at <= now]
        for key in expired:
            del self.limits[key]
        return bool(expired)

    def rearrange(self, now: float) -> list[Request]:
        """Sort all who wait into the lines of the limits in force now, and admit whom these allow."""
        self._known.clear()
        self._has_shared = any(limit.handler.is_shared for limit in self.limits.values())
        waiting = sorted((request for line in self._lines.values() for request in line.queue), key=_order)
        self._lines.clear()
        for limit in self.limits.values():
            limit.lines.clear()
        turned_away: list[Request] = []
        for request in waiting:
            if request.returning is None or self.limits_of(request.subject) == request.returning.paid:
                self.line_up(request)
            else:
                request.turned_away = True
                turned_away.append(request)
        return turned_away + self.admit(self._lines.values(), now)

    def all_lines(self) -> list[Line]:
        """Every line there is."""
        return list(self._lines.values())

    def lines_before(self, subject: Subject) -> dict[Line, None]:
        """The lines that wait for any of the limits of such a call."""
        lines: dict[Line, None] = {}
        for limit in self.limits_of(subject):
            lines.update(limit.lines)
        return lines

    def admit(self, lines: Iterable[Line], now: float) -> list[Request]:
        """Admit all that may start, oldest first, of lines for which something may have changed.

        Meanwhile limits only get tighter, so a line that was refused once need not be looked at again: the
        cost grows with the lines and with what is admitted, not with what waits.
        """
        heads = [(line.first.order, line) for line in lines if line.queue]
        heapq.heapify(heads)
        admitted: list[Request] = []
        while heads:
            line = heads[0][1]
            if not line.look(now):
                heapq.heappop(heads)
                continue
            request = line.first
            if request.returning is None:
                self._start(request.subject, line.limits, now)
            else:
                self.unreserve(request.subject)
                self.enter(request.subject)
                request.returning.state = "running"
            request.admitted = True
            admitted.append(request)
            self._remove(request)
            if line.queue:
                heapq.heapreplace(heads, (line.first.order, line))
            else:
                heapq.heappop(heads)
        return admitted

    def start(self, subject: Subject, claim: Claim, now: float) -> bool:
        """Let a call start if all its limits allow one; the lines before it have to be served first."""
        limits = self.limits_of(subject)
        if _moment(limits, claim, now) > now:
            return False
        self._start(subject, limits, now)
        return True

    def blocking(self, request: Request, now: float) -> str:
        """What does not allow such a call now."""
        limits = request.line.limits
        return "; ".join(str(limit.constraint) for limit in limits if _moment((limit,), request.claim, now) > now)

    def line_up(self, request: Request) -> None:
        """Put a request at the end of its line."""
        limits = self.limits_of(request.subject)
        key = limits, request.claim, request.is_again
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(*key)
            for limit in limits:
                limit.lines[line] = None
        line.queue[request] = None
        request.line = line
        self.ask_shared([line])

    def ask_shared(self, lines: Iterable[Line]) -> None:
        """Let shared handlers know of lines that still wait after something has changed for them."""
        if self._has_shared:
            for line in lines:
                if line.queue:
                    for limit in line.limits:
                        limit.handler.asked()

    def waiting_for_shared(self, now: float) -> Iterator[tuple[list[Handler], int]]:
        """The shared handlers that hold calls back which all others allow, and for how many of these to ask them.

        That is one call where anything else limits them too: nobody knows how many more that would allow.
        """
        for line in self._lines.values():
            shared = [limit.handler for limit in line.limits if limit.handler.is_shared]
            others = tuple(limit for limit in line.limits if not limit.handler.is_shared)
            if shared and _moment(others, line.claim, now) <= now:
                yield shared, len(line.queue) if len(line.limits) == 1 else 1

    def withdraw(self, request: Request, now: float) -> dict[Line, None]:
        """Forget a request that was cancelled; the lines for which this made room."""
        if request.turned_away:
            return {}
        if not request.admitted:
            self._remove(request)
            return {}
        lines = self.leave(request.subject)
        if request.returning is not None:
            self.reserve(request.subject)
            request.returning.state = "reserved"
        else:
            lines.update(self.refund(request.subject, request.line.limits, now))
        return lines

    def refund(self, subject: Subject, paid: Limits, now: float) -> dict[Line, None]:
        """One such call does not start after all; the lines for which this made room."""
        lines: dict[Line, None] = {}
        for limit in self.limits_of(subject):
            # A limit that was set after the call had been let go was not paid.
            if limit in paid:
                limit.handler.refund(now)
                lines.update(limit.lines)
        return lines

    def enter(self, subject: Subject) -> None:
        """One such call runs already."""
        self._running[subject] = self._running.get(subject, 0) + 1
        for limit in self.limits_of(subject):
            limit.handler.enter()

    def leave(self, subject: Subject) -> dict[Line, None]:
        """One such call less runs; the lines for which this made room."""
        left = self._running[subject] - 1
        if left:
            self._running[subject] = left
        else:
            del self._running[subject]
        lines: dict[Line, None] = {}
        for limit in self.limits_of(subject):
            if limit.handler.leave():
                lines.update(limit.lines)
        return lines

    def reserve(self, subject: Subject) -> None:
        """One such call was let go and waits for capacity."""
        self._reserved[subject] = self._reserved.get(subject, 0) + 1
        for limit in self.limits_of(subject):
            limit.handler.reserve()

    def unreserve(self, subject: Subject) -> dict[Line, None]:
        """One such call less waits for capacity; the lines for which this made room."""
        left = self._reserved[subject] - 1
        if left:
            self._reserved[subject] = left
        else:
            del self._reserved[subject]
        lines: dict[Line, None] = {}
        for limit in self.limits_of(subject):
            if limit.handler.unreserve():
                lines.update(limit.lines)
        return lines

    def next_moment(self) -> float:
        """The next moment at which time alone changes something; `math.inf` for never."""
        moments = [limit.expires_at for limit in self.limits.values()]
        moments += [line.ready_at for line in self._lines.values()]
        return min(moments, default=math.inf)

    def _start(self, subject: Subject, limits: Limits, now: float) -> None:
        self._running[subject] = self._running.get(subject, 0) + 1
        for limit in limits:
            limit.handler.enter()
            limit.handler.pay(now)

    def _remove(self, request: Request) -> None:
        line = request.line
        del line.queue[request]
        if not line.queue:
            del self._lines[line.limits, line.claim, line.is_again]
            for limit in line.limits:
                del limit.lines[line]

    def limits_of(self, subject: Subject) -> Limits:
        """The limits on such a call."""
        limits = self._known.get(subject)
        if limits is None:
            if len(self._known) >= _REMEMBERED_SUBJECTS:
                self._known.clear()
            limits = tuple(limit for limit in self.limits.values() if limit.matches(subject))
            self._known[subject] = limits
        return limits


def _moment(limits: Limits, claim: Claim, now: float) -> float:
    """The first moment from now on at which all limits allow such a claim, as far as time decides it."""
    return max((getattr(limit.handler, claim)(now) for limit in limits), default=now)


def _order(request: Request) -> int:
    return request.order
