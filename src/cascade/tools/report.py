"""What a program tells at its end: the result, or the failure on one screen."""

from __future__ import annotations

import json
import os
import pprint
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.spec.exceptions import ParameterError
from cascade.spec.secret import mask

if TYPE_CHECKING:
    from types import TracebackType

MOST_FAILURES: Final = 20
_ENGINE: Final = str(Path(__file__).resolve().parents[1]) + os.sep
_STANDARD_LIBRARY: Final = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")} | {"<frozen "}
)
_INSTALLED: Final = {"site-packages", "dist-packages"}


def result_text(value: Any) -> str | bytes | None:
    """How a result is printed: text and bytes as they are, then JSON, then `repr`; `None` for nothing.

    >>> print(result_text("done"))
    done
    >>> print(result_text([1, True, None]))
    [
      1,
      true,
      null
    ]
    >>> print(result_text({1, 2}))
    {1, 2}
    """
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (str, Path)):
        return str(value)
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return pprint.pformat(value, width=100, sort_dicts=False)


def input_problems(error: BaseException) -> tuple[str, ...]:
    """What is wrong with the input, if nothing else is what the run failed of.

    A task tells so by raising `ParameterError`.

    Args:
        error: why the run failed; of a group, each failure must be about the input.
    """
    problems: list[str] = []
    for single in _leaves(error):
        if not isinstance(single, ParameterError):
            return ()
        problems += single.problems
    # Two tasks may find the same thing wrong.
    return tuple(dict.fromkeys(problems))


def failure_text(error: BaseException, *, whole_traceback: bool = False) -> str:
    """What went wrong: the exception, where it was raised, and the notes on its task; without secrets.

    Args:
        error: why the run failed; a group is told one by one.
        whole_traceback: for those who want to look into it.
    """
    # The exception has none, but for the message of a group, which nobody can change.
    return mask(_failure(error, whole_traceback=whole_traceback))


def _failure(error: BaseException, *, whole_traceback: bool) -> str:
    if whole_traceback:
        return "".join(traceback.format_exception(error)).rstrip()
    singles = _leaves(error)
    if singles == [error]:
        return f"error: {_one(error, '  ')}"
    lines = [f"error: {_headline(error)}"]
    lines += [f"  {number}. {_one(single, '     ')}" for number, single in enumerate(singles[:MOST_FAILURES], 1)]
    if len(singles) > MOST_FAILURES:
        lines.append(f"  and {len(singles) - MOST_FAILURES} more; --log-level DEBUG shows all")
    return "\n".join(lines)


def _leaves(error: BaseException) -> list[BaseException]:
    """The single exceptions of a group of groups."""
    found: list[BaseException] = []
    stack = [error]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(reversed(cast("BaseExceptionGroup[BaseException]", error).exceptions))
        else:
            found.append(error)
    return found


def _one(error: BaseException, indent: str) -> str:
    lines = [_headline(error)]
    raised = _raised_at(error.__traceback__)
    if raised:
        lines.append(f"raised at {raised}")
    lines += getattr(error, "__notes__", ())
    if error.__cause__ is not None:
        lines.append(f"because of {_headline(error.__cause__)}")
    return "\n".join(lines).replace("\n", f"\n{indent}")


def _headline(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception as second:  # an exception of the user's own may fail to tell about itself
        message = f"<its text raised {type(second).__name__}>"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _raised_at(trace: TracebackType | None) -> str:
    """The innermost line of the user's own code, or else of a package that is installed.

    Nothing where there are only the engine and the standard library: a line in them helps nobody, and the notes tell
    the task and where it was declared.
    """
    own = installed = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"
        # The engine may be installed too, and packages may stand in a folder of the standard library.
        if code.co_filename.startswith(_ENGINE):
            pass
        elif not _INSTALLED.isdisjoint(Path(code.co_filename).parts):
            installed = place
        elif not code.co_filename.startswith(_STANDARD_LIBRARY):
            own = place
        trace = trace.tb_next
    return own or installed
