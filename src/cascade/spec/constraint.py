"""What a call needs of the system, and what people may forbid it while it runs."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from cascade.spec.exceptions import CapacityError, DeclarationError

if TYPE_CHECKING:
    from typing import Self

Amount: TypeAlias = int | float | Decimal | Fraction
ConstraintType: TypeAlias = Literal["pause", "concurrency", "rate_limit"]

_TYPES: Final = ("pause", "concurrency", "rate_limit")
_SCOPES: Final = ("task", "run", "tag")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE: Final = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*/\s*([smhd])\s*")


def exact_amount(resource: str, amount: Any) -> int | Fraction:
    """The amount as a number that adds up exactly: 0.1 means a tenth, not the float nearest to it.

    Args:
        resource: whose amount it is, for the error.
        amount: a finite number of at least 0.

    Raises:
        CapacityError: it is none.

    >>> exact_amount("memory_gb", 0.1) * 10
    Fraction(1, 1)
    """
    if type(amount) is int and amount >= 0:
        return amount
    exact: int | Fraction | None = None
    if isinstance(amount, bool):
        pass
    elif isinstance(amount, numbers.Integral):
        exact = int(amount)
    elif isinstance(amount, float):
        # float's own repr, since a subclass (as NumPy's) may show itself in another way.
        exact = Fraction(float.__repr__(amount)) if math.isfinite(amount) else None
    elif isinstance(amount, Decimal):
        exact = Fraction(amount) if amount.is_finite() else None
    elif isinstance(amount, numbers.Rational):
        exact = Fraction(int(amount.numerator), int(amount.denominator))
    elif isinstance(amount, numbers.Real):
        exact = Fraction(repr(float(amount))) if math.isfinite(amount) else None
    if exact is None or exact < 0:
        raise CapacityError(
            f"an amount of the resource '{resource}' must be a finite number of at least 0, "
            f"got {type(amount).__name__} {amount!r}"
        )
    return exact.numerator if exact.denominator == 1 else exact


@dataclasses.dataclass(frozen=True, slots=True)
class ResourceConstraint:
    """The amounts of the system's resources that a call takes while it runs.

    Args:
        amounts: for each resource a number, or a lazy value of one.

    Raises:
        CapacityError: an amount is known already and is no finite number of at least 0; lists all such
            amounts.

    >>> ResourceConstraint({"gpu": 1}).merged(ResourceConstraint({"memory_gb": 0.5})).amounts
    mappingproxy({'gpu': 1, 'memory_gb': 0.5})
    """

    amounts: Mapping[str, Any]

    def __post_init__(self) -> None:
        problems: list[str] = []
        amounts: Mapping[Any, Any] = self.amounts
        for resource, amount in amounts.items():
            if not isinstance(resource, str) or not resource:
                problems.append(f"a resource is named by a text that is not empty, got {resource!r}")
            elif not _is_lazy(amount):
                try:
                    exact_amount(resource, amount)
                except CapacityError as error:
                    problems += error.problems
        if problems:
            raise CapacityError(*problems)
        object.__setattr__(self, "amounts", MappingProxyType(dict(self.amounts)))

    @property
    def lazy_amounts(self) -> Mapping[str, Any]:
        """The amounts that are lazy values: known only when the run has computed them."""
        return {resource: amount for resource, amount in self.amounts.items() if _is_lazy(amount)}

    def merged(self, other: ResourceConstraint) -> ResourceConstraint:
        """These amounts and the other's; the other's win."""
        return ResourceConstraint({**self.amounts, **other.amounts})


@dataclasses.dataclass(frozen=True, slots=True)
class GlobalConstraint:
    """A limit that is put on an engine while it runs; made by `pause`, `concurrency` and `rate_limit`.

    Args:
        scope: the calls it holds for: `"global"`, `"task:<glob>"` by the task's name, `"run:<id>"`,
            `"tag:<glob>"` by any of the task's tags.
        type: `"pause"`, `"concurrency"` or `"rate_limit"`.
        limit: for concurrency, how many such calls may run at once; 0 is a pause.
        rate: for a rate limit, how many such calls may start, per second.
        burst: for a rate limit, how many may start at once after a time without any.
        ttl: after how many seconds the limit ends by itself; `None` for never.

    Raises:
        DeclarationError: a part is not of this form.
    """

    scope: str
    type: ConstraintType
    limit: int | None = None
    rate: float | None = None
    burst: int = 1
    ttl: float | None = None

    def __post_init__(self) -> None:
        split_scope(self.scope)
        if self.type not in _TYPES:
            raise DeclarationError(f"expected a constraint of type {_listed(_TYPES)}, got {self.type!r}")
        if self.ttl is not None and not _is_positive(self.ttl):
            raise DeclarationError(f"a ttl must be a finite number of seconds above 0, or None, got {self.ttl!r}")
        if self.type == "concurrency" and not _is_count(self.limit, 0):
            raise DeclarationError(f"a concurrency limit must be an int of at least 0, got {self.limit!r}")
        if self.type == "rate_limit" and not _is_positive(self.rate):
            raise DeclarationError(f"a rate must be a finite number of calls a second above 0, got {self.rate!r}")
        if not _is_count(self.burst, 1):
            raise DeclarationError(f"a burst must be an int of at least 1, got {self.burst!r}")

    @classmethod
    def pause(cls, scope: str = "global", *, ttl: float | None = None) -> Self:
        """Let no call start; those that run go on.

        >>> str(GlobalConstraint.pause("task:fetch*"))
        'pause on task:fetch*'
        """
        return cls(scope, "pause", ttl=ttl)

    @classmethod
    def concurrency(cls, limit: int, scope: str = "global", *, ttl: float | None = None) -> Self:
        """Let at most `limit` calls run at once; 0 is a pause.

        >>> str(GlobalConstraint.concurrency(2, "tag:database"))
        'concurrency 2 on tag:database'
        """
        return cls(scope, "concurrency", limit=limit, ttl=ttl)

    @classmethod
    def rate_limit(cls, rate: float | str, burst: int = 1, scope: str = "global", *, ttl: float | None = None) -> Self:
        """Let calls start no faster than this.

        Args:
            rate: calls a second, or a text such as `"5/s"`, `"10/m"`, `"2/h"`, `"100/d"`.
            burst: how many may start at once after a time without any.
            scope: the calls it holds for.
            ttl: after how many seconds the limit ends by itself.

        Raises:
            DeclarationError: a part is not of this form.

        >>> str(GlobalConstraint.rate_limit("10/m", burst=3))
        'rate 10/m burst 3 on global'
        """
        return cls(scope, "rate_limit", rate=calls_per_second(rate), burst=burst, ttl=ttl)

    def __str__(self) -> str:
        if self.type == "concurrency":
            return f"concurrency {self.limit} on {self.scope}"
        if self.rate is not None and self.type == "rate_limit":
            burst = f" burst {self.burst}" if self.burst > 1 else ""
            return f"rate {_rate_text(self.rate)}{burst} on {self.scope}"
        return f"{self.type} on {self.scope}"


def split_scope(scope: Any) -> tuple[str, str]:
    """The kind of a scope (`global`, `task`, `run`, `tag`) and its pattern.

    Raises:
        DeclarationError: it is no scope.

    >>> split_scope("task:fetch*")
    ('task', 'fetch*')
    """
    if isinstance(scope, str):
        if scope == "global":
            return scope, ""
        kind, _, pattern = scope.partition(":")
        if kind in _SCOPES and pattern:
            return kind, pattern
    raise DeclarationError(f"a scope must be 'global', 'task:<glob>', 'run:<id>' or 'tag:<glob>', got {scope!r}")


def calls_per_second(rate: Any) -> float:
    """A rate as a number of calls a second.

    Args:
        rate: such a number, or a text: a count, a slash and one of s, m, h, d.

    Raises:
        DeclarationError: it is neither, or not above 0.

    >>> calls_per_second("30/m")
    0.5
    """
    number: Any = rate
    if isinstance(rate, str):
        parts = _RATE.fullmatch(rate)
        number = float(Fraction(parts[1]) / _SECONDS[parts[2]]) if parts else None
    if not _is_positive(number):
        raise DeclarationError(
            "a rate must be a number of calls a second above 0, or a text such as '5/s', '10/m', '2/h' or "
            f"'100/d', got {rate!r}; to let no call start, pause the scope"
        )
    return float(number)


def _rate_text(rate: float) -> str:
    for unit, seconds in _SECONDS.items():
        count = rate * seconds
        if count >= 1.0 and math.isclose(count, round(count), rel_tol=1e-9):
            return f"{round(count)}/{unit}"
    return f"{rate:g}/s"


def _is_positive(number: Any) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and 0.0 < number < math.inf


def _is_count(number: Any, lowest: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= lowest


def _is_lazy(value: object) -> bool:
    return getattr(type(value), "__cascade_lazy__", False) is True


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names[:-1]) + f" or {names[-1]!r}"
