"""Documents in YAML, JSON and TOML as tasks."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from cascade.spec.exceptions import CascadeError, MissingExtraError
from cascade.spec.task import Task, task

P = ParamSpec("P")
R = TypeVar("R")

_TOML_PLACE: Final = re.compile(
    r"(?P<problem>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)"
)


class DocumentError(CascadeError, ValueError):
    """A file is no document of its format.

    Attributes:
        path: the file.
        format: `YAML`, `JSON` or `TOML`.
        line: where, from 1 on; `None` where the parser does not tell.
        column: likewise.
        problem: what the parser found.
    """

    def __init__(self, path: str, format: str, line: int | None, column: int | None, problem: str) -> None:
        super().__init__(path, format, line, column, problem)
        self.path = path
        self.format = format
        self.line = line
        self.column = column
        self.problem = problem

    def __str__(self) -> str:
        place = "" if self.line is None else f", line {self.line}"
        if self.column is not None:
            place += f", column {self.column}"
        return f"{self.path}{place}: no valid {self.format}: {self.problem}"


class YamlTask(Task[P, R]):
    """A task that needs PyYAML: where that is missing, the call says so."""

    __slots__ = ()
    checks_calls = True

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("yaml") is None:
            raise MissingExtraError("load_yaml", "PyYAML", "yaml")


def _needs_yaml(function: Callable[P, R]) -> Task[P, R]:
    return YamlTask(function, name=function.__name__)


@task
def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        DocumentError: it is no JSON; says where.
        OSError: it cannot be read.

    >>> import cascade as cs
    >>> cs.run(cs.load_json(cs.write("ports.json", "[80, 443]")))
    [80, 443]
    """
    data = Path(path).read_bytes()
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise DocumentError(os.fspath(path), "JSON", error.lineno, error.colno, error.msg) from None
    except UnicodeDecodeError as error:
        raise _undecodable(path, "JSON", data, error) from None
    except RecursionError:
        raise DocumentError(os.fspath(path), "JSON", None, None, "it is nested too deep") from None


@task
def load_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        DocumentError: it is no TOML; says where.
        OSError: it cannot be read.

    >>> import cascade as cs
    >>> cs.run(cs.load_toml(cs.write("server.toml", "port = 80")))
    {'port': 80}
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _undecodable(path, "TOML", data, error) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Before Python 3.14 the place is in the message only.
        place = _TOML_PLACE.fullmatch(str(error))
        if place is None:
            raise DocumentError(os.fspath(path), "TOML", None, None, str(error)) from None
        line, column = (int(place["line"]), int(place["column"])) if place["line"] else _end_of(text)
        raise DocumentError(os.fspath(path), "TOML", line, column, place["problem"]) from None
    except RecursionError:
        raise DocumentError(os.fspath(path), "TOML", None, None, "it is nested too deep") from None


@_needs_yaml
def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a YAML file with one document of plain values; needs `pip install 'cascade-py[yaml]'`.

    Raises:
        MissingExtraError: PyYAML is not installed; at the call.
        DocumentError: it is no YAML, or has tags of Python objects; says where.
        OSError: it cannot be read.

    >>> import cascade as cs
    >>> cs.run(cs.load_yaml(cs.write("server.yaml", "ports: [80, 443]")))
    {'ports': [80, 443]}
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("load_yaml", "PyYAML", "yaml") from None

    data = Path(path).read_bytes()
    # The parser in C, where PyYAML was built with it, is many times faster.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(data, loader)  # noqa: S506 - both loaders are the safe ones
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        problem = ", ".join(filter(None, (error.context, error.problem))) or str(error)
        raise DocumentError(os.fspath(path), "YAML", line, column, problem) from None
    except yaml.reader.ReaderError as error:
        line, column = _end_of(data[: error.position].decode("utf-8", "replace"))
        raise DocumentError(os.fspath(path), "YAML", line, column, str(error.reason)) from None
    except (yaml.YAMLError, ValueError) as error:
        # Values such as the 30th of February.
        raise DocumentError(os.fspath(path), "YAML", None, None, str(error)) from None
    except RecursionError:
        raise DocumentError(os.fspath(path), "YAML", None, None, "it is nested too deep") from None


def _undecodable(path: str | os.PathLike[str], name: str, data: bytes, error: UnicodeDecodeError) -> DocumentError:
    before = data[: error.start].decode("utf-8", "replace")
    line, column = _end_of(before)
    return DocumentError(os.fspath(path), name, line, column, f"byte {error.start} is not {error.encoding}")


def _end_of(text: str) -> tuple[int, int]:
    """Line and column right after a text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")
