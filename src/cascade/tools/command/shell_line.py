"""Lines that can be given to a shell as they stand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def shell_line(words: Iterable[str]) -> str:
    r"""Words as one line for a shell, without a character that a terminal would obey.

    >>> print(shell_line(["cascade", "show", "two words", "red" + chr(27)]))
    cascade show 'two words' $'red\x1b'
    """
    return " ".join(map(_quoted, words))


def resume_line(run_id: str, store: str | None) -> str:
    """The command that goes on with a run.

    Args:
        store: where the run is, unless it is found there anyway.
    """
    words = ["cascade", "resume"]
    if store is not None:
        words += ["--store", store]
    if run_id.startswith("-"):
        words.append("--")
    return shell_line([*words, run_id])


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # Arguments that are no text reach a program as lone surrogates, a byte each.
    written = (
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in word.encode("utf-8", "surrogateescape" if _is_of_bytes(word) else "surrogatepass")
    )
    return f"$'{''.join(written)}'"


def _is_of_bytes(word: str) -> bool:
    return all(not "\ud800" <= character <= "\udfff" or "\udc80" <= character <= "\udcff" for character in word)
