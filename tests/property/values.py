"""What the tasks of random workflows compute: numbers made of their arguments, the same in every process."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass
class Box:
    """A dataclass that may hold lazy values."""

    left: Any
    right: Any


class Point(NamedTuple):
    """A named tuple that may hold lazy values."""

    x: Any
    y: Any


class Boom(Exception):
    """What a task of a random workflow raises: `args` are the function and a number made of its arguments."""


def portrait(value: Any) -> str:
    """A text that two values share only if they are equal and of the same types all the way down."""
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{','.join(map(portrait, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}[{','.join(sorted(map(portrait, value)))}]"
    if isinstance(value, dict):
        return f"dict[{','.join(f'{portrait(key)}:{portrait(item)}' for key, item in value.items())}]"
    if isinstance(value, Box):
        return f"Box[{portrait(value.left)},{portrait(value.right)}]"
    return f"{type(value).__name__} {value!r}"


def number_of(value: Any) -> int:
    """A number that nearly always tells two values apart."""
    return zlib.crc32(portrait(value).encode()) % 1_000_003


KEYS = {"flag": (True, False), "key": ("a", "b", "c"), "odd": (None, False, "x")}
"""What selectors can give, by their kind."""


def made(kind: str, number: int, first: Any) -> Any:
    """The value of one kind that is made of a number; `first` is the first argument, for `echo`."""
    if kind == "number":
        return number
    if kind in KEYS:
        return KEYS[kind][number % len(KEYS[kind])]
    if kind == "amount":
        return 1 + number % 2
    if kind == "pair":
        return number, number + 1
    if kind == "record":
        return {"k": number, "v": None}
    if kind == "none":
        return None
    if kind == "echo":
        return first
    assert kind.startswith("list"), kind
    return [number + place for place in range(int(kind[4:]))]
