"""Moments and ages, as people write and read them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from cascade.adapters.telemetry.wording import harmless
from cascade.tools.command.endings import CommandError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def age_of(text: str, option: str) -> float:
    """An age in seconds.

    Args:
        text: a number with a unit: `90s`, `10m`, `2h`, `30d`, `4w`.
        option: who was given it, for the message.

    Raises:
        CommandError: it is none.

    >>> age_of("2h", "--older-than")
    7200.0
    """
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise CommandError(f"{option}: expected an age such as 90s, 10m, 2h, 30d or 4w, got '{harmless(text)}'")
    return float(found[1]) * _SECONDS[found[2]]


def moment_of(text: str, option: str, now: float) -> float:
    """A moment in seconds since the epoch.

    Args:
        text: an age, counted back from now, or a date with or without a time, of this machine's zone unless it says.
        option: who was given it, for the message.
        now: now.

    Raises:
        CommandError: it is neither.
    """
    if _AGE.fullmatch(text.strip().lower()):
        return now - age_of(text, option)
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise CommandError(
            f"{option}: expected a date such as 2030-01-31 or 2030-01-31T18:00, or an age such as 2h or 30d, got "
            f"'{harmless(text)}'"
        ) from None


def shown_moment(moment: float) -> str:
    """A moment on the clock of this machine, to the second."""
    try:
        return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def iso(moment: float) -> str | None:
    """A moment in UTC for machines; `None` for one that no calendar has.

    >>> iso(0.5)
    '1970-01-01T00:00:00.500000Z'
    """
    try:
        return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    except (ValueError, OverflowError, OSError):
        return None
