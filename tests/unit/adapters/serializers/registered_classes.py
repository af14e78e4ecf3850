"""Registered classes for the tests."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from enum import Enum, Flag, IntEnum, auto
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from cascade.adapters.serializers import register_type

T = TypeVar("T")


@register_type
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


@register_type
@dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    y: Any = None


@register_type
@dataclass
class Link:
    following: Any


@register_type
@dataclass
class Empty:
    pass


@register_type
@dataclass
class Box(Generic[T]):
    content: T


@register_type
class Point(NamedTuple):
    x: Any
    y: Any


@register_type
class Color(Enum):
    RED = "r"
    GREEN = object()
    ROUGE = RED


@register_type
class Level(IntEnum):
    LOW = 1


@register_type
class Access(Flag):
    READ = auto()
    WRITE = auto()


@dataclass
class Unregistered:
    x: Any
