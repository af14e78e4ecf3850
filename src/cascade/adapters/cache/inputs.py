"""The cache policy over what a task does and all of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade.graph.code import is_marker_default
from cascade.graph.digest import combine, digest
from cascade.graph.uses import uses_of, uses_within
from cascade.spec.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.graph.uses import Uses
    from cascade.spec.protocols import CacheBackend


class InputsKey(str):
    """A key that knows what it was made from, so that a backend can keep that for whoever asks why a call missed.

    Attributes:
        uses: what the task does: its code, and the first-party code and constants that it uses.
        version: the digest of the policy's version.
        arguments: the digest of each argument by its parameter's name.
        brought: the first-party code that came with arguments.
    """

    __slots__ = ("arguments", "brought", "uses", "version")

    uses: Uses
    version: bytes
    arguments: dict[str, bytes]
    brought: list[Uses]


class InputsCache:
    """Remembers a task's value for equal inputs, until it would do something else.

    The key is made from the task's identity, its code, the first-party functions, classes and constants that this
    uses, the version, and every argument with its parameter's name. An input that cannot be digested surely is
    refused, not left out.

    Args:
        backend: where values are kept; `None` for the engine's own.
        ttl: how long they are good, in seconds; `None` for ever.
        version: change it to forget what was computed before, as when a program that the task calls changed.

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

    def key(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> InputsKey:
        """The key for one call.

        Args:
            function: what the task calls.
            arguments: all arguments by parameter name.

        Raises:
            UndigestibleError: an argument, named, or something the function closes over has no sure content.
        """
        uses = uses_of(function)
        digests: dict[str, bytes] = {}
        brought: list[Uses] = []
        for name in sorted(arguments):
            value = arguments[name]
            given = not is_marker_default(function, name, value)
            digests[name] = digest(value, f"argument '{name}'") if given else b""
            brought.extend(uses_within(value))
        parts = [uses.identity.encode(), uses.digest, self._version_digest]
        for name, found in digests.items():
            parts += (name.encode(), found)
        parts += (code.digest for code in brought)
        key = InputsKey(combine("inputs", *parts).hex())
        key.uses, key.version, key.arguments, key.brought = uses, self._version_digest, digests, brought
        return key

    def product(self, key: str, value: Any) -> Any:
        """What consumers receive after a value was computed: the value."""
        return value

    def __repr__(self) -> str:
        return f"InputsCache(backend={self.backend!r}, ttl={self.ttl!r}, version={self.version!r})"
