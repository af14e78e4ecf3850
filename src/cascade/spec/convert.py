"""From the type that a parameter declares to what is known of its values."""

from __future__ import annotations

import datetime as dt
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cascade.spec.exceptions import DeclarationError
from cascade.spec.kinds import BOOL_WORDS, Choice, DictOf, Float, Hidden, Kind, ListOf, Member, OptionalOf, Scalar
from cascade.spec.secret import Secret


def _read_bool(text: str) -> bool:
    return BOOL_WORDS[text.strip().lower()]


def _read_path(text: str) -> Path:
    if not text:
        raise ValueError("an empty text would silently be the current folder")
    return Path(text)


def _read_date(text: str) -> dt.date:
    return dt.date.fromisoformat(text.strip())


def _read_datetime(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.strip())


# In Python a bool is an int and a datetime is a date; as parameters they are not.
_SCALARS: Final[dict[type, Kind]] = {
    str: Scalar(str, str),
    bool: Scalar(bool, _read_bool, "true/false, yes/no, on/off, 1/0"),
    int: Scalar(int, int, refused=bool),
    float: Float(float, float),
    Path: Scalar(Path, _read_path),
    dt.datetime: Scalar(dt.datetime, _read_datetime, "ISO, as 2030-12-31T23:59:00"),
    dt.date: Scalar(dt.date, _read_date, "ISO, as 2030-12-31", refused=dt.datetime),
    Secret: Hidden(Secret, Secret, "text that is not shown"),
}


ANYTHING: Final = Kind()
SUPPORTED: Final = (
    "int, float, bool, str, pathlib.Path, an Enum, a Literal, date, datetime, cs.Secret, list[...], dict, "
    "or X | None of one of them"
)


def kind_of(declared: Any) -> Kind:
    """What is known of a type; `ANYTHING` for `None`, `Any` and `object`.

    Raises:
        DeclarationError: text cannot be read as this type.
    """
    declared = _unwrapped(declared)
    if declared is None or declared is Any or declared is object:
        return ANYTHING
    if isinstance(declared, type) and not isinstance(declared, types.GenericAlias):
        if declared in _SCALARS:
            return _SCALARS[declared]
        if issubclass(declared, Enum) and declared.__members__:
            return Member(declared)
        if declared is list:
            return ListOf(ANYTHING, typed=False)
        if declared is dict:
            return DictOf(ANYTHING, ANYTHING, typed=False)
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin is typing.Literal:
        return Choice(arguments)
    if origin is list:
        return ListOf(kind_of(arguments[0]), typed=True) if arguments else ListOf(ANYTHING, typed=False)
    if origin is dict:
        if not arguments:
            return DictOf(ANYTHING, ANYTHING, typed=False)
        return DictOf(kind_of(arguments[0]), kind_of(arguments[1]), typed=True)
    if origin is typing.Union or origin is types.UnionType:
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1 < len(arguments):
            return OptionalOf(kind_of(inner[0]))
    raise DeclarationError(f"the type {declared!r} is not supported; use {SUPPORTED}, or leave it out")


def scalar_type_of(value: object) -> Any:
    """The supported scalar type of a default, or `None` where there is none."""
    if isinstance(value, Enum):
        return type(value)
    if isinstance(value, Path):
        return Path
    return type(value) if type(value) in _SCALARS else None


def _unwrapped(declared: Any) -> Any:
    """The type behind `Annotated`, `NewType` and (since Python 3.12) `type X = ...`."""
    while True:
        if typing.get_origin(declared) is typing.Annotated:
            declared = declared.__origin__
        elif isinstance(declared, typing.NewType):
            declared = declared.__supertype__
        elif type(declared).__name__ == "TypeAliasType":
            declared = declared.__value__
        else:
            return declared
