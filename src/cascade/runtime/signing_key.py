"""The key that signs values that are stored: made at its first use, known to nobody but this user."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cascade.spec.exceptions import CascadeError

VARIABLE = "CASCADE_KEY"
_LEAST_BYTES = 32
_MOST_CHARACTERS = 4096


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


def load_signing_key(path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> bytes:
    """The key in `CASCADE_KEY`, or else in the file, which is made if it does not exist.

    Both hold text: at least 64 hexadecimal digits, so that the content of the file may be given to another machine in
    the variable. Processes that make the file at the same time end up with the same key.

    Args:
        path: of the key's file; its folder is made too. Nobody who could write the values may read it.
        environment: where `CASCADE_KEY` is looked up.

    Raises:
        SigningKeyError: the key is too short or no key, or another user could read or replace it.
    """
    if VARIABLE in environment:
        return _parsed(environment[VARIABLE], VARIABLE)
    file = Path(path)
    with contextlib.suppress(FileNotFoundError):
        return _load(file)
    try:
        _make(file)
        return _load(file)
    except SigningKeyError:
        raise
    except OSError as error:
        raise SigningKeyError(file, f"cannot be made ({error.strerror})") from error


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with mode 600 from its first moment.
    descriptor, temporary = tempfile.mkstemp(prefix=".key-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(os.urandom(_LEAST_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, leaves the key alone that another process has made meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    if os.name == "posix":
        # Values that survive a loss of power are worth nothing without their key.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _load(path: Path) -> bytes:
    try:
        link = path.lstat()
        if stat.S_ISLNK(link.st_mode) and os.name == "posix" and link.st_uid != os.geteuid():
            raise SigningKeyError(path, f"is a symbolic link of user {link.st_uid}")
        # A pipe in the file's place must not make the program wait for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, SigningKeyError):
        raise
    except OSError as error:
        raise SigningKeyError(path, f"cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SigningKeyError(path, "is no regular file")
        if os.name == "posix":
            if status.st_uid != os.geteuid():
                raise SigningKeyError(path, f"belongs to user {status.st_uid}")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise SigningKeyError(path, f"has mode {stat.S_IMODE(status.st_mode):o}")
        return _parsed(os.read(descriptor, _MOST_CHARACTERS).decode("ascii", "replace"), path)
    finally:
        os.close(descriptor)


def _parsed(text: str, source: Path | str) -> bytes:
    # Never the text itself in the message: it may be the secret.
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise SigningKeyError(source, "is not written in hexadecimal digits") from None
    if len(key) < _LEAST_BYTES:
        raise SigningKeyError(source, f"has {len(key)} bytes")
    return key
