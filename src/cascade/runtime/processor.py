"""How one call with policies is made: cache, limits, capacity, resources, attempts, timeout, events."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.attempts import Attempt, Outcome
from cascade.runtime.caching import CacheAccess
from cascade.runtime.mapping import MapExecution
from cascade.runtime.plan import LOOP
from cascade.runtime.preview import describe_error
from cascade.runtime.resolvers import ConstraintResolver
from cascade.runtime.returned import continuation_of
from cascade.runtime.scheduler import Scheduler
from cascade.spec.containers import PLAIN
from cascade.spec.policy import DEFAULT, Retry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cascade.runtime.capacity import Demand
    from cascade.runtime.scheduler import Continuation, Due
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.policy import Policy
    from cascade.spec.task import Task

_ONCE: Final = Retry(max_attempts=1)
_MOST_ITEMS_UNDER_WAY: Final = 10_000


class NodeProcessor:
    """Makes calls that need more than a thread, one asyncio task each."""

    def __init__(self, strategy: GraphExecutionStrategy) -> None:
        self._strategy = strategy
        self._amounts = ConstraintResolver()
        self._caches = CacheAccess(strategy)

    def start(self, parent: Continuation, place: int) -> asyncio.Task[None]:
        """Begin a call; on the loop."""
        return self._strategy.spawn(self._process(parent, place))

    def feed(self, mapping: MapExecution, lane: int) -> None:
        """Pull the rows of a map and begin their calls as there is room; on the loop."""
        self._strategy.spawn(self._feed(mapping, lane))

    async def _feed(self, mapping: MapExecution, lane: int) -> None:
        """Keep a bounded number of items under way: of sized inputs many, of generators twice the workers."""
        strategy = self._strategy
        workers = strategy.engine.max_workers
        room = asyncio.Semaphore(_MOST_ITEMS_UNDER_WAY if mapping.is_sized else 2 * workers)
        mapping.on_room = partial(strategy.on_loop, room.release)
        due: Due = []
        while not strategy.run.stopping:
            await room.acquire()
            try:
                if mapping.is_quick:
                    item = mapping.pull()
                else:
                    pull = partial(strategy.run.context.copy().run, mapping.pull)
                    item = await strategy.engine.call_on_thread(pull)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                strategy.places.fail_pulling(mapping, error, due)
                break
            if strategy.run.stopping:
                # It was pulled on a thread meanwhile.
                break
            if item is None:
                if mapping.is_over():
                    strategy.places.end_map(mapping, due)
                break
            place, args, kwargs = item
            if mapping.recalled and strategy.places.has_recalled(mapping, place, due):
                continue
            mapping.items[place] = (args, kwargs)
            if lane == LOOP and not strategy.engine.constraints.active:
                strategy.dispatcher.coroutines.add(mapping, place)
            else:
                self.start(mapping, place)
        strategy.places.advance_on_loop(due)

    async def _process(self, parent: Continuation, place: int) -> None:
        strategy = self._strategy
        due: Due = []
        try:
            task, args, kwargs = strategy.places.call_at(parent, place)
            policy = strategy.places.policy_of(parent, place) or DEFAULT
            demand = self._demand(parent, place)
        except BaseException as error:
            began = strategy.run.teller.started(parent, place, parent.name_of(place))
            strategy.places.fail(parent, place, error, due, began=began)
        else:
            if policy.cache is None:
                outcome = await self._attempts(parent, place, task, policy, args, kwargs, demand)
                self._take(parent, place, outcome, due)
            else:
                await self._with_cache(parent, place, task, policy, args, kwargs, demand, due)
        strategy.places.advance_on_loop(due)

    def _demand(self, parent: Continuation, place: int) -> Demand | None:
        """The checked amounts that a call takes."""
        if isinstance(parent, Scheduler):
            amounts = self._amounts.resolve(parent, place)
        else:
            assert isinstance(parent, MapExecution)
            amounts = self._amounts.resolve(parent.scheduler, parent.index)
        if not amounts:
            return None
        return self._strategy.engine.capacities.check(amounts)

    async def _with_cache(
        self,
        parent: Continuation,
        place: int,
        task: Task[..., Any],
        policy: Policy,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        demand: Demand | None,
        due: Due,
    ) -> None:
        strategy = self._strategy
        try:
            entry = self._caches.entry(parent, place, task, policy, args, kwargs)
        except BaseException as error:
            began = strategy.run.teller.started(parent, place, parent.name_of(place))
            strategy.places.fail(parent, place, error, due, began=began)
            return
        async with entry:
            found, value = await entry.load()
            if found:
                strategy.run.teller.skipped(parent, place, parent.name_of(place), "CacheHit")
                strategy.places.conclude(parent, place, value, due)
                return
            outcome = await self._attempts(parent, place, task, policy, args, kwargs, demand)
            if outcome.error is None and outcome.more is None and not outcome.cancelled:
                try:
                    outcome.value = await entry.store(outcome.value)
                except BaseException as error:
                    outcome.error = error
            elif outcome.more is not None:
                # The final value is what is cached: the entry waits for it in the call's place.
                entry.stay_for(outcome, due)
                return
        self._take(parent, place, outcome, due)

    def _take(self, parent: Continuation, place: int, outcome: Outcome, due: Due) -> None:
        """Tell how a call ended, and go on with what it gave."""
        strategy = self._strategy
        run = strategy.run
        name = parent.name_of(place)
        succession: Scheduler | None = None
        if outcome.error is None and outcome.more is not None:
            try:
                succession = strategy.continuation(parent, place, outcome.more)
            except BaseException as error:
                outcome.error = error
        if outcome.cancelled:
            run.teller.finished(parent, place, name, outcome.began, status="Cancelled")
        elif outcome.error is not None:
            strategy.places.fail(parent, place, outcome.error, due, began=outcome.began, attempt=outcome.attempt)
        elif succession is not None:
            run.teller.finished(parent, place, name, outcome.began, continues_as=succession.target_id)
            assert outcome.more is not None
            strategy.begin_returned(succession, outcome.more, due)
        else:
            run.teller.finished(parent, place, name, outcome.began, result=outcome.value)
            strategy.places.conclude(parent, place, outcome.value, due, began=outcome.began, attempt=outcome.attempt)

    async def _attempts(
        self,
        parent: Continuation,
        place: int,
        task: Task[..., Any],
        policy: Policy,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        demand: Demand | None,
    ) -> Outcome:
        """Make the call until it succeeds or its attempts are used up."""
        strategy = self._strategy
        run = strategy.run
        name = parent.name_of(place)
        retry = policy.retry or _ONCE
        outcome = Outcome()
        told = False
        has_begun = False

        def blocked(reason: str) -> None:
            nonlocal told
            if not told:
                told = True
                run.teller.blocked(parent, place, name, reason)

        def begun() -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                outcome.began = run.teller.started(parent, place, name)

        while True:
            outcome.attempt += 1
            attempt = Attempt(
                *(strategy, parent, place, task, policy, outcome.attempt, demand),
                tell_blocked=blocked,
                tell_begun=begun,
            )
            try:
                await attempt.enter()
                value = await attempt.call(args, kwargs)
                outcome.more = None if type(value) in PLAIN else continuation_of(task.name, value)
                outcome.value = value
                error: BaseException | None = None
            except BaseException as raised:
                error = raised
            problems = await attempt.leave(error)
            if problems:
                error = _joined(error, problems)
            if error is None:
                return outcome
            if isinstance(error, asyncio.CancelledError) and run.stopping:
                outcome.cancelled = True
                return outcome
            begun()
            try:
                repeats = _repeats(retry, outcome.attempt, error)
            except Exception as broken:
                broken.add_note(f"in retry_on, which was asked about {describe_error(error)}")
                error, repeats = broken, False
            if not repeats or run.stopping:
                outcome.error = error
                return outcome
            wait = retry.wait_after(outcome.attempt, strategy.engine.chance.random())
            run.teller.retrying(parent, place, name, outcome.attempt, retry.max_attempts, wait, error)
            if run.journal is not None:
                # Whoever goes on after a crash shall know which attempts have been made.
                run.journal.failure(parent, place, error, outcome.began, outcome.attempt)
            try:
                if wait > 0.0:
                    await self._pause(name, wait)
            except asyncio.CancelledError:
                outcome.cancelled = True
                return outcome

    async def _pause(self, name: str, seconds: float) -> None:
        """Wait for the next attempt, to be seen by whoever looks at the run."""
        pausing = self._strategy.pausing
        pausing[name] = pausing.get(name, 0) + 1
        try:
            await self._strategy.run.clock.sleep(seconds)
        finally:
            pausing[name] -= 1
            if not pausing[name]:
                del pausing[name]


def _repeats(retry: Retry, attempt: int, error: BaseException) -> bool:
    """Whether a failed attempt is followed by another; a cancellation never is."""
    return attempt < retry.max_attempts and not isinstance(error, asyncio.CancelledError) and retry.covers(error)


def _joined(error: BaseException | None, problems: list[BaseException]) -> BaseException:
    """A teardown that raises fails the attempt, without hiding an earlier error."""
    if error is None:
        error, *problems = problems
    for problem in problems:
        error.add_note(f"and a teardown raised {type(problem).__name__}: {problem}")
    return error
