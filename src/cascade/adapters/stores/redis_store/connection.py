"""A connection that is made again when it was lost, and errors that say what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from cascade.spec.exceptions import DeclarationError, StoreError

if TYPE_CHECKING:
    from cascade.spec.protocols import Clock

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
_EXPECTED: Final = "expected redis://user:password@host:6379/0"

_PASSING: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    OSError,
)
"""Errors of a server that will be ready, or the place of which another is about to take."""
_PASSING_CODES: Final = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")

_ADVICE: Final[Mapping[str, str]] = {
    "OOM command": "it has reached its maxmemory; raise that, or remove runs that are not needed any more",
    "MISCONF": "it takes no writes because it cannot save to its disk; free space there, its log says more",
    "READONLY": "it is a replica, which takes no writes; give the address of its primary",
    "NOPERM": "the user may not do this; allow it every command on keys that match cascade:*",
    "WRONGTYPE": "a key that begins with cascade: was written by something else; use another database",
    "MOVED": "it is one node of a cluster; give the address of a single server, or of a proxy before the cluster",
    "CROSSSLOT": "it is one node of a cluster; give the address of a single server, or of a proxy before the cluster",
    "unknown command": "it is older than Redis 5, or not all of Redis; use another server",
}


class Connection:
    """Commands for one database of one server.

    Every command may be sent twice: what was sent when the connection was lost is sent again.

    Args:
        patience: how long a server that cannot be reached is tried again, in seconds.

    Raises:
        DeclarationError: the URL is no address of a server.
    """

    def __init__(self, url: str, *, clock: Clock, patience: float) -> None:
        try:
            self.url = without_secrets(url)
        except ValueError:
            # What it says of the address may have the password in it.
            raise DeclarationError(f"the URL of the store cannot be read; {_EXPECTED}") from None
        self.patience = patience
        self._clock = clock
        try:
            # Protocol 2 is what every server and proxy speaks. Repeating is done here, where its end is known.
            # Any: redis-py's own types do not cover commands as they are sent.
            self._client: Any = redis.Redis.from_url(
                url, protocol=2, socket_timeout=10.0, socket_connect_timeout=5.0, retry=Retry(NoBackoff(), 0)
            )
        except ValueError as error:
            raise DeclarationError(f"{self.url} is no address of a Redis server: {error}; {_EXPECTED}") from None

    def call(self, doing: str, *command: Any) -> Any:
        """Send a command and wait for its answer.

        Args:
            doing: what it is for, as it follows "cannot" in an error.
        """
        return self._repeat(doing, lambda: self._client.execute_command(*command))

    def call_each(self, doing: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands together, which may be done with others between them."""

        def work() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
            return answers

        return self._repeat(doing, work)

    def run(self, doing: str, script: str, keys: Sequence[bytes], *arguments: Any) -> Any:
        """Have the server run a script; it learns it where it does not know it, or not any more."""
        digest = _digest(script)

        def work() -> Any:
            try:
                return self._client.execute_command("EVALSHA", digest, len(keys), *keys, *arguments)
            except exceptions.NoScriptError:
                return self._client.execute_command("EVAL", script, len(keys), *keys, *arguments)

        return self._repeat(doing, work)

    def close(self) -> None:
        self._client.close()

    def _repeat(self, doing: str, work: Callable[[], T]) -> T:
        pause, end = _FIRST_PAUSE, 0.0
        while True:
            try:
                return work()
            except (exceptions.RedisError, OSError) as error:
                if not _may_pass(error):
                    raise StoreError(self.url, f"cannot {doing}: {_explained(error)}") from error
                now = self._clock.monotonic()
                end = end or now + self.patience
                if now >= end:
                    tried = f" (tried for {self.patience:g} s)" if self.patience else ""
                    raise StoreError(self.url, f"cannot {doing}{tried}: {_explained(error)}") from error
            # A replica stays one for connections that it has: only a new one finds what took its place.
            self._client.connection_pool.disconnect()
            threading.Event().wait(min(pause, end - now))
            pause = min(2 * pause, _LONGEST_PAUSE)


def without_secrets(url: str) -> str:
    """The address without its password, and without options, which may have others.

    >>> without_secrets("rediss://me:secret@db.example:6380/2?ssl_password=other")
    'rediss://me@db.example:6380/2'
    >>> without_secrets("unix:///run/redis.sock?db=1&password=secret")
    'unix:///run/redis.sock?db=1'
    """
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    database = parse_qs(parts.query).get("db")
    return f"{parts.scheme}://{user}{at if user else ''}{host}{parts.path}{f'?db={database[0]}' if database else ''}"


def is_loading(error: BaseException | None) -> bool:
    """Whether a server said that it is reading its data, and will soon be ready."""
    return isinstance(error, exceptions.BusyLoadingError)


def is_forbidden(error: BaseException | None) -> bool:
    """Whether a server has no such command, or not for this user."""
    return isinstance(error, exceptions.NoPermissionError) or (
        isinstance(error, exceptions.ResponseError) and "unknown command" in str(error).lower()
    )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        return False
    # An error inside a script is known by the code in its text alone.
    return isinstance(error, _PASSING) or any(code in str(error) for code in _PASSING_CODES)


def _explained(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, exceptions.AuthenticationError):
        return f"{text}; put the right user and password into the address, as in redis://user:password@host"
    if isinstance(error, exceptions.InvalidResponse):
        return f"{text}; this is no Redis server, or one that expects TLS (rediss://)"
    for sign, advice in _ADVICE.items():
        if sign in text or isinstance(error, _TYPES.get(sign, ())):
            return f"{text}; {advice}"
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        return f"{text}; see that the server runs and can be reached from here"
    return text


# redis-py takes the code from the text of the errors that it knows.
_TYPES: Final[Mapping[str, type[Exception]]] = {
    "OOM command": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "NOPERM": exceptions.NoPermissionError,
    "MOVED": exceptions.AskError,
    "CROSSSLOT": exceptions.ClusterCrossSlotError,
}

_digests: Final[dict[str, str]] = {}


def _digest(script: str) -> str:
    """What the server calls a script by."""
    if script not in _digests:
        _digests[script] = sha1(script.encode(), usedforsecurity=False).hexdigest()
    return _digests[script]
