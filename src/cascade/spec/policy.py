"""What can be asked for a computation beside its arguments, and the fluent methods that ask for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.exceptions import DeclarationError, LazyValueError
from cascade.spec.secret import mask

if TYPE_CHECKING:
    from typing import Self

    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.protocols import CachePolicy

type_of_retry_on = "an exception class, a tuple of them, or a function from an exception to a bool"


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed call is repeated, and after which wait.

    The wait before call k+1 is `min(delay * backoff ** (k - 1), max_delay)`, spread by `jitter`.

    Args:
        max_attempts: calls in all, the first included.
        delay: the wait after the first failure, in seconds.
        backoff: the factor by which each further wait grows.
        max_delay: the longest wait, in seconds; `None` for no bound.
        jitter: how far a wait is spread, as a fraction of it: 0.5 draws from 50% to 150%.
        retry_on: which failures are repeated: an exception class, a tuple of them, or a predicate.

    Raises:
        DeclarationError: a number is out of its range.

    >>> [Retry(max_attempts=4, delay=1.0, backoff=2.0, max_delay=3.0).wait_after(k) for k in (1, 2, 3)]
    [1.0, 2.0, 3.0]
    """

    max_attempts: int = 3
    delay: float = 0.0
    backoff: float = 1.0
    max_delay: float | None = None
    jitter: float = 0.0
    retry_on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool] = Exception

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise DeclarationError(
                f"max_attempts counts all calls, the first included: expected an int of at least 1, "
                f"got {self.max_attempts!r}"
            )
        for name, lowest in (("delay", 0.0), ("backoff", 0.0), ("jitter", 0.0), ("max_delay", 0.0)):
            value = getattr(self, name)
            if name == "max_delay" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value < math.inf:
                raise DeclarationError(f"{name} must be a finite number of at least {lowest:g}, got {value!r}")
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        classes = [kind for kind in kinds if isinstance(kind, type)]
        predicate = callable(self.retry_on) and not classes
        if not predicate and not (
            len(classes) == len(kinds) and all(issubclass(kind, BaseException) for kind in classes)
        ):
            raise DeclarationError(f"retry_on must be {type_of_retry_on}, got {self.retry_on!r}")

    def wait_after(self, attempt: int, draw: float = 0.5) -> float:
        """The wait after a failed attempt, in seconds.

        Args:
            attempt: which attempt failed, from 1 on.
            draw: a number in [0, 1) that decides within the jitter; 0.5 is the middle.
        """
        try:
            wait = self.delay * self.backoff ** (attempt - 1)
        except OverflowError:
            wait = math.inf
        if self.max_delay is not None:
            wait = min(wait, self.max_delay)
        return max(0.0, wait * (1.0 + self.jitter * (2.0 * draw - 1.0)))

    def covers(self, error: BaseException) -> bool:
        """Whether this failure is one to repeat."""
        if isinstance(self.retry_on, (type, tuple)):
            return isinstance(error, self.retry_on)
        return bool(self.retry_on(error))


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """All that was asked for one computation; unset fields leave the default."""

    run_if: LazyResult[Any] | None = None
    after: tuple[LazyResult[Any], ...] = ()
    retry: Retry | None = None
    timeout: float | None = None
    cache: CachePolicy | None = None
    constraints: Mapping[str, Any] | None = None
    name: str | None = None

    @property
    def governs_call(self) -> bool:
        """Whether anything here concerns how a single call is made."""
        return not (self.retry is None and self.timeout is None and self.cache is None and self.constraints is None)


DEFAULT: Final = Policy()


class Fluent:
    """The methods that return the same thing with a policy of its own; shared by tasks and lazy values."""

    __slots__ = ()

    policy: Policy | None

    def _with_policy(self, policy: Policy) -> Self:
        raise NotImplementedError

    def _asked(self, **changes: Any) -> Self:
        return self._with_policy(dataclasses.replace(self.policy or DEFAULT, **changes))

    def run_if(self, condition: LazyResult[Any]) -> Self:
        """Run only if the condition turns out truthy; otherwise this is skipped, and what needs it too.

        Args:
            condition: a lazy value. For a value known now use Python's own `if`, for one given at the run a `Param`.

        Raises:
            LazyValueError: the condition is no lazy value.
        """
        return self._asked(run_if=checked_condition(condition))

    def after(self, *earlier: LazyResult[Any]) -> Self:
        """Start only when these values are there, without using them.

        Args:
            earlier: lazy values; if one of them is skipped, this is skipped too.

        Raises:
            LazyValueError: one of them is no lazy value.
        """
        return self._asked(after=(self.policy or DEFAULT).after + checked_predecessors(earlier))

    def with_retry(
        self,
        max_attempts: int = 3,
        delay: float = 0.0,
        backoff: float = 1.0,
        max_delay: float | None = None,
        jitter: float = 0.0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool] = Exception,
    ) -> Self:
        """Repeat a failed call; see `Retry` for the arguments and their units."""
        return self._asked(retry=Retry(max_attempts, delay, backoff, max_delay, jitter, retry_on))

    def with_timeout(self, seconds: float) -> Self:
        """Fail an attempt with `TaskTimeoutError` when it takes longer.

        Args:
            seconds: the time for one attempt. A thread cannot be stopped: its late result is thrown away.
        """
        return self._asked(timeout=checked_timeout(seconds))

    def with_cache(self, policy: CachePolicy) -> Self:
        """Take the value from a cache when it is there, as `with_cache(cs.InputsCache())`."""
        return self._asked(cache=checked_cache(policy))

    def with_constraints(self, **amounts: Any) -> Self:
        """Take amounts of the system's resources for the time of the call, as `with_constraints(gpu=1)`.

        Args:
            amounts: a number or a lazy number for each resource.
        """
        return self._asked(constraints={**((self.policy or DEFAULT).constraints or {}), **amounts})

    def named(self, name: str) -> Self:
        """Give this computation a name of its own in events, errors and scopes."""
        if not isinstance(name, str) or not name:
            raise DeclarationError(f"a name must be a text that is not empty, got {name!r}")
        return self._asked(name=mask(name))


def is_lazy(value: object) -> bool:
    """Whether this is a lazy value, of whichever kind."""
    return getattr(type(value), "__cascade_lazy__", False) is True


def checked_condition(condition: Any) -> Any:
    if not is_lazy(condition):
        raise LazyValueError(
            f"run_if takes a lazy value, got {type(condition).__name__} {condition!r}. "
            "For a switch that is given at the run:  step.run_if(cs.Param('flag', type=bool));  "
            "for one that is known now use Python's own `if`"
        )
    return condition


def checked_predecessors(earlier: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in earlier:
        if not is_lazy(value):
            raise LazyValueError(
                f"after takes lazy values, got {type(value).__name__} {value!r}; write  step.after(other_step)"
            )
    return earlier


def checked_timeout(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise DeclarationError(f"a timeout must be a finite number of seconds above 0, got {seconds!r}")
    return float(seconds)


def checked_cache(policy: Any) -> Any:
    if not callable(getattr(policy, "key", None)):
        raise DeclarationError(f"with_cache takes a cache policy such as cs.InputsCache(), got {policy!r}")
    return policy
