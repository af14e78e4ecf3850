"""The key with which a cache signs its files: made at first use, read by nobody but this user."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import TYPE_CHECKING

from cascade.spec.exceptions import CascadeError

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH = 32


class CacheKeyFileError(CascadeError, PermissionError):
    """The key of a cache directory could be known to others, or is no key: its files cannot be trusted.

    Attributes:
        path: the key's file.
        problem: what is wrong with it.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"the key of the cache, '{self.path}', {self.problem}; expected a file of {_LENGTH} bytes that "
            "only its owner, this user, can read (mode 600). Delete the cache's directory, or use another one"
        )


def load_or_create_key(path: Path) -> bytes:
    """The key in the file, which is made if it does not exist.

    Processes that make it at the same time end up with the same key.

    Raises:
        CacheKeyFileError: the file belongs to another user, or others can read or write it.
    """
    with contextlib.suppress(FileNotFoundError):
        return _load(path)
    descriptor, temporary = tempfile.mkstemp(prefix=".key-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(_LENGTH))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, leaves the key alone that another process has made meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    return _load(path)


def _load(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheKeyFileError(path, f"cannot be opened ({error.strerror})") from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if os.name == "posix":
            if status.st_uid != os.geteuid():
                raise CacheKeyFileError(path, f"belongs to user {status.st_uid}")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise CacheKeyFileError(path, f"has mode {stat.S_IMODE(status.st_mode):o}")
        key = file.read(_LENGTH + 1)
    if len(key) != _LENGTH:
        raise CacheKeyFileError(path, f"has {status.st_size} bytes")
    return key
