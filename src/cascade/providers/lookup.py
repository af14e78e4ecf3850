"""Looking up one value in nested data."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, cast

from cascade.spec.exceptions import CascadeError, DeclarationError
from cascade.spec.policy import is_lazy
from cascade.spec.task import Task

_MOST_KEYS_SHOWN: Final = 20
_STEP: Final = re.compile(
    r"""(?P<dot>\.)? (?P<name>[^.\[\]]+)
      | \[ \s* (?: (?P<index>-?\d+) | "(?P<double>[^"]*)" | '(?P<single>[^']*)' ) \s* \]""",
    re.VERBOSE,
)


class _Missing(Enum):
    MISSING = "an error"

    def __repr__(self) -> str:
        return "<an error>"


class LookupPathError(CascadeError, LookupError):
    """Nested data has nothing at a path.

    Attributes:
        path: the keys from the outside in.
        depth: how many of them were found.
        kind: the name of the type of the value where it stopped.
        keys: the keys that this value has; for a sequence the number of its items; `None` where it has none.
    """

    def __init__(self, path: tuple[Any, ...], depth: int, kind: str, keys: tuple[Any, ...] | int | None) -> None:
        super().__init__(path, depth, kind, keys)
        self.path = path
        self.depth = depth
        self.kind = kind
        self.keys = keys

    def __str__(self) -> str:
        key = self.path[self.depth]
        where = f"at {_path_text(self.path[: self.depth])}" if self.depth else "at the top"
        if self.keys is None:
            return f"nothing at {_path_text(self.path)}: {where} is a {self.kind}, which has no {key!r}"
        if isinstance(self.keys, int):
            there = f"which has {self.keys} items, numbered from 0"
        elif not self.keys:
            there = "which is empty"
        else:
            there = "whose keys are " + ", ".join(map(repr, self.keys[:_MOST_KEYS_SHOWN]))
            if len(self.keys) > _MOST_KEYS_SHOWN:
                there += f" and {len(self.keys) - _MOST_KEYS_SHOWN} more"
        return f"nothing at {_path_text(self.path)}: no {key!r} {where}, a {self.kind} {there}{self._guess(key)}"

    def _guess(self, key: Any) -> str:
        if not isinstance(self.keys, tuple):
            return ""
        by_text = {str(each): each for each in self.keys}
        close = difflib.get_close_matches(str(key), by_text, 1)
        return f"; did you mean {by_text[close[0]]!r}?" if close else ""


class LookupTask(Task[..., Any]):
    """The task `lookup`: a path that cannot be read is reported at the call."""

    __slots__ = ()
    checks_calls = True

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        path = args[1] if len(args) > 1 else kwargs["path"]
        if not is_lazy(path):
            parse_path(path)


@functools.partial(LookupTask, name="lookup", executor="inline")
def lookup(data: Any, path: str | int | Sequence[Any], default: Any = _Missing.MISSING) -> Any:
    """Take one value out of nested data.

    Args:
        data: mappings, sequences, dataclasses, named tuples, and whatever takes `[key]`, in each other.
        path: `"server.ports[0]"`; a key with dots in it as `hosts["a.example"].port`; or a list of keys,
            which are taken as they are.
        default: the value where the data has nothing at the path.

    Raises:
        LookupPathError: the data has nothing there, and no default is given.
        DeclarationError: the path cannot be read.

    >>> import cascade as cs
    >>> cs.run(cs.lookup({"server": {"ports": [80, 443]}}, "server.ports[-1]"))
    443
    """
    keys = parse_path(path)
    current = data
    for depth, key in enumerate(keys):
        found = _step(current, key)
        if found is _Missing.MISSING:
            if default is not _Missing.MISSING:
                return default
            raise LookupPathError(keys, depth, type(current).__name__, _keys_of(current))
        current = found
    return current


def parse_path(path: Any) -> tuple[Any, ...]:
    """The keys that a path names.

    >>> parse_path('server.ports[0]["a.b"]')
    ('server', 'ports', 0, 'a.b')
    """
    if isinstance(path, int) and not isinstance(path, bool):
        return (path,)
    if isinstance(path, (list, tuple)):
        if not path:
            raise DeclarationError("a path needs at least one key")
        return tuple(cast(Sequence[Any], path))
    if not isinstance(path, str):
        raise DeclarationError(f"a path is text as 'server.ports[0]', an index or a list of keys, got {path!r}")
    keys: list[Any] = []
    place = 0
    while place < len(path) or not keys:
        step = _STEP.match(path, place)
        # A dot stands between names: before each but the first, and never before the first.
        if step is None or (step["name"] is not None and bool(step["dot"]) != bool(keys)):
            raise DeclarationError(
                f"the path {path!r} cannot be read from {path[place:]!r} on; write  server.ports[0]  or  "
                'hosts["a.example"].port  or give a list of keys'
            )
        keys.append(
            int(step["index"])
            if step["index"]
            else next(t for t in step.group("name", "double", "single") if t is not None)
        )
        place = step.end()
    return tuple(keys)


def _step(value: Any, key: Any) -> Any:
    """What a value has under a key, or `MISSING`."""
    if isinstance(key, str):
        if key in _fields(value):
            return getattr(value, key, _Missing.MISSING)
        if _is_sequence(value) and re.fullmatch(r"-?\d+", key):
            key = int(key)
    if isinstance(value, (str, bytes, bytearray)):
        return _Missing.MISSING
    try:
        return value[key]
    except (LookupError, TypeError, ValueError):
        return _Missing.MISSING


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _fields(value: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return tuple(getattr(cast(Any, value), "_fields", ()))
    return ()


def _keys_of(value: Any) -> tuple[Any, ...] | int | None:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)  # type: ignore[redundant-cast]  # pyright needs it
        return tuple(mapping)
    return _fields(value) or (len(value) if _is_sequence(value) else None)


def _path_text(keys: tuple[Any, ...]) -> str:
    text = ""
    for key in keys:
        if isinstance(key, str) and re.fullmatch(r"[^.\[\]\"']+", key):
            text += f".{key}" if text else key
        else:
            text += f"[{key!r}]"
    return text
