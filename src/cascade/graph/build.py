"""From lazy values to a graph: one walk to find them, one pass to number and connect them; no recursion."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.merging import merge_key
from cascade.graph.model import KIND_OF, Graph, InstanceMap, Reference, Wiring
from cascade.spec.containers import PLAIN
from cascade.spec.flow import Fallback, Sequence
from cascade.spec.lazy_types import Call, Derived, Gathered, LazyResult, MappedLazyResult, as_lazy
from cascade.spec.policy import is_lazy
from cascade.spec.resource import Inject
from cascade.spec.routing import Router
from cascade.spec.walk import dependencies_of

if TYPE_CHECKING:
    from cascade.graph.registry import NodeRegistry

LAZY_TYPES: Final = frozenset(KIND_OF)
_by_order = attrgetter("order")


def build_graph(target: Any, registry: NodeRegistry | None = None) -> tuple[Graph, InstanceMap]:
    """Build the graph of everything that a target needs.

    Args:
        target: a lazy value, a container of them at any depth, or a plain value.
        registry: shares nodes of the same structure with graphs that were built before.

    Returns:
        The graph, and the map from lazy values to its nodes.

    >>> import cascade as cs
    >>> @cs.task
    ... def add(x: int, y: int) -> int:
    ...     return x + y
    >>> one = add(1, 2)
    >>> graph, nodes = build_graph(add(one, one))
    >>> [node.id for node in graph.nodes], nodes[one].kind.name
    (['add#0', 'add#1'], 'CALL')
    """
    graph = build(as_lazy(target))
    graph.registry = registry
    return graph, InstanceMap(graph)


def build(root: LazyResult[Any]) -> Graph:
    """Build the graph of one lazy value; what the engine calls."""
    if _is_lone(root):
        # The turn of a loop, again and again: the same as below in a third of the time.
        return Graph([root], {root: 0}, 0, [()], [None], [], [], {})
    found = _discover(root)
    found.sort(key=_by_order)
    return _Numbering(found).connect(root)


def _is_lone(lazy: LazyResult[Any]) -> bool:
    """Whether a lazy value is one plain call of literals."""
    return (
        type(lazy) is Call
        and lazy.packed is None
        and lazy.policy is None
        and not lazy.kwargs
        and PLAIN.issuperset(map(type, lazy.args))
        and is_plain(lazy.task)
    )


def _discover(root: LazyResult[Any]) -> list[LazyResult[Any]]:
    """Every lazy value that the root needs, the root included, each once and in no particular order."""
    seen = {root}
    found = [root]
    push = found.append
    position = 0
    # `found` is at once the list of results and the queue of what is still to be looked at.
    while position < len(found):
        lazy = found[position]
        position += 1
        if type(lazy) is Call and lazy.packed is None and lazy.policy is None:
            for value in lazy.args:
                if type(value) in LAZY_TYPES and value not in seen:
                    seen.add(value)
                    push(value)
            if lazy.kwargs:
                for value in lazy.kwargs.values():
                    if type(value) in LAZY_TYPES and value not in seen:
                        seen.add(value)
                        push(value)
        else:
            for value in dependencies_of(lazy):
                if value not in seen:
                    seen.add(value)
                    push(value)
    return found


class _Numbering:
    """Gives lazy values their indices and writes down what each needs, in the order of declaration."""

    def __init__(self, lazies: list[LazyResult[Any]]) -> None:
        self.lazies = lazies
        self.index_of: dict[LazyResult[Any], int] = dict(zip(lazies, range(len(lazies)), strict=True))
        self.needs: list[tuple[int, ...]] = []
        self.references: list[Reference] = []
        self.special: list[int] = []
        self.coroutines: list[int] = []
        self.order_edges: dict[int, list[int]] = {}

    def connect(self, root: LazyResult[Any]) -> Graph:
        self._merge_pure()
        index_of = self.index_of
        needs = self.needs.append
        references = self.references.append
        # The tasks of the calls before, which are the same ones most often.
        plain: object = None
        coroutine: object = None
        for index, lazy in enumerate(self.lazies):
            if type(lazy) is Call and lazy.packed is None and not lazy.kwargs:
                args = lazy.args
                reference: Reference = None
                if len(args) != 1:
                    reference = self._several(args)
                elif type(args[0]) in LAZY_TYPES:
                    reference = index_of[args[0]]
                elif type(args[0]) not in PLAIN:
                    reference = self._several(args)
                references(reference)
                if reference is None:
                    needs(())
                elif type(reference) is int:
                    needs((reference,))
                elif type(reference) is tuple:
                    needs(tuple({source: None for source in reference if source >= 0}))
                else:
                    needs(_sources(reference))
                if lazy.policy is not None or type(reference) is Wiring:
                    self._finish_special(index, lazy)
                elif lazy.task is plain:
                    continue
                elif lazy.task is coroutine:
                    self.coroutines.append(index)
                elif is_plain(lazy.task):
                    plain = lazy.task
                elif lazy.task.is_async and is_bare(lazy.task):
                    coroutine = lazy.task
                    self.coroutines.append(index)
                else:
                    self._finish_special(index, lazy)
            else:
                reference = self._wire(lazy)
                references(reference)
                needs(_sources(reference) if isinstance(reference, Wiring) else ())
                self._finish_special(index, lazy)
        if any(type(self.lazies[index]) is Sequence for index in self.special):
            self._order_sequences()
        return Graph(
            self.lazies,
            index_of,
            index_of[root],
            self.needs,
            self.references,
            self.special,
            self.coroutines,
            self.order_edges,
        )

    def _several(self, args: tuple[Any, ...]) -> Reference:
        """Where positional arguments come from, when there are none or several, or one is injected."""
        index_of = self.index_of
        places = [index_of[value] if type(value) in LAZY_TYPES else -1 for value in args]
        if any(type(value) is Inject for value in args):
            return Wiring(tuple(places), (), None, injects=True)
        for place in places:
            if place >= 0:
                return tuple(places)
        return None

    def _wire(self, lazy: LazyResult[Any]) -> Reference:
        """Where the arguments of anything but a plain positional call come from."""
        index_of = self.index_of
        if type(lazy) is Call:
            if lazy.packed is not None:
                return Wiring((), (), tuple(index_of[value] for value in lazy.packed.lazies), injects(lazy))
            return Wiring(
                tuple(index_of[value] if type(value) in LAZY_TYPES else -1 for value in lazy.args),
                tuple((name, index_of[value]) for name, value in lazy.kwargs.items() if type(value) in LAZY_TYPES),
                None,
                injects(lazy),
            )
        if type(lazy) is MappedLazyResult:
            if lazy.packed is not None:
                return Wiring((), (), tuple(index_of[value] for value in lazy.packed.lazies), injects(lazy))
            return Wiring(
                tuple(index_of[value] if type(value) in LAZY_TYPES else -1 for value in lazy.args),
                tuple(
                    (name, index_of[value])
                    for name, value in (*lazy.kwargs.items(), *lazy.inputs.items())
                    if type(value) in LAZY_TYPES
                ),
                None,
                injects(lazy),
            )
        if type(lazy) is Derived:
            return Wiring(tuple(index_of[value] if type(value) in LAZY_TYPES else -1 for value in lazy.args), (), None)
        if type(lazy) is Gathered:
            return Wiring((), (), tuple(index_of[value] for value in lazy.packed.lazies))
        if type(lazy) is Router:
            # Routes are no needs: a router starts to be decided when its selector is there.
            return Wiring((index_of[lazy.selector],), (), None)
        if type(lazy) is Sequence:
            return Wiring(tuple(index_of[member] for member in lazy.members), (), None)
        if type(lazy) is Fallback:
            return Wiring((index_of[lazy.step], index_of[lazy.before]), (), None)
        return None

    def _finish_special(self, index: int, lazy: LazyResult[Any]) -> None:
        """Note a node that is more than a plain call, and what its policies need."""
        self.special.append(index)
        policy = lazy.policy
        if policy is None:
            return
        more = list(self.needs[index])
        if policy.run_if is not None:
            more.append(self.index_of[policy.run_if])
        more.extend(self.index_of[earlier] for earlier in policy.after)
        if policy.constraints:
            more.extend(self.index_of[amount] for amount in policy.constraints.values() if is_lazy(amount))
        self.needs[index] = tuple(dict.fromkeys(more))

    def _merge_pure(self) -> None:
        """Let one node serve all pure calls with equal inputs; values are met in the order of declaration."""
        for lazy in self.lazies:
            if type(lazy) is Call and lazy.task.pure:
                break
        else:
            return
        first: dict[object, LazyResult[Any]] = {}
        merged: dict[LazyResult[Any], LazyResult[Any]] = {}
        kept: list[LazyResult[Any]] = []
        for lazy in self.lazies:
            key = merge_key(lazy, merged) if type(lazy) is Call and lazy.task.pure else None
            if key is None:
                kept.append(lazy)
            elif key in first:
                merged[lazy] = first[key]
            else:
                first[key] = lazy
                kept.append(lazy)
        if merged:
            self.lazies = kept
            self.index_of = dict(zip(kept, range(len(kept)), strict=True))
            for lazy, representative in merged.items():
                self.index_of[lazy] = self.index_of[representative]

    def _order_sequences(self) -> None:
        """Let the members of sequences wait for each other, whoever else uses them."""
        known = set(self.special)
        for index in self.special:
            lazy = self.lazies[index]
            if type(lazy) is not Sequence:
                continue
            previous = lazy.members[0]
            for member in lazy.members[1:]:
                for first in _first_members(member):
                    self._let_wait(first, previous, known)
                previous = member
        self.special = sorted(known)

    def _let_wait(self, member: LazyResult[Any], previous: LazyResult[Any], special: set[int]) -> None:
        index, before = self.index_of[member], self.index_of[previous]
        if index == before and member is not previous:
            # Two equal pure calls are one computation, which comes before nothing of its own.
            return
        if before not in self.needs[index]:
            self.needs[index] = (*self.needs[index], before)
        waits = self.order_edges.setdefault(index, [])
        if before not in waits:
            waits.append(before)
        special.add(index)


def _first_members(member: LazyResult[Any]) -> list[LazyResult[Any]]:
    """What of a member must wait for the member before it: of a sequence its first, of a container each."""
    found: list[LazyResult[Any]] = []
    stack = [member]
    while stack:
        lazy = stack.pop()
        if type(lazy) is Sequence:
            stack.append(lazy.members[0])
        elif type(lazy) is Gathered:
            stack.extend(reversed(lazy.packed.lazies))
        if type(lazy) is not Sequence:
            found.append(lazy)
    return found


def _sources(wiring: Reference) -> tuple[int, ...]:
    """Every node that a wiring takes from, each once."""
    assert isinstance(wiring, Wiring)
    sources = [source for source in wiring.positional if source >= 0]
    sources.extend(source for _, source in wiring.named)
    sources.extend(wiring.packed or ())
    return tuple(dict.fromkeys(sources))


def injects(lazy: Call[Any] | MappedLazyResult[Any]) -> bool:
    """Whether a call names resources itself, and not just in its task's defaults."""
    return any(type(value) is Inject for value in (*lazy.args, *lazy.kwargs.values()))


def is_bare(task: Any) -> bool:
    """Whether calls of a task need nothing but a worker thread or, for coroutine functions, the loop."""
    bare: bool | None = task.__dict__.get("_bare")
    if bare is None:
        bare = task.executor is None and not task.injected
        task.__dict__["_bare"] = bare
    return bare


def is_plain(task: Any) -> bool:
    """Whether calls of a task need nothing but a worker thread: remembered on the task."""
    plain: bool | None = task.__dict__.get("_plain")
    if plain is None:
        plain = not (task.is_async or task.executor is not None or task.pure or task.injected)
        task.__dict__["_plain"] = plain
    return plain
