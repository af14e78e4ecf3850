"""Large payloads as files beside the database, named by what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cascade.runtime.fault_points import reach

if TYPE_CHECKING:
    from pathlib import Path

INLINE_BYTES = 256 * 1024
"""Payloads up to this size are kept in the database."""


class PayloadFiles:
    """A folder of files that appear whole or not at all, and are found by the hash of their content.

    Files are removed only by who holds the lock of the database for writing, and who commits a row that names one has
    made sure under that lock that it is there. So a file that waits for its row may be removed, and is written anew.

    Args:
        folder: made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.folder / name[:2] / name

    def digest(self, payload: bytes) -> bytes:
        return hashlib.sha256(payload).digest()

    def has(self, digest: bytes) -> bool:
        return self.path(digest).exists()

    def write(self, payload: bytes) -> bytes:
        """Have a payload on the disk, and return its digest."""
        digest = self.digest(payload)
        path = self.path(digest)
        if path.exists():
            # It may have been renamed by somebody who was killed before the folder was synced.
            self._sync(path.parent)
            return digest
        self._make_folder(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            reach("store.blob.written")
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        self._sync(path.parent)
        reach("store.blob.renamed")
        return digest

    def read(self, digest: bytes) -> bytes:
        """The payload.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file has another content.
        """
        payload = self.path(digest).read_bytes()
        if self.digest(payload) != digest:
            raise ValueError(digest)
        return payload

    def remove(self, digest: bytes) -> None:
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[bytes]:
        """What there are files for."""
        for path in self._files():
            if not path.name.startswith("."):
                with contextlib.suppress(ValueError):
                    yield bytes.fromhex(path.name)

    def remove_unfinished(self) -> int:
        """Remove what writers that were killed have left, and count it."""
        removed = 0
        for path in self._files():
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            for folder in sorted(self.folder.iterdir()):
                if len(folder.name) == 2 and folder.is_dir():
                    yield from sorted(folder.iterdir())

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            new = not self.folder.exists()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sync(self.folder)
            if new:
                self._sync(self.folder.parent)

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
