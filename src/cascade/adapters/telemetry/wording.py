"""Numbers, times and names as people read them."""

from __future__ import annotations

import re
from typing import Final

from cascade.spec.secret import mask

_LONGEST: Final = 200
# Controls of the terminal, and characters that reorder or hide what stands around them.
_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def harmless(text: str, longest: int = _LONGEST) -> str:
    r"""A text on one line that no terminal obeys, without secrets.

    Args:
        text: a name or a message of a user's.
        longest: after how many characters it is cut.

    >>> harmless("red" + chr(27) + "[31m")
    'red\\x1b[31m'
    """
    text = mask(text)
    if len(text) > longest:
        text = f"{text[: longest - 3]}..."
    if text.isascii() and text.isprintable():
        return text
    return _HARMFUL.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    if character in "\n\r\t":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def counted(number: int, noun: str = "") -> str:
    """A number, with its noun in the right form if one is given.

    >>> counted(12345), counted(1, "task"), counted(2, "retry")
    ('12,345', '1 task', '2 retries')
    """
    if not noun:
        return f"{number:,}"
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun}"


def lasting(seconds: float) -> str:
    """How long something took.

    >>> lasting(0.012), lasting(4.56), lasting(75), lasting(3725)
    ('12ms', '4.6s', '1m 15s', '1h 2m')
    """
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def roughly(seconds: float) -> str:
    """How long something may take yet, no more exactly than anybody knows.

    >>> roughly(0.2), roughly(4.56), roughly(75)
    ('1s', '5s', '1m 15s')
    """
    whole = max(1, round(seconds))
    return f"{whole}s" if whole < 60 else lasting(whole)


def clocked(seconds: float) -> str:
    """A time that goes on, as on a stopwatch.

    >>> clocked(7.9), clocked(3725)
    ('0:07', '1:02:05')
    """
    whole = int(max(0.0, seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def per_second(rate: float) -> str:
    """A rate, as tasks in a second or, where these are few, in a minute or an hour.

    >>> per_second(1234.5), per_second(2.5), per_second(0.1)
    ('1,234/s', '2.5/s', '6/min')
    """
    if rate >= 10:
        return f"{int(rate):,}/s"
    if rate >= 1:
        return f"{rate:.2g}/s"
    if rate * 60 >= 1:
        return f"{rate * 60:.2g}/min"
    return f"{rate * 3600:.2g}/h"
