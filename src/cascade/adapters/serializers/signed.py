"""The serializer for stores: plain data in a closed format, the rest as pickle, all of it signed.

    version 1 | kind 1 | signature 32 | body

The signature covers version, kind, context and body. It is checked before a byte of the body is looked at.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cascade.adapters.serializers.atoms import ATOM_WRITERS, bytes_head
from cascade.adapters.serializers.pickling import read_pickle, write_pickle
from cascade.adapters.serializers.reading import read_plain
from cascade.adapters.serializers.source import NotPlain
from cascade.adapters.serializers.writing import write_plain
from cascade.spec.exceptions import CorruptedValueError, DeclarationError, UnserializableValueError
from cascade.spec.secret import FORMS, NOT_KEPT, is_within

_VERSION = 1
_PLAIN = bytes((_VERSION, ord("P")))
_PICKLED = bytes((_VERSION, ord("K")))
_SIGNATURE_AT = 2
_BODY_AT = _SIGNATURE_AT + 32
_LEAST_KEY_BYTES = 32
_BLOCK = 64
"""Bytes that SHA-256 takes at a time."""


class SignedSerializer:
    """Turns values into signed bytes and back; bytes that were altered or moved are refused before they are loaded.

    Plain data (numbers, text, bytes, lists, tuples, sets, dicts, dates, `Decimal`, `Fraction`, `UUID`, paths, ranges)
    and what is registered with `register` is kept in a format that can make nothing else, whatever its depth;
    all other values are pickled. May be used from any threads at once.

    Args:
        key: the secret that signs, at least 32 bytes.

    Raises:
        DeclarationError: the key is too short.

    >>> serializer = SignedSerializer(bytes(32))
    >>> payload = serializer.dumps({"rows": [1, 2.5, None]}, context=b"run 1, node a")
    >>> serializer.loads(payload, context=b"run 1, node a")
    {'rows': [1, 2.5, None]}
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) < _LEAST_KEY_BYTES:
            raise DeclarationError(f"a key that signs must have at least {_LEAST_KEY_BYTES} bytes, not {len(key)}")
        # HMAC (RFC 2104) is a hash of a hash, each of which begins with a block made of the key. Both are begun once
        # and copied for each value: 0.9 us for a small one, and 1.6 with `hmac.digest` (2-core development machine).
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def dumps(self, value: object, *, context: bytes) -> bytes:
        """The value as bytes that `loads` accepts only with the same context.

        Raises:
            UnserializableValueError: something in the value has no meaning outside this process, or is a secret.
        """
        if type(value) is bytes and not FORMS:
            # Large bytes are copied once only, into the payload.
            return self._signed(_PLAIN, context, bytes_head(len(value)), value)
        head = _PLAIN
        try:
            write = ATOM_WRITERS.get(type(value))
            body = write_plain(value) if write is None else write(value)
        except NotPlain:
            head, body = _PICKLED, write_pickle(value)
        if FORMS and is_within(body):
            raise UnserializableValueError(type(value), "result", NOT_KEPT)
        return self._signed(head, context, body)

    def loads(self, payload: bytes, *, context: bytes) -> Any:
        """A new object from what `dumps` made.

        Raises:
            CorruptedValueError: the bytes were altered, belong to another context or were signed with another key.
            ChangedCodeError: the value needs a class that the program no longer has in that form.
        """
        head = payload[:_SIGNATURE_AT]
        if len(payload) <= _BODY_AT:
            raise CorruptedValueError(f"it has {len(payload)} bytes, and no value has fewer than {_BODY_AT + 1}")
        if head[0] != _VERSION:
            raise CorruptedValueError(
                f"its format has version {head[0]}, and this version of Cascade reads {_VERSION}; "
                "read it with the version of Cascade that wrote it"
            )
        if head not in (_PLAIN, _PICKLED):
            raise CorruptedValueError(
                f"it is of kind {head[1:]!r}, and there are only {_PLAIN[1:]!r} and {_PICKLED[1:]!r}"
            )
        # Large values are not copied to be checked.
        body = memoryview(payload)[_BODY_AT:]
        if not hmac.compare_digest(payload[_SIGNATURE_AT:_BODY_AT], self._signature(head, context, body)):
            raise CorruptedValueError(
                "it was altered, comes from another place, or was signed with another key; "
                "bring back the key that signed it, or have the value computed again"
            )
        return read_plain(payload, _BODY_AT) if head == _PLAIN else read_pickle(payload, _BODY_AT)

    def _signed(self, head: bytes, context: bytes, *body: bytes) -> bytes:
        return b"".join((head, self._signature(head, context, *body), *body))

    def _signature(self, head: bytes, context: bytes, *body: bytes | memoryview) -> bytes:
        inner = self._inner.copy()
        # The length keeps the end of the context from passing for the beginning of a body.
        inner.update(b"%b%b%b" % (head, len(context).to_bytes(8, "big"), context))
        for part in body:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()
