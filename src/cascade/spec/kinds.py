"""Kinds of values that an input can have: how text is read, and which other values belong.

Text comes from command lines, environments and files, where there is nothing else; anything else must be of
the type already.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

BOOL_WORDS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_NONE_WORDS: Final = frozenset({"none", "null"})

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 80


def shown(value: object) -> str:
    """A short `repr` that never raises."""
    return _brief.repr(value)


class Repeated(tuple[str, ...]):
    """All texts that a command line gave for one name, one for each time that it was given."""

    __slots__ = ()


class Misfit(Exception):
    """A value does not belong to the type that was declared."""

    def __init__(self, expected: str, value: object, detail: str = "") -> None:
        super().__init__(expected, value, detail)
        self.expected = expected
        self.value = value
        self.detail = detail

    def __str__(self) -> str:
        kind = "" if isinstance(self.value, str) or self.value is None else f"{type(self.value).__name__} "
        detail = f" ({self.detail})" if self.detail else ""
        return f"expected {self.expected}, got {kind}{shown(self.value)}{detail}"


class Kind:
    """What is known of values as they come, when no type was declared; the root of all other kinds.

    Attributes:
        title: the type's name.
        hint: how its text is written, where that is not plain.
        choices: the texts that there are, if these are few.
        hides: whether what was given is not told, whatever is wrong with it.
    """

    title: str = "any value"
    hint: str = ""
    choices: tuple[str, ...] = ()
    hides: bool = False

    @property
    def expected(self) -> str:
        return f"{self.title} ({self.hint})" if self.hint else self.title

    def accept(self, value: Any) -> Any:
        """The value in the declared type.

        Raises:
            Misfit: it is text that cannot be read, or a value of another type.
        """
        if isinstance(value, Repeated):
            return self.read_repeated(value)
        return self.read(value) if isinstance(value, str) else self.check(value)

    def read(self, text: str) -> Any:
        return text

    def read_repeated(self, texts: Sequence[str]) -> Any:
        return self.read(texts[-1])

    def check(self, value: Any) -> Any:
        return value

    def check_default(self, value: Any) -> Any:
        """A default is written in the program, so its text is not converted."""
        return self.check(value)

    def misfit(self, value: object, detail: str = "") -> Misfit:
        if self.hides:
            return Misfit(self.expected, "***", detail or f"a value of type {type(value).__name__}")
        return Misfit(self.expected, value, detail)

    def instance(self, value: Any, wanted: type, written: str | None = None) -> Any:
        """The value itself, if it is one of the class."""
        if not isinstance(value, wanted):
            raise self.misfit(value if written is None else written)
        return value


class Scalar(Kind):
    """A class whose values are written as one piece of text."""

    def __init__(self, kind: type, read: Callable[[str], Any], hint: str = "", refused: type | tuple[()] = ()) -> None:
        self.kind = kind
        self.title = kind.__name__
        self.hint = hint
        self._read = read
        self._refused = refused

    def read(self, text: str) -> Any:
        try:
            return self._read(text)
        except (ValueError, KeyError) as error:
            raise self.misfit(text) from error

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.kind) or isinstance(value, self._refused):
            raise self.misfit(value)
        return value


class Hidden(Scalar):
    """Secrets."""

    hides = True


class Float(Scalar):
    """Real numbers; an `int` is one too and becomes a `float`."""

    def check(self, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError as error:
                raise self.misfit(value, "too large") from error
        return super().check(value)


class Member(Kind):
    """An enumeration: a member by its name, else by its value."""

    def __init__(self, kind: type[Enum]) -> None:
        self.kind = kind
        self.choices = tuple(kind.__members__)
        self.title = f"{kind.__name__}, one of {', '.join(self.choices)}"

    def read(self, text: str) -> Any:
        if isinstance(text, self.kind):
            return text
        member = self.kind.__members__.get(text)
        if member is not None:
            return member
        for member in self.kind:
            if member.value == text or (not isinstance(member.value, str) and str(member.value) == text):
                return member
        raise self.misfit(text)

    def check(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        for member in self.kind:
            if type(member.value) is type(value) and member.value == value:
                return member
        raise self.misfit(value)

    def check_default(self, value: Any) -> Any:
        if not isinstance(value, self.kind):
            raise self.misfit(value)
        return value


class Choice(Kind):
    """A `Literal`: one of the values that it lists."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values
        self.choices = tuple(choice_text(value) for value in values)
        self.title = f"one of {', '.join(map(repr, values))}"

    def read(self, text: str) -> Any:
        for value, written in zip(self.values, self.choices, strict=True):
            if text == written or (isinstance(value, bool) and BOOL_WORDS.get(text.strip().lower()) is value):
                return value
        raise self.misfit(text)

    def check(self, value: Any) -> Any:
        for choice in self.values:
            if type(choice) is type(value) and choice == value:
                return choice
        raise self.misfit(value)


