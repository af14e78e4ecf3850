"""Named points at which tests may make things fail: kill the process, raise, or pause it."""

from __future__ import annotations

from collections.abc import Callable

on_reach: Callable[[str], None] | None = None
"""Called with the name of each point that is reached; only tests set it."""


def reach(point: str) -> None:
    """Note that a named point in journaling or in the handling of leases is reached."""
    if on_reach is not None:
        on_reach(point)
