"""What a task can ask about the call that it is in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from cascade.spec.exceptions import CascadeError, RunCancelledError


class CallContext:
    """The call that runs here: which one, which attempt, and whether it was asked to stop.

    Attributes:
        run_id: the run.
        task_id: the node's id in the run.
        task_name: the task's name.
        attempt: which attempt this is, from 1 on.
    """

    __slots__ = ("_asked_to_stop", "_key", "attempt", "run_id", "task_id", "task_name")

    def __init__(
        self,
        run_id: str,
        task_id: str,
        task_name: str,
        attempt: int,
        asked_to_stop: Callable[[], bool],
        idempotency_key: str | Callable[[], str] = "",
    ) -> None:
        self.run_id = run_id
        self.task_id = task_id
        self.task_name = task_name
        self.attempt = attempt
        self._asked_to_stop = asked_to_stop
        self._key = idempotency_key

    @property
    def idempotency_key(self) -> str:
        """What stands for this call in every attempt, made when somebody asks for it."""
        return self._key if isinstance(self._key, str) else self._key()

    def cancelled(self) -> bool:
        """Whether the call was asked to stop."""
        return self._asked_to_stop()

    def told(self) -> dict[str, str | int]:
        """What another process that makes the call must know, as plain values."""
        return {
            "run_id": self.run_id,
            "task_id": self.task_id,
            "task_name": self.task_name,
            "attempt": self.attempt,
            "idempotency_key": self.idempotency_key,
        }


current_call: Final[ContextVar[CallContext | Callable[[], CallContext]]] = ContextVar("cascade_call")
"""The `CallContext` here, or a function that gives it: plain calls build theirs only when somebody asks."""


def _in_worker_process() -> CallContext | None:
    """The call that a worker process makes: what runs there need not have loaded Cascade before it."""
    worker: Any = sys.modules.get("cascade.adapters.executors._process_worker")
    if worker is None or "task_id" not in worker.current_context:
        return None
    return CallContext(**worker.current_context, asked_to_stop=worker.cancel_requested.is_set)


def call_context() -> CallContext | None:
    """The call that runs here, or `None` outside a task."""
    found: CallContext | Callable[[], CallContext] | None = current_call.get(None) or _in_worker_process()
    return found if found is None or isinstance(found, CallContext) else found()


def cancelled() -> bool:
    """Tell whether the call that runs here was asked to stop: poll it in long loops.

    Outside a task it is false.
    """
    context = call_context()
    return context is not None and context.cancelled()


def checkpoint() -> None:
    """End the call that runs here if it was asked to stop: a place in a long computation where that does no harm.

    Outside a task it does nothing.

    Raises:
        RunCancelledError: the call was asked to stop.

    >>> checkpoint()
    """
    context = call_context()
    if context is not None and context.cancelled():
        raise RunCancelledError(f"task '{context.task_name}' ({context.task_id}) was asked to stop, at a checkpoint")


def attempt() -> int:
    """Which attempt of its task the call that runs here is, from 1 on.

    In a durable run that goes on after a failure, attempts made before are counted.

    Raises:
        CascadeError: there is no call here.
    """
    return _context_for("attempt()").attempt


def idempotency_key() -> str:
    """What stands for the call that runs here in every attempt at it: 32 hexadecimal digits.

    A durable run calls a task again if it was killed before the end of the call was committed. An outside system that
    takes such a key does what it is asked once.

    Raises:
        CascadeError: there is no call here.
    """
    return _context_for("idempotency_key()").idempotency_key


def _context_for(question: str) -> CallContext:
    context = call_context()
    if context is None:
        raise CascadeError(f"{question} tells about the call of a task, and no task runs here")
    return context
