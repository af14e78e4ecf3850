"""Limits that people put on an engine while it runs.

The gate knows the rules; the manager adds threads, loops and time. Invariants, at every release of the lock:
- whoever is admitted by the gate is woken by the thread that did it, after it has left the lock;
- one timer is set for the first moment at which time alone changes something, whoever waits for it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from cascade.runtime.constraints.gate import Gate, Request
from cascade.runtime.constraints.handlers import HANDLERS
from cascade.runtime.waiter import wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cascade.runtime.constraints.gate import Claim, Limit, Limits, Line
    from cascade.runtime.constraints.handlers import Handler
    from cascade.runtime.constraints.scopes import Subject
    from cascade.spec.constraint import GlobalConstraint
    from cascade.spec.protocols import Clock, Timer

T = TypeVar("T")
logger = logging.getLogger("cascade")

# Not `list[...]`, which inside the manager is its method.
Requests: TypeAlias = list[Request]
State: TypeAlias = Literal["running", "suspended", "reserved"]


class Permit:
    """The leave for one call, until released.

    Attributes:
        subject: the call.
        paid: the limits that let it go; each rate among them has given a token.
        order: when it was let go, among requests.
        live: whether it was not released; belongs to the manager.
        state: how it is counted; belongs to the manager.
    """

    __slots__ = ("_manager", "live", "order", "paid", "state", "subject")

    def __init__(self, manager: ConstraintManager | None, subject: Subject, paid: Limits = (), order: int = 0) -> None:
        self._manager = manager
        self.subject = subject
        self.paid = paid
        self.order = order
        self.live = True
        self.state: State = "running"

    @property
    def counts(self) -> bool:
        """Whether limits know of the call: not after its end, nor if it was let go while there was none."""
        return self._manager is not None and self.live

    def release(self) -> None:
        """Say that the call has ended, from any thread; a second time has no effect.

        A call that only has a slot reserved has not begun: it gets back its tokens.
        """
        if self._manager is not None:
            self._manager.give_back(self)

    def suspend(self) -> None:
        """Do not count the call as running while it waits for calls of a nested run."""
        if self._manager is not None:
            self._manager.recount(self, "suspended")

    def reserve(self) -> None:
        """Do not count the call as running while it waits for capacity, but keep its slot from others of its kind."""
        if self._manager is not None:
            self._manager.recount(self, "reserved")

    def resume(self) -> None:
        """Count the call as running again, without a wait."""
        if self._manager is not None:
            self._manager.recount(self, "running")


class ConstraintManager:
    """Holds calls back while a constraint forbids them.

    Managers belong to no event loop: calls of several loops and changes from any thread may come at the same
    time.

    While nothing is in force (`active` is false) calls need no permit and are not tracked. A concurrency
    limit counts the calls that have a permit, those given before it was set included; `enlist` gives permits
    to calls that began without.

    Args:
        clock: measures rates and times to live.
        handlers: how each type of constraint decides.

    >>> import asyncio
    >>> from cascade.runtime.clock import SystemClock
    >>> from cascade.runtime.constraints.scopes import Subject
    >>> from cascade.spec.constraint import GlobalConstraint
    >>> manager = ConstraintManager(SystemClock())
    >>> manager.set(GlobalConstraint.concurrency(1, "task:fetch*"))
    >>> permit = manager.try_admit(Subject("fetch_page"))
    >>> manager.try_admit(Subject("fetch_page")) is None
    True
    >>> permit.release()
    >>> asyncio.run(manager.admit(Subject("fetch_page"))).subject.task_name
    'fetch_page'
    """

    def __init__(self, clock: Clock, handlers: Mapping[str, Callable[[GlobalConstraint], Handler]] = HANDLERS) -> None:
        self._clock = clock
        self._handlers = handlers
        self._lock = threading.Lock()
        # Giving back must never wait for the lock: a garbage collection may end a coroutine that holds a
        # permit while this very thread is inside the critical section.
        self._returned: deque[Permit | Request] = deque()
        self._gate = Gate()
        self._order = count()
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._subscribers: dict[int, Callable[[], object]] = {}
        self._active = False

    @property
    def active(self) -> bool:
        """Whether any constraint is in force."""
        return self._active

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have something called after each change of the constraints, in the thread that made it.

        An end by time to live is a change, in a thread of the clock's.

        Args:
            callback: should be short; what it raises is logged.

        Returns:
            What ends the subscription.
        """
        key = next(self._order)
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def set(self, constraint: GlobalConstraint) -> None:
        """Put a constraint in force in place of the one of the same scope and type.

        Calls that run already go on, and count; of a rate's tokens only those that are left stay.

        Raises:
            ValueError: no handler knows its type.
        """
        make = self._handlers.get(constraint.type)
        if make is None:
            known = ", ".join(sorted(self._handlers))
            raise ValueError(f"no handler for constraints of type {constraint.type!r}; there are: {known}")
        self.put(constraint, make(constraint))

    def put(self, constraint: GlobalConstraint, handler: Handler) -> None:
        """The same, with what decides for this constraint."""
        admitted: Requests = []
        try:
            with self._lock:
                now = self._clock.monotonic()
                admitted += self._count_returned(now)
                self._gate.put(constraint, handler, now)
                admitted += self._rules_changed(now)
        finally:
            self._wake(admitted)
        self._notify()

    def remove(self, scope: str, type: str | None = None) -> bool:
        """End constraints; calls that were held back by nothing else start at once.

        Args:
            scope: the scope, as it was set.
            type: the type; `None` for all.

        Returns:
            Whether there was any.
        """
        return self._end(lambda limit: limit.constraint.scope == scope and type in (None, limit.constraint.type))

    def withdraw(self, constraint: GlobalConstraint) -> bool:
        """End this very constraint; without effect where another has come in its place."""
        return self._end(lambda limit: limit.constraint is constraint)

    def _end(self, is_meant: Callable[[Limit], bool]) -> bool:
        admitted: Requests = []
        with self._lock:
            gone = [key for key, limit in self._gate.limits.items() if is_meant(limit)]
            for key in gone:
                del self._gate.limits[key]
            if gone:
                admitted += self._rules_changed(self._clock.monotonic())
        self._wake(admitted)
        if gone:
            self._notify()
        return bool(gone)

    def list(self) -> tuple[GlobalConstraint, ...]:
        """The constraints in force as they were set, oldest scope and type first."""
        with self._lock:
            now = self._clock.monotonic()
            in_force = tuple(limit.constraint for limit in self._gate.limits.values() if limit.expires_at > now)
        self._settle()
        return in_force

    def next_order(self) -> int:
        """A place among all calls, behind those that have one."""
        return next(self._order)

    async def admit(
        self,
        subject: Subject,
        on_blocked: Callable[[str], object] | None = None,
        claim: Claim = "ready_at",
        *,
        order: int | None = None,
        is_again: bool = False,
    ) -> Permit:
        """Wait until all constraints on a call allow it at once.

        Of the calls held back by the same constraints the first comes first, and so it is among all that may
        start at one moment. A wait that is cancelled costs neither a slot nor a token.

        Args:
            subject: the call.
            on_blocked: called once, before the wait, if there is one, with what holds the call back.
            claim: `"spare_at"` if it will start at once when it is let go, so that it may use slots that are reserved
                for others; `"ready_at"` if it may have to wait for capacity first.
            order: its place among all calls, from `next_order`; without one it comes behind the others.
            is_again: whether it was let go before, and has not begun: others with its limits are younger.
        """
        admitted: Requests = []
        try:
            with self._lock:
                now = self._clock.monotonic()
                admitted += self._count_returned(now)
                if order is None:
                    order = next(self._order)
                if permit := self._admit_now(subject, claim, order, now, admitted):
                    return permit
                request = Request(subject, order, claim, is_again=is_again)
                self._gate.line_up(request)
                request.line.look(now)
                self._set_timer()
                reason = self._gate.blocking(request, now)
        finally:
            self._wake(admitted)
        try:
            if on_blocked is not None:
                on_blocked(reason)
            await request.woken()
        except BaseException:
            self.give_back(request)
            raise
        return Permit(self, subject, request.line.limits, request.order)

    async def come_back(self, permit: Permit, claim: Claim = "ready_at") -> Permit | None:
        """Count a call as running that was let go and then had to wait for capacity.

        Its place is before all who came after it. It waits only for calls that use its slot meanwhile.

        Args:
            permit: its permit, with a slot reserved.
            claim: what it asks for if the limits on it have changed, and it has to be let go again.

        Returns:
            A permit, or `None` if the limits have changed and do not allow the call now.
        """
        request: Request | None = None
        with self._lock:
            now = self._clock.monotonic()
            admitted = self._count_returned(now)
            if permit.state == "reserved" and permit.paid == self._gate.limits_of(permit.subject):
                request = Request(permit.subject, permit.order, "back_at", permit)
                self._gate.line_up(request)
                admitted += self._admit_from([request.line], now)
        self._wake(admitted)
        if request is not None:
            try:
                await request.woken()
            except BaseException:
                self.give_back(request)
                raise
            if not request.turned_away:
                return permit
        permit.release()
        return self.try_admit(permit.subject, claim, order=permit.order)

    def try_admit(self, subject: Subject, claim: Claim = "ready_at", *, order: int | None = None) -> Permit | None:
        """A permit if all constraints allow the call now, else `None`; see `admit`."""
        admitted: Requests = []
        try:
            with self._lock:
                now = self._clock.monotonic()
                admitted += self._count_returned(now)
                return self._admit_now(subject, claim, next(self._order) if order is None else order, now, admitted)
        finally:
            self._wake(admitted)

    def still_allows(self, permit: Permit | None, subject: Subject) -> bool:
        """Whether the limits on a call are those that let it go.

        Args:
            permit: the leave that it has; `None` if there were no limits.
            subject: the call.
        """
        with self._lock:
            return self._gate.limits_of(subject) == (() if permit is None else permit.paid)

    def enlist(self, subject: Subject) -> Permit:
        """A permit for a call that runs already: it is counted, and never held back."""
        with self._lock:
            self._gate.enter(subject)
        self._settle()
        return Permit(self, subject)

    def look(self, see: Callable[[Gate, float], T]) -> T:
        """Look at the limits while nobody changes them.

        Args:
            see: called with the gate and the present moment, under the lock; changes nothing.
        """
        with self._lock:
            return see(self._gate, self._clock.monotonic())

    def adjust(self, change: Callable[[Gate, float], T]) -> T:
        """Change something that handlers know from elsewhere, and admit whom that lets start.

        Args:
            change: called with the gate and the present moment, under the lock.
        """
        admitted: Requests = []
        try:
            with self._lock:
                now = self._clock.monotonic()
                admitted += self._count_returned(now)
                changed = change(self._gate, now)
                admitted += self._gate.admit(self._gate.all_lines(), now)
                self._set_timer()
        finally:
            self._wake(admitted)
        return changed

    def _admit_now(self, subject: Subject, claim: Claim, order: int, now: float, admitted: Requests) -> Permit | None:
        if not self._active:
            return Permit(None, subject)
        # Time may have come for older ones, with their timer still on its way: they go first.
        if lines := self._gate.lines_before(subject):
            admitted += self._admit_from(lines, now)
        if not self._gate.start(subject, claim, now):
            return None
        return Permit(self, subject, self._gate.limits_of(subject), order)

    def recount(self, permit: Permit, state: State) -> None:
        """See `Permit.suspend`, `Permit.reserve` and `Permit.resume`."""
        with self._lock:
            now = self._clock.monotonic()
            admitted = self._count_returned(now)
            if permit.live and permit.state != state:
                lines = self._no_longer(permit)
                permit.state = state
                if state == "running":
                    self._gate.enter(permit.subject)
                elif state == "reserved":
                    self._gate.reserve(permit.subject)
                admitted += self._admit_from(lines, now)
        self._wake(admitted)

    def give_back(self, item: Permit | Request) -> None:
        """See `Permit.release`; a request is one whose coroutine no longer waits."""
        self._returned.append(item)
        self._settle()

    def _settle(self) -> None:
        # Whoever holds the lock looks here again after leaving it, so nothing returned is ever left lying.
        while self._returned and self._lock.acquire(blocking=False):
            try:
                admitted = self._count_returned(self._clock.monotonic())
            finally:
                self._lock.release()
            if admitted:
                self._returned.extend(wake(admitted))

    def _wake(self, admitted: Requests) -> None:
        if admitted:
            self._returned.extend(wake(admitted))
        if self._returned:
            self._settle()

    def _count_returned(self, now: float) -> Requests:
        """Take in what was given back, and admit whom this makes room for; under the lock."""
        if not self._returned:
            return []
        roomier: dict[Line, None] = {}
        withdrawn = False
        while self._returned:
            item = self._returned.popleft()
            if isinstance(item, Request):
                withdrawn = True
                roomier.update(self._gate.withdraw(item, now))
            elif item.live:
                item.live = False
                roomier.update(self._no_longer(item))
                if item.state == "reserved":
                    roomier.update(self._gate.refund(item.subject, item.paid, now))
        return self._admit_from(roomier, now) if roomier or withdrawn else []

    def _no_longer(self, permit: Permit) -> dict[Line, None]:
        """Do not count a call any more as it was counted so far; the lines for which this made room."""
        if permit.state == "running":
            return self._gate.leave(permit.subject)
        if permit.state == "reserved":
            return self._gate.unreserve(permit.subject)
        return {}

    def _admit_from(self, lines: Iterable[Line], now: float) -> Requests:
        admitted = self._gate.admit(lines, now)
        self._gate.ask_shared(lines)
        self._set_timer()
        return admitted

    def _rules_changed(self, now: float) -> Requests:
        self._gate.expire(now)
        self._active = bool(self._gate.limits)
        admitted = self._gate.rearrange(now)
        self._set_timer()
        return admitted

    def _set_timer(self) -> None:
        at = self._gate.next_moment()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at == math.inf else self._clock.call_at(at, self._time_has_come)
        self._timer_at = at

    def _time_has_come(self) -> None:
        with self._lock:
            self._timer = None
            self._timer_at = math.inf
            now = self._clock.monotonic()
            admitted = self._count_returned(now)
            expired = self._gate.expire(now)
            admitted += self._rules_changed(now) if expired else self._admit_from(self._gate.all_lines(), now)
        self._wake(admitted)
        if expired:
            self._notify()

    def _notify(self) -> None:
        for callback in tuple(self._subscribers.values()):
            try:
                callback()
            except Exception:
                logger.exception("a subscriber to changes of the constraints raised")
