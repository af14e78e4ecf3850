"""How commands end: the status of each kind of error."""

from __future__ import annotations

from typing import Final

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.signing_key import SigningKeyError
from cascade.spec.exceptions import (
    CascadeError,
    MissingExtraError,
    ParameterError,
    ResumeError,
    RunOwnedError,
    StoreError,
)
from cascade.tools.program import BAD_INPUT as WRONG_USE
from cascade.tools.program import FAILED, INTERRUPTED
from cascade.tools.report import failure_text

__all__ = ["FAILED", "INTERRUPTED", "WRONG_USE", "CommandError", "message_of", "status_of"]

_LONGEST_LINE: Final = 2_000
_WRONG_USE: Final = (MissingExtraError, ParameterError, ResumeError, RunOwnedError)


class CommandError(CascadeError):
    """A command cannot do what it was asked for; nothing was run or changed."""


def message_of(error: BaseException) -> str:
    """What is told of an error, in lines that no terminal obeys: of wrong use just what is wrong."""
    if isinstance(error, ParameterError):
        places = "" if len(error.problems) == 1 else f" in {len(error.problems)} places"
        problems = "".join("\n  " + problem.replace("\n", "\n    ") for problem in error.problems)
        text = f"error: bad input{places}, and nothing was run:{problems}"
    else:
        # Where in the program a store or its key was refused helps nobody, and the message has the reason.
        is_told = status_of(error) == WRONG_USE or isinstance(error, (StoreError, SigningKeyError))
        text = f"error: {error}" if is_told else failure_text(error)
    return "\n".join(harmless(line, _LONGEST_LINE) for line in text.split("\n"))


def status_of(error: BaseException) -> int | None:
    """The exit status for an error; `None` for one that nobody expected.

    Args:
        error: what a command raised, or what a run failed of before it began.
    """
    if isinstance(error, (CommandError, *_WRONG_USE)):
        return WRONG_USE
    # An `OSError` is a disk that is full under what is printed, or a folder for locks that cannot be made.
    return FAILED if isinstance(error, (CascadeError, OSError)) else None
