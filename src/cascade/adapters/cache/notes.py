"""What a cached value was made from, kept beside it for whoever asks why a call missed.

A note is kept for each call with the same arguments, whatever its code was then, and those of some of the latest calls
for each task. A call that misses is compared with the first, or else with the nearest of the others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade.graph.digest import combine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.adapters.cache.inputs import InputsKey

_CODE_IN_IDENTITY = re.compile(r"#[0-9a-f]{32}")


class Note(NamedTuple):
    """What one value was made from.

    Attributes:
        key: the value's key.
        version: the digest of the policy's version.
        parts: a digest for each piece of code and each constant that was used, by names such as `function flow:clean`;
            the task's own code is `code`.
        arguments: the digest of each argument by its name.
        made: when the value was computed, in seconds since the epoch.
        expires: until when it is good, or `None` for ever.
    """

    key: str
    version: bytes
    parts: Mapping[str, bytes]
    arguments: Mapping[str, bytes]
    made: float
    expires: float | None

    def as_plain(self) -> dict[str, Any]:
        """The note as data that every serializer has a form for."""
        return {**self._asdict(), "parts": dict(self.parts), "arguments": dict(self.arguments)}


def note_of(key: InputsKey, made: float, expires: float | None) -> Note:
    """The note for a call."""
    parts: dict[str, bytes] = {}
    for code in key.brought:
        parts.update(code.parts)
        own = parts.pop("code")
        if f"class {code.identity}" not in parts:
            parts[f"function {code.identity}"] = own
    parts.update(key.uses.parts)
    return Note(str(key), key.version, parts, key.arguments, made, expires)


def slot_of_call(key: InputsKey) -> str:
    """Where the note is for calls of the task with the same arguments, whatever its code is."""
    named = [part for name, digest in key.arguments.items() for part in (name.encode(), digest)]
    return f"note:{combine('call', _task(key), *named).hex()}"


def slot_of_task(key: InputsKey) -> str:
    """Where the notes are for the latest calls of the task."""
    return f"note:{combine('task', _task(key)).hex()}"


def _task(key: InputsKey) -> bytes:
    # A lambda has its code in its name, and shall be compared with what it was before.
    return _CODE_IN_IDENTITY.sub("", key.uses.identity).encode("utf-8", "surrogatepass")
