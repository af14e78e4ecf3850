"""Values that nobody shall read by accident, and taking them out of every text that leaves a run.

A secret is known from the moment its object is made. Texts are then searched for it by value, so that it is also
found where a task has put it together with something else: in the URL of an error message, or in a result.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast
from weakref import WeakSet

from cascade.spec.exceptions import DeclarationError

MASK: Final = "***"
NOT_KEPT: Final = "a secret is not written down; return something else, and reveal the secret where it is needed"
_SHORTEST: Final = 4
"""Characters: fewer are a part of so many words that texts without them would tell the secret."""
_SHORTEST_LINE: Final = 8
_SHORTEST_IN_BYTES: Final = 8
_MOST_UNUSED: Final = 1_000
_DEEPEST: Final = 20

FORMS: Final[list[str]] = []
"""All texts that are masked, as they stand in texts. While it is empty, masking costs nothing."""


class Secret:
    """Text that is shown as `***`: a password or a token.

    Its value is known from then on, and is replaced by `***` in events, previews, notes on errors, logs, reports and
    what a store shows, also where it is a part of a longer text. Values of fewer than 4 characters are masked only as
    `Secret` objects. A store does not keep secrets: a parameter that is one is given again when a run is resumed.

    Args:
        value: the text.

    Raises:
        DeclarationError: the value is no text.

    >>> token = Secret("swordfish")
    >>> token
    Secret('***')
    >>> f"token={token}"
    'token=***'
    >>> token.reveal()
    'swordfish'
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise DeclarationError(f"cs.Secret keeps text, got a value of type {type(value).__name__}")
        self._value = str(value)
        _known.add(self)

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        # Calls in other processes get it like any argument; what writes to disks refuses it.
        return Secret, (self._value,)


class _Known:
    """The values of secrets: of all whose objects are alive, and the latest of others, whose text may be in use yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: dict[str, tuple[str, ...]] = {}
        self._living: WeakSet[Secret] = WeakSet()
        self._room = _MOST_UNUSED

    def __len__(self) -> int:
        return len(self._forms)

    def add(self, secret: Secret) -> None:
        value = secret.reveal()
        if len(value) < _SHORTEST:
            return
        with self._lock:
            self._living.add(secret)
            if value in self._forms:
                return
            forms = self._forms[value] = tuple(dict.fromkeys(_forms_of(value)))
            FORMS.extend(forms)
            if len(self._forms) > self._room:
                self._forget_unused()

    def _forget_unused(self) -> None:
        alive = {secret.reveal() for secret in self._living}
        unused = [value for value in self._forms if value not in alive]
        for value in unused[: -_MOST_UNUSED // 2]:
            del self._forms[value]
        FORMS[:] = [form for forms in self._forms.values() for form in forms]
        # Looking through all of them each time would cost more than their number is worth.
        self._room = max(_MOST_UNUSED, 2 * len(self._forms))


_known = _Known()


def _forms_of(value: str) -> Iterator[str]:
    """The value and its lines, each also as `repr`, JSON and URLs have it."""
    lines = [line.strip() for line in value.splitlines()] if "\n" in value or "\r" in value else []
    for text in (value, value.strip(), *lines):
        if len(text) < (_SHORTEST if text is value else _SHORTEST_LINE):
            continue
        yield text
        if not text.isalnum() or not text.isascii():
            from urllib.parse import quote, quote_plus

            yield repr(text)[1:-1]
            yield json.dumps(text)[1:-1]
            yield quote(text, safe="", errors="replace")
            yield quote(text, errors="replace")
            yield quote_plus(text, errors="replace")


def mask(text: str) -> str:
    """A text with `***` for every secret in it.

    >>> _ = Secret("correct horse")
    >>> mask("https://me:correct%20horse@example.org")
    'https://me:***@example.org'
    """
    if not FORMS:
        return text
    spans: list[tuple[int, int]] = []
    for form in tuple(FORMS):
        found = text.find(form)
        while found >= 0:
            spans.append((found, found + len(form)))
            # Secrets may overlap, each other and themselves: all that belongs to any of them goes.
            found = text.find(form, found + 1)
    if not spans:
        return text
    pieces: list[str] = []
    end = 0
    for first, last in sorted(spans):
        if first > end or not pieces:
            pieces += (text[end:first], MASK)
        end = max(end, last)
    return "".join((*pieces, text[end:]))


def masked(value: Any, depth: int = _DEEPEST) -> Any:
    """Plain data with its texts masked; anything else, and what has no secret in it, as it is."""
    if not FORMS:
        return value
    if isinstance(value, str):
        return mask(value)
    if depth and type(value) in (list, tuple):
        return type(value)(masked(member, depth - 1) for member in cast("list[Any]", value))
    if depth and isinstance(value, Mapping):
        return {masked(key, 1): masked(member, depth - 1) for key, member in cast(Any, value).items()}
    return value


def is_within(data: bytes | bytearray | memoryview) -> bool:
    """Whether bytes hold a secret of at least 8 characters; of shorter ones that may be chance."""
    if not FORMS:
        return False
    whole = bytes(data) if isinstance(data, memoryview) else data
    return any(
        len(form) >= _SHORTEST_IN_BYTES and form.encode(errors="surrogatepass") in whole for form in tuple(FORMS)
    )
