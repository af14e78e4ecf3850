"""Short, harmless texts of users' values and errors: bounded, and without secrets."""

from __future__ import annotations

import reprlib
from contextlib import suppress
from typing import Any, Final

from cascade.spec.secret import FORMS, mask, masked

_LONGEST: Final = 200

_BRIEF: Final = frozenset({bool, float, type(None)})
"""Types whose every `repr` is short and the program's own."""

_LARGE: Final = 10**18
_MOST_LINKS: Final = 100


class _Short(reprlib.Repr):
    """Masks secrets before it cuts: half a secret would not be found any more."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(mask(x), level)

    def repr_int(self, x: int, level: int) -> str:
        return mask(super().repr_int(x, level))

    def repr_instance(self, x: Any, level: int) -> str:
        if not FORMS:
            return super().repr_instance(x, level)
        try:
            return self._cut(mask(repr(x)))
        except Exception:
            return super().repr_instance(x, level)

    def _cut(self, text: str) -> str:
        if len(text) <= self.maxother:
            return text
        first = max(0, (self.maxother - 3) // 2)
        last = max(0, self.maxother - 3 - first)
        return f"{text[:first]}{self.fillvalue}{text[len(text) - last :]}"


_short: Final = _Short()
_short.maxstring = _short.maxother = _short.maxlong = 80


def preview(value: Any) -> str:
    """A bounded `repr` that never raises and has no secret in it."""
    if type(value) in _BRIEF or (type(value) is int and -_LARGE < value < _LARGE):
        return mask(repr(value)) if FORMS else repr(value)
    try:
        text = _short.repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    if FORMS:
        text = mask(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def describe_error(error: BaseException) -> str:
    """Type and message of an error in one bounded line, which never raises and has no secret in it."""
    try:
        message = mask(str(error))
    except Exception as second:
        message = f"<message raised {type(second).__name__}>"
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST - 3] + "..."


def mask_error(error: BaseException | None) -> None:
    """Take secrets out of the message and the notes of an exception that leaves a run, and of those it came from.

    What is replaced is text in `args`, in `__notes__`, in attributes that the message is made of and, of an `OSError`,
    in its file names; the exception stays the same object.
    """
    if not FORMS:
        return
    seen: set[int] = set()
    due: list[BaseException | None] = [error]
    while due and len(seen) < _MOST_LINKS:
        error_now = due.pop()
        if error_now is None or id(error_now) in seen:
            continue
        seen.add(id(error_now))
        due += (error_now.__cause__, error_now.__context__)
        if isinstance(error_now, BaseExceptionGroup):
            members: tuple[BaseException, ...] = error_now.exceptions
            due += members
        # An exception whose class forbids attributes stays as it is.
        with suppress(Exception):
            _mask_one(error_now)


def _mask_one(error: BaseException) -> None:
    args = tuple(masked(value) for value in error.args)
    if args != error.args:
        error.args = args
    notes: Any = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        notes[:] = [mask(note) if isinstance(note, str) else note for note in notes]
    if str(error) != mask(str(error)):
        # Its message is made of attributes of its own.
        own = vars(error)
        own.update({name: masked(value) for name, value in own.items()})
    if isinstance(error, OSError):
        for name in ("filename", "filename2", "strerror"):
            text = getattr(error, name)
            if isinstance(text, str) and mask(text) != text:
                setattr(error, name, mask(text))
