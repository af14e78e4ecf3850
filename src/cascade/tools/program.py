"""The Typer application of a workflow: options from its inputs, all bad input in one message, exit codes."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperCommand

from cascade.spec.exceptions import MissingExtraError, ParameterError
from cascade.spec.input import EnvSpec, InputSpec, ParamSpec, resolve_inputs
from cascade.spec.walk import inputs_of
from cascade.tools.options import Option, check_flags, environment_help, stray_arguments
from cascade.tools.report import failure_text, input_problems, result_text

if TYPE_CHECKING:
    from typer.models import CommandInfo

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS: Final = ("human", "json")
BAD_INPUT: Final = 2
FAILED: Final = 1
INTERRUPTED: Final = 130


class Program(typer.Typer):
    """A Typer application whose one command is made when it is first asked for: the target may be expensive.

    Args:
        target: gives the target of the run.
        run: runs it; takes the target, `params`, `log_level` and `log_format`.
        name: the name of the command.
        description: what `--help` says first.
        log_level: the default of `--log-level`.
        log_format: the default of `--log-format`.
    """

    def __init__(
        self,
        target: Callable[[], Any],
        run: Callable[..., Any],
        *,
        name: str | None,
        description: str,
        log_level: str,
        log_format: str,
    ) -> None:
        self._make_target = target
        self._run = run
        self._command_name = name
        self._description = description
        self._made = False
        self._commands: list[CommandInfo] = []
        levels = "how much is told on stderr: DEBUG, INFO, WARNING, ERROR or CRITICAL"
        formats = "for people, or JSON lines for machines"
        self._log_level = ParamSpec("log_level", log_level.upper(), Literal[LOG_LEVELS], levels)
        self._log_format = ParamSpec("log_format", log_format, Literal[LOG_FORMATS], formats)
        super().__init__(name=name, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, as Typer does; a library that is missing for the target is told in one line."""
        try:
            return super().__call__(*args, **kwargs)
        except MissingExtraError as error:
            if not kwargs.get("standalone_mode", True):
                raise
            typer.echo(f"error: {error}", err=True)
            sys.exit(FAILED)

    # Typer reads the list when it makes the command, so that is when the target is made.
    @property
    def registered_commands(self) -> list[CommandInfo]:
        """Typer's list of commands, made at its first use."""
        if not self._made:
            self._made = True
            try:
                self._register()
            except BaseException:
                self._made = False
                raise
        return self._commands

    @registered_commands.setter
    def registered_commands(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, commands: list[CommandInfo]
    ) -> None:
        self._commands = commands

    def _register(self) -> None:
        target = self._make_target()
        specs = inputs_of(target)
        distinct = list({spec.name: spec for spec in reversed(specs) if isinstance(spec, ParamSpec)}.values())
        distinct.reverse()
        options = [Option(spec, place) for place, spec in enumerate(distinct)]
        options.append(Option(self._log_level, len(options), panel="Log", metavar="LEVEL"))
        options.append(Option(self._log_format, len(options), panel="Log"))
        check_flags(options)

        def command(context: typer.Context, **values: Any) -> None:
            self._invoke(target, specs, options, context, values)

        parameters = [option.parameter() for option in options]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        command.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in [first, *parameters]}
        required = {option.identifier for option in options if option.spec.required}
        self.command(
            self._command_name,
            cls=_command_class(required),
            help=escape(self._description),
            epilog=environment_help(specs),
            context_settings={
                "allow_extra_args": True,
                "ignore_unknown_options": True,
                "help_option_names": ["-h", "--help"],
            },
        )(command)

    def _invoke(
        self,
        target: Any,
        specs: Sequence[ParamSpec | EnvSpec],
        options: Sequence[Option],
        context: typer.Context,
        values: dict[str, Any],
    ) -> None:
        given = {
            option.spec.name: option.given(values[option.identifier])
            for option in options
            if _was_given(context, option.identifier)
        }
        problems = list(stray_arguments(context.args, options))
        flags = {option.spec.name: option.flags[0] for option in options}
        resolved: dict[Any, Any] = {}
        try:
            resolved = resolve_inputs(
                [*specs, self._log_level, self._log_format],
                {name: value.upper() if name == "log_level" else value for name, value in given.items()},
                os.environ,
                label=lambda spec: flags[spec.name] if isinstance(spec, ParamSpec) else _named(spec),
            )
        except ParameterError as error:
            problems += error.problems
        if problems:
            _refuse(context, problems, "bad input{places}, and nothing was run:")
        log_level, log_format = resolved[self._log_level], resolved[self._log_format]
        params = {spec.name: resolved[spec] for spec in specs if spec.name in given and isinstance(spec, ParamSpec)}
        try:
            result = self._run(target, params=params, log_level=log_level, log_format=log_format)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (Exception, asyncio.CancelledError) as error:
            is_debugged = log_level == "DEBUG"
            found = input_problems(error)
            if found and not is_debugged:
                _refuse(context, found, "bad input{places}:")
            typer.echo(failure_text(error, whole_traceback=is_debugged), err=True)
            raise typer.Exit(BAD_INPUT if found else FAILED) from None
        else:
            text = result_text(result)
            if text is not None:
                typer.echo(text)


def _command_class(required: set[str]) -> type[TyperCommand]:
    """A command that shows which options are required; which are missing is told with all other problems."""

    class Command(TyperCommand):
        def get_params(self, ctx: Any) -> Any:
            parameters = super().get_params(ctx)
            for parameter in parameters:
                # A flag takes no value, so `--help` has none to show.
                if getattr(parameter, "is_flag", False):
                    parameter.metavar = ""
            return parameters

        def format_help(self, ctx: Any, formatter: Any) -> None:
            marked = [parameter for parameter in self.params if parameter.name in required]
            for parameter in marked:
                parameter.required = True
            try:
                super().format_help(ctx, formatter)
            finally:
                for parameter in marked:
                    parameter.required = False

    return Command


def _was_given(context: typer.Context, identifier: str) -> bool:
    source = context.get_parameter_source(identifier)
    return source is not None and source.name == "COMMANDLINE"


def _refuse(context: typer.Context, problems: Sequence[str], headline: str) -> NoReturn:
    typer.echo(context.get_usage(), err=True)
    typer.echo(f"Try '{context.command_path} --help' for help.\n", err=True)
    places = "" if len(problems) == 1 else f" in {len(problems)} places"
    typer.echo(f"error: {headline.format(places=places)}", err=True)
    for problem in problems:
        typer.echo("  " + problem.replace("\n", "\n    "), err=True)
    raise typer.Exit(BAD_INPUT)


def _named(spec: InputSpec) -> str:
    return f"{spec.word} {spec.name}"
