"""Fetching slots and tokens of limits that engines share, and giving them back: all on the store's thread.

Invariants:
- the store is asked for nothing that calls cannot use at once: everything else that limits them allows them;
- of several shared limits on a call one after another is asked, in the order of their keys, slots before tokens; while
  one of them has nothing, slots of the others are not kept for it, so engines cannot block each other half-way;
- an engine that has none of the slots that it waits for says so in the store; then one that has some gives one back
  after each look.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from cascade.control.shared_handlers import FIRST_RETRY, LAST_RETRY, LINGER, SharedConcurrency, SharedRate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.runtime.constraints.gate import Gate
    from cascade.runtime.constraints.manager import ConstraintManager
    from cascade.runtime.durability.writer import Writer
    from cascade.spec.constraint import GlobalConstraint
    from cascade.spec.protocols import Clock, Timer

SharedHandler = SharedConcurrency | SharedRate

_PREFIX: Final = "want:"
_SECONDS_WANTED: Final = 1.0
_BETWEEN_WISHES: Final = 0.4
_AFTER_YIELDING: Final = 2 * LAST_RETRY
_MOST_TOKENS: Final = 32
_RENEWALS_IN_LEASE: Final = 3


class _Errands(NamedTuple):
    """What the store is to be told and asked.

    Attributes:
        back: slots to give back, by limit.
        slots: slots to take.
        tokens: tokens to take.
    """

    back: dict[str, int]
    slots: dict[SharedConcurrency, int]
    tokens: dict[SharedRate, int]


class SharedLimits:
    """Fetches for one engine what shared limits have to give.

    Args:
        constraints: the engine's limits.
        writer: gives the store's thread.
        clock: the engine's clock.
        holder: who holds slots, in the store; it must be this engine's alone.
        lease: for how long, in seconds, slots are held without being renewed; longer than between some looks.
    """

    def __init__(
        self, constraints: ConstraintManager, writer: Callable[[], Writer], clock: Clock, holder: str, lease: float
    ) -> None:
        self._constraints = constraints
        self._writer = writer
        self._clock = clock
        self._name = holder
        self._holders = 0
        self._lease = lease
        self._renewed = clock.now()
        self._slots: list[SharedConcurrency] = []
        self._wished: dict[str, float] = {}
        self._linger = LINGER
        self._is_used = False
        self._posted = False
        self._timer: Timer | None = None
        self._timer_at = 0.0

    @property
    def _holder(self) -> str:
        # After a lease has run out the slots may be those of others: what is taken from then on is another holder's.
        return f"{self._name}.{self._holders}"

    def handler(self, constraint: GlobalConstraint) -> SharedHandler:
        """What decides for a limit that is shared."""
        self._is_used = True
        if constraint.type == "rate_limit":
            return SharedRate(constraint, self._ask)
        slots = SharedConcurrency(constraint, self._ask)
        self._slots.append(slots)
        return slots

    @property
    def holds_any(self) -> bool:
        """Whether there is something to renew or to give back."""
        return any(slots.held or slots.owed for slots in self._slots)

    def look(self, settings: Mapping[str, str]) -> None:
        """Renew what is held, see who else wants it, and ask anew; on the store's thread, a few times a second."""
        if not self._is_used:
            return
        self._renew()
        self._constraints.adjust(partial(self._note_wishes, _wanted_by_others(settings, self._name)))
        self._work()

    def rest(self) -> None:
        """Give back at once what calls do not use; on the store's thread."""
        if not self._slots:
            return
        self._linger = 0.0
        try:
            self._work()
            self._constraints.adjust(self._set_no_timer)
        finally:
            self._linger = LINGER

    def _set_no_timer(self, gate: Gate, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _note_wishes(self, wanted: set[str], gate: Gate, now: float) -> None:
        for slots in self._slots:
            slots.yields = slots.key in wanted and slots.held > 0 and now >= slots.retry_at

    def _ask(self, delay: float) -> None:
        """Have the store asked soon; under the manager's lock."""
        if self._posted:
            return
        if delay <= 0.0:
            self._posted = True
            self._clock.busy()
            self._writer().post(self._work_once)
            return
        at = self._clock.monotonic() + delay
        if self._timer is not None and self._timer_at <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.call_at(at, self._ring)

    def _ring(self) -> None:
        self._constraints.adjust(self._now_is_the_time)

    def _now_is_the_time(self, gate: Gate, now: float) -> None:
        self._timer = None
        self._ask(0.0)

    def _work_once(self) -> None:
        try:
            self._work()
        finally:
            self._clock.idle()

    def _work(self) -> None:
        """Find out what is wanted, do the errands, and let start whom that allows."""
        try:
            self._do_errands()
        except BaseException:
            # Nobody knows what was taken and given: it is let go with the lease, and asked for anew with the next look.
            self._forget_holder()
            raise

    def _do_errands(self) -> None:
        errands = self._constraints.adjust(self._plan)
        store, holder = self._writer().store, self._holder
        for key, count in errands.back.items():
            store.give_slots(key, holder, count)
        taken = {slots: self._take_slots(slots, count) for slots, count in errands.slots.items()}
        paid = {rate: self._take_tokens(rate, count) for rate, count in errands.tokens.items()}
        if taken or paid:
            self._constraints.adjust(partial(self._hand_out, errands, taken, paid))

    def _hand_out(
        self,
        errands: _Errands,
        taken: Mapping[SharedConcurrency, int],
        paid: Mapping[SharedRate, tuple[int, float]],
        gate: Gate,
        now: float,
    ) -> None:
        for slots, count in taken.items():
            slots.held += count
            if count < errands.slots[slots]:
                slots.retry_at, slots.delay = now + slots.delay, min(2 * slots.delay, LAST_RETRY)
            else:
                slots.delay = FIRST_RETRY
        for rate, (count, wait) in paid.items():
            rate.tokens += count
            rate.retry_at = now + wait
        # There may be more to ask for, now or when somebody else may have given something back.
        self._ask(0.0)

    def _plan(self, gate: Gate, now: float) -> _Errands:
        """What is to be done; under the manager's lock."""
        self._posted = False
        wanted: dict[SharedHandler, int] = {}
        for handlers, count in gate.waiting_for_shared(now):
            shared = sorted(
                (handler for handler in handlers if isinstance(handler, SharedConcurrency | SharedRate)), key=_in_order
            )
            late = max((handler.retry_at for handler in shared if not handler.allows()), default=now)
            if late > now:
                self._ask(late - now)
                continue
            for handler in shared:
                wanted[handler] = wanted.get(handler, 0) + count
                if not handler.allows():
                    break
        errands = _Errands({}, {}, {})
        in_force = {limit.handler for limit in gate.limits.values()}
        for slots in self._slots:
            self._plan_slots(slots, wanted.get(slots, 0), errands, now, in_force=slots in in_force)
        self._slots = [slots for slots in self._slots if slots in in_force or slots.held or slots.owed]
        for handler, count in wanted.items():
            if isinstance(handler, SharedRate) and not handler.tokens:
                errands.tokens[handler] = min(count, _MOST_TOKENS)
        return errands

    def _plan_slots(
        self, slots: SharedConcurrency, wanted: int, errands: _Errands, now: float, *, in_force: bool
    ) -> None:
        if slots.has_yielded:
            slots.has_yielded = False
            slots.retry_at = now + _AFTER_YIELDING
        used = slots.running + slots.reserved
        needed = max(min(slots.limit, used + wanted), min(slots.held, used)) if in_force else 0
        if needed > slots.held:
            if now >= slots.retry_at:
                errands.slots[slots] = needed - slots.held
            else:
                self._ask(slots.retry_at - now)
        if needed >= slots.held:
            slots.idle_since = None
        elif slots.idle_since is None and self._linger and in_force:
            slots.idle_since = now
            self._ask(self._linger)
        elif slots.idle_since is not None and now < slots.idle_since + self._linger and in_force:
            self._ask(slots.idle_since + self._linger - now)
        else:
            slots.owed += slots.held - needed
            slots.held = needed
            slots.idle_since = None
        if slots.owed:
            errands.back[slots.key] = errands.back.get(slots.key, 0) + slots.owed
            slots.owed = 0

    def _take_slots(self, slots: SharedConcurrency, count: int) -> int:
        """Take as many of some slots as there are."""
        store, now = self._writer().store, self._clock.now()
        while count > 0:
            if store.take_slots(slots.key, self._holder, count, slots.limit, now, now + self._lease):
                return count
            count //= 2
        if not slots.held:
            self._wish(slots.key, now)
        return 0

    def _take_tokens(self, rate: SharedRate, count: int) -> tuple[int, float]:
        """Take some tokens; how many, and in how many seconds there is another."""
        store = self._writer().store
        for taken in range(count):
            wait = store.take_token(rate.key, rate.rate, float(rate.burst), self._clock.now())
            if wait > 0.0:
                return taken, wait
        return count, 0.0

    def _wish(self, key: str, now: float) -> None:
        """Tell the engines that hold such slots that somebody waits for them."""
        if now - self._wished.get(key, -_BETWEEN_WISHES) >= _BETWEEN_WISHES:
            self._wished[key] = now
            self._writer().store.put_setting(f"{_PREFIX}{self._name}:{key}", "", now + _SECONDS_WANTED)

    def _renew(self) -> None:
        now = self._clock.now()
        if not self.holds_any:
            self._renewed = now
        elif now - self._renewed >= self._lease:
            # The process was stopped for longer than its lease: others may have its slots.
            self._forget_holder()
            self._renewed = now
        elif now - self._renewed >= self._lease / _RENEWALS_IN_LEASE:
            self._writer().store.renew_slots(self._holder, now + self._lease)
            self._renewed = now

    def _forget_holder(self) -> None:
        self._holders += 1
        self._constraints.adjust(self._lose)

    def _lose(self, gate: Gate, now: float) -> None:
        for slots in self._slots:
            slots.held = slots.owed = 0


def _wanted_by_others(settings: Mapping[str, str], name: str) -> set[str]:
    """The limits whose slots other engines wait for."""
    wishes = (key.removeprefix(_PREFIX).partition(":") for key in settings if key.startswith(_PREFIX))
    return {key for holder, _, key in wishes if holder != name}


def _in_order(handler: SharedHandler) -> tuple[bool, str]:
    return isinstance(handler, SharedRate), handler.key
