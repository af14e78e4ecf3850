"""Files as tasks."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

from cascade.spec.context import cancelled
from cascade.spec.exceptions import DeclarationError, RunCancelledError
from cascade.spec.task import Task, task

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult

    LazyPath = str | os.PathLike[str] | LazyResult[Any]

_PERMISSIONS: Final = 0o777
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})
_numbers = itertools.count()


class ReadTask(Task[..., Any]):
    """The task `read`, whose encoding decides about the type of its value."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __call__(self, path: LazyPath, *, encoding: str = "utf-8") -> LazyResult[str]: ...
        @overload
        def __call__(self, path: LazyPath, *, encoding: None) -> LazyResult[bytes]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> LazyResult[Any]: ...


@functools.partial(ReadTask, name="read")
def read(path: str | os.PathLike[str], *, encoding: str | None = "utf-8") -> str | bytes:
    """Read a file.

    Args:
        path: the file.
        encoding: of its text; `None` gives bytes. Line endings stay as they are.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: its text is in another encoding.

    >>> import cascade as cs
    >>> cs.run(cs.read(cs.write("notes.txt", "one line")))
    'one line'
    """
    content = Path(path).read_bytes()
    if encoding is None:
        return content
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        error.add_note(
            f"while reading {os.fspath(path)!r}: name the right encoding, or take the bytes with encoding=None"
        )
        raise


@task
def write(
    path: str | os.PathLike[str], content: str | bytes, *, encoding: str = "utf-8", make_parents: bool = True
) -> Path:
    """Write a file, all of it or nothing: whatever happens, there is the old content or the new one.

    The new content is on the disk before it takes the place of the old one. Permissions of an existing file
    stay, its owner where the system allows it; a symbolic link stays, and the file that it leads to is
    written. What is no regular file, as a pipe or a device, is simply written to.

    Args:
        path: the file.
        content: text or bytes.
        encoding: of the text. Line endings are written as they are.
        make_parents: whether folders that are missing are made.

    Returns:
        The path, for tasks that read the file.

    Raises:
        OSError: the file cannot be written.
        DeclarationError: the content is neither text nor bytes.

    >>> import cascade as cs
    >>> cs.run(cs.write("reports/today.txt", "all is well")).name
    'today.txt'
    """
    if not isinstance(content, (str, bytes, bytearray, memoryview)):
        raise DeclarationError(
            f"write({os.fspath(path)!r}, ...) takes text or bytes, got {type(content).__name__}; "
            "make text of it first, as with cs.format or json.dumps in a task"
        )
    data = content.encode(encoding) if isinstance(content, str) else content
    # The file itself and not a link to it, which would be replaced by the file.
    target = Path(os.path.realpath(path))
    try:
        existing = target.stat()
    except FileNotFoundError:
        existing = None
    if existing is None:
        if make_parents:
            _make_folders(target.parent)
    elif stat.S_ISDIR(existing.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    elif not stat.S_ISREG(existing.st_mode):
        target.write_bytes(data)
        return Path(path)
    elif not os.access(target, os.W_OK):
        # Replacing would succeed all the same, and the protection would have been for nothing.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    _replace(target, data, existing)
    return Path(path)


def _replace(target: Path, data: bytes | bytearray | memoryview, existing: os.stat_result | None) -> None:
    """Write a temporary file beside the target, and put it in its place when it is safely on the disk."""
    # Never more open than the file that it will be, not even for a moment.
    mode = 0o666 if existing is None else existing.st_mode & _PERMISSIONS
    temporary, descriptor = _temporary_file(target.parent, mode)
    try:
        with open(descriptor, "wb") as file:
            if existing is not None:
                _keep_owner(descriptor, existing)
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if cancelled():
            # A late thread of an attempt that was given up must not undo what the next one has written.
            raise RunCancelledError(f"writing {os.fspath(target)!r} was stopped; the file is as it was")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folders([target.parent])


def _temporary_file(folder: Path, mode: int) -> tuple[Path, int]:
    while True:
        path = folder / f".cascade-{os.getpid()}-{next(_numbers)}.tmp"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:
            # Left behind by a process with this number that was killed, or another machine's.
            continue


def _keep_owner(descriptor: int, existing: os.stat_result) -> None:
    created = os.fstat(descriptor)
    if (created.st_uid, created.st_gid) != (existing.st_uid, existing.st_gid):
        try:
            os.fchown(descriptor, existing.st_uid, existing.st_gid)
        except PermissionError:
            pass


def _make_folders(folder: Path) -> None:
    missing = list(itertools.takewhile(lambda each: not each.exists(), [folder, *folder.parents]))
    folder.mkdir(parents=True, exist_ok=True)
    _sync_folders(each.parent for each in missing)


def _sync_folders(folders: Iterable[Path]) -> None:
    """Have the names in these folders on the disk, where the file system can do that."""
    for folder in folders:
        descriptor = -1
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)
