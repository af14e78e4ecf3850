"""What acceptance tests watch a run with: its trace, a limit on hanging, and calls that wait for a sign."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import cascade as cs
from cascade.runtime.events import (
    ResourceAcquired,
    ResourceReleased,
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskEvent,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskRetrying,
    TaskSkipped,
)

R = TypeVar("R")

PATIENCE = 30.0
"""Real seconds until something that should happen at once counts as hanging, on a machine with much else to do."""


def run(target: Any, params: Any = None, **options: Any) -> Any:
    """`cs.run`, silently."""
    return cs.run(target, params, log_level="CRITICAL", **options)


def promptly(function: Callable[[], R], patience: float = PATIENCE) -> R:
    """Call on a thread of its own, so that a hang fails the test and nothing else."""
    ended: list[Callable[[], Any]] = []

    def work() -> None:
        try:
            value = function()
        except BaseException as error:
            raised = error

            def fail() -> Any:
                raise raised

            ended.append(fail)
        else:
            ended.append(lambda: value)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience)
    if not ended:
        raise AssertionError("it hangs")
    try:
        return ended[0]()  # type: ignore[no-any-return]
    finally:
        ended.clear()


def await_sign(event: threading.Event) -> None:
    """Wait for an event that is sure to come."""
    assert event.wait(PATIENCE), "the sign never came"


class Trace:
    """All events of a bus, and short lines of them to compare as a whole."""

    def __init__(self, bus: cs.MessageBus | None = None) -> None:
        self.bus = bus or cs.MessageBus()
        self.events: list[cs.Event] = []
        self.cancel = self.bus.subscribe(cs.Event, self.events.append)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def lines(self) -> list[str]:
        return [line(event) for event in self.events]

    def terminal(self) -> dict[str, list[str]]:
        """For each node what its terminal events were."""
        found: dict[str, list[str]] = {}
        for event in self.events:
            if isinstance(event, TaskExecutionFinished):
                found.setdefault(self._node(event), []).append(event.status)
            elif isinstance(event, TaskSkipped):
                found.setdefault(self._node(event), []).append(event.reason)
        return found

    def _node(self, event: TaskEvent) -> str:
        """The node's id, with the run's where that is not the first that the trace saw."""
        nested = self.events and event.run_id != self.events[0].run_id
        return f"{event.run_id}: {event.task_id}" if nested else event.task_id


def line(event: cs.Event) -> str:
    """An event in words, without what differs from run to run."""
    match event:
        case RunStarted():
            return f"run {','.join(event.target_tasks)}"
        case RunFinished():
            return f"end {event.status}" + (f" {event.error}" if event.error else "")
        case TaskExecutionStarted():
            return f"start {event.task_id}"
        case TaskExecutionFinished():
            more = f" -> {event.continues_as}" if event.continues_as else ""
            failed = f" {event.error}" if event.error else ""
            preview = f" = {event.result_preview}" if event.result_preview is not None else ""
            return f"{event.status} {event.task_id}{preview}{more}{failed}"
        case TaskSkipped():
            return f"skip {event.task_id} {event.reason}"
        case TaskRetrying():
            return f"retry {event.task_id} {event.attempt}/{event.max_attempts} {event.delay:g} {event.error}"
        case TaskBlocked():
            return f"blocked {event.task_id}"
        case ResourceAcquired():
            return f"acquire {event.resource_name}"
        case ResourceReleased():
            return f"release {event.resource_name}"
    return type(event).__name__
