"""Finding lazy values inside containers, and building those containers again with results.

A container that holds lazy values is taken as it is at the call: `pack` turns it into a `Packed`, a flat program that
builds a fresh container of the same type from results. Everything here is iterative, so nesting may be of any depth.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.exceptions import DeclarationError, LazyValueError
from cascade.spec.kinds import shown

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult

PLAIN: Final[frozenset[type]] = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, range, type, type(Ellipsis)}
)
"""Types that can neither be nor hold a lazy value: most arguments and results need no further look."""


class Shape(Enum):
    """How a type holds other values."""

    LAZY = "lazy"
    OPAQUE = "opaque"
    LIST = "list"
    TUPLE = "tuple"
    NAMED_TUPLE = "named tuple"
    SET = "set"
    DICT = "dict"
    DATACLASS = "dataclass"


_MOST_TYPES_REMEMBERED = 4096
_shapes: dict[type, Shape] = {}


def shape_of(kind: type) -> Shape:
    """Tell how values of a type hold others, remembering the answer."""
    shape = _shapes.get(kind)
    if shape is None:
        shape = _classify(kind)
        if len(_shapes) >= _MOST_TYPES_REMEMBERED:
            _shapes.clear()
        _shapes[kind] = shape
    return shape


def _classify(kind: type) -> Shape:
    if getattr(kind, "__cascade_lazy__", False):
        return Shape.LAZY
    if issubclass(kind, list):
        return Shape.LIST
    if issubclass(kind, tuple):
        return Shape.NAMED_TUPLE if hasattr(kind, "_fields") and hasattr(kind, "_make") else Shape.TUPLE
    if issubclass(kind, (set, frozenset)):
        return Shape.SET
    if issubclass(kind, dict):
        return Shape.DICT
    if hasattr(kind, "__dataclass_fields__"):
        return Shape.DATACLASS
    return Shape.OPAQUE


def _members(value: Any, shape: Shape) -> Sequence[Any]:
    """What a container holds, sets in order of creation of their lazy members."""
    if shape is Shape.DICT:
        for key in value:
            if type(key) not in PLAIN and (shape_of(type(key)) is Shape.LAZY or holds_lazy(key)):
                raise LazyValueError(
                    f"{key!r} is the key of a dict, but a lazy value has no value yet to be found by; "
                    "use it as the dict's value, or build the dict in a task"
                )
        return list(dict.values(value))
    if shape is Shape.SET:
        return sorted(value, key=_creation_order)
    if shape is Shape.DATACLASS:
        return [getattr(value, name) for name in _field_names(value)]
    return value  # type: ignore[no-any-return]


def _field_names(value: Any) -> list[str]:
    """The fields that a dataclass instance has by now: one declared with `init=False` may still be missing."""
    return [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]


def _creation_order(member: Any) -> int:
    if type(member) in PLAIN:
        return -1
    if shape_of(type(member)) is Shape.LAZY:
        return int(member.order)
    packed = pack(member) if may_hold_lazy(member) else None
    return -1 if packed is None else min(lazy.order for lazy in packed.lazies)


def holds_lazy(value: Any) -> bool:
    """Whether a lazy value is inside."""
    return may_hold_lazy(value) and pack(value) is not None


def _may_hold(kind: type) -> bool:
    """Whether values of a type may have lazy ones inside, and are none themselves."""
    return kind not in PLAIN and shape_of(kind) not in (Shape.LAZY, Shape.OPAQUE)


def _interesting(members: Sequence[Any]) -> bool:
    """Whether any member could be lazy or hold something lazy; one pass in C for most containers."""
    return any(kind not in PLAIN and shape_of(kind) is not Shape.OPAQUE for kind in set(map(type, members)))


EXACT: Final = frozenset({list, tuple, dict, set})
"""The containers that are looked into in what a task returns."""


def may_hold_lazy(value: Any) -> bool:
    """Whether it is worth packing: false for anything that certainly has no lazy value inside; one quick look."""
    if type(value) in PLAIN:
        return False
    shape = shape_of(type(value))
    if shape is Shape.LAZY or shape is Shape.OPAQUE:
        return False
    return _interesting(_members(value, shape))


class _Step:
    """Builds one container: constants, places for lazy values, places for containers built before.

    Attributes:
        places: where in the container lazy values stand.
        indices: which ones these are. Two rows and not one of pairs: there may be a million of them.
        where: the path to the container, its shape, and what its places are called.
    """

    __slots__ = ("build", "constants", "indices", "inner", "places", "source", "where")

    def __init__(
        self,
        source: Any,
        build: Callable[[Any, list[Any]], Any],
        constants: list[Any],
        places: list[int],
        indices: list[int],
        inner: list[tuple[int, int]],
        where: tuple[Any, ...],
    ) -> None:
        for place in places:
            constants[place] = None
        for place, _ in inner:
            constants[place] = None
        self.source = source
        self.build = build
        self.constants = constants
        self.places = places
        self.indices = indices
        self.inner = inner
        self.where = where


class Packed:
    """A container with lazy values inside, as it was when it was packed.

    Attributes:
        lazies: the lazy values, each once, in the order of a reading from left to right.
    """

    __slots__ = ("_steps", "lazies")

    def __init__(self, steps: list[_Step], lazies: tuple[LazyResult[Any], ...]) -> None:
        self._steps = steps
        self.lazies = lazies

    @property
    def paths(self) -> tuple[str, ...]:
        """Where each of the lazy values stands first, as `['rows'][3]`."""
        found: list[str] = []
        for step in self._steps:
            for place, index in zip(step.places, step.indices, strict=True):
                if index == len(found):
                    found.append(_path_text((*step.where, place)))
        return tuple(found)

    def fill(self, values: Sequence[Any]) -> Any:
        """Build the container with results in the places of the lazy values.

        Args:
            values: the results, in the order of `lazies`.

        Raises:
            TypeError: a result cannot be hashed and stands in a set; the message names it.
        """
        built: list[Any] = []
        for step in self._steps:
            members = step.constants.copy()
            for place, index in zip(step.places, step.indices, strict=True):
                members[place] = values[index]
            for place, index in step.inner:
                members[place] = built[index]
            try:
                built.append(step.build(step.source, members))
            except TypeError:
                self._explain_unhashable(step, members)
                raise
        return built[-1]

    def _explain_unhashable(self, step: _Step, members: list[Any]) -> None:
        if step.build is not _build_set:
            return
        for place, index in zip(step.places, step.indices, strict=True):
            try:
                hash(members[place])
            except TypeError as error:
                raise TypeError(
                    f"the result of {self.lazies[index]!r} is a {type(members[place]).__name__}, which cannot be "
                    "a member of a set; put it into a list or return something hashable"
                ) from error

    def shapes(self) -> Iterator[tuple[type, list[Any], str, Any]]:
        """What the program consists of, for digests: type, what is no lazy value, what stands where, keys or fields."""
        for step in self._steps:
            kind = type(step.source)
            names: Any = None
            if step.build is _build_dict:
                names = tuple(step.source)
            elif step.build is _build_dataclass:
                names = tuple(_field_names(step.source))
            is_constant = bytearray(b"\1") * len(step.constants)
            for place in step.places:
                is_constant[place] = 0
            constants = list(compress(step.constants, is_constant))
            yield kind, constants, f"{len(step.constants)}{step.places}{step.indices}{step.inner}", names


def pack(value: Any, *, exact: bool = False) -> Packed | None:
    """Take a container as it is now, if lazy values are inside; `None` where there are none.

    Args:
        value: a container of any depth.
        exact: look only into exact lists, tuples, dicts and sets, and pass over circles: the rule for what a task
            returns, where circles are the task's own business.

    Raises:
        DeclarationError: a container contains itself.
        LazyValueError: a lazy value is the key of a dict.
    """
    return _Packing(exact).run(value)


def pack_arguments(args: tuple[Any, ...], *mappings: Mapping[str, Any]) -> Packed | None:
    """Pack the arguments of one call together, so that aliases between them are kept; `None` if nothing is inside.

    Lazy values that are arguments themselves are no reason to pack: they have places in `args` and the mappings.
    """
    packing = _Packing(exact=False)
    packed = packing.run((args, *map(dict, mappings)))
    return packed if packing.is_nested else None


class _Packing:
    """One walk over a container, in post-order and without recursion; only what holds lazy values becomes a step."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.is_nested = False
        self.steps: list[_Step] = []
        self.step_of: dict[int, int] = {}
        self.passed: set[int] = set()
        self.open: set[int] = set()
        self.lazies: list[LazyResult[Any]] = []
        self.index_of: dict[LazyResult[Any], int] = {}

    def run(self, root: Any) -> Packed | None:
        stack: list[tuple[Any, Any, Shape, Sequence[Any], Sequence[Any], bool]] = []
        self._enter(stack, root, None)
        while stack:
            current, path, shape, members, names, closing = stack.pop()
            if closing:
                self._close(current, path, shape, members, names)
                continue
            if id(current) in self.passed:
                continue
            if id(current) in self.open:
                if self.exact:
                    continue
                raise DeclarationError(
                    f"a {type(current).__name__} contains itself, so lazy values inside it could not be filled in; "
                    "pass a container without the circle, or build it in a task"
                )
            self.open.add(id(current))
            names = _names_of(current, shape)
            stack.append((current, path, shape, members, names, True))
            holders = {kind for kind in set(map(type, members)) if _may_hold(kind)}
            if holders:
                for place in range(len(members) - 1, -1, -1):
                    if type(members[place]) in holders:
                        self._enter(stack, members[place], (path, shape, names, place))
        if not self.steps:
            return None
        return Packed(self.steps, tuple(self.lazies))

    def _enter(self, stack: list[Any], value: Any, path: Any) -> None:
        kind = type(value)
        shape = shape_of(kind)
        if shape is Shape.LAZY or shape is Shape.OPAQUE or (self.exact and kind not in EXACT):
            return
        members = _members(value, shape)
        if _interesting(members):
            stack.append((value, path, shape, members, (), False))

    def _close(self, current: Any, path: Any, shape: Shape, members: Sequence[Any], names: Sequence[Any]) -> None:
        self.open.discard(id(current))
        self.passed.add(id(current))
        places: list[int] = []
        indices: list[int] = []
        inner: list[tuple[int, int]] = []
        index_of = self.index_of
        lazy_kinds = {kind for kind in set(map(type, members)) if shape_of(kind) is Shape.LAZY}
        for place, member in enumerate(members):
            kind = type(member)
            if kind in lazy_kinds:
                index = index_of.get(member)
                if index is None:
                    index = index_of[member] = len(self.lazies)
                    self.lazies.append(member)
                places.append(place)
                indices.append(index)
            elif kind not in PLAIN and id(member) in self.step_of:
                inner.append((place, self.step_of[id(member)]))
        if not places and not inner:
            return
        if path is not None and path[0] is not None:
            self.is_nested = True
        step = _Step(*_builder(current, shape), list(members), places, indices, inner, (path, shape, names))
        self.step_of[id(current)] = len(self.steps)
        self.steps.append(step)


