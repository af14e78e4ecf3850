"""Events as sentences, one line each."""

from __future__ import annotations

from typing import Any, Final

from cascade.adapters.telemetry.wording import harmless, lasting
from cascade.runtime.events import (
    Event,
    LoopBlocked,
    ResourceAcquired,
    ResourceReleased,
    RunBlocked,
    RunFinished,
    RunStarted,
    TaskAbandoned,
    TaskBlocked,
    TaskEvent,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskLogged,
    TaskOutput,
    TaskRetrying,
    TaskSkipped,
)

_LONGEST_LINE: Final = 1_000


def sentence(event: Event) -> str:
    """What an event says, for people; no terminal obeys what stands in it.

    >>> sentence(TaskBlocked(run_id="r", task_id="train#3", task_name="train", reason="waiting for gpu"))
    'blocked train#3: waiting for gpu'
    """
    if isinstance(event, TaskEvent):
        return _of_task(event, harmless(event.task_id))
    match event:
        case RunBlocked():
            waits = f"waits {lasting(event.seconds)} at most, until its lease has run out"
            return f"blocked run {harmless(event.run_id)}: {harmless(event.owner)} has it and may be alive; {waits}"
        case RunStarted():
            names = harmless(", ".join(event.target_tasks)) or "nothing"
            return f"run {harmless(event.run_id)} started: {names}"
        case RunFinished():
            ended = f"run {harmless(event.run_id)} {event.status.lower()} after {lasting(event.duration)}"
            return ended if event.error is None else f"{ended}: {harmless(event.error)}"
        case ResourceAcquired():
            return f"resource {harmless(event.resource_name)} set up"
        case ResourceReleased():
            return f"resource {harmless(event.resource_name)} torn down"
        case _:
            return harmless(repr(event))


def logged(event: TaskLogged) -> str:
    """What a call has logged, with all its lines."""
    lines = event.text.splitlines() or [""]
    head = f"{harmless(event.level)} {harmless(event.task_id)}: {harmless(lines[0], _LONGEST_LINE)}"
    return "\n".join([head, *(f"    {harmless(line, _LONGEST_LINE)}" for line in lines[1:])])


def _of_task(event: Any, task: str) -> str:
    match event:
        case TaskExecutionStarted():
            return f"started {task}"
        case TaskExecutionFinished(status="Succeeded"):
            took = lasting(event.duration)
            if event.continues_as is not None:
                return f"finished {task} in {took}, goes on as {harmless(event.continues_as)}"
            return f"finished {task} in {took}: {harmless(event.result_preview or '')}"
        case TaskExecutionFinished():
            ended = f"{event.status.lower()} {task} after {lasting(event.duration)}"
            return ended if event.error is None else f"{ended}: {harmless(event.error)}"
        case TaskSkipped():
            return f"skipped {task}: {harmless(event.reason)}"
        case TaskRetrying():
            wait = f"next in {lasting(event.delay)}" if event.delay > 0 else "trying again"
            tried = f"attempt {event.attempt} of {event.max_attempts}"
            return f"retrying {task}: {tried} failed with {harmless(event.error)}; {wait}"
        case TaskBlocked():
            return f"blocked {task}: {harmless(event.reason)}"
        case TaskLogged():
            return f"{harmless(event.level)} {task}: {harmless(event.text)}"
        case TaskOutput():
            return f"{task} printed: {harmless(event.text)}"
        case LoopBlocked():
            where = harmless(event.stack.strip().rpartition("File ")[2])
            return f"{task} has blocked its event loop for {lasting(event.seconds)}, at {where}"
        case TaskAbandoned():
            return f"abandoned {task}: nothing could stop it, and it goes on"
        case _:
            return harmless(repr(event))
