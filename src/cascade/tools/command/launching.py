"""Running a workflow in a store, and ending as its run does."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import typer

from cascade.adapters.telemetry import reporting
from cascade.adapters.telemetry.wording import harmless
from cascade.app import create_engine
from cascade.runtime.events import RunStarted
from cascade.runtime.spare_loop import run_on_spare_loop
from cascade.spec.exceptions import CorruptedValueError, ParameterError
from cascade.tools.command.endings import FAILED, INTERRUPTED, WRONG_USE, message_of, status_of
from cascade.tools.report import failure_text, input_problems, result_text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from cascade.runtime.durability.session import DurableStore
    from cascade.runtime.engine import Engine
    from cascade.spec.records import RunRow
    from cascade.tools.command.locating import Located
    from cascade.tools.command.programs import Program


class Log(NamedTuple):
    """How much is told on stderr while a workflow runs, and how."""

    level: str
    format: str

    def say(self, text: str) -> None:
        """Tell people something about the command itself."""
        if self.level != "CRITICAL" and self.format == "human":
            typer.echo(text, err=True)


def launch(
    found: RunRow | None,
    located: Located,
    program: Program,
    params: Mapping[str, Any],
    run_id: str,
    durable: DurableStore,
    log: Log,
    again: str,
) -> None:
    """Run a workflow, print what it gives, and end with the status of the run.

    Args:
        found: the run as it stands, if it exists.
        params: the values of parameters that are given.
        again: how to go on with the run, in words that can follow "go on".
    """
    engines: list[Engine] = []
    terminated: list[bool] = []

    async def work() -> Any:
        engine = create_engine(store=durable, max_workers=program.max_workers)
        engines.append(engine)
        if found is not None:
            # Not before: it may be another process that goes on with it.
            engine.bus.subscribe(RunStarted, tell)
        with reporting(engine, log.level, log.format), _terminating(terminated):
            try:
                return await engine.run(
                    located.target,
                    params,
                    on_failure=program.on_failure,
                    resources=located.resources,
                    run_id=run_id,
                    durability=program.durability,
                    program=program.to_json(run_id, durable.serializer),
                )
            finally:
                await engine.close()

    def abandon() -> None:
        for engine in engines:
            engine.abandon()

    def tell(event: RunStarted) -> None:
        if event.run_id == run_id:
            log.say(f"run {harmless(run_id)} goes on: {harmless(program.shown)} in {harmless(program.folder, 1_000)}")

    has_finished = found is not None and found.status == "succeeded"
    if found is None:
        log.say(f"run {harmless(run_id)}")
    try:
        value = run_on_spare_loop(work(), copy_context(), interrupted=abandon)
    except KeyboardInterrupt:
        _end_interrupted(again)
    except (Exception, asyncio.CancelledError) as error:
        if terminated and isinstance(error, asyncio.CancelledError):
            _end_interrupted(again)
        _end_with(error, log, again)
    if has_finished:
        log.say(f"run {harmless(run_id)} has finished before: this is what it gave")
    text = result_text(value)
    if text is not None:
        typer.echo(text)


@contextmanager
def _terminating(terminated: list[bool]) -> Generator[None]:
    """Let SIGTERM, which service managers and containers send, end the run in order as the first Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def terminate() -> None:
        terminated.append(True)
        task.cancel()

    try:
        loop.add_signal_handler(signal.SIGTERM, terminate)
    except (NotImplementedError, ValueError, RuntimeError):
        # No such signals here, or not the thread that gets them.
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _end_interrupted(again: str) -> NoReturn:
    typer.echo(f"interrupted; go on {again}", err=True)
    raise typer.Exit(INTERRUPTED) from None


def _end_with(error: BaseException, log: Log, again: str) -> NoReturn:
    is_debugged = log.level == "DEBUG"
    found = input_problems(error)
    if found and not is_debugged:
        error = ParameterError(*found)
    typer.echo(failure_text(error, whole_traceback=True) if is_debugged else message_of(error), err=True)
    status = WRONG_USE if found or status_of(error) == WRONG_USE else FAILED
    if isinstance(error, CorruptedValueError):
        log.say(
            "bring back the key or the store that it was written with; or begin anew under another --run-id, or after "
            "cascade rm"
        )
    elif status == FAILED:
        log.say(f"what has succeeded is kept; try the rest again {again}")
    raise typer.Exit(status) from None
