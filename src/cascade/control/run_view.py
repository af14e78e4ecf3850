"""How far a run has come, from what its store knows: for who looks from another process.

A store knows what has ended. What runs, waits, or is still to come only the process knows that has the run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from cascade.runtime.progress import RunProgress, TaskProgress
from cascade.spec.records import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade.spec.records import Record, RecordKind, RunRow

SECONDS_OF_RATE: Final = 10.0
_MOST_ERRORS: Final = 5
_DONE: Final[frozenset[RecordKind]] = frozenset(("value", "volatile"))
_when_ended: Final = attrgetter("ended")


class RunView(NamedTuple):
    """How far a run had come at a moment.

    Attributes:
        progress: its calls by task; of those that have not ended only the ones are known that go on with what they
            returned.
        retries: how many attempts were followed by another.
        rate: how many calls have ended in a second, in the last ten.
        errors: the last failures, the newest first.
    """

    progress: RunProgress
    retries: int
    rate: float
    errors: Sequence[Record]


def view_of(
    row: RunRow,
    records: Sequence[Record],
    now: float,
    *,
    is_stopping: bool = False,
    told: RunProgress | None = None,
) -> RunView:
    """How far a run has come.

    Args:
        row: the run.
        records: all that the store has of it.
        now: in seconds since the epoch.
        is_stopping: whether it was asked to stop.
        told: what its process tells, which is a second old, and has what the store does not know.
    """
    by_name: dict[str, Counter[RecordKind]] = {}
    errors: list[Record] = []
    retries = lately = 0
    since = now - SECONDS_OF_RATE
    for record in records:
        # Of a map its items are the calls; what concerns the whole run is none.
        if record.scope == ROOT or record.is_of_map:
            continue
        by_name.setdefault(record.name, Counter())[record.kind] += 1
        retries += record.attempt - 1
        if record.kind == "failed":
            errors.append(record)
        if record.ended > since and record.kind in _DONE:
            lately += 1
    has_ended = row.status != "running"
    tasks = tuple(_task(name, kinds, is_complete=has_ended) for name, kinds in by_name.items())
    progress = RunProgress(
        run_id=row.run_id,
        parent_id=None,
        target=row.target,
        is_stopping=is_stopping,
        total=sum(task.total for task in tasks),
        done=sum(task.done for task in tasks),
        active=sum(task.active for task in tasks),
        skipped=sum(task.skipped for task in tasks),
        failed=sum(task.failed for task in tasks),
        graphs=1,
        is_complete=has_ended,
        tasks=tasks,
    )
    if told is not None:
        progress = replace(
            told, tasks=tasks if told.tasks is None else told.tasks, is_stopping=is_stopping or told.is_stopping
        )
    span = min(SECONDS_OF_RATE, max(now - row.created, 0.1))
    return RunView(progress, retries, lately / span, nlargest(_MOST_ERRORS, errors, key=_when_ended))


def _task(name: str, kinds: Counter[RecordKind], *, is_complete: bool) -> TaskProgress:
    return TaskProgress(
        name=name,
        total=kinds.total(),
        done=sum(kinds[kind] for kind in _DONE),
        active=kinds["continues"],
        skipped=kinds["skipped"],
        failed=kinds["failed"],
        is_complete=is_complete,
    )