def _names_of(value: Any, shape: Shape) -> Sequence[Any]:
    """What the members of a container are found by, where that is no number."""
    if shape is Shape.DICT:
        return list(dict.keys(value))
    return _field_names(value) if shape is Shape.DATACLASS else ()


def _path_text(path: Any) -> str:
    parts: list[str] = []
    while path:
        path, shape, names, place = path
        if shape is Shape.DICT:
            parts.append(f"[{shown(names[place])}]")
        elif shape is Shape.DATACLASS:
            parts.append(f".{names[place]}")
        elif shape is Shape.SET:
            parts.append("{}")
        else:
            parts.append(f"[{place}]")
    return "".join(reversed(parts))


def _builder(value: Any, shape: Shape) -> tuple[Any, Callable[[Any, list[Any]], Any]]:
    """How to build a container like this one: what it needs to remember of it, and the function."""
    kind = type(value)
    if kind is list:
        return (), _build_list
    if shape is Shape.NAMED_TUPLE or kind is tuple:
        return value if kind is not tuple else (), _build_tuple
    if shape is Shape.SET and kind in (set, frozenset):
        return kind(), _build_set
    if shape is Shape.DATACLASS:
        return copy.copy(value), _build_dataclass
    if shape is Shape.DICT:
        return copy.copy(value), _build_dict
    # What cannot change is its own copy; a copy would call its constructor.
    return value if isinstance(value, (tuple, frozenset)) else copy.copy(value), _build_subclass


