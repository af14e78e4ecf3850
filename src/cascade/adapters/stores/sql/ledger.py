"""What the owner of a run remembers of its journal, so that no index has to be asked or kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cascade.adapters.stores.sql.schema import POSITION_BITS

if TYPE_CHECKING:
    from cascade.spec.records import RecordKind

FINAL_KINDS = frozenset({"value", "skipped"})
"""Records of these kinds are never replaced, except by somebody who says the same thing again."""


class Scope:
    """Where the records of a scope lie, how many they are, and which of them may still be replaced."""

    __slots__ = ("count", "first", "last", "open")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first
        self.count = 0
        self.open: dict[bytes, int] | None = None


class Ledger:
    """The places of one run's records, right as long as its owner has not changed.

    It does not know the places of final records, which may be as many as the nodes of the run. Should one be written
    again, it gets a second place, and who reads takes the later record at the earlier place.
    """

    __slots__ = ("count", "has_files", "next_place", "scopes")

    def __init__(self, run: int) -> None:
        self.next_place = run << POSITION_BITS
        self.scopes: dict[bytes, Scope] = {}
        self.count = 0
        self.has_files = False

    def load(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take note of what there is: place, scope, node, kind and file of each record, in the order of places."""
        for place, scope, node, kind, file in rows:
            self.note(place, scope, node, kind)
            self.has_files = self.has_files or file is not None

    def note(self, place: int, scope: bytes, node: bytes, kind: RecordKind) -> None:
        """A record was put at a new place."""
        known = self.scopes.get(scope)
        if known is None:
            known = self.scopes[scope] = Scope(place)
        known.last = place
        known.count += 1
        self.count += 1
        self.next_place = place + 1
        if kind not in FINAL_KINDS:
            if known.open is None:
                known.open = {}
            known.open[node] = place

    def place_of(self, scope: bytes, node: bytes, kind: RecordKind) -> int | None:
        """The place of the record that one of this kind replaces, if it is known."""
        known = self.scopes.get(scope)
        if known is None or not known.open:
            return None
        return known.open.pop(node, None) if kind in FINAL_KINDS else known.open.get(node)

    def drop(self, scope: bytes) -> Scope | None:
        """Forget a scope; where its records lie, if it has any."""
        known = self.scopes.pop(scope, None)
        if known is not None:
            self.count -= known.count
        return known


def places_of_run(run: int) -> tuple[int, int]:
    """The first and the last place that records of a run can have."""
    return run << POSITION_BITS, ((run + 1) << POSITION_BITS) - 1
