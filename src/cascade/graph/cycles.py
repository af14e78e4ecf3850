"""Digests of values that contain themselves.

Inside a cycle no value can be digested before the others, so all of them are told apart together: first by
what they are without each other, then again and again by what their neighbours were found to be, until a
round tells no two more apart. What a value then looks like, with the set of all looks there are, is the same
for two values exactly if no walk through them ever meets a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cascade.graph.atoms import ATOMS, composite
from cascade.graph.parts import DEEPEST, ENDLESS, Parts, Refusal, joined

_MOST_STEPS = 20_000_000
"""Steps of about a microsecond after which a cycle is refused: only huge, very uniform ones need as many."""

_Reference = bytes | int
"""A child: the token of an atom, or the index of another value."""


def cyclic_token(root: object, take_apart: Callable[[object], Parts]) -> bytes:
    """The token of a value with cycles, every part of which can be taken apart."""
    parts, references = _all_values(root, take_apart)
    tokens: list[bytes] = [b""] * len(parts)
    for component in _components(references):
        if len(component) == 1 and component[0] not in references[component[0]]:
            index = component[0]
            tokens[index] = parts[index].token(_resolved(references[index], tokens))
        else:
            _tell_apart(component, parts, references, tokens, root)
    return tokens[0]


def _all_values(root: object, take_apart: Callable[[object], Parts]) -> tuple[list[Parts], list[list[_Reference]]]:
    # The values are kept, so that no id is used twice: many are made only to be looked at.
    values = [root]
    index_of = {id(root): 0}
    parts: list[Parts] = []
    references: list[list[_Reference]] = []
    found_at: list[tuple[int, int]] = [(0, 0)]
    levels = [0]
    while len(parts) < len(values):
        try:
            if levels[len(parts)] > DEEPEST:
                raise Refusal(ENDLESS)
            taken = take_apart(values[len(parts)])
        except Refusal as refusal:
            refusal.value = values[len(parts)]
            refusal.path = _path(len(parts), parts, found_at)
            raise
        parts.append(taken)
        row: list[_Reference] = []
        for child in taken.children:
            encode = ATOMS.get(type(child))
            if encode is not None:
                row.append(encode(child))
                continue
            index = index_of.setdefault(id(child), len(values))
            if index == len(values):
                values.append(child)
                found_at.append((len(references), len(row)))
                levels.append(levels[len(references)] + 1)
            row.append(index)
        references.append(row)
    return parts, references


def _path(index: int, parts: Sequence[Parts], found_at: Sequence[tuple[int, int]]) -> str:
    steps: list[str] = []
    while index:
        index, position = found_at[index]
        steps.append(parts[index].step(position))
    return joined(steps[::-1])


def _components(references: Sequence[Sequence[_Reference]]) -> list[list[int]]:
    """Strongly connected components, each after those it refers to (Tarjan 1972, without recursion)."""
    order = [-1] * len(references)
    lowest = [0] * len(references)
    pending: list[int] = []
    waiting = [False] * len(references)
    components: list[list[int]] = []
    visited = 0
    path: list[tuple[int, int]] = [(0, 0)]
    while path:
        index, position = path.pop()
        if position == 0:
            order[index] = lowest[index] = visited
            visited += 1
            pending.append(index)
            waiting[index] = True
        row = references[index]
        while position < len(row):
            child = row[position]
            position += 1
            if isinstance(child, bytes):
                continue
            if order[child] < 0:
                path.append((index, position))
                path.append((child, 0))
                break
            if waiting[child]:
                lowest[index] = min(lowest[index], order[child])
        else:
            if lowest[index] == order[index]:
                start = len(pending) - 1
                while pending[start] != index:
                    start -= 1
                component = pending[start:]
                del pending[start:]
                for member in component:
                    waiting[member] = False
                components.append(component)
            if path:
                parent = path[-1][0]
                lowest[parent] = min(lowest[parent], lowest[index])
    return components


def _tell_apart(
    component: Sequence[int],
    parts: Sequence[Parts],
    references: Sequence[Sequence[_Reference]],
    tokens: list[bytes],
    root: object,
) -> None:
    for index in component:
        tokens[index] = b"\x01"
    known = 1
    steps = 0
    while True:
        looks = [parts[index].token(_resolved(references[index], tokens)) for index in component]
        for index, look in zip(component, looks, strict=True):
            tokens[index] = look
        distinct = set(looks)
        if len(distinct) == known:
            break
        known = len(distinct)
        steps += len(component)
        if steps > _MOST_STEPS:
            refusal = Refusal(
                f"its {len(component)} parts that refer to each other are too alike to tell apart in time"
            )
            refusal.value = root
            raise refusal
    everything = composite(b"".join(sorted(distinct)))
    for index in component:
        tokens[index] = composite(b"cycle" + tokens[index] + everything)


def _resolved(row: Sequence[_Reference], tokens: Sequence[bytes]) -> list[bytes]:
    return [child if isinstance(child, bytes) else tokens[child] for child in row]
