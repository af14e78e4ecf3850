"""Looking again and again, at a bounded cost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cascade.spec.protocols import Clock

T = TypeVar("T")
_BETWEEN_LOOKS: Final = 0.5
_MOST_OF_TIME: Final = 0.1


def looks(look: Callable[[], T], clock: Clock, between_turns: float) -> Iterator[tuple[T, bool]]:
    """What is seen, turn by turn, and whether it is new.

    It is looked twice a second, or so seldom that looking takes no more than a tenth of the time.

    Args:
        look: takes a look.
        clock: measures how long that takes.
        between_turns: seconds.
    """
    pause = threading.Event()
    while True:
        began = clock.monotonic()
        seen = look()
        took = clock.monotonic() - began
        yield seen, True
        due = clock.monotonic() + max(_BETWEEN_LOOKS, took / _MOST_OF_TIME)
        while (left := due - clock.monotonic()) > 0.0:
            pause.wait(min(between_turns, left))
            if clock.monotonic() < due:
                yield seen, False
