"""What a case is: what is done, who does it, and what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["seconds", "bytes", "frames"]
Relation = Literal["absolute", "ratio", "difference"]


@dataclass(frozen=True)
class Call:
    """A function, called in a process of its own, that returns a number of the case's unit.

    Args:
        terminal: whether the process has a terminal as stderr.
        limit: after how many seconds it is given up.
        note: what a reader must know of it, as a smaller size.
    """

    module: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    terminal: bool = False
    limit: float = 120.0
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """What Cascade's number must not exceed.

    Args:
        most: the number itself, its ratio to the first reference, or by how much it may be more than that.
    """

    most: float
    relation: Relation = "absolute"

    def reached(self, value: float, reference: float | None) -> bool | None:
        """Whether a value reaches the goal; `None` where the reference that it needs is missing."""
        measured = self.measure(value, reference)
        return None if measured is None else measured <= self.most

    def measure(self, value: float, reference: float | None) -> float | None:
        if self.relation == "absolute":
            return value
        if not reference:
            return None
        return value / reference if self.relation == "ratio" else value - reference


@dataclass(frozen=True)
class Case:
    """One row of the results.

    Args:
        name: what `--case` chooses by.
        what: in words.
        per: what the number is of: `"task"`, `"turn"`, `"run"`, ...
        cascade: how Cascade does it, if it does it at all.
        references: what it is compared with in the same run, by what it is called; a goal means the first.
        ideal: what it would take if nothing cost anything; a goal means this before the references.
        peers: how others do it, by their names.
        goals: all must be reached.
        rounds: how many times everything is measured, unless the command line says so.
        quick: whether `bench-quick` has it, which looks at the ratio to the first reference.
    """

    name: str
    what: str
    per: str
    cascade: Call | None
    references: Mapping[str, Call] = field(default_factory=dict[str, Call])
    ideal: float | None = None
    peers: Mapping[str, Call] = field(default_factory=dict[str, Call])
    goals: tuple[Goal, ...] = ()
    unit: Unit = "seconds"
    rounds: int = 5
    quick: bool = False
