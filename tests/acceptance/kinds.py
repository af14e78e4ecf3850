"""The same function as a task of each kind, so that one test holds a rule for all of them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

import cascade as cs

KINDS = ("sync", "async", "waiting", "inline", "policy")
"""Worker thread; coroutine that never waits; coroutine that does; on the loop; with a policy of its call."""

each_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, function: Callable[..., Any], **options: Any) -> cs.Task[..., Any]:
    """A task of a kind that calls the function."""
    if kind == "async" or kind == "waiting":

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if kind == "waiting":
                await asyncio.sleep(0)
            return function(*args, **kwargs)

        return cs.task(call, **options)
    if kind == "inline":
        options["executor"] = "inline"
    elif kind == "policy":
        options["retry"] = 1
    return cs.task(function, **options)


class Log:
    """What was called with what, in order; appending is atomic, so any thread may write."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def task(self, kind: str = "sync", name: str = "note", **options: Any) -> cs.Task[..., Any]:
        """A task that notes its first argument and returns it; further arguments are only waited for."""

        def note(label: Any, *more: Any) -> Any:
            self.entries.append(label)
            return label

        return made(kind, note, name=name, **options)

    def times(self, label: Any) -> int:
        return self.entries.count(label)