def choice_text(value: Any) -> str:
    """How a choice is written."""
    if isinstance(value, Enum):
        return value.name
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


class ListOf(Kind):
    """Lists: their text has commas between the items, or is JSON."""

    def __init__(self, item: Kind, typed: bool) -> None:
        self.item = item
        self.title = f"list[{item.title}]" if typed else "list"
        self.hides = item.hides
        self.nested = isinstance(item, (ListOf, DictOf))
        self.hint = "as JSON" if self.nested else "comma separated or JSON"

    def read(self, text: str) -> Any:
        if self.nested or text.lstrip().startswith("["):
            return self._items(self.instance(_from_json(self, text), list, text), text, self.item.accept)
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        return self._items(parts, text, self.item.accept)

    def read_repeated(self, texts: Sequence[str]) -> Any:
        return [item for text in texts for item in self.read(text)]

    def check(self, value: Any) -> Any:
        return self._items(self.instance(value, list), value, self.item.accept)

    def check_default(self, value: Any) -> Any:
        return self._items(self.instance(value, list), value, self.item.check_default)

    def _items(self, items: list[Any], whole: object, accept: Callable[[Any], Any]) -> list[Any]:
        accepted: list[Any] = []
        for place, item in enumerate(items):
            try:
                accepted.append(accept(item))
            except Misfit as error:
                raise self.misfit(whole, f"item {place}: {error}") from error
        return accepted


class DictOf(Kind):
    """Dicts: their text is JSON."""

    hint = "as a JSON object"

    def __init__(self, key: Kind, item: Kind, typed: bool) -> None:
        self.key = key
        self.item = item
        self.hides = key.hides or item.hides
        self.title = f"dict[{key.title}, {item.title}]" if typed else "dict"

    def read(self, text: str) -> Any:
        items = self.instance(_from_json(self, text), dict, text)
        return self._items(items, text, self.key.accept, self.item.accept)

    def check(self, value: Any) -> Any:
        return self._items(self.instance(value, dict), value, self.key.accept, self.item.accept)

    def check_default(self, value: Any) -> Any:
        return self._items(self.instance(value, dict), value, self.key.check_default, self.item.check_default)

    def _items(
        self, items: dict[Any, Any], whole: object, key: Callable[[Any], Any], item: Callable[[Any], Any]
    ) -> dict[Any, Any]:
        accepted: dict[Any, Any] = {}
        for name, value in items.items():
            try:
                accepted[key(name)] = item(value)
            except Misfit as error:
                raise self.misfit(whole, f"at {shown(name)}: {error}") from error
        return accepted


def _from_json(kind: Kind, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind.misfit(text, f"no JSON: {error}") from error


class OptionalOf(Kind):
    """`X | None`: empty text, `none` and `null` are `None`, unless X can read them."""

    def __init__(self, inner: Kind) -> None:
        self.inner = inner
        self.hides = inner.hides
        self.title = f"{inner.title} or None"
        self.hint = inner.hint
        self.choices = inner.choices

    def read(self, text: str) -> Any:
        try:
            return self.inner.read(text)
        except Misfit as error:
            if not text.strip() or text.strip().lower() in _NONE_WORDS:
                return None
            raise self.misfit(text, error.detail) from error

    def read_repeated(self, texts: Sequence[str]) -> Any:
        return self.inner.read_repeated(texts) if len(texts) > 1 else self.read(texts[-1])

    def check(self, value: Any) -> Any:
        return self._check(value, self.inner.check)

    def check_default(self, value: Any) -> Any:
        return self._check(value, self.inner.check_default)

    def _check(self, value: Any, check: Callable[[Any], Any]) -> Any:
        if value is None:
            return None
        try:
            return check(value)
        except Misfit as error:
            raise self.misfit(value, error.detail) from error