def _build_list(_: Any, members: list[Any]) -> Any:
    return members


def _build_tuple(source: Any, members: list[Any]) -> Any:
    return tuple.__new__(type(source), members)


def _build_set(source: Any, members: list[Any]) -> Any:
    return type(source)(members)


def _build_dict(source: Any, members: list[Any]) -> Any:
    if type(source) is dict:
        return dict(zip(source, members, strict=True))
    built = copy.copy(source)
    for key, member in zip(dict.keys(source), members, strict=True):
        dict.__setitem__(built, key, member)
    return built


def _build_dataclass(source: Any, members: list[Any]) -> Any:
    built = object.__new__(type(source))
    for name, value in getattr(source, "__dict__", {}).items():
        object.__setattr__(built, name, value)
    for name, member in zip(_field_names(source), members, strict=True):
        object.__setattr__(built, name, member)
    return built


def _build_subclass(source: Any, members: list[Any]) -> Any:
    """A list, tuple or set of a class of its own: its attributes are kept, its constructor is not called."""
    kind = type(source)
    if isinstance(source, tuple):
        built: Any = tuple.__new__(kind, members)
    elif isinstance(source, list):
        built = copy.copy(source)
        list.__init__(built, members)
        return built
    elif isinstance(source, frozenset):
        built = frozenset.__new__(kind, members)
    else:
        built = copy.copy(source)
        set.clear(built)
        set.update(built, members)
        return built
    for name, value in getattr(source, "__dict__", {}).items():
        object.__setattr__(built, name, value)
    return built
