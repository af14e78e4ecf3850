"""A cache in a directory, shared by processes and kept between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.adapters.cache.entry_files import HEADER_SIZE, Damaged, Forged, read_entry, write_entry
from cascade.adapters.cache.serialization import dumps, loads
from cascade.runtime.clock import SystemClock
from cascade.runtime.signing_key import load_signing_key
from cascade.spec.exceptions import DeclarationError, UnserializableValueError
from cascade.spec.secret import NOT_KEPT, is_within

if TYPE_CHECKING:
    from cascade.spec.protocols import Clock

logger = logging.getLogger("cascade.cache")

_READ_IN_PLACE = 128 * 1024
"""Bytes up to which a file is read on the event loop.

Reading and checking one takes 20 us at 1 KB and 110 us at this size, handing it to a thread another 65 us
(2-core development machine). Writing takes 250 us and goes to a thread always, with the pickling.
"""

_LEFT_OVER = 3600.0
_KEPT_AFTER_EVICTION = 0.9


class DirectoryCacheBackend:
    """Keeps each value in a file of its own, readable by every process of this user that names the directory.

    Files appear whole or not at all, and are signed with a key that only this user can read: one that was
    changed by anybody else is never loaded. One that is damaged counts as missing.

    Args:
        directory: made when first needed; values are in folders below, the key in `.key`.
        max_bytes: evict the values not asked for the longest when there is more; `None` for no bound.
        clock: by which values expire.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if max_bytes is not None and max_bytes < 1:
            raise DeclarationError(f"max_bytes must be at least 1 or None, not {max_bytes!r}")
        self.directory = Path(directory).absolute()
        self._max_bytes = max_bytes
        self._clock: Clock = SystemClock() if clock is None else clock
        # Two locks: a look at a large directory must not hold up a read on the event loop, for the key.
        self._key_lock = threading.Lock()
        self._size_lock = threading.Lock()
        self._secret: bytes | None = None
        self._total_bytes: int | None = None

    async def get(self, key: str) -> Any:
        """The value; `KeyError` where there is none that is whole, signed and not expired."""
        path = self._path(key)
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            raise KeyError(key) from None
        if size <= _READ_IN_PLACE:
            return self._read(path, key)
        return await asyncio.to_thread(self._read, path, key)

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Keep the value, for `ttl` seconds if given."""
        await asyncio.to_thread(self._write, self._path(key), key, value, ttl)

    async def discard(self, key: str) -> None:
        """Forget the key, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        # Any text is a key, but not a file name.
        name = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return self.directory / name[:2] / name[2:]

    def _key(self) -> bytes:
        with self._key_lock:
            path = self.directory / ".key"
            # Who deletes the directory to empty the cache takes the key away from running processes too.
            if self._secret is None or not path.exists():
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Of this directory alone, whatever else this user's values are signed with: it goes where the files go.
                self._secret = load_signing_key(path, environment={})
            return self._secret

    def _read(self, path: Path, key: str) -> Any:
        try:
            expiry, content = read_entry(path.read_bytes(), key, self._key())
        except FileNotFoundError:
            raise KeyError(key) from None
        except Damaged:
            logger.info("cache: '%s' is damaged and was deleted", path)
            path.unlink(missing_ok=True)
            raise KeyError(key) from None
        except Forged:
            logger.warning(
                "cache: '%s' is not signed with the key of this cache; it was deleted and not loaded. "
                "Either it was tampered with, or '%s' was replaced",
                path,
                self.directory / ".key",
            )
            path.unlink(missing_ok=True)
            raise KeyError(key) from None
        now = self._clock.now()
        if expiry is not None and expiry <= now:
            path.unlink(missing_ok=True)
            raise KeyError(key)
        if self._max_bytes is not None:
            # The time of the last use, for eviction; another process may have evicted the file meanwhile.
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (now, now))
        return loads(content)

    def _write(self, path: Path, key: str, value: Any, ttl: float | None) -> None:
        content = dumps(value)
        if is_within(content):
            raise UnserializableValueError(type(value), "result", NOT_KEPT)
        secret = self._key()
        now = self._clock.now()
        if self._max_bytes is not None and len(content) + len(key.encode()) + HEADER_SIZE > self._max_bytes:
            path.unlink(missing_ok=True)
            return
        size = write_entry(path, key, content, secret, expiry=None if ttl is None else now + ttl, modified=now)
        if self._max_bytes is not None:
            self._keep_within(self._max_bytes, size, now)

    def _keep_within(self, most: int, added: int, now: float) -> None:
        # Between looks at the directory the total is an estimate, too high when values are replaced, too low
        # when other processes write; a look corrects it.
        with self._size_lock:
            self._total_bytes = None if self._total_bytes is None else self._total_bytes + added
            if self._total_bytes is not None and self._total_bytes <= most:
                return
            files = sorted(self._files(now))
            total = sum(size for _, size, _ in files)
            if total > most:
                for _, size, path in files:
                    if total <= most * _KEPT_AFTER_EVICTION:
                        break
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
                    total -= size
            self._total_bytes = total

    def _files(self, now: float) -> list[tuple[float, int, str]]:
        """Time of last use, size and path of each value; what killed writers left over is deleted."""
        found: list[tuple[float, int, str]] = []
        for folder in self.directory.iterdir():
            if len(folder.name) != 2:
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if not entry.name.startswith("."):
                            found.append((status.st_mtime, status.st_size, entry.path))
                        elif status.st_mtime < now - _LEFT_OVER:
                            os.unlink(entry.path)
        return found
