"""Which part of a value it is that cannot be pickled."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Iterator
from typing import Any

from cascade.spec.secret import NOT_KEPT, Secret

_DEEPEST = 200
_SHOWN = 40


def find_culprit(value: object, error: Exception) -> tuple[object, str, str]:
    """The innermost part that cannot be pickled, its path in the value, and what pickle says of it.

    Args:
        error: what was raised for the whole value.
    """
    path = ["result"]
    seen = {id(value)}
    for _ in range(_DEEPEST):
        if isinstance(error, RecursionError):
            return value, "".join(path), "it is nested deeper than pickle can follow, and not all of it is plain data"
        try:
            found = _failing_part(value, seen)
        except Exception:
            # Parts are asked for by methods of any class; where one fails, the whole is as near as can be told.
            break
        if found is None:
            break
        step, value, error = found
        path.append(step)
        seen.add(id(value))
    return value, "".join(path), str(error) or type(error).__name__


def _failing_part(value: object, seen: set[int]) -> tuple[str, object, Exception] | None:
    for step, part in _parts(value):
        # Each part once: a value may contain itself.
        if id(part) not in seen:
            problem = _problem(part)
            if problem is not None:
                return step, part, problem
    return None


def _problem(part: object) -> Exception | None:
    try:
        _Trial(io.BytesIO(), protocol=5).dump(part)
    except Exception as error:
        return error
    return None


class _Trial(pickle.Pickler):
    def reducer_override(self, obj: Any, /) -> Any:
        if isinstance(obj, Secret):
            raise TypeError(NOT_KEPT)
        return NotImplemented


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """What the value consists of, with the step in Python that leads there."""
    if isinstance(value, dict):
        for key, part in list(value.items()):
            yield f"[{_shown(key)}]", part
            yield f"'s key {_shown(key)}", key
    elif isinstance(value, list | tuple):
        names = getattr(value, "_fields", None)
        for place, part in enumerate(value):
            yield f".{names[place]}" if names else f"[{place}]", part
    elif isinstance(value, set | frozenset):
        for part in list(value):
            yield "'s member", part
    if not _is_its_attributes(value):
        return
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        for name, part in list(state.items()):
            yield f".{name}", part
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _is_its_attributes(value: object) -> bool:
    """Whether its attributes are what is pickled of an object: not where it goes by name, or says otherwise."""
    kind = type(value)
    if isinstance(value, type | types.ModuleType | types.FunctionType) or kind.__reduce__ is not object.__reduce__:
        return False
    told_by = kind.__getstate__
    return kind.__reduce_ex__ is object.__reduce_ex__ and (
        told_by is object.__getstate__ or getattr(told_by, "__module__", "") == "dataclasses"
    )


def _shown(key: object) -> str:
    try:
        text = repr(key)
    except Exception:
        return f"a {type(key).__name__}"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
