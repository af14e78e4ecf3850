"""What several commands take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:NAME",
        help="A file or a module, and in it a lazy value, a container of them, or a function that returns one.",
        show_default=False,
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the run.", show_default=False)]
ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="The value of a parameter; may be given several times."),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where runs are kept: sqlite:///FILE, postgresql://... or redis://...; by default CASCADE_STORE, "
        "or else .cascade/cascade.db in the working directory.",
        show_default=False,
    ),
]
ScopeArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE",
        help="The calls that are meant: global, task:GLOB by name, tag:GLOB by tag, run:ID.",
        show_default=False,
    ),
]
TtlOption = Annotated[
    str | None, typer.Option("--ttl", metavar="AGE", help="End by itself after so long: 90s, 30m, 2h.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for machines.")]


class LogLevel(StrEnum):
    """The least weight of what is told."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class LogFormat(StrEnum):
    """How it is told."""

    HUMAN = "human"
    JSON = "json"


LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", metavar="LEVEL", case_sensitive=False, help="How much is told on stderr.")
]
LogFormatOption = Annotated[LogFormat, typer.Option("--log-format", help="For people, or JSON lines for machines.")]
