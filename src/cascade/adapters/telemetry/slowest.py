"""Which calls of a run took longest, as far as looking at it from time to time can tell."""

from __future__ import annotations

from heapq import heappush, heapreplace, nlargest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.runtime.progress import CallUnderWay

MOST: Final = 3
"""How many are told."""
LEAST_SHARE: Final = 0.05
"""Of the run's time, for a call to be worth telling."""


class Slowest:
    """Keeps the calls that were seen under way for the longest time."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float, CallUnderWay]] = {}
        self._longest: list[tuple[float, int, CallUnderWay]] = []
        self._number = 0

    def look(self, calls: Iterable[CallUnderWay], now: float) -> None:
        """Take a look at the calls under way."""
        seen: dict[str, tuple[float, float, CallUnderWay]] = {}
        for call in calls:
            known = self._seen.pop(call.task_id, None)
            seen[call.task_id] = (now if known is None else known[0], now, call)
        for since, until, call in self._seen.values():
            self._keep(until - since, call)
        self._seen = seen

    def _keep(self, seconds: float, call: CallUnderWay) -> None:
        # The number keeps calls from being compared.
        self._number += 1
        entry = (seconds, self._number, call)
        if len(self._longest) < MOST:
            heappush(self._longest, entry)
        elif seconds > self._longest[0][0]:
            heapreplace(self._longest, entry)

    def found(self, duration: float) -> list[tuple[float, CallUnderWay]]:
        """The calls that took a good part of a run's time, the longest first, with their seconds.

        Args:
            duration: how long the run took, in seconds.
        """
        self.look((), 0.0)
        return [
            (seconds, call)
            for seconds, _, call in nlargest(MOST, self._longest)
            if seconds >= duration * LEAST_SHARE and seconds > 0.0
        ]
