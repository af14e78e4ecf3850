"""What tests of cancellation share: cancelling at each await of a loop, and looking for what is left."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import cascade as cs
from cascade.runtime import spare_loop
from cascade.runtime.events import RunFinished

EVERY_AWAIT = bool(int(os.environ.get("CASCADE_EVERY_AWAIT", "0")))
"""Whether nothing is left out where all awaits would take too long for every day."""

_PATIENCE = 30.0
_OWN_TIME = "cascade-loop-watch"
"""A thread of the process, and of no engine: it ends by itself some seconds after the last run."""


class Awaits:
    """Counts the awaits at which coroutines of a loop wait, and acts at some of them.

    It is the loop's task factory, so it sees the tasks that are made from then on: an act happens while the coroutine
    that waits is about to give up the loop, whichever task it belongs to.

    Attributes:
        count: how many awaits there were since `begin`.
        running: the latest task that `cancelling` has run.
        lines: where they were: the file and the line of each frame of what waited; `None` to note nothing.
    """

    running: asyncio.Task[Any]

    def __init__(self) -> None:
        self.count = 0
        self.lines: set[tuple[str, int]] | None = None
        self._acts: dict[int, Callable[[], object]] = {}

    def begin(self, acts: Mapping[int, Callable[[], object]]) -> None:
        """Count from now on; the first await is 1."""
        self.count = 0
        self._acts = dict(acts)

    def make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        """The loop's task factory."""
        return asyncio.Task(_Watched(coroutine, self), loop=loop, **options)

    async def cancelling(self, coroutine: Coroutine[Any, Any, Any], *numbers: int) -> asyncio.Task[Any]:
        """Run a coroutine as a task, cancel it at the awaits of these numbers, and wait until it has ended.

        Await 0 is before it has begun.
        """
        self.running = running = asyncio.get_running_loop().create_task(coroutine)
        self.begin(dict.fromkeys(numbers, running.cancel))
        if 0 in numbers:
            running.cancel()
        await asyncio.wait([running])
        return running

    def meet(self, coroutine: Any) -> None:
        """Hear that a coroutine waits for something."""
        self.count += 1
        if self.lines is not None:
            self.lines.update(_frames(coroutine))
        act = self._acts.pop(self.count, None)
        if act is not None:
            act()


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that tells when it waits."""

    def __init__(self, coroutine: Any, awaits: Awaits) -> None:
        self._coroutine = coroutine
        self._awaits = awaits

    def send(self, value: Any) -> Any:
        waited_for = self._coroutine.send(value)
        self._awaits.meet(self._coroutine)
        return waited_for

    def throw(self, *error: Any) -> Any:
        waited_for = self._coroutine.throw(*error)
        self._awaits.meet(self._coroutine)
        return waited_for

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Iterator[Any]:
        return self._coroutine.__await__()


def _frames(waiting: Any) -> Iterator[tuple[str, int]]:
    """The frames of what waits, from the outermost in; those inside of an asynchronous generator cannot be seen."""
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            yield frame.f_code.co_filename, frame.f_lineno
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
        if waiting is None and frame is not None:
            # The engine drives calls without `await`, each in a context of its own.
            waiting = frame.f_locals.get("coroutine")


class CancelledHandles:
    """Runs started by `cs.start` that are cancelled through their handles at some awaits of their own loops.

    Attributes:
        handle: the latest.
    """

    handle: cs.RunHandle[Any]

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._awaits = Awaits()
        self._events: Iterator[cs.Event] = iter(())
        # It would not be counted.
        _close_kept_loop()
        monkeypatch.setattr(asyncio, "new_event_loop", self._make_loop)

    @property
    def count(self) -> int:
        """How many awaits the latest run had."""
        return self._awaits.count

    def start(self, start: Callable[[], cs.RunHandle[Any]], *numbers: int) -> None:
        """Start a run to be cancelled at the awaits of these numbers; await 0 is any that it happens to be at."""
        made: SimpleQueue[cs.RunHandle[Any]] = SimpleQueue()

        def cancel() -> None:
            handle = made.get(timeout=_PATIENCE)
            made.put(handle)
            handle.cancel("enough")

        self._awaits.begin(dict.fromkeys(numbers, cancel))
        self.handle = start()
        self._events = self.handle.events()
        made.put(self.handle)
        if 0 in numbers:
            cancel()

    def has_ended_as_it_says(self) -> Any:
        """See that value, status and events tell the same; the value, or `None` if the run was cancelled."""
        # Which is only so if the events end.
        finished = [event for event in self._events if isinstance(event, RunFinished)]
        reason: str | None = None
        value: Any = None
        try:
            value = self.handle.result(_PATIENCE)
        except cs.RunCancelledError as error:
            reason = str(error)
        assert reason in (None, "enough")
        status = "succeeded" if reason is None else "cancelled"
        assert self.handle.status == status
        assert [event.status.lower() for event in finished] in ([], [status])
        return value

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.set_task_factory(self._awaits.make_task)
        return loop


class Belongings:
    """What this process has of the system: open files, child processes, threads."""

    def __init__(self) -> None:
        self.files = _open_files()
        self.children = _children()
        self.threads = set(threading.enumerate())

    def check_files(self, where: str) -> None:
        """See that no more files are open than before."""
        now = _open_files()
        assert len(now) <= len(self.files), f"{where}: {sorted(set(now) - set(self.files))} are open"

    def check(self, where: str) -> None:
        """See that there is nothing more than before, once what is about to end has ended."""
        for thread in set(threading.enumerate()) - self.threads:
            if thread.name != _OWN_TIME:
                thread.join(_PATIENCE)
                assert not thread.is_alive(), f"{where}: {thread} goes on"
        assert _children() <= self.children, f"{where}: there are child processes"
        self.check_files(where)


def _close_kept_loop() -> None:
    """Close the loop that is kept for the next run, which is nobody's."""
    while spare_loop._spare:
        spare_loop._spare.pop().get_loop().close()


def _open_files() -> list[str]:
    """What each file descriptor stands for."""
    _close_kept_loop()
    found: list[str] = []
    for number in os.listdir("/dev/fd"):
        try:
            found.append(f"{number} {os.readlink(f'/dev/fd/{number}')}")
        except FileNotFoundError:
            # That of the list itself.
            continue
        except OSError:
            found.append(number)
    return found


def _children() -> set[str]:
    """The ids of this process's children, on Linux."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        # The thread that was found may have ended.
        with suppress(FileNotFoundError, ProcessLookupError):
            found.update(file.read_text().split())
    return found
