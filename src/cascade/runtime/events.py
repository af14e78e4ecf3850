"""What a run tells while it goes on: frozen values, named by what has happened.

For every node that computes something exactly one terminal event is published, `TaskExecutionFinished` or
`TaskSkipped`, and all events of a run are delivered before the run returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["Succeeded", "Failed", "Cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything that a run tells.

    Attributes:
        run_id: the run.
        timestamp: when it happened, in seconds since the epoch.
    """

    run_id: str
    timestamp: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBlocked(Event):
    """A run could begin but for an owner on another machine, which may be alive; told before `RunStarted`.

    Attributes:
        owner: who has the run, in words.
        seconds: for how long its lease is waited for at most.
    """

    owner: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run has been validated and is about to start its first node.

    Attributes:
        target_tasks: the names of what was asked for, each once.
        params: the parameters that were given.
    """

    target_tasks: tuple[str, ...]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A run has ended: nothing of it runs any more and its resources are torn down.

    Attributes:
        status: how it ended.
        duration: from `RunStarted` on, in seconds.
        error: what went wrong, or `None`.
    """

    status: Status
    duration: float
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent(Event):
    """Anything that a run tells about one node.

    Attributes:
        task_id: the node's id, unique within its run.
        task_name: its name.
    """

    task_id: str
    task_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecutionStarted(TaskEvent):
    """The first attempt of a call is about to be made, or a map is about to start its items.

    Attributes:
        inputs: the ids of the calls and maps of its graph that it comes after, the first hundred of them.
    """

    inputs: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecutionFinished(TaskEvent):
    """A call has ended, after its last attempt; terminal.

    Attributes:
        status: how it ended.
        duration: from `TaskExecutionStarted` on, in seconds.
        result_preview: a bounded `repr` of the result, or `None` if there is none.
        error: type and message of what went wrong, or `None`.
        continues_as: where the call returned a lazy value, the id of the node that computes it.
    """

    status: Status
    duration: float
    result_preview: str | None = None
    error: str | None = None
    continues_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSkipped(TaskEvent):
    """A node will not run, or its value came from a cache (`CacheHit`); terminal.

    Attributes:
        reason: one of `ConditionFalse`, `ConditionMissing`, `UpstreamSkipped_Condition`,
            `UpstreamSkipped_Sequence`, `UpstreamSkipped_Route`, `UpstreamSkipped_Data`, `UpstreamFailed`, `Pruned`,
            `RunStopped` and `CacheHit`.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRetrying(TaskEvent):
    """An attempt has failed and another will be made after a wait.

    Attributes:
        attempt: which attempt failed, from 1 on.
        max_attempts: how many there may be in all.
        delay: the wait, in seconds.
        error: type and message of what went wrong.
    """

    attempt: int
    max_attempts: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBlocked(TaskEvent):
    """A call could start but is held back, by a limit or because a capacity is in use; told once a call.

    Attributes:
        reason: what holds it back, in words.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAbandoned(TaskEvent):
    """A call goes on although nobody waits for it any more: its time was over and nothing could stop it.

    Attributes:
        timeout: the time that it was given, in seconds.
    """

    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLogged(TaskEvent):
    """A call has logged something with `cs.log`.

    Attributes:
        attempt: which attempt of the call, from 1 on.
        level: the name of the level, as `INFO`.
        text: the message, with the traceback if there is one; bounded.
        is_handled: whether a handler of Python's `logging` was given it too.
    """

    attempt: int
    level: str
    text: str
    is_handled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutput(TaskEvent):
    """A call has printed one or more lines, which have also gone where they always go.

    Who wants to hear this subscribes before the run starts.

    Attributes:
        channel: `stdout` or `stderr`.
        text: the lines, without the last end of line; bounded.
    """

    channel: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked(TaskEvent):
    """A call has kept the event loop from everything else; delivered when the loop goes on.

    Attributes:
        seconds: for how long it had done so when this was noticed.
        stack: where the call was then, as in a traceback.
    """

    seconds: float
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceAcquired(Event):
    """An injected resource has been set up.

    Attributes:
        resource_name: its name.
    """

    resource_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceReleased(Event):
    """An injected resource has been torn down.

    Attributes:
        resource_name: its name.
    """

    resource_name: str
