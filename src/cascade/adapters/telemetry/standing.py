"""What a reporter knows of one run: where it stands, how fast it is, and what has troubled it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cascade.adapters.telemetry.slowest import Slowest
from cascade.adapters.telemetry.wording import counted, harmless, lasting, per_second, roughly
from cascade.runtime.events import TaskAbandoned, TaskBlocked, TaskRetrying
from cascade.runtime.preview import describe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade.runtime.events import Event, RunFinished
    from cascade.runtime.progress import RunProgress, TaskProgress

_SECONDS_OF_RATE: Final = 10.0
_SECONDS_BEFORE_ESTIMATE: Final = 5.0
_ENDED_BEFORE_ESTIMATE: Final = 5
WORTH_TELLING: Final = 5.0
"""How long a run must have taken, in seconds, for its end to be told in more than a line."""
_MOST_ERRORS: Final = 5
_MOST_REASONS: Final = 2
_MOST_NAMES: Final = 200
_LONGEST_NAME: Final = 40
_LOUD: Final = 10


class Standing:
    """Where one run stands.

    Attributes:
        began: when it was first seen, on the engine's monotonic clock.
        progress: how far it had come when it was looked at last.
        rows: the calls by name, those included whose graphs have ended.
        rate: how many calls end in a second, at present; `None` until that is known.
        retries: how many attempts were followed by another.
        abandoned: how many calls were left behind.
        retrying: how many calls wait for their next attempt now, by the name of the task.
        blocked: how many calls are held back now, by the name of the task.
        reasons: the same by what holds them back.
        slowest: which calls took longest.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.progress: RunProgress | None = None
        self.rows: dict[str, TaskProgress] = {}
        self.rate: float | None = None
        self.retries = 0
        self.abandoned = 0
        self.retrying: Counter[str] = Counter()
        self.blocked: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.slowest = Slowest()
        self._retries_by_name: dict[str, int] = {}
        self._told_reasons: dict[str, int] = {}
        self._held_back = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._grew = began
        self._total = 0

    def update(self, progress: RunProgress, now: float, nested: Sequence[RunProgress] = ()) -> None:
        """Take a look.

        Args:
            progress: how far the run has come.
            now: when that was, on the engine's monotonic clock.
            nested: how far the runs have come that calls of this one have started.
        """
        self.progress = progress
        ended = progress.done + progress.failed
        samples = self._samples
        if not samples:
            samples.append((self.began, 0))
        samples.append((now, ended))
        while len(samples) > 2 and samples[1][0] <= now - _SECONDS_OF_RATE:
            samples.popleft()
        if progress.total > self._total and self._total:
            self._grew = now
        self._total = progress.total
        since, before = samples[0]
        self.rate = (ended - before) / (now - since) if now > since and ended > before else None
        # Where a graph was too large to look at this time, the rows stay as they were seen last.
        if progress.tasks is not None:
            self._keep_rows((*progress.tasks, *(task for inner in nested for task in inner.tasks or ())))
        if progress.held_back is not None:
            self._held_back = sum(held.calls for held in progress.held_back)
            self.blocked.clear()
            self.reasons.clear()
            for seen in (progress, *nested):
                for held in seen.held_back or ():
                    self.blocked[held.name] += held.calls
                    self.reasons[held.reason] += held.calls
        self.retrying.clear()
        for seen in (progress, *nested):
            self.retrying.update(dict(seen.retrying))

    def _keep_rows(self, tasks: tuple[TaskProgress, ...]) -> None:
        """Graphs that have ended are not seen any more: what was known of their calls is then done."""
        seen: dict[str, TaskProgress] = {}
        for task in tasks:
            other = seen.get(task.name)
            seen[task.name] = task if other is None else _joined(task, other)
        for name, row in self.rows.items():
            task = seen.pop(name, row)
            if task is row or (task.total < row.total and not task.active):
                self.rows[name] = replace(
                    row, done=max(row.done, row.total - row.skipped - row.failed), active=0, is_complete=True
                )
            else:
                self.rows[name] = task
        for name, task in seen.items():
            if len(self.rows) < _MOST_NAMES:
                self.rows[name] = task

    @property
    def name(self) -> str:
        """What was asked for, harmless to a terminal."""
        return harmless((self.progress and self.progress.target) or "run", _LONGEST_NAME)

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at the present rate; `None` where nothing can be said."""
        progress = self.progress
        if progress is None or not self.rate or not progress.is_complete or progress.is_stopping:
            return None
        if self._held_back and not self.active:
            # What was done until now tells nothing of how long that will last.
            return None
        ended = progress.done + progress.failed
        if self._samples[-1][0] - self.began < _SECONDS_BEFORE_ESTIMATE or ended < _ENDED_BEFORE_ESTIMATE:
            return None
        if self._samples[-1][0] - self._grew < _SECONDS_OF_RATE and self._grew > self.began:
            # Work that makes work: nobody knows how much there will be.
            return None
        return (progress.total - progress.done - progress.failed - progress.skipped) / self.rate

    @property
    def active(self) -> int:
        """How many calls are being made, or wait for nothing but somebody to make them."""
        progress = self.progress
        if progress is None or progress.active is None:
            return 0
        # What waits in nested runs is none of this run's own calls.
        return max(0, progress.active - self._held_back - sum(calls for _, calls in progress.retrying))

    def note(self, event: Event) -> str | None:
        """Count a trouble; what to say besides it, or `None` if it was said often enough before."""
        match event:
            case TaskRetrying():
                self.retries += 1
                times = _one_more(self._retries_by_name, event.task_name)
                return None if _is_quiet(times) else f" ({counted(times, 'retry')} so far)" * (times > _LOUD)
            case TaskBlocked():
                # Of many tasks that wait for one thing, that is told once.
                return None if _one_more(self._told_reasons, event.reason) > 1 else ""
            case TaskAbandoned():
                self.abandoned += 1
                return ""
            case _:
                return ""

    def line(self) -> str:
        """How far the run has come, in one line."""
        progress = self.progress
        if progress is None:
            return f"{self.name}: under way"
        parts = [f"{self.name}: {counted(progress.done)} of {_total(progress)} done"]
        if self.rate is not None:
            parts.append(per_second(self.rate))
        if self.active:
            parts.append(f"{counted(self.active)} active")
        parts += self.waits()
        parts += self.troubles()
        if self.seconds_left is not None:
            parts.append(f"about {roughly(self.seconds_left)} left")
        return ", ".join(parts)

    def waits(self) -> list[str]:
        """Who could go on and may not yet: how many, and what most of them wait for."""
        found: list[str] = []
        if self.retrying:
            found.append(f"{counted(self.retrying.total())} waiting to be tried again")
        found += (
            f"{counted(calls)} blocked: {harmless(reason)}" for reason, calls in self.reasons.most_common(_MOST_REASONS)
        )
        if len(self.reasons) > _MOST_REASONS:
            others = sum(calls for _, calls in self.reasons.most_common()[_MOST_REASONS:])
            found.append(f"{counted(others)} blocked by other things")
        return found

    def troubles(self) -> list[str]:
        """What went not as it should, where anything did."""
        found: list[str] = []
        if self.progress is not None:
            if self.progress.failed:
                found.append(f"{counted(self.progress.failed)} failed")
            if self.progress.skipped:
                found.append(f"{counted(self.progress.skipped)} skipped")
        if self.retries:
            found.append(counted(self.retries, "retry"))
        if self.abandoned:
            found.append(f"{counted(self.abandoned)} abandoned")
        return found

    def summary(self, event: RunFinished, errors: Sequence[BaseException] = ()) -> str:
        """How it ended, in one line; of a longer run also which calls were slowest and which failed, a line each.

        Args:
            event: tells that it has ended.
            errors: what failed.
        """
        took = lasting(event.duration)
        progress = self.progress
        if event.status == "Succeeded":
            parts = [f"{self.name}: finished in {took}"]
            if progress is not None:
                parts.append(counted(progress.done, "task"))
        else:
            parts = [f"{self.name}: {event.status.lower()} after {took}"]
            if progress is not None:
                parts.append(f"{counted(progress.done)} of {_total(progress)} done")
        parts += self.troubles()
        lines = [", ".join(parts)]
        if event.duration >= WORTH_TELLING:
            lines += (
                f"    {harmless(call.task_id)} took about {roughly(seconds)}{_place(call.declared_at)}"
                for seconds, call in self.slowest.found(event.duration)
            )
            lines += (f"    {_told(error)}" for error in errors[:_MOST_ERRORS])
            if len(errors) > _MOST_ERRORS:
                lines.append(f"    and {counted(len(errors) - _MOST_ERRORS, 'more failure')}")
        return "\n".join(lines)


def _place(declared_at: tuple[str, int] | None) -> str:
    return "" if declared_at is None else f", called at {harmless(f'{declared_at[0]}:{declared_at[1]}')}"


def _told(error: BaseException) -> str:
    """An error in one line, with the notes on its task and on the line where that was called."""
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    where = [note for note in notes if note.startswith(("in task ", "in item ", "declared at "))][:2]
    return ", ".join([harmless(describe_error(error)), *map(harmless, where)])


def _joined(one: TaskProgress, other: TaskProgress) -> TaskProgress:
    return replace(
        one,
        total=one.total + other.total,
        done=one.done + other.done,
        active=one.active + other.active,
        skipped=one.skipped + other.skipped,
        failed=one.failed + other.failed,
        is_complete=one.is_complete and other.is_complete,
    )


def _total(progress: RunProgress) -> str:
    """All calls that are known; with a plus where more are to come."""
    if progress.is_complete:
        return counted(progress.total, "task")
    return f"{counted(progress.total)}+ tasks"


def _one_more(counts: dict[Any, int], key: Any) -> int:
    if key not in counts and len(counts) >= _MOST_NAMES:
        # Names without end: the oldest are forgotten, and told again if they come again.
        del counts[next(iter(counts))]
    times = counts[key] = counts.get(key, 0) + 1
    return times


def _is_quiet(times: int) -> bool:
    """Whether what has happened so often need not be said again: the first times it is, then ever rarer."""
    return times > _LOUD and times & (times - 1) != 0
