"""The commands of `cascade`, and how each of them ends."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from cascade.spec.exceptions import CascadeWarning
from cascade.tools.command.cancel import cancel
from cascade.tools.command.endings import INTERRUPTED, message_of, status_of
from cascade.tools.command.gc import gc
from cascade.tools.command.graph import graph
from cascade.tools.command.limit import limit
from cascade.tools.command.limits import limits
from cascade.tools.command.pause import pause
from cascade.tools.command.plan import plan
from cascade.tools.command.report import report
from cascade.tools.command.resume import resume
from cascade.tools.command.rm import rm
from cascade.tools.command.run import run
from cascade.tools.command.runs import runs
from cascade.tools.command.show import show
from cascade.tools.command.signal import signal
from cascade.tools.command.top import top
from cascade.tools.command.unpause import unpause
from cascade.tools.command.watch import watch
from cascade.tools.command.why import why

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_COMMANDS: Final[dict[str, tuple[Callable[..., None], ...]]] = {
    "Run workflows": (run, resume, plan, graph),
    "Look at runs": (runs, show, why, report, watch, top),
    "Command runs that go on": (pause, unpause, limit, limits, cancel, signal),
    "Tidy up": (rm, gc),
}


class _Commands(TyperGroup):
    """Ends with a line and a status, whatever a command raises."""

    def invoke(self, ctx: Any) -> Any:
        with _harmless_streams(), _warnings_in_a_line():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                typer.echo("interrupted", err=True)
                raise typer.Exit(INTERRUPTED) from None
            except Exception as error:
                status = status_of(error)
                if status is None:
                    raise
                typer.echo(message_of(error), err=True)
                raise typer.Exit(status) from None

    def get_params(self, ctx: Any) -> Any:
        return _flags_without_values(super().get_params(ctx))


class _Command(TyperCommand):
    """Its help names no value for a flag, which takes none."""

    def get_params(self, ctx: Any) -> Any:
        return _flags_without_values(super().get_params(ctx))


def _flags_without_values(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


app: Final = typer.Typer(
    name="cascade",
    cls=_Commands,
    help="Run workflows, look at their runs, and go on with those that were interrupted.",
    epilog="Exit status: 0 done, 1 the workflow or its store failed, 2 wrong use, 130 interrupted and resumable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(is_asked_for: bool) -> None:
    if is_asked_for:
        try:
            number = version("cascade-py")
        except PackageNotFoundError:
            number = "of a version that is not known: it was not installed"
        typer.echo(f"cascade {number}")
        raise typer.Exit


@app.callback()
def _program(
    is_asked_for: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """With a callback there are commands even if there is only one."""


for _panel, _functions in _COMMANDS.items():
    for _function in _functions:
        app.command(_function.__name__, cls=_Command, rich_help_panel=_panel)(_function)


@contextlib.contextmanager
def _harmless_streams() -> Generator[None]:
    """Names of files may hold bytes that are no text: they are escaped, and do not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    yield


@contextlib.contextmanager
def _warnings_in_a_line() -> Generator[None]:
    """Tell Cascade's own warnings without a line of its source."""
    usual = warnings.formatwarning

    def format_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        if issubclass(category, CascadeWarning):
            return f"warning: {message}\n"
        return usual(message, category, *place, **more)

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = usual
