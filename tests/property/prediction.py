"""What there is to say about a run: how nodes end, what is called, what fails. In texts and numbers alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Error = tuple[Any, ...]
"""An exception: the name of its class and, for those of tasks, its arguments."""


@dataclass(frozen=True)
class Value:
    """A node has this result."""

    value: Any


@dataclass(frozen=True)
class Skipped:
    """A node was skipped.

    Attributes:
        reason: why.
        routed: it is a router whose chosen route was skipped, for which its consumers have a reason of their own.
        members: the reasons of a container's members, which may be told instead of its own.
    """

    reason: str
    routed: bool = False
    members: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True)
class Failed:
    """A node failed, or was `skipped` because something that it needs failed."""

    skipped: bool = False


Outcome = Value | Skipped | Failed


@dataclass
class Ledger:
    """What happened. In what is `spare`, each entry may be missing: a run that fails need not do it all."""

    calls: Counter[int] = field(default_factory=Counter)
    spare_calls: Counter[int] = field(default_factory=Counter)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    spare_ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[Error, ...]] = field(default_factory=list)
    vague: bool = False

    def absorb(self, other: Ledger, *, spare: bool) -> None:
        self.spare_calls += other.spare_calls
        self.spare_ends += other.spare_ends
        self.vague |= other.vague
        if spare:
            self.spare_calls += other.calls
            self.spare_ends += other.ends
        else:
            self.calls += other.calls
            self.ends += other.ends
            self.failures += other.failures


@dataclass(frozen=True)
class Prediction:
    """What a run must do if it goes on after failures; a run that stops does a part of it.

    Attributes:
        outcome: the target's.
        reasons: why the target was skipped, if it was and the rules say it exactly.
        ledger: calls by function, ends of calls and maps by name, and failures: one each, with alternatives.
        values: results of the workflow's own calls and maps, by their place.
        idle: the places of those that have none.
    """

    outcome: Outcome
    reasons: frozenset[str]
    ledger: Ledger
    values: dict[int, Any]
    idle: frozenset[int]
