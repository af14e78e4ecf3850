"""A lock of this machine on a run, which the system frees when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from cascade.spec.exceptions import StoreError

# `struct flock`; whatever other fields a system has come after these.
_IS_LINUX: Final = sys.platform.startswith("linux")
_FLOCK: Final = "hhqqi0q" if _IS_LINUX else "qqihh0q"
_SQLITE: Final = "sqlite:///"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_held: Final[set[str]] = set()
_guard: Final = threading.Lock()


class HostLock:
    """Held by the one process of this machine that owns a run.

    It is a lock of the process (POSIX record lock): children that were forked do not keep it alive.

    Args:
        store: the URL of the store of the run, without passwords; by whatever links it names a file, the lock is one.
        run_id: the run.
        folder: where lock files are; one that all processes of this user share by default.

    Attributes:
        token: what the store notes of the owner: whoever can take the lock of this name knows that the owner is gone.
    """

    def __init__(self, store: str, run_id: str, folder: Path | None = None) -> None:
        folder = _folder() if folder is None else folder
        name = hashlib.blake2b(
            f"{_unlinked(store)}\n{run_id}".encode(errors="surrogatepass"), digest_size=16
        ).hexdigest()
        self._path = folder / f"{name}.lock"
        self._file: int | None = None
        where = folder.stat()
        self.token = f"{_boot()}/{where.st_dev}.{where.st_ino}/{name}"

    def take(self) -> bool:
        """Take the lock if nobody has it."""
        with _guard:
            if self.token in _held:
                return False
            while True:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(file)
                    return False
                if self._is_current(file):
                    self._file = file
                    _held.add(self.token)
                    return True
                # Its holder has removed it between opening and locking.
                os.close(file)

    def _is_current(self, file: int) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(file))

    def is_taken(self) -> bool:
        """Whether a process has the lock; who took it to find out would keep an owner from it for a moment."""
        with _guard:
            if self.token in _held:
                # To close the file, whoever has opened it in this process, would give the lock back.
                return True
            try:
                file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                wanted = (fcntl.F_WRLCK, os.SEEK_SET)
                asked = struct.pack(_FLOCK, *wanted, 0, 0, 0) if _IS_LINUX else struct.pack(_FLOCK, 0, 0, 0, *wanted)
                answer = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
                return bool(answer[0 if _IS_LINUX else 3] != fcntl.F_UNLCK)
            finally:
                os.close(file)

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        with _guard:
            if self._file is None:
                return
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
            _held.discard(self.token)


def _forget() -> None:
    """In a forked process: it has none of its parent's locks, which that may give back at any time."""
    _held.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget)


def _unlinked(store: str) -> str:
    return f"{_SQLITE}{os.path.realpath(store.removeprefix(_SQLITE))}" if store.startswith(_SQLITE) else store


def _folder() -> Path:
    """A folder of this user alone: whoever could write there could keep runs from going on."""
    folder = Path(tempfile.gettempdir()) / f"cascade-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not folder.is_dir():
        raise StoreError(
            str(folder),
            "this folder for locks belongs to somebody else or is open to others; remove it or fix its mode",
        )
    return folder


def _boot() -> str:
    """This machine since it was started: no lock outlives that."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return platform.node()
