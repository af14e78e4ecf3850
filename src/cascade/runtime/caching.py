"""Values that were computed before: one computation for one key at a time, and no failure because of a cache."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.mapping import MapExecution
from cascade.runtime.scheduler import Scheduler, id_of
from cascade.runtime.waiter import Waiter, wake

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from cascade.runtime.attempts import Outcome
    from cascade.runtime.scheduler import Continuation, Due, Ending
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.policy import Policy
    from cascade.spec.protocols import CacheBackend, CachePolicy
    from cascade.spec.task import Task

_log: Final = logging.getLogger("cascade.cache")


class _Waiting(Waiter):
    """An entry that waits for the key of another: until there is a value, or the key is its own."""

    __slots__ = ("entry",)

    def __init__(self, entry: CacheEntry) -> None:
        super().__init__()
        self.entry = entry


class KeysUnderWay:
    """Which keys are being computed, by whom, and who waits for them.

    When there is a value all who wait look it up by themselves. When there is none the key goes to the first of them.
    Either way the cost grows with how many wait, and not with its square.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[tuple[int, str], tuple[CacheEntry, dict[_Waiting, None]]] = {}

    def take(self, entry: CacheEntry) -> _Waiting | None:
        """Become the one who computes a key; otherwise what to wait for.

        An entry whose own ancestor computes the key computes it too: waiting would be for ever.
        """
        with self._lock:
            found = self._holders.get(entry.identity)
            if found is None:
                self._holders[entry.identity] = (entry, {})
                return None
            holder, waiters = found
            if holder.is_ancestor_of(entry):
                return None
            waiter = _Waiting(entry)
            waiters[waiter] = None
            return waiter

    def has(self, entry: CacheEntry) -> bool:
        """Whether an entry has its key."""
        with self._lock:
            found = self._holders.get(entry.identity)
            return found is not None and found[0] is entry

    def give_up(self, entry: CacheEntry, *, has_value: bool = False) -> None:
        """Let others have the key, if this entry had it.

        Args:
            has_value: whether the value can be looked up now.
        """
        lost = wake(self._succeed(entry, has_value))
        while lost and not has_value:
            # The loop of the one who got the key was closed: nobody is there to use it.
            lost = wake(self._succeed(lost[0].entry, has_value=False))

    def _succeed(self, entry: CacheEntry, has_value: bool) -> list[_Waiting]:
        """Take the key from an entry, if it has it; who is to be woken."""
        with self._lock:
            found = self._holders.get(entry.identity)
            if found is None or found[0] is not entry:
                return []
            waiters = found[1]
            if has_value or not waiters:
                del self._holders[entry.identity]
                return list(waiters)
            first = next(iter(waiters))
            del waiters[first]
            self._holders[entry.identity] = (first.entry, waiters)
            return [first]

    def leave(self, waiter: _Waiting) -> None:
        """Wait no longer."""
        with self._lock:
            found = self._holders.get(waiter.entry.identity)
            if found is not None:
                found[1].pop(waiter, None)
        self.give_up(waiter.entry)

    def give_up_all(self, strategy: GraphExecutionStrategy) -> None:
        """Let others have all keys of a run that has ended: a run that was stopped may not have got to it."""
        with self._lock:
            entries = [entry for entry, _ in self._holders.values() if entry.belongs_to(strategy)]
        for entry in entries:
            self.give_up(entry)


KEYS_UNDER_WAY: Final = KeysUnderWay()
"""Of this process: several engines may use one backend."""


