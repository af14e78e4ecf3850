"""Workflows as plain data, from which both the reference and Cascade work.

A description is a value: it compares, and its `repr` evaluates to an equal one where the names of this module
are known. So a failing example can be kept as a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.property.values import Boom, Box, Point, made, number_of

PARAMETERS = ("a", "b", "c")
"""All functions take these three, each `None` by default."""


@dataclass(frozen=True)
class Lit:
    """A plain value."""

    value: Any


@dataclass(frozen=True)
class Ref:
    """A node of the same graph."""

    node: int


@dataclass(frozen=True)
class Outer:
    """In a template: a node of the workflow itself, captured by the graph that a task returns."""

    node: int


@dataclass(frozen=True)
class Given:
    """In a template, what the call was given: 0 is the turns left, 1 a number made of them all, 2 `b`."""

    place: int


@dataclass(frozen=True)
class Container:
    """A container of expressions; keys of a dict are `k0`, `k1` and so on."""

    kind: str
    items: tuple[Expr, ...]

    def build(self, members: list[Any]) -> Any:
        if self.kind == "dict":
            return {f"k{place}": member for place, member in enumerate(members)}
        if self.kind in ("box", "point"):
            return (Box if self.kind == "box" else Point)(*members)
        return {"list": list, "tuple": tuple, "set": set}[self.kind](members)


Expr = Lit | Ref | Outer | Given | Container
Link = Ref | Outer


@dataclass(frozen=True)
class Policy:
    """What may be asked for a call or a map; derived items take conditions and order only."""

    run_if: Link | None = None
    after: tuple[Link, ...] = ()
    attempts: int | None = None
    amount: Expr | None = None


@dataclass(frozen=True)
class Call:
    """A call of a function; the first `positional` arguments are passed by place."""

    function: int
    args: tuple[tuple[str, Expr], ...] = ()
    policy: Policy = Policy()
    positional: int = 0


@dataclass(frozen=True)
class Map:
    """A function over inputs, with some arguments fixed for all items."""

    function: int
    inputs: tuple[tuple[str, Expr], ...]
    fixed: tuple[tuple[str, Expr], ...] = ()
    policy: Policy = Policy()


@dataclass(frozen=True)
class Route:
    """A router."""

    selector: Link
    routes: tuple[tuple[Any, Expr], ...]


@dataclass(frozen=True)
class Sequence:
    """Calls, maps and sequences, one after another."""

    members: tuple[Link, ...]


@dataclass(frozen=True)
class Step:
    """A step of a pipeline: what it is fed is its `a`.

    Its style is a `task`, a `partial` or a `function` of a lazy value.
    """

    function: int
    args: tuple[tuple[str, Expr], ...] = ()
    policy: Policy = Policy()
    style: str = "task"


@dataclass(frozen=True)
class Pipeline:
    """A value fed through steps."""

    value: Expr
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Item:
    """`base[key]`."""

    base: Link
    key: Any
    policy: Policy = Policy()


@dataclass(frozen=True)
class Part:
    """`base.unpack(count)[place]`."""

    base: Link
    count: int
    place: int


@dataclass(frozen=True)
class Input:
    """A parameter of the run; not `given` means that the default serves."""

    name: str
    value: Any
    given: bool = True


Node = Call | Map | Route | Sequence | Pipeline | Item | Part | Input


@dataclass(frozen=True)
class Fails:
    """When a function raises: on its first attempts (`None`: on all), for one in so many arguments."""

    attempts: int | None = None
    one_in: int = 1


@dataclass(frozen=True)
class Template:
    """The graph that a function returns while it has turns left."""

    nodes: tuple[Node, ...]
    result: Expr


@dataclass(frozen=True)
class Function:
    """A task's function.

    With a template, its `a` is the number of turns left: above zero it returns the template's graph.
    """

    gives: str = "number"
    mode: str = "thread"
    pure: bool = False
    fails: Fails | None = None
    template: Template | None = None

    def complain(self, key: int, attempt: int, arguments: tuple[Any, ...]) -> None:
        """Raise what this attempt raises, if it does.

        Raises:
            Boom: the description says that this attempt fails.
        """
        fails = self.fails
        if fails is None or (fails.attempts is not None and attempt > fails.attempts):
            return
        number = number_of((key, arguments))
        if number % fails.one_in == 0:
            raise Boom(key, number)

    def continues(self, arguments: tuple[Any, ...]) -> bool:
        return self.template is not None and type(arguments[0]) is int and arguments[0] > 0

    def givens(self, key: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the template is given by a call."""
        return arguments[0] - 1, number_of((key, arguments)), arguments[1]

    def value(self, key: int, arguments: tuple[Any, ...]) -> Any:
        return made(self.gives, number_of((key, arguments)), arguments[0])


@dataclass(frozen=True)
class Workflow:
    """All there is to know about one run."""

    functions: tuple[Function, ...]
    nodes: tuple[Node, ...]
    target: Expr
    on_failure: str = "stop"
    capacity: int = field(default=2)

    def __str__(self) -> str:
        """The workflow in a few lines that read like a program."""
        lines: list[str] = []
        for key, function in enumerate(self.functions):
            lines += _function_lines(key, function)
        lines += [f"n{place} = {_node_text(node, 'n')}" for place, node in enumerate(self.nodes)]
        return "\n".join([*lines, f"run({_text(self.target, 'n')}, on_failure={self.on_failure!r})"])


