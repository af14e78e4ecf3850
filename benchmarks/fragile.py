"""Work that fails at its last call while something is ill, and that goes on in another process when it is well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.measuring import WARM_UP, check, in_another_process, seconds_per_unit

_ILL = Path("ill")
_called: list[int] = []


def noted_double(x: int) -> int:
    _called.append(x)
    return work.double(x)


def total_if_healthy(values: list[int]) -> int:
    if _ILL.exists():
        raise RuntimeError("ill")
    return sum(values)


def total_of(size: int) -> int:
    """What comes of `size` calls, of which the last adds up the others."""
    return work.sum_of_doubles(size - 1)


def failed(run: Callable[[], object]) -> float:
    """Run into the failure; how many calls were made before it."""
    _ILL.touch()
    try:
        run()
    except RuntimeError:
        return len(_called)
    raise AssertionError("it did not fail")


def seconds_to_resume(
    module: str,
    go_on: Callable[[Any], int],
    size: int,
    *,
    expected: Callable[[int], int] = total_of,
    prepare: Callable[[int], Any] = int,
    warm_up: int = WARM_UP,
) -> float:
    """Seconds a call of what `fail_at_the_end` of the module has begun in another process; none may be made again."""
    check(in_another_process(module, "fail_at_the_end", size=size), size - 1)
    _ILL.unlink()

    def forget(units: int) -> Any:
        _called.clear()
        return prepare(units)

    seconds = seconds_per_unit(go_on, size, expected, prepare=forget, warm_up=warm_up)
    check(_called, [])
    return seconds
