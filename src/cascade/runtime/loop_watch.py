"""Noticing that a call keeps an event loop from everything else, and telling which one.

A thread asks each loop a few times a second for a sign of life. Where none comes for long, and one and the same call
has been at work all that time, that call blocks the loop: it computes, or waits for something without `await`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.clock import SystemClock
from cascade.runtime.events import LoopBlocked
from cascade.spec.exceptions import BlockedLoopWarning
from cascade.spec.secret import mask

if TYPE_CHECKING:
    from types import FrameType

    from cascade.runtime.run import Caller
    from cascade.runtime.strategies.graph import GraphExecutionStrategy

_LOOKS: Final = 4
"""In the time after which a loop counts as blocked."""
_SHORTEST_WAIT: Final = 0.005
_LONGEST: Final = 60.0
_IDLE_LOOKS: Final = 16
_MOST_FRAMES: Final = 12
_MOST_WARNED: Final = 1_000
_ENGINE: Final = str(Path(__file__).resolve().parents[1]) + os.sep


class LoopWatch:
    """Watches the event loops of runs while asyncio tasks of theirs are under way.

    Its thread ends when there is nothing to watch for some looks.
    """

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._watched: set[GraphExecutionStrategy] = set()
        self._thread: threading.Thread | None = None
        self._shortest = _LONGEST
        self._warned: dict[str, None] = {}

    def add(self, strategy: GraphExecutionStrategy) -> None:
        """Watch the loop of a run for as long as it has asyncio tasks; on that loop, after the first one was made."""
        blocked_after = strategy.engine.blocked_after
        if blocked_after is None or not isinstance(strategy.run.clock, SystemClock):
            return
        with self._lock:
            self._watched.add(strategy)
            self._shortest = min(self._shortest, blocked_after)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cascade-loop-watch", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        beats: dict[asyncio.AbstractEventLoop, _Beat] = {}
        pause = threading.Event()
        idle = 0
        while True:
            with self._lock:
                self._watched = {strategy for strategy in self._watched if strategy.tasks}
                watched = list(self._watched)
                idle = 0 if watched else idle + 1
                if idle > _IDLE_LOOKS:
                    self._thread = None
                    self._shortest = _LONGEST
                    return
            loops = {strategy.run.loop for strategy in watched}
            beats = {loop: beats.get(loop) or _Beat(loop) for loop in loops}
            for loop in loops:
                self._look(beats[loop], watched)
            # Runs that have ended are not kept alive by the wait.
            del watched, loops
            pause.wait(max(_SHORTEST_WAIT, self._shortest / _LOOKS))

    def _look(self, beat: _Beat, watched: list[GraphExecutionStrategy]) -> None:
        if beat.has_come:
            beat.ask(self._clock.monotonic())
            return
        found = _at_work(beat.loop, watched)
        if found is None:
            beat.suspect = None
            return
        strategy, suspect = found
        now = self._clock.monotonic()
        if suspect is not beat.suspect:
            beat.suspect, beat.since, beat.is_told = suspect, now, False
            return
        blocked_for = now - beat.since
        if not beat.is_told and blocked_for >= (strategy.engine.blocked_after or 0.0):
            beat.is_told = True
            self._tell(strategy, suspect, blocked_for)

    def _tell(self, strategy: GraphExecutionStrategy, suspect: Caller, seconds: float) -> None:
        run = strategy.run
        where, frame = suspect.where(), vars(sys)["_current_frames"]().get(run.loop_thread)
        if where is None or frame is None:
            return
        parent, place = where
        name = parent.name_of(place)
        stack = _stack(frame)
        if run.engine.bus.wants(LoopBlocked):
            run.teller.tell(
                LoopBlocked(
                    run_id=run.id,
                    timestamp=run.clock.now(),
                    task_id=parent.place_id(place),
                    task_name=name,
                    seconds=seconds,
                    stack=mask("".join(traceback.format_list(stack)).rstrip()),
                )
            )
        if name in self._warned:
            return
        self._warned[name] = None
        while len(self._warned) > _MOST_WARNED:
            del self._warned[next(iter(self._warned))]
        _warn(name, parent.place_id(place), seconds, stack)


class _Beat:
    """A sign of life that a loop was asked for.

    Attributes:
        suspect: the call that was at work when it was looked at, and since when it was.
        is_told: whether that was told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.has_come = True
        self.suspect: Caller | None = None
        self.since = 0.0
        self.is_told = False

    def ask(self, now: float) -> None:
        self.has_come = False
        self.suspect = None
        self.since = now
        try:
            self.loop.call_soon_threadsafe(self._come)
        except RuntimeError:
            # The loop was closed.
            self.has_come = True

    def _come(self) -> None:
        self.has_come = True


def _at_work(
    loop: asyncio.AbstractEventLoop, watched: list[GraphExecutionStrategy]
) -> tuple[GraphExecutionStrategy, Caller] | None:
    """The call that a loop is making at this moment."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    for strategy in watched:
        if strategy.run.loop is loop:
            caller = _caller_in(strategy, task)
            if caller is not None:
                return strategy, caller
    return None


def _caller_in(strategy: GraphExecutionStrategy, task: asyncio.Task[Any]) -> Caller | None:
    """The call of a run that an asyncio task makes."""
    caller = strategy.dispatcher.coroutines.caller_in(task)
    if caller is not None:
        return caller
    try:
        return next((attempt for attempt in strategy.attempts if attempt.making is task), None)
    except RuntimeError:
        # They changed meanwhile, so the loop is not blocked.
        return None


def _stack(frame: FrameType) -> list[traceback.FrameSummary]:
    """Where a call is: the frames from the innermost out to the engine's own."""
    frames: list[FrameType] = []
    current: FrameType | None = frame
    while current is not None and not current.f_code.co_filename.startswith(_ENGINE):
        frames.append(current)
        current = current.f_back
    frames = frames[:_MOST_FRAMES] or [frame]
    return [
        traceback.FrameSummary(each.f_code.co_filename, each.f_lineno, each.f_code.co_name) for each in reversed(frames)
    ]


def _warn(name: str, task_id: str, seconds: float, stack: list[traceback.FrameSummary]) -> None:
    place = stack[0]
    where = "".join(traceback.format_list(stack)).rstrip()
    message = mask(
        f"task '{name}' ({task_id}) has kept its event loop from everything else for {seconds:.1f} seconds; await what "
        f"it waits for, or make it a plain function, which gets a thread of its own. It is at\n{where}"
    )
    try:
        warnings.warn_explicit(message, BlockedLoopWarning, place.filename, place.lineno or 1)
    except Warning as error:
        # Where warnings are errors this one must not end the thread that watches; it is shown as any other.
        warnings.showwarning(error, BlockedLoopWarning, place.filename, place.lineno or 1)


LOOP_WATCH = LoopWatch()


def _forget() -> None:
    LOOP_WATCH.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    # The thread is not there in a forked child.
    os.register_at_fork(after_in_child=_forget)
