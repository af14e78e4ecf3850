"""Names for computations that are the same in every process: what they cover, and what they must not.

A structural id covers the task's identity and version, literals, inputs, and the policies that change the value
(conditions and what comes before). It does not cover what only changes how a call is made: retries, timeouts, caches,
constraints, names, the executor, the line of the call. Repeated impure calls are told apart by their order in the
graph. A template id covers the same without literals, so that turns of a loop have one.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from types import FunctionType
from typing import TYPE_CHECKING, Any

from cascade.graph.atoms import ATOMS, DIGEST_SIZE
from cascade.graph.code import has_own_name, task_identity
from cascade.graph.digest import combine, digest
from cascade.graph.model import KIND_OF
from cascade.spec.input import Input
from cascade.spec.lazy_types import Call, Constant, Derived, Gathered, MappedLazyResult
from cascade.spec.policy import is_lazy
from cascade.spec.routing import Router
from cascade.spec.walk import dependencies_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.graph.model import Graph
    from cascade.spec.containers import Packed
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.task import Task


def identities_of(graph: Graph) -> Identities:
    """The ids of all nodes of a graph, computed when they are asked for."""
    return Identities(graph)


_UNCHANGING = frozenset(ATOMS) - {bytearray}


class Identities:
    """The structural and template ids of a graph's nodes, by index."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @cached_property
    def keys(self) -> list[bytes]:
        """The structural ids as bytes; `UndigestibleError` if a literal has no sure content."""
        return self._tokens(literals=True)

    def compute(self) -> None:
        """Compute the structural ids now; `UndigestibleError` if a literal has no sure content."""
        _ = self.keys

    @property
    def can_wait(self) -> bool:
        """Whether the ids are sure to be the same whenever they are computed: of one plain call of plain values."""
        if len(self._graph) > 1:
            return False
        (lazy,) = self._graph.lazies
        return (
            type(lazy) is Call
            and lazy.packed is None
            and lazy.policy is None
            and not lazy.kwargs
            and _UNCHANGING.issuperset(map(type, lazy.args))
            and type(lazy.task.function) is FunctionType
            and has_own_name(lazy.task.function)
        )

    @cached_property
    def structural(self) -> list[str]:
        """The structural ids; `UndigestibleError` if a literal has no sure content."""
        return [key.hex() for key in self.keys]

    @cached_property
    def template(self) -> list[str]:
        """The template ids."""
        return [token.hex() for token in self._tokens(literals=False)]

    def _tokens(self, *, literals: bool) -> list[bytes]:
        graph = self._graph
        tokens = [b""] * len(graph)
        seen: dict[bytes, int] = {}
        heads: dict[Task[..., Any], bytes] = {}
        # Values only depend on values that were declared before them, but for the order that sequences add.
        for index in self._as_declared():
            lazy = graph.lazies[index]
            if type(lazy) is Call and lazy.packed is None and not lazy.kwargs and not _wants_more(lazy):
                token = self._plain_token(lazy, tokens, heads, literals)
            else:
                # What it consists of tells where each of those goes that it depends on. Labels would not do: the text
                # of a key may differ between processes.
                parts = [_own_token(lazy, literals), _policy_token(lazy)]
                parts.extend(tokens[graph.index_of[source]] for source in dependencies_of(lazy))
                token = combine(KIND_OF[type(lazy)].value, *parts)
            occurrence = seen.get(token, 0)
            seen[token] = occurrence + 1
            if occurrence:
                token = combine("occurrence", token, occurrence.to_bytes(8, "big"))
            tokens[index] = token
        return self._with_order(tokens)

    def _as_declared(self) -> Iterable[int]:
        """The nodes in the order of declaration, which is the order that they have already in most graphs."""
        lazies = self._graph.lazies
        if all(earlier.order < later.order for earlier, later in pairwise(lazies)):
            return range(len(lazies))
        return sorted(range(len(lazies)), key=lambda index: lazies[index].order)

    def _plain_token(
        self, lazy: Call[Any], tokens: list[bytes], heads: dict[Task[..., Any], bytes], literals: bool
    ) -> bytes:
        """The token of a call by position, which most are: one hash, where the general way takes six.

        Each part tells its own length, so that no two rows of arguments give the same bytes.
        """
        task = lazy.task
        head = heads.get(task)
        if head is None:
            head = heads[task] = combine("task", task_identity(task.function).encode(), digest(task.version))
        parts = [head]
        for place, value in enumerate(lazy.args):
            if is_lazy(value):
                parts += (b"lazy", tokens[self._graph.index_of[value]])
            elif not literals:
                parts.append(b"any.")
            elif (encode := ATOMS.get(type(value))) is not None:
                atom = encode(value)
                parts += (b"atom%d:" % len(atom), atom)
            else:
                parts += (b"more", digest(value, f"argument [{place}]"))
        return blake2b(b"".join(parts), digest_size=DIGEST_SIZE, person=b"plain call").digest()

    def _with_order(self, tokens: list[bytes]) -> list[bytes]:
        """Sequences change when a value may be computed: what comes before a member is a part of its identity."""
        plain = list(tokens)
        for index, before in self._graph.order_edges.items():
            tokens[index] = combine("in sequence", plain[index], *(plain[source] for source in before))
        return tokens


