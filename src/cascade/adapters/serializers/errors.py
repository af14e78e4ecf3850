"""What can be wrong with the key that signs values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.spec.exceptions import CascadeError

if TYPE_CHECKING:
    from pathlib import Path


class SigningKeyError(CascadeError, PermissionError):
    """The key that signs values could be known to others, or is no key: what it signs cannot be trusted.

    Attributes:
        source: the key's file, or the name of an environment variable.
        problem: what is wrong with it.
    """

    def __init__(self, source: Path | str, problem: str) -> None:
        super().__init__(source, problem)
        self.source = source
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"the key that signs stored values, '{self.source}', {self.problem}; expected at least 64 hexadecimal "
            "digits, in the environment variable CASCADE_KEY or in a file that only its owner, this user, can read "
            "(mode 600). Values signed with another key are refused"
        )
