"""The classes that a program lets stored values be made of: dataclasses, named tuples and enums, by name."""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from dataclasses import fields
from enum import Enum, Flag
from typing import Any, TypeVar

from cascade.adapters.serializers.source import NotPlain
from cascade.graph.callables import qualified_name
from cascade.spec.exceptions import ChangedCodeError, DeclarationError

T = TypeVar("T")

_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__getnewargs_ex__", "__getnewargs__")
_GENERATED_BY = frozenset({"dataclasses", "collections", "typing"})
_NOT_STATE = frozenset({"__dict__", "__weakref__"})
_NO_STATE: dict[str, object] = {}


class Composite:
    """A dataclass or a named tuple: its instances are their fields.

    Attributes:
        name: `module:qualname`.
        names: of the fields, in their order.
    """

    __slots__ = ("_cls", "_is_tuple", "_own", "name", "names")

    def __init__(self, cls: type[Any], name: str, names: Sequence[str]) -> None:
        self._cls = cls
        self._is_tuple = issubclass(cls, tuple)
        self.name = name
        self.names = tuple(names)
        self._own = frozenset() if self._is_tuple else frozenset(names)

    def values(self, instance: Any) -> list[object]:
        """The values of all fields; `NotPlain` where the instance has more, or fewer, than its fields."""
        if not getattr(instance, "__dict__", _NO_STATE).keys() <= self._own:
            raise NotPlain
        if self._is_tuple:
            return list(instance)
        try:
            return [getattr(instance, name) for name in self.names]
        except Exception as error:
            # Any class may say in its own way that it has no such attribute.
            raise NotPlain from error

    def make(self, values: list[object]) -> object:
        """An instance with these values, without calling `__init__` or `__post_init__`."""
        if self._is_tuple:
            return tuple.__new__(self._cls, values)
        instance = object.__new__(self._cls)
        for name, value in zip(self.names, values, strict=True):
            object.__setattr__(instance, name, value)
        return instance


_composites: dict[type, Composite] = {}
_enums: dict[type, str] = {}
_by_name: dict[str, type] = {}


def register_type(kind: type[T]) -> type[T]:
    """Let stored values hold instances of a dataclass, a `NamedTuple` or an enum without pickle.

    They are stored by the class's name and the names of its fields, and made again without calling `__init__`.
    Nothing is imported to load one: the module that registers the class must have been imported. Of two classes
    with one name, as when a module is loaded again, the later one counts.

    Args:
        kind: stands above `@dataclass` where it is used as a decorator.

    Raises:
        DeclarationError: the class is of another kind, is defined in a function, or says itself how it is pickled.

    >>> from dataclasses import dataclass
    >>> @register_type
    ... @dataclass
    ... class Order:
    ...     number: int
    >>> from cascade.adapters.serializers import SignedSerializer
    >>> serializer = SignedSerializer(bytes(32))
    >>> serializer.loads(serializer.dumps(Order(7), context=b"run 1"), context=b"run 1")
    Order(number=7)
    """
    if not isinstance(kind, type):
        raise DeclarationError(f"register_type takes a class, not {kind!r}")
    if "<locals>" in kind.__qualname__:
        raise DeclarationError(
            f"'{kind.__qualname__}' is defined in a function, so its name tells no process which class it is; "
            "define it at the top level of a module"
        )
    name = qualified_name(kind)
    if issubclass(kind, Enum):
        _enums[kind] = name
    else:
        _composites[kind] = Composite(kind, name, _field_names(kind))
    earlier = _by_name.get(name)
    _by_name[name] = kind
    if earlier is not None and earlier is not kind:
        _composites.pop(earlier, None)
        _enums.pop(earlier, None)
    return kind


def find_composite(cls: type) -> Composite | None:
    """What is registered for the exact class."""
    return _composites.get(cls)


def load_composite(name: str, names: tuple[str, ...]) -> Composite:
    """The composite of a stored name, whose fields must be those that were stored."""
    composite = _composites.get(_registered(name))
    if composite is None or composite.names != names:
        now = "no fields" if composite is None else f"the fields {', '.join(composite.names)}"
        raise ChangedCodeError(name, f"which was stored with the fields {', '.join(names)} and now has {now}")
    return composite


def enum_token(member: Any) -> tuple[str, str | int] | None:
    """The stored name of a registered enum, and the member's name, or its number for combined flags."""
    name = _enums.get(type(member))
    if name is None:
        return None
    if member._name_ in type(member).__members__:
        return name, member._name_
    if isinstance(member, Flag) and type(member._value_) is int:
        return name, member._value_
    raise NotPlain


def load_enum(name: str, member: str | int) -> object:
    """The member that `enum_token` told."""
    cls = _registered(name)
    if not issubclass(cls, Enum):
        raise ChangedCodeError(name, "which was an enum and is none now")
    try:
        return cls[member] if isinstance(member, str) else cls(member)
    except (KeyError, ValueError) as error:
        raise ChangedCodeError(name, f"which has no member {member!r} now") from error


def _registered(name: str) -> type:
    cls = _by_name.get(name)
    if cls is None:
        raise ChangedCodeError(name, "which no class is registered as; import the module that registers it first")
    return cls


def _field_names(cls: Any) -> list[str]:
    tuple_fields: tuple[str, ...] | None = getattr(cls, "_fields", None)
    if tuple_fields is not None and issubclass(cls, tuple):
        names = list(tuple_fields)
    elif "__dataclass_fields__" in vars(cls):
        dataclass: Any = cls
        names = [field.name for field in fields(dataclass)]
    else:
        raise DeclarationError(
            f"'{cls.__qualname__}' is no dataclass, no NamedTuple and no enum; wrong: `@dataclass` above "
            "`@register`, right: `@register` above `@dataclass`. Other classes are kept by pickle, unregistered"
        )
    for base in cls.__mro__[:-1]:
        more = _more_than_fields(base, names)
        if more is not None:
            raise DeclarationError(
                f"'{cls.__qualname__}' is more than its fields: '{base.__qualname__}' {more}; "
                "leave it unregistered, and pickle keeps it"
            )
    return names


def _more_than_fields(base: type, names: list[str]) -> str | None:
    """What an instance of the class has or does that the values of its fields do not say."""
    definitions = vars(base)
    for method in _PICKLING:
        definition = definitions.get(method)
        if isinstance(definition, types.FunctionType) and definition.__module__ not in _GENERATED_BY:
            return f"says with {method} how it is pickled"
    if issubclass(base, tuple):
        return None
    if "__new__" in definitions:
        return "has a __new__ of its own"
    for name in names:
        definition = definitions.get(name)
        if inspect.isdatadescriptor(definition) and not inspect.ismemberdescriptor(definition):
            return f"computes '{name}'"
    slots = definitions.get("__slots__", ())
    others = {slots} if isinstance(slots, str) else set(slots)
    others -= {*names, *_NOT_STATE}
    return f"has the slots {', '.join(sorted(others))}" if others else None
