"""The cache policy for tasks whose product is a file."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.spec.exceptions import CascadeError, DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.spec.protocols import CacheBackend

_PREFIX = "file:"


class FileNotProducedError(CascadeError, FileNotFoundError):
    """A task ended without writing the file that its cache policy promises.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        found = "a directory is there" if self.path.is_dir() else "nothing is there"
        return (
            f"the task ended without writing '{self.path}', the file of its FileExistenceCache: {found}; "
            "write the file to this path, or give FileExistenceCache the path to which the task writes"
        )


class FileExistenceCache:
    """A task with this policy runs only while its file does not exist; its value is the path, hit or miss.

    Neither the code nor the inputs count, except as far as the path names them. To run again, delete the
    file.

    Args:
        path: a path in which `{parameter}` stands for an argument as in `str.format` (`{{` for a brace), or a
            function that gives the path from those arguments that it names as its own parameters.

    >>> policy = FileExistenceCache("out/{name}.csv")
    >>> policy.key(print, {"name": "a"})
    'file:out/a.csv'
    """

    ttl: float | None = None

    def __init__(self, path: str | os.PathLike[str] | Callable[..., str | os.PathLike[str]]) -> None:
        self.path = path
        self.backend: CacheBackend | None = _Files()
        self._wanted = _parameters(path) if callable(path) else None

    def key(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
        """The key for one call: its file's path.

        Raises:
            DeclarationError: the path asks for a parameter that the task does not have, or is no template.
        """
        return _PREFIX + os.fspath(self._filled(function, arguments))

    def _filled(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str | os.PathLike[str]:
        if callable(self.path):
            wanted = arguments if self._wanted is None else self._wanted
            try:
                chosen = {name: arguments[name] for name in wanted}
            except KeyError as error:
                raise self._unusable(f"asks for {error}", function, arguments) from error
            return self.path(**chosen)
        try:
            return os.fspath(self.path).format_map(arguments)
        except KeyError as error:
            raise self._unusable(f"asks for {error}", function, arguments) from error
        except ValueError as error:
            raise self._unusable(f"is no template ({error})", function, arguments) from error

    def _unusable(self, problem: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> DeclarationError:
        known = ", ".join(arguments) or "none"
        name = getattr(function, "__name__", repr(function))
        return DeclarationError(
            f"the path {self.path!r} of a FileExistenceCache {problem}; the parameters of '{name}': {known}; "
            "write {parameter} for an argument and {{ for a brace"
        )

    def product(self, key: str, value: Any) -> Path:
        """The path, after the task has run.

        Raises:
            FileNotProducedError: no regular file is there.
        """
        path = _path(key)
        if not path.is_file():
            raise FileNotProducedError(path)
        return path

    def __repr__(self) -> str:
        return f"FileExistenceCache({self.path!r})"


class _Files:
    """The file system as it is: what exists is kept."""

    async def get(self, key: str) -> Path:
        path = _path(key)
        if not path.is_file():
            raise KeyError(key)
        return path

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Nothing to keep: the task has written the file itself."""

    async def discard(self, key: str) -> None:
        """Leave the file: it is the user's product, and only the user deletes it."""


def _path(key: str) -> Path:
    return Path(key.removeprefix(_PREFIX))


def _parameters(path: Callable[..., Any]) -> list[str] | None:
    """The names that a function asks for, or `None` if it takes any."""
    parameters = inspect.signature(path).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]
