"""Coroutines of any event loop that wait for a decision which is made in any thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Waiter:
    """One waiting coroutine: made on its own loop, woken from anywhere."""

    __slots__ = ("_future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self.loop.create_future()

    async def woken(self) -> None:
        """Suspend until somebody wakes this waiter."""
        await self._future

    def stop_waiting(self) -> None:
        """End the wait; only on the waiter's own loop."""
        if not self._future.done():
            self._future.set_result(None)


W = TypeVar("W", bound=Waiter)


def wake(waiters: Iterable[W]) -> list[W]:
    """Wake waiters in their order, each loop once, and return those whose loop is closed.

    A waiter that is woken may have been cancelled in the meantime: it then knows by itself what it must give
    back.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[W]] = {}
    for waiter in waiters:
        by_loop.setdefault(waiter.loop, []).append(waiter)
    lost: list[W] = []
    for loop, group in by_loop.items():
        if loop is _running_loop():
            _stop_waiting(group)
            continue
        try:
            loop.call_soon_threadsafe(_stop_waiting, group)
        except RuntimeError:
            lost.extend(group)
    return lost


def _stop_waiting(waiters: Sequence[Waiter]) -> None:
    for waiter in waiters:
        waiter.stop_waiting()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
