"""What somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from cascade.adapters.telemetry.wording import harmless

_MOST: Final = 3


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A question that names what begins like a name, or is similar to it; `None` if nothing does.

    >>> did_you_mean("nightly-", ["nightly-6", "hourly"])
    "did you mean 'nightly-6'?"
    """
    names = list(dict.fromkeys(known))
    close = [other for other in names if name and other.startswith(name)][:_MOST]
    close = close or difflib.get_close_matches(name, names, n=_MOST)
    if not close:
        return None
    shown = " or ".join(f"'{harmless(other)}'" for other in close)
    return f"did you mean {shown}?"
