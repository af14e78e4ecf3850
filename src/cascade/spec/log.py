"""Logging inside tasks: standard `logging`, with the call that logs attached."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.context import call_context
from cascade.spec.secret import FORMS, mask

if TYPE_CHECKING:
    from types import TracebackType

    # The class takes a parameter only for type checkers.
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

LOGGER: Final = "cascade.task"

listeners: Final[list[Callable[[logging.LogRecord, bool], bool]]] = []
"""Called with each record, and whether a handler of `logging` takes it too; each tells whether it has taken it."""

_formatter: Final = logging.Formatter()


class _Handling(threading.local):
    is_on = False


handling: Final = _Handling()
"""Whether this thread has `logging` handle a record that listeners were told of: what is printed now says the same."""


class TaskLog(_Adapter):
    """Logs as the logger `cascade.task` does, with the call that runs here attached to each record.

    `debug`, `info`, `warning`, `error`, `exception` and `log` are those of a `logging.Logger`. Records have the
    attributes `run_id`, `task_id`, `task_name` and `attempt`; outside a task these are empty, and `attempt` is 0. What
    is logged in a worker process is logged by the process that started it. Secrets are masked.

    >>> import cascade as cs
    >>> @cs.task
    ... def load(rows: int) -> int:
    ...     cs.log.info("loaded %d rows", rows)
    ...     return rows
    >>> cs.run(load(3))
    3
    """

    def __init__(self) -> None:
        super().__init__(logging.getLogger(LOGGER), {})

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name that `logging` gives it
        """Whether a record of this level goes anywhere."""
        return bool(listeners) or _worker() is not None or self.logger.isEnabledFor(level)

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        exc_info: Any = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Log a message; `%` in it stands for the arguments."""
        if not self.isEnabledFor(level):
            return
        # One for this method.
        file, line, function, stack = self.logger.findCaller(stack_info, stacklevel + 1)
        record = self.logger.makeRecord(
            LOGGER, level, file, line, msg, args, _as_info(exc_info), function, {**(extra or {}), **_about()}, stack
        )
        if FORMS:
            _mask(record)
        worker = _worker()
        if worker is None:
            pass_on(record)
        else:
            worker.say(_sendable(record))


def pass_on(record: logging.LogRecord) -> None:
    """Hand a record to Python's logging and to who listens."""
    logger = logging.getLogger(LOGGER)
    is_enabled = logger.isEnabledFor(record.levelno)
    is_handled = is_enabled and logger.hasHandlers()
    told = [listener(record, is_handled) for listener in listeners]
    # What nobody shows is shown by `logging` in its own way: warnings on stderr, the rest not at all.
    if is_handled or (is_enabled and not any(told)):
        outer, handling.is_on = handling.is_on, True
        try:
            logger.handle(record)
        finally:
            handling.is_on = outer


def text_of(record: logging.LogRecord) -> str:
    """The message, with the traceback if there is one."""
    text = record.getMessage()
    if record.exc_info and not record.exc_text:
        record.exc_text = mask(_formatter.formatException(record.exc_info))
    return "\n".join(part for part in (text, record.exc_text, record.stack_info) if part)


def receive(told: Mapping[str, Any]) -> None:
    """Log what a worker process has sent."""
    record = logging.makeLogRecord(told)
    if FORMS:
        _mask(record)
    pass_on(record)


def _about() -> dict[str, object]:
    context = call_context()
    if context is None:
        return {"run_id": "", "task_id": "", "task_name": "", "attempt": 0}
    return {
        "run_id": context.run_id,
        "task_id": context.task_id,
        "task_name": context.task_name,
        "attempt": context.attempt,
    }


def _as_info(given: Any) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    found = given if isinstance(given, tuple) else sys.exc_info() if given else None
    return None if found is None or found[0] is None else found


def _mask(record: logging.LogRecord) -> None:
    record.msg, record.args = mask(record.getMessage()), None
    if record.exc_info:
        record.exc_text = mask(record.exc_text or _formatter.formatException(record.exc_info))
    elif record.exc_text:
        record.exc_text = mask(record.exc_text)
    if record.stack_info:
        record.stack_info = mask(record.stack_info)


def _worker() -> Any:
    """The module that makes calls in a worker process, inside one."""
    worker: Any = sys.modules.get("cascade.adapters.executors._process_worker")
    return worker if worker is not None and "task_id" in worker.current_context else None


def _sendable(record: logging.LogRecord) -> dict[str, Any]:
    """A record as plain values: arguments and exceptions may not be fit to travel."""
    message = record.getMessage()
    if record.exc_info and not record.exc_text:
        record.exc_text = _formatter.formatException(record.exc_info)
    kept = {name: value for name, value in vars(record).items() if isinstance(value, str | int | float | None)}
    return {**kept, "msg": message, "args": None, "exc_info": None}


log: Final = TaskLog()
