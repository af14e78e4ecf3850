"""Registered classes for the tests."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from enum import Enum, Flag, IntEnum, auto
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from cascade.adapters.serializers import register

T = TypeVar("T")


@register
@dataclass
class Order:
    number: int
    points: list[Any]
    kind: ClassVar[str] = "order"
    scale: InitVar[int] = 1
    total: int = field(init=False, default=0)

    def __post_init__(self, scale: int) -> None:
        self.total = self.number * scale

    @cached_property
    def doubled(self) -> int:
        return self.number * 2


@register
@dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    y: Any = None


@register
@dataclass
class Link:
    following: Any


@register
@dataclass
class Empty:
    pass


@register
@dataclass
class Box(Generic[T]):
    content: T


@register
class Point(NamedTuple):
    x: Any
    y: Any


@register
class Color(Enum):
    RED = "r"
    GREEN = object()
    ROUGE = RED


@register
class Level(IntEnum):
    LOW = 1


@register
class Access(Flag):
    READ = auto()
    WRITE = auto()


@dataclass
class Unregistered:
    x: Any
