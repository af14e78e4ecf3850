"""The options of a program: one for each parameter of its workflow."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from cascade.spec.exceptions import DeclarationError
from cascade.spec.input import EnvSpec, ParamSpec
from cascade.spec.kinds import DictOf, Kind, ListOf, OptionalOf, Repeated, Scalar, choice_text


class Option:
    """One option of the program, for one parameter.

    To Typer every option is plain text, because it would stop at the first bad value: the parameters' own
    conversion finds all of them.
    """

    def __init__(self, spec: ParamSpec, place: int, *, panel: str | None = None, metavar: str | None = None) -> None:
        self.spec = spec
        self.identifier = f"input_{place}"
        self._panel = panel
        self._metavar = metavar
        kind = spec.kind
        self.kind = kind.inner if isinstance(kind, OptionalOf) else kind
        self.is_flag = isinstance(self.kind, Scalar) and self.kind.kind is bool
        self.repeatable = isinstance(self.kind, ListOf)
        stem = re.sub(r"[\W_]+", "-", spec.name).strip("-")
        self.flags = [f"--{stem}"]
        if self.is_flag:
            self.flags.append(f"--{stem[3:]}" if stem.startswith("no-") else f"--no-{stem}")
        if not stem:
            raise DeclarationError(f"the parameter {spec.name!r} cannot be an option: its name has no letter in it")

    def parameter(self) -> inspect.Parameter:
        """What Typer reads an option off."""
        annotation: Any = bool if self.is_flag else list[str] if self.repeatable else str
        declared = typer.Option(
            "/".join(self.flags),
            help=escape(self.spec.description),
            metavar=None if self.is_flag else self._metavar or metavar_of(self.kind),
            show_default=self._default() not in (None, []),
            rich_help_panel=self._panel,
        )
        return inspect.Parameter(
            self.identifier,
            inspect.Parameter.KEYWORD_ONLY,
            default=self._default(),
            annotation=Annotated[annotation | None, declared],
        )

    def _default(self) -> Any:
        """The default in the form of the option."""
        default = self.spec.default
        if self.spec.required or default is None:
            return None
        if self.is_flag:
            return default
        return [_text(item) for item in default] if self.repeatable else _text(default)

    def given(self, value: Any) -> Any:
        """What was given, as text wherever text must still be converted."""
        if self.is_flag:
            return value
        return Repeated(value) if self.repeatable else value


def metavar_of(kind: Kind) -> str:
    """How `--help` names the values of a kind."""
    if kind.choices:
        return f"[{'|'.join(kind.choices)}]"
    if isinstance(kind, OptionalOf):
        return metavar_of(kind.inner)
    if isinstance(kind, ListOf):
        return "JSON" if kind.nested else f"{metavar_of(kind.item)},..."
    if isinstance(kind, DictOf):
        return "JSON"
    return kind.title.upper() if isinstance(kind, Scalar) and kind.kind is not str else "TEXT"


def _text(value: Any) -> str:
    """A default, as it could be given."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return value.isoformat() if hasattr(value, "isoformat") else choice_text(value)


def check_flags(options: Iterable[Option]) -> None:
    """No two parameters may be the same option.

    Raises:
        DeclarationError: two are, or one is an option that every program has.
    """
    taken: dict[str, Option] = {}
    for option in options:
        for flag in option.flags:
            other = taken.setdefault(flag, option)
            if other is not option or flag == "--help":
                owner = "every program has" if flag == "--help" else f"{other.spec.name!r} is already"
                raise DeclarationError(
                    f"the parameter {option.spec.name!r} cannot be the option {flag}, which {owner}; rename it "
                    "(--help, --log-level and --log-format belong to the program)"
                )


def stray_arguments(arguments: Sequence[str], options: Sequence[Option]) -> Iterator[str]:
    """What stands on the command line and belongs to no option."""
    flags = [flag for option in options for flag in option.flags] + ["--help"]
    after_unknown = False
    for argument in arguments:
        if argument.startswith("-") and argument != "-":
            flag, equals, _ = argument.partition("=")
            close = difflib.get_close_matches(flag, flags, n=1)
            yield f"{flag}: no such option" + (f"; did you mean {close[0]}?" if close else "")
            after_unknown = not equals
        else:
            # What follows an unknown option is most likely its value.
            if not after_unknown:
                yield f"{argument!r}: unexpected; values are given by options, as --name VALUE"
            after_unknown = False


def environment_help(specs: Iterable[ParamSpec | EnvSpec]) -> str | None:
    """The environment variables, a paragraph each: `--help` has no place for them otherwise."""
    lines: dict[str, str] = {}
    for spec in specs:
        if isinstance(spec, EnvSpec) and spec.name not in lines:
            default = "required" if spec.required else f"default: {spec.default}" if spec.default else "optional"
            described = f"{spec.description} " if spec.description else ""
            lines[spec.name] = escape(f"  {spec.name}  {described}[{default}]")
    return "\n\n".join(["Environment:", *lines.values()]) if lines else None
