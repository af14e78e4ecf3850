"""Constants: by what of them they count, and when that has to be looked at again."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final

from cascade.graph.atoms import ATOMS
from cascade.graph.digest import UndigestibleError, digest
from cascade.graph.wrappers import is_code

_BY_TYPE: Final = {
    "cascade": "it says how to run, and not what",
    "logging": "it is for telling",
    "random": "it changes with every use",
    "numpy.random": "it changes with every use",
}
"""Modules whose objects have a content that is none of the work's."""

_DEEPEST: Final = 20


class ByType(Exception):
    """A value counts by its type alone; the text says why."""


def content_of(value: object, token: Callable[[Any], bytes]) -> bytes:
    """The digest of a constant's content.

    Args:
        token: stands for the functions and classes in it.

    Raises:
        ByType: its content is not sure, or not meant.
    """
    module = str(type(value).__module__)
    reason = _BY_TYPE.get(module) or _BY_TYPE.get(module.partition(".")[0]) or _BY_TYPE.get(module.rpartition(".")[0])
    if reason is not None:
        raise ByType(reason)
    try:
        return digest(_without_code(value, token, 0))
    except UndigestibleError as error:
        raise ByType(error.reason) from None


class Watched:
    """A value that can change where it is."""

    __slots__ = ("_known", "_value")

    def __init__(self, value: object) -> None:
        self._value = value
        self._known = self._now()

    def is_as_it_was(self) -> bool:
        """Whether the content is still the same; the functions in it are, if they are the same objects."""
        return self._now() == self._known

    def _now(self) -> bytes | None:
        try:
            return digest(_without_code(self._value, id, 0))
        except UndigestibleError:
            return None


def _without_code(value: Any, token: Callable[[Any], object], depth: int) -> Any:
    """A container with something else in the place of each function, or the value itself if there are none in it."""
    kind: Any = type(value)
    if depth and (is_code(value) or isinstance(value, type)):
        return ("code", token(value))
    if depth > _DEEPEST or kind not in (list, tuple, dict, set, frozenset):
        return value
    items = list(value.values() if kind is dict else value)
    if set(map(type, items)) <= ATOMS.keys():
        return value
    inside = [_without_code(item, token, depth + 1) for item in items]
    if all(new is old for new, old in zip(inside, items, strict=True)):
        return value
    return kind(zip(value, inside, strict=True)) if kind is dict else kind(inside)


def is_fixed(value: Any) -> bool:
    """Whether a value stays as it is while it is the same object; by convention that of hashable values is so."""
    kind: Any = type(value)
    if kind in ATOMS:
        return kind is not bytearray
    if kind is tuple or kind is frozenset:
        return all(map(is_fixed, value))
    if isinstance(value, type | types.ModuleType) or is_code(value):
        return True
    if kind.__eq__ is object.__eq__ or kind.__hash__ is None:
        return False
    try:
        hash(value)
    except Exception:
        return False
    return True
