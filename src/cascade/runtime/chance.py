"""The one place that makes ids and draws numbers: with a seed, the same ones every time."""

from __future__ import annotations

import random
import threading
from itertools import product
from typing import Final

# Crockford's base 32: its digits sort in the order of their values, and none is mistaken for another.
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(map("".join, product(_DIGITS, repeat=2)))
_CHANCE_BITS: Final = 25
_SHIFTS: Final = tuple(range(70, -1, -10))


class Randomness:
    """Numbers by chance, and ids made of time and chance.

    Args:
        seed: gives the same numbers and ids in every process; `None` takes them from the operating system, so
            that forked processes differ.

    >>> chance = Randomness(seed=7)
    >>> earlier, later = chance.run_id(now=1000.0), chance.run_id(now=1000.0)
    >>> earlier < later, len(earlier)
    (True, 16)
    """

    def __init__(self, seed: int | None = None) -> None:
        self._source = random.SystemRandom() if seed is None else random.Random(seed)
        self._lock = threading.Lock()
        self._stamp = -1

    def random(self) -> float:
        """A number in [0, 1)."""
        return self._source.random()

    def run_id(self, now: float) -> str:
        """An id that sorts by time and is not given twice: 11 digits of microseconds and 5 of chance.

        Args:
            now: wall time, in seconds since the epoch.
        """
        with self._lock:
            # Ids of one source keep their order even within a microsecond or when the wall clock is set back.
            self._stamp = max(int(now * 1e6), self._stamp + 1)
            stamp = self._stamp
        value = stamp << _CHANCE_BITS | self._source.getrandbits(_CHANCE_BITS)
        return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])
