"""What pictures and plans say about a node: short, harmless, the same each time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.model import NodeKind
from cascade.runtime.preview import preview
from cascade.spec.input import Input
from cascade.spec.lazy_types import Call, Constant, MappedLazyResult
from cascade.spec.policy import is_lazy
from cascade.spec.resource import Inject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeGuard

    from cascade.graph.model import Node
    from cascade.spec.lazy_types import LazyResult

LONGEST: Final = 60
"""Characters of one text in a picture, beyond which the middle is left out."""
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")


def shortened(text: str, longest: int = LONGEST) -> str:
    r"""A text without its middle where it is long, and with escapes for what cannot be seen.

    >>> print(shortened("two\nlines"), shortened("a" * 100, 9))
    two\nlines aaaaa…aaa
    """
    if len(text) > longest:
        tail = (longest - 1) * 2 // 5
        text = f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def title_of(node: Node) -> str:
    """What a node is called in a picture."""
    lazy = node.lazy
    if lazy.policy is not None and lazy.policy.name is not None:
        return lazy.policy.name
    if isinstance(lazy, Constant):
        # Addresses differ from process to process, and a picture is compared with the one before.
        return _ADDRESS.sub("0x...", preview(lazy.value))
    if isinstance(lazy, Input):
        return f"${node.name}" if lazy.spec.function == "Env" else node.name
    if node.kind is NodeKind.DERIVED:
        return _derived_title(lazy)
    return node.name


def _derived_title(lazy: Any) -> str:
    if lazy.title == "getitem" and len(lazy.args) == 2 and not is_lazy(lazy.args[1]):
        return f"[{_ADDRESS.sub('0x...', preview(lazy.args[1]))}]"
    if lazy.title == "unpack" and len(lazy.args) == 2:
        return f"unpack {lazy.args[1]}"
    return str(lazy.title)


def notes_on(lazy: LazyResult[Any]) -> list[str]:
    """What was asked for a computation beside its inputs: where, how often, how long, with what."""
    notes: list[str] = []
    if _makes_calls(lazy):
        if lazy.task.executor is not None:
            notes.append(f"executor {lazy.task.executor}")
        notes.extend(f"injects {name}" for name in dict.fromkeys(_injected_names(lazy)))
    policy = lazy.policy
    if policy is None:
        return notes
    if policy.retry is not None:
        notes.append(f"up to {policy.retry.max_attempts} attempts")
    if policy.timeout is not None:
        notes.append(f"timeout {policy.timeout:g} s")
    if policy.cache is not None:
        notes.append("cached")
    # An amount that is lazy has an edge of its own.
    notes.extend(
        f"{resource} {preview(amount)}"
        for resource, amount in (policy.constraints or {}).items()
        if not is_lazy(amount)
    )
    return notes


def _makes_calls(lazy: LazyResult[Any]) -> TypeGuard[Call[Any] | MappedLazyResult[Any]]:
    return isinstance(lazy, (Call, MappedLazyResult))


def _injected_names(lazy: Call[Any] | MappedLazyResult[Any]) -> Iterator[str]:
    given = lazy.task.given_names(lazy.args, lazy.kwargs)
    for parameter, inject in lazy.task.injected.items():
        if parameter not in given:
            yield inject.name
    for value in (*lazy.args, *lazy.kwargs.values()):
        if isinstance(value, Inject):
            yield value.name
