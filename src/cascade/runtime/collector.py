"""The policy towards the garbage collector: it rests while a graph is built and planned, and at no other time.

Building makes a few objects a node, all of which stay, and runs no code of users; a collector that walks the growing
graph again and again finds nothing and takes as long as the building itself. While tasks run it works as the program
has set it up: what they leave behind is theirs to bound.
"""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType


class _Rest:
    """Keeps the collector from running for the time of a `with` block; blocks on several threads add up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._was_enabled = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._blocks += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks and self._was_enabled:
                gc.enable()


collector_at_rest: Final = _Rest()
"""While a block of this is entered, no garbage is collected; afterwards the collector is as it was."""
