"""How far a run has come, as the process that has it tells in its store now and then: a setting, for who watches."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cascade.runtime.held_back import HeldBack
from cascade.runtime.progress import CallUnderWay, RunProgress, TaskProgress, calls_under_way, progress_of_run
from cascade.spec.secret import mask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.protocols import Store

SECONDS_KEPT: Final = 10.0
"""For how long it is told unless it is told again: who is killed tells nothing more."""
_MOST_TASKS: Final = 100
_MOST_CALLS: Final = 3
_PREFIX: Final = "progress:"


class KeptProgress(NamedTuple):
    """What a process has told of a run that it has.

    Attributes:
        progress: how far it had come.
        calls: a few of the calls that were being made.
    """

    progress: RunProgress
    calls: tuple[CallUnderWay, ...]


def keep_progress(store: Store, strategy: GraphExecutionStrategy, now: float) -> None:
    """Tell how far a run has come.

    Args:
        now: in seconds since the epoch.
    """
    progress = progress_of_run(strategy)
    told = asdict(progress)
    told["tasks"] = None if progress.tasks is None else told["tasks"][:_MOST_TASKS]
    told["held_back"] = None if progress.held_back is None else progress.held_back[:_MOST_TASKS]
    told["retrying"] = progress.retrying[:_MOST_TASKS]
    told["calls"] = [(call.task_id, call.declared_at) for call in calls_under_way(strategy)[:_MOST_CALLS]]
    store.put_setting(_PREFIX + progress.run_id, mask(json.dumps(told)), now + SECONDS_KEPT)


def kept_progress(settings: Mapping[str, str], run_id: str) -> KeptProgress | None:
    """What was told of a run last; `None` if that is nothing, or long ago."""
    text = settings.get(_PREFIX + run_id)
    if text is None:
        return None
    try:
        told: dict[str, Any] = json.loads(text)
        calls = tuple(CallUnderWay(task_id, at and (at[0], at[1])) for task_id, at in told.pop("calls"))
        tasks, held_back = told["tasks"], told["held_back"]
        told["tasks"] = None if tasks is None else tuple(TaskProgress(**task) for task in tasks)
        told["held_back"] = None if held_back is None else tuple(HeldBack(*held) for held in held_back)
        told["retrying"] = tuple((name, calls) for name, calls in told["retrying"])
        return KeptProgress(RunProgress(**told), calls)
    except (ValueError, TypeError, LookupError, AttributeError):
        # Of another version of Cascade.
        return None


def forget_progress(store: Store, run_id: str) -> None:
    """Tell no more of a run, which has ended."""
    store.remove_setting(_PREFIX + run_id)