def _function_lines(key: int, function: Function) -> list[str]:
    fails = ""
    if function.fails is not None:
        attempts = "" if function.fails.attempts is None else f" at its first {function.fails.attempts} attempts"
        fails = f", fails{attempts} for one in {function.fails.one_in}"
    head = f"f{key}: {'pure ' if function.pure else ''}{function.mode}, gives {function.gives}{fails}"
    if function.template is None:
        return [head]
    prefix = f"t{key}."
    nodes = [f"    {prefix}{place} = {_node_text(node, prefix)}" for place, node in enumerate(function.template.nodes)]
    return [f"{head}; while a > 0:", *nodes, f"    return {_text(function.template.result, prefix)}"]


def _text(expression: Expr, prefix: str) -> str:
    if isinstance(expression, Lit):
        return repr(expression.value)
    if isinstance(expression, Given):
        return ("turns", "number", "b")[expression.place]
    if isinstance(expression, Container):
        return f"{expression.kind}({', '.join(_text(item, prefix) for item in expression.items)})"
    return f"{prefix if isinstance(expression, Ref) else 'n'}{expression.node}"


def _arguments(args: tuple[tuple[str, Expr], ...], prefix: str, positional: int = 0) -> str:
    texts = [_text(expression, prefix) for _, expression in args]
    return ", ".join(
        text if place < positional else f"{name}={text}"
        for place, ((name, _), text) in enumerate(zip(args, texts, strict=True))
    )


def _policy_text(policy: Policy, prefix: str) -> str:
    text = ""
    if policy.run_if is not None:
        text += f".run_if({_text(policy.run_if, prefix)})"
    if policy.after:
        text += f".after({', '.join(_text(link, prefix) for link in policy.after)})"
    if policy.attempts is not None:
        text += f".attempts({policy.attempts})"
    if policy.amount is not None:
        text += f".takes({_text(policy.amount, prefix)})"
    return text


def _node_text(node: Node, prefix: str) -> str:
    if isinstance(node, Call):
        policy = _policy_text(node.policy, prefix)
        return f"f{node.function}({_arguments(node.args, prefix, node.positional)}){policy}"
    if isinstance(node, Map):
        fixed = f".partial({_arguments(node.fixed, prefix)})" if node.fixed else ""
        inputs = _arguments(node.inputs, prefix)
        return f"f{node.function}{fixed}.map({inputs}){_policy_text(node.policy, prefix)}"
    if isinstance(node, Route):
        routes = ", ".join(f"{key!r}: {_text(route, prefix)}" for key, route in node.routes)
        return f"Router({_text(node.selector, prefix)}, {{{routes}}})"
    if isinstance(node, Sequence):
        return f"sequence({', '.join(_text(member, prefix) for member in node.members)})"
    if isinstance(node, Pipeline):
        steps = [_node_text(Call(step.function, step.args, step.policy), prefix) for step in node.steps]
        styled = (f"{step.style} {text}" for step, text in zip(node.steps, steps, strict=True))
        return f"pipeline({_text(node.value, prefix)}, [{', '.join(styled)}])"
    if isinstance(node, Item):
        return f"{_text(node.base, prefix)}[{node.key!r}]{_policy_text(node.policy, prefix)}"
    if isinstance(node, Part):
        return f"{_text(node.base, prefix)}.unpack({node.count})[{node.place}]"
    return f"Param({node.name!r}{'' if node.given else ', default'}) = {node.value!r}"


def node_name(owner: int | None, index: int, node: Node, functions: tuple[Function, ...]) -> str:
    """The name of a call or map in events; nodes of a template belong to its function.

    Calls of a pure function share its name: a name of its own would make each a computation of its own.
    """
    if isinstance(node, Call) and functions[node.function].pure:
        return f"p{node.function}"
    return f"n{index}" if owner is None else f"t{owner}.{index}"


def links(expression: Expr | None) -> Iterator[Link]:
    """The nodes that an expression names, from left to right."""
    if isinstance(expression, (Ref, Outer)):
        yield expression
    elif isinstance(expression, Container):
        for item in expression.items:
            yield from links(item)


def policy_links(policy: Policy) -> Iterator[Link]:
    if policy.run_if is not None:
        yield policy.run_if
    yield from policy.after
    yield from links(policy.amount)


def node_links(node: Node) -> Iterator[Link]:
    """Everything that a node names: data, conditions, order, amounts, all routes."""
    if isinstance(node, Call):
        for _, expression in node.args:
            yield from links(expression)
        yield from policy_links(node.policy)
    elif isinstance(node, Map):
        for _, expression in node.fixed + node.inputs:
            yield from links(expression)
        yield from policy_links(node.policy)
    elif isinstance(node, Route):
        yield node.selector
        for _, expression in node.routes:
            yield from links(expression)
    elif isinstance(node, Sequence):
        yield from node.members
    elif isinstance(node, Pipeline):
        yield from links(node.value)
        for step in node.steps:
            for _, expression in step.args:
                yield from links(expression)
            yield from policy_links(step.policy)
    elif isinstance(node, Item):
        yield node.base
        yield from policy_links(node.policy)
    elif isinstance(node, Part):
        yield node.base