class CacheAccess:
    """Makes the cache entries of one run's calls."""

    def __init__(self, strategy: GraphExecutionStrategy) -> None:
        self._strategy = strategy

    def entry(
        self,
        parent: Continuation,
        place: int,
        task: Task[..., Any],
        policy: Policy,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> CacheEntry:
        """The entry for one call; raises what the policy raises for an input that cannot be digested."""
        assert policy.cache is not None
        key = policy.cache.key(task.function, task.arguments_by_name(args, kwargs))
        backend = policy.cache.backend if policy.cache.backend is not None else self._strategy.engine.cache
        return CacheEntry(self._strategy, parent, place, policy.cache, backend, key)


class CacheEntry:
    """One call's access to its cached value; used as `async with`, which gives up the key in the end."""

    def __init__(
        self,
        strategy: GraphExecutionStrategy,
        parent: Continuation,
        place: int,
        policy: CachePolicy,
        backend: CacheBackend,
        key: str,
    ) -> None:
        self._strategy = strategy
        self.parent = parent
        self.place = place
        self._policy = policy
        self._backend = backend
        self._key = key
        self.identity = (id(backend), key)
        self.returned: dict[int, Ending] = {}
        self._stays = False
        self._has_value = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._stays:
            self._give_up()

    def _give_up(self) -> None:
        self._strategy.engine.keys_under_way.give_up(self, has_value=self._has_value)

    async def load(self) -> tuple[bool, Any]:
        """Whether there is a value, and the value; waits for others who compute it. Without one the key is this call's.

        A cache that fails has no value.
        """
        keys = self._strategy.engine.keys_under_way
        while (waiter := keys.take(self)) is not None:
            try:
                await waiter.woken()
            except BaseException:
                keys.leave(waiter)
                raise
            if keys.has(self):
                break
            found, value = await self._look_up()
            if found:
                return True, value
        self._has_value, value = await self._look_up()
        return self._has_value, value

    async def _look_up(self) -> tuple[bool, Any]:
        try:
            return True, await self._backend.get(self._key)
        except KeyError:
            return False, None
        except Exception:
            _log.warning("the cache failed to give a value for '%s'", self._name(), exc_info=True)
            return False, None

    async def store(self, value: Any) -> Any:
        """Keep a value; what consumers receive. A cache that fails keeps nothing and harms nobody."""
        try:
            await self._backend.put(self._key, value, ttl=self._policy.ttl)
            self._has_value = True
        except Exception:
            _log.warning("the cache failed to keep the value of '%s'", self._name(), exc_info=True)
        return self._policy.product(self._key, value)

    def _name(self) -> str:
        return self.parent.name_of(self.place)

    def belongs_to(self, strategy: GraphExecutionStrategy) -> bool:
        """Whether this is an entry of a run."""
        return self._strategy is strategy

    def is_ancestor_of(self, other: CacheEntry) -> bool:
        """Whether the other call is a part of what this one computes."""
        return any(
            parent is self or (parent is self.parent and place == self.place) for parent, place in _ancestors(other)
        )

    # In the place of the call, for what the call returned.

    def stay_for(self, outcome: Outcome, due: Due) -> None:
        """Keep the key until the lazy value that the call returned has its value, and cache that."""
        self._stays = True
        assert outcome.more is not None
        run = self._strategy.run
        try:
            scheduler = self._strategy.continuation(self, 0, outcome.more)
        except BaseException as error:
            self._give_up()
            self._strategy.places.fail(
                self.parent, self.place, error, due, attempt=outcome.attempt, began=outcome.began
            )
            return
        run.teller.finished(self.parent, self.place, self._name(), outcome.began, continues_as=scheduler.target_id)
        self._strategy.begin_returned(scheduler, outcome.more, due)

    def place_id(self, place: int) -> str:
        """The id of the call itself: the entry is not seen from outside."""
        return id_of(self, place)

    def step_to(self, place: int) -> tuple[str, Continuation | None, int]:
        """Nothing: the call comes before it."""
        return "", self.parent, self.place

    def name_of(self, place: int) -> str:
        """The name of the call's task."""
        return self._name()

    def key_of(self, place: int) -> tuple[bytes, bytes]:
        """What a durable run calls the call itself."""
        return self.parent.key_of(self.place)

    def label_of(self, place: int) -> str:
        """What people call the call itself."""
        return self.parent.label_of(self.place)

    def end_with(self, place: int, ending: Ending, due: Due) -> None:
        """Hear how the returned value ended; called with the run's lock."""
        if ending[0] == "value" and not self._strategy.run.stopping:
            self._strategy.on_loop(lambda: self._strategy.spawn(self._keep(ending[1])))
            return
        self._give_up()
        self.parent.end_with(self.place, ending, due)

    async def _keep(self, value: Any) -> None:
        ending: Ending
        try:
            ending = ("value", await self.store(value))
        except Exception as error:
            ending = ("failed", error)
        self._give_up()
        due: Due = []
        if ending[0] == "failed":
            self._strategy.places.fail(self.parent, self.place, ending[1], due)
        else:
            self.parent.end_with(self.place, ending, due)
        self._strategy.places.advance_on_loop(due)


def _ancestors(entry: CacheEntry) -> list[tuple[Any, int]]:
    """The places that wait for an entry's call, the nearest first, through the runs that runs started."""
    found: list[tuple[Any, int]] = []
    current: Any = entry.parent
    while current is not None:
        if isinstance(current, MapExecution):
            found.append((current.scheduler, current.index))
            current = current.scheduler
        elif isinstance(current, CacheEntry):
            found.append((current, 0))
            found.append((current.parent, current.place))
            current = current.parent
        else:
            assert isinstance(current, Scheduler)
            if current.parent is not None:
                found.append((current.parent, current.parent_place))
                current = current.parent
            elif current.caller is not None:
                found.append(current.caller)
                current = current.caller[0]
            else:
                current = None
    return found