def _wants_more(lazy: LazyResult[Any]) -> bool:
    """Whether policies make a node want values that are not among its arguments."""
    policy = lazy.policy
    if policy is None:
        return False
    amounts = policy.constraints or {}
    return policy.run_if is not None or bool(policy.after) or any(is_lazy(amount) for amount in amounts.values())


def _policy_token(lazy: LazyResult[Any]) -> bytes:
    """How many values policies want, of each kind: they come first among those that a lazy value depends on."""
    policy = lazy.policy
    if policy is None or not _wants_more(lazy):
        return b""
    amounts = sum(map(is_lazy, (policy.constraints or {}).values()))
    return f"{policy.run_if is not None} {len(policy.after)} {amounts}".encode()


def _own_token(lazy: LazyResult[Any], literals: bool) -> bytes:
    if isinstance(lazy, (Call, MappedLazyResult)):
        task = lazy.task
        parts = [task_identity(task.function).encode(), digest(task.version)]
        if lazy.packed is not None:
            parts.extend(_packed_tokens(lazy.packed, literals))
        else:
            parts.extend(_argument_tokens(lazy.args, literals))
            for name, value in lazy.kwargs.items():
                parts.append(name.encode(errors="surrogatepass"))
                parts.extend(_argument_tokens((value,), literals, name))
            if isinstance(lazy, MappedLazyResult):
                parts.append(b"mapped")
                for name, value in lazy.inputs.items():
                    parts.append(name.encode(errors="surrogatepass"))
                    parts.extend(_argument_tokens((value,), literals, name))
        return combine("call", *parts)
    if isinstance(lazy, Derived):
        return combine(lazy.title, *_argument_tokens(lazy.args, literals))
    if isinstance(lazy, Gathered):
        return combine("container", *_packed_tokens(lazy.packed, literals))
    if isinstance(lazy, Constant):
        return combine("constant", *_argument_tokens((lazy.value,), literals))
    if isinstance(lazy, Input):
        return combine("input", type(lazy.spec).__name__.encode(), lazy.spec.name.encode(errors="surrogatepass"))
    if isinstance(lazy, Router):
        return combine("router", *(_argument_tokens(tuple(lazy.routes), literals)))
    return combine("connector")


def _argument_tokens(values: tuple[Any, ...], literals: bool, name: str = "argument") -> list[bytes]:
    tokens: list[bytes] = []
    for place, value in enumerate(values):
        if is_lazy(value):
            tokens.append(b"lazy")
        elif literals:
            tokens.append(digest(value, f"{name} [{place}]" if name == "argument" else f"argument '{name}'"))
        else:
            tokens.append(b"literal")
    return tokens


def _packed_tokens(packed: Packed, literals: bool) -> list[bytes]:
    tokens: list[bytes] = []
    for kind, constants, wiring, names in packed.shapes():
        tokens.append(
            combine(
                f"{kind.__module__}.{kind.__qualname__}",
                digest(constants) if literals else len(constants).to_bytes(8, "big"),
                wiring.encode(),
                digest(names),
            )
        )
    return tokens
