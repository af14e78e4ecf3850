"""Digests: the same few bytes for equal inputs in every process, and others for any that differ.

Equal inputs are of the same types with the same content, dicts also in the same order of insertion, sets in
any. Whether two parts are one object or two alike does not count. The walk is iterative: depth costs memory,
not stack.

What cannot be digested surely is refused with `UndigestibleError`, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from cascade.graph.atoms import ATOMS, DIGEST_SIZE
from cascade.graph.cycles import cyclic_token
from cascade.graph.parts import DEEPEST, ENDLESS, Parts, Refusal, joined
from cascade.graph.values import take_apart
from cascade.spec.exceptions import CascadeError


class UndigestibleError(CascadeError, TypeError):
    """A value has no content that is sure to be the same in another process.

    Attributes:
        value: what cannot be digested, often a part of what was given.
        path: where it is, as `argument 'options'['lock']`.
        reason: why, and what to do.
    """

    def __init__(self, value: object, path: str, reason: str) -> None:
        super().__init__(value, path, reason)
        self.value = value
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        kind = type(self.value)
        return f"{self.path} (a {kind.__module__}.{kind.__qualname__}) cannot be digested: {self.reason}"


def digest(value: object, name: str = "value") -> bytes:
    """16 bytes that stand for a value.

    Args:
        value: anything with a content of its own, of any depth; cycles are fine.
        name: what an error calls the value, as `argument 'options'`.

    Raises:
        UndigestibleError: a part of it has no sure content, as a lock, a generator or a bare `object()`.

    >>> digest([1, "a"]) == digest([1, "a"])
    True
    >>> digest(1) == digest(True)
    False
    """
    encode = ATOMS.get(type(value))
    if encode is not None:
        return blake2b(encode(value), digest_size=DIGEST_SIZE).digest()
    return _walk(value, name)[1:]


def combine(label: str, *parts: bytes) -> bytes:
    """16 bytes that stand for a labelled row of byte strings, and for no other label, number or split.

    >>> combine("call", b"ab", b"c") == combine("call", b"a", b"bc")
    False
    """
    # There may be a million parts: none of this makes an object of each.
    lengths = ("%d," * len(parts))[:-1] % tuple(map(len, parts))
    head = f"{len(label)}:{label}({lengths})".encode()
    hashed = blake2b(head, digest_size=DIGEST_SIZE, person=b"combine")
    for part in parts:
        hashed.update(part)
    return hashed.digest()


class _Frame:
    """A value on the way from the root, of which some children are not yet digested."""

    __slots__ = ("parts", "pending", "tokens", "value")

    def __init__(self, value: object, parts: Parts) -> None:
        self.value = value
        self.parts = parts
        self.pending: Iterator[object] = iter(parts.children)
        self.tokens: list[bytes] = []


def _walk(root: object, name: str) -> bytes:
    above: list[_Frame] = []
    try:
        frame = _Frame(root, take_apart(root))
    except Refusal as refusal:
        raise UndigestibleError(root, name, str(refusal)) from refusal.__cause__
    # Finished values are kept with their tokens: an id must not be used again while it stands for a value.
    finished: dict[int, tuple[object, bytes]] = {}
    unfinished = {id(root)}
    atoms = ATOMS.get
    while True:
        append = frame.tokens.append
        for child in frame.pending:
            encode = atoms(type(child))
            if encode is not None:
                append(encode(child))
                continue
            identity = id(child)
            known = finished.get(identity)
            if known is not None:
                append(known[1])
                continue
            above.append(frame)
            if identity in unfinished:
                return _walk_cycle(root, name)
            try:
                if len(above) > DEEPEST:
                    raise Refusal(ENDLESS)
                frame = _Frame(child, take_apart(child))
            except Refusal as refusal:
                raise UndigestibleError(child, _path(name, above), str(refusal)) from refusal.__cause__
            unfinished.add(identity)
            break
        else:
            token = frame.parts.token(frame.tokens)
            if not above:
                return token
            identity = id(frame.value)
            finished[identity] = (frame.value, token)
            unfinished.discard(identity)
            frame = above.pop()
            frame.tokens.append(token)


def _walk_cycle(root: object, name: str) -> bytes:
    try:
        return cyclic_token(root, take_apart)
    except Refusal as refusal:
        raise UndigestibleError(refusal.value, name + refusal.path, str(refusal)) from refusal.__cause__


def _path(name: str, frames: list[_Frame]) -> str:
    return name + joined([frame.parts.step(len(frame.tokens)) for frame in frames])
