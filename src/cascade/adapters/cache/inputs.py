"""The cache policy over a task's code and all of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade.graph.code import code_digest, is_marker_default, task_identity
from cascade.graph.digest import combine, digest
from cascade.spec.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.spec.protocols import CacheBackend


class InputsCache:
    """Remembers a task's value for equal inputs, until its code changes.

    The key is made from the task's identity, its code (not what that reaches through global names), the
    version, and every argument with its parameter's name. What cannot be digested surely is refused, not left
    out.

    Args:
        backend: where values are kept; `None` for the engine's own.
        ttl: how long they are good, in seconds; `None` for ever.
        version: change it to forget what was computed before, as when a function that the task calls changed.

    >>> policy = InputsCache(ttl=3600, version=2)
    >>> policy.key(len, {"obj": [1]}) == policy.key(len, {"obj": [1]})
    True
    >>> policy.key(len, {"obj": [1]}) == policy.key(len, {"obj": [True]})
    False
    """

    def __init__(self, backend: CacheBackend | None = None, ttl: float | None = None, version: object = None) -> None:
        if ttl is not None and not ttl > 0:
            raise DeclarationError(f"the ttl of an InputsCache is a number of seconds above 0 or None, not {ttl!r}")
        self.backend = backend
        self.ttl = ttl
        self.version = version
        self._version_digest = digest(version, "the version of an InputsCache")

    def key(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
        """The key for one call.

        Args:
            function: what the task calls.
            arguments: all arguments by parameter name.

        Raises:
            UndigestibleError: an argument, named, or something the function closes over has no sure content.
        """
        parts = [task_identity(function).encode(), code_digest(function), self._version_digest]
        for name in sorted(arguments):
            parts.append(name.encode())
            value = arguments[name]
            given = not is_marker_default(function, name, value)
            parts.append(digest(value, f"argument '{name}'") if given else b"")
        return combine("inputs", *parts).hex()

    def product(self, key: str, value: Any) -> Any:
        """What consumers receive after a value was computed: the value."""
        return value

    def __repr__(self) -> str:
        return f"InputsCache(backend={self.backend!r}, ttl={self.ttl!r}, version={self.version!r})"
