"""Short, harmless texts of users' values and errors."""

from __future__ import annotations

import reprlib
from typing import Any, Final

_LONGEST: Final = 200

_BRIEF: Final = frozenset({bool, float, type(None)})
"""Types whose every `repr` is short and the program's own."""

_LARGE: Final = 10**18

_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


def preview(value: Any) -> str:
    """A bounded `repr` that never raises."""
    if type(value) in _BRIEF or (type(value) is int and -_LARGE < value < _LARGE):
        return repr(value)
    try:
        text = _short.repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def describe_error(error: BaseException) -> str:
    """Type and message of an error in one bounded line, which never raises."""
    try:
        message = str(error)
    except Exception as second:
        message = f"<message raised {type(second).__name__}>"
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST - 3] + "..."
