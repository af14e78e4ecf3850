"""Text that no database refuses: what they cannot hold is escaped, all else stays readable."""

from __future__ import annotations

import re
from typing import Final

ODD: Final = re.compile("[\x00\x1a\ud800-\udfff]")
"""NUL, which PostgreSQL cannot hold; surrogates, which are no UTF-8; and the character that escapes them."""

_ESCAPED: Final = re.compile("\x1a([0-9a-f]{4})")


def escape(text: str) -> str:
    r"""Replace each odd character by SUBSTITUTE and four digits.

    >>> escape("a\0b"), escape("C:\\temp")
    ('a\x1a0000b', 'C:\\temp')
    """
    return ODD.sub(lambda match: f"\x1a{ord(match[0]):04x}", text)


def unescape(text: str) -> str:
    r"""What was escaped.

    >>> unescape(escape("a\0\ud800\x1a")) == "a\0\ud800\x1a"
    True
    """
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "\x1a" in text else text


def escape_any(text: str | None) -> str | None:
    return None if text is None else escape(text)


def unescape_any(text: str | None) -> str | None:
    return None if text is None else unescape(text)
