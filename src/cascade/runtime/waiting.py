"""Waiting that survives restarts: for a moment, and for a signal from outside."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from cascade.runtime.run import current_caller, current_run
from cascade.spec.convert import kind_of
from cascade.spec.exceptions import DeclarationError
from cascade.spec.task import task

if TYPE_CHECKING:
    from collections.abc import Generator

    from cascade.runtime.run import Run
    from cascade.spec.lazy_types import LazyResult

R = TypeVar("R")

_LONGEST_SLEEP: Final = 60.0
"""Seconds: the wall clock may be set, and a machine may sleep."""


def sleep_until(moment: dt.datetime) -> LazyResult[dt.datetime]:
    """A value that is there from a moment on: the moment itself.

    It waits on the engine's loop and holds no worker. A durable run that is resumed waits for what is left of the
    time, and not at all if the moment has passed.

    Args:
        moment: with a time zone; without one it is local time.

    Raises:
        DeclarationError: it is no datetime.

    >>> import datetime as dt
    >>> import cascade as cs
    >>> new_year = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)
    >>> cs.run(cs.sleep_until(new_year)) == new_year
    True
    """
    if not isinstance(moment, dt.datetime):
        raise DeclarationError(
            f"sleep_until takes a datetime, got {type(moment).__name__}; write  sleep_until(datetime(2030, 1, 1, 8))"
        )
    return _made_for_caller(_sleep_until(moment if moment.tzinfo is not None else moment.astimezone()))


@task(name="sleep_until")
async def _sleep_until(moment: dt.datetime) -> dt.datetime:
    run = _run()
    with _shown(run, f"sleeping until {moment:%Y-%m-%d %H:%M:%S%z}"):
        while (left := moment.timestamp() - run.clock.now()) > 0.0:
            await run.clock.sleep(min(left, _LONGEST_SLEEP))
    return moment


@overload
def wait_for_signal(name: str, type: type[R]) -> LazyResult[R]: ...
@overload
def wait_for_signal(name: str, type: None = None) -> LazyResult[Any]: ...
def wait_for_signal(name: str, type: Any = None) -> LazyResult[Any]:
    """The value of a signal that is sent to the run from outside: an approval, an answer, a file's name.

    Signals of one name are taken in the order in which they were sent, each once; one that comes before anybody waits
    is kept. Waiting holds no worker. In a durable run it survives restarts, and signals can be sent by `cascade signal
    RUN NAME VALUE` also while nothing runs.

    Args:
        name: what the signal is called.
        type: what its value must be, as for `Param`; `None` takes it as it comes.

    Raises:
        DeclarationError: the name is empty or no text.

    >>> import asyncio
    >>> import cascade as cs
    >>> async def main() -> str:
    ...     async with cs.create_engine() as engine:
    ...         await engine.send_signal("deploy-7", "approved", "yes")
    ...         return await engine.run(cs.wait_for_signal("approved", str), run_id="deploy-7")
    >>> asyncio.run(main())
    'yes'
    """
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"a signal is waited for by its name, a text that is not empty, got {name!r}")
    kind_of(type)
    return _made_for_caller(_wait_for_signal(name, type))


@task(name="wait_for_signal")
async def _wait_for_signal(name: str, type: Any) -> Any:
    run = _run()
    with _shown(run, f"waiting for the signal '{name}'"):
        return await run.engine.signals.take(run, name, kind_of(type))


@contextmanager
def _shown(run: Run, reason: str) -> Generator[None]:
    """Let whoever looks at the run see what this call waits for."""
    caller = current_caller.get()
    assert caller is not None
    run.awaiting[caller] = reason
    try:
        yield
    finally:
        del run.awaiting[caller]


def _made_for_caller(lazy: LazyResult[R]) -> LazyResult[R]:
    """The same, as made on the line of whoever called the function that this is called in."""
    lazy._place(2)  # pyright: ignore[reportPrivateUsage]
    return lazy


def _run() -> Run:
    run = current_run.get()
    assert run is not None, "a task runs in a run"
    return run
