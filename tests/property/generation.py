"""Random workflow descriptions, made from a source of numbers: Hypothesis's choices, or a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tests.property.description import (
    PARAMETERS,
    Call,
    Container,
    Expr,
    Fails,
    Function,
    Given,
    Input,
    Item,
    Link,
    Lit,
    Map,
    Node,
    Outer,
    Part,
    Pipeline,
    Policy,
    Ref,
    Route,
    Sequence,
    Step,
    Template,
    Workflow,
    links,
    node_links,
)
from tests.property.values import KEYS

T = TypeVar("T")
Numbers = Callable[[int, int], int]
"""Draws a number from an inclusive range; smaller is simpler."""

MODES = ("thread", "async", "inline", "yielding")
LITERALS = (0, 1, 2, True, False, 1.0, None, "", "a", (), (1, 2), [1], {"k": 1}, frozenset({1}))
GIVES = ("number", "flag", "key", "pair", "record", "list2", "list3", "none", "echo", "odd", "list0")
CONTAINERS = ("list", "tuple", "dict", "set", "box", "point")
SHAPES = ("list", "tuple", "dict", "set")
"""What is looked into where a task returns it."""


def seeded(seed: int) -> Numbers:
    return random.Random(seed).randint


def random_workflow(numbers: Numbers, most_nodes: int = 12, on_failure: str | None = None) -> Workflow:
    """Make a workflow.

    Args:
        numbers: where choices come from.
        most_nodes: about how many nodes it has at most, those of returned graphs not counted.
        on_failure: `"stop"` or `"continue"` for one with failures, `"never"` for one without, `None` for any.
    """
    return _Maker(numbers, most_nodes, on_failure).workflow()


@dataclass
class _Made:
    """A node and the kind of its value: what functions give, `list` with a length, or `any`."""

    node: Node
    kind: str


class _Maker:
    def __init__(self, numbers: Numbers, most_nodes: int, on_failure: str | None) -> None:
        self.numbers = numbers
        self.most_nodes = most_nodes
        self.on_failure = on_failure or ("stop", "continue", "never")[numbers(0, 2)]
        self.functions: list[Function] = []
        self.inputs = 0
        self.failing = self.on_failure != "never"
        self.outer: list[_Made] = []
        self.open: list[int] = []
        self.once: list[int] = []

    def workflow(self) -> Workflow:
        graph = _GraphMaker(self, None)
        self.outer = graph.made
        for _ in range(self.numbers(1, self.most_nodes)):
            graph.add()
        target = graph.target()
        return Workflow(
            tuple(self.functions),
            tuple(made.node for made in graph.made),
            target,
            "continue" if self.on_failure == "continue" else "stop",
            1 if self.failing and self.chance(10) else 2,
        )

    def chance(self, percent: int) -> bool:
        return self.numbers(0, 99) >= 100 - percent

    def one_of(self, items: Items[T]) -> T:
        return items[self.numbers(0, len(items) - 1)]

    def function(self, gives: str | None = None) -> int:
        """A function that gives a kind of value; often one that is there already."""
        gives = gives or (self.one_of(GIVES) if self.chance(60) else "number")
        there = [key for key, made in enumerate(self.functions) if _kind(made) == gives and not made.pure]
        if there and self.chance(30):
            return self.one_of(there)
        fails = None
        if self.chance(30 if self.failing else 10):
            attempts = self.numbers(1, 2) if not self.failing or self.chance(50) else None
            fails = Fails(attempts, self.numbers(1, 3))
        self.functions.append(Function(gives, self.one_of(MODES), fails=fails))
        return len(self.functions) - 1

    def pure_function(self) -> int:
        fails = Fails() if self.failing and self.chance(10) else None
        self.functions.append(Function("number", self.one_of(MODES), pure=True, fails=fails))
        return len(self.functions) - 1

    def continuing_function(self) -> int:
        """A function that returns a graph while it has turns left; that graph may call it again."""
        # Only its own last call may call a function whose template is being made: it takes the turns away.
        closed = self.functions[: self.open[0]] if self.open else self.functions
        there = [key for key, made in enumerate(closed) if made.template is not None]
        if len(self.open) >= 2 or (there and self.chance(30)):
            return self.one_of(there) if there else self.function()
        key = len(self.functions)
        self.functions.append(Function("number", self.one_of(MODES), template=Template((), Lit(None))))
        self.open.append(key)
        graph = _GraphMaker(self, key)
        again = self.chance(70)
        for _ in range(self.numbers(0 if again else 1, 4)):
            graph.add()
        if again:
            last = Ref(graph.loop(key))
            style = self.numbers(0, 3)
            if style == 2:
                result: Expr = Container(self.one_of(SHAPES[:3]), (last, graph.expression(containers=SHAPES)))
            elif style == 3 and graph.made:
                result = Ref(graph.put(Call(self.function("number"), (("a", last),)), "number"))
            else:
                result = last
        else:
            result = Ref(graph.put(graph.skippable(), "number")) if self.chance(25) else graph.target()
            self.once.append(key)
        template = Template(tuple(made.node for made in graph.made), result)
        fails = Fails(1, 2) if self.chance(15) else None
        self.functions[key] = replace(self.functions[key], template=template, fails=fails)
        self.open.remove(key)
        return key


def _kind(function: Function) -> str:
    """The kind of what calls of a function give."""
    return "any" if function.template is not None or function.gives == "echo" else function.gives


class _GraphMaker:
    """Adds nodes to one graph; each refers only to those before it."""

    def __init__(self, maker: _Maker, owner: int | None) -> None:
        self.maker = maker
        self.owner = owner
        self.made: list[_Made] = []
        self.pure: list[Call] = []
        self.chance = maker.chance
        self.numbers = maker.numbers
        self.one_of = maker.one_of

    def put(self, node: Node, kind: str) -> int:
        self.made.append(_Made(node, kind))
        return len(self.made) - 1

    def add(self) -> int:
        kinds = (
            self.call, self.call, self.call, self.route, self.map, self.conditional, self.item,
            self.pure_call, self.sequence, self.pipeline, self.continuing, self.conditional, self.input,
            self.route,
        )  # fmt: skip
        return self.one_of(kinds)()

    def target(self) -> Expr:
        """Mostly all nodes that nothing else needs, sometimes the last node alone, or anything."""
        used = {link.node for made in self.made for link in node_links(made.node) if isinstance(link, Ref)}
        loose = [Ref(place) for place in range(len(self.made)) if place not in used]
        style = self.numbers(0, 5)
        if self.made and isinstance(self.made[-1].node, (Pipeline, Sequence, Route)) and self.chance(40):
            # Nothing but connectors between what they join and the target.
            style = 4
        if style < 4 and len(loose) > 1:
            return Container(self.one_of(("list", "tuple", "dict")), tuple(loose))
        if style == 5 or not self.made:
            return self.expression(containers=CONTAINERS if self.owner is None else SHAPES)
        return Ref(len(self.made) - 1)

    def link(self, wanted: Callable[[str], bool] = lambda kind: True, make: str | None = None) -> Link:
        """A node whose value is of a wanted kind; where there is none, or at a whim, a new one."""
        there = [place for place, made in enumerate(self.made) if wanted(made.kind)]
        if there and not self.chance(25):
            recent = there[-4:] if self.chance(60) else there
            return Ref(recent[len(recent) - 1 - self.numbers(0, len(recent) - 1)])
        if self.owner is not None and self.chance(30):
            outer = [place for place, made in enumerate(self.maker.outer) if wanted(made.kind)]
            if outer:
                return Outer(self.one_of(outer))
        if make is None:
            make = self.one_of(("number", "flag", "pair"))
        return Ref(self.plain_call(make))

    def plain_call(self, gives: str) -> int:
        key = self.maker.function(gives)
        args = tuple(zip(PARAMETERS, (self.literal(),), strict=False))
        return self.put(Call(key, args, self.policy(key, 5), self.numbers(0, 1)), gives)

    def literal(self) -> Expr:
        if self.owner is not None and self.chance(50):
            return Given(self.numbers(1, 2))
        return Lit(self.one_of(LITERALS))

    def expression(self, depth: int = 2, containers: Items[str] = CONTAINERS) -> Expr:
        if depth and self.chance(25):
            kind = self.one_of(containers)
            if kind == "set":
                return Container("set", tuple(self.link(_is_number, "number") for _ in range(self.numbers(1, 2))))
            size = 2 if kind in ("box", "point") else self.numbers(0, 3)
            return Container(kind, tuple(self.expression(depth - 1, containers) for _ in range(size)))
        return self.literal() if self.chance(25) else self.link()

    def policy(self, key: int, percent: int, *, retries: bool = True) -> Policy:
        """Conditions, order and amounts with some likelihood; retries where the function needs them."""
        attempts = None
        fails = self.maker.functions[key].fails if retries else None
        if fails is not None and not self.maker.failing:
            attempts = (fails.attempts or 0) + 1
        elif fails is not None and self.chance(60):
            attempts = self.numbers(1, 3)
        elif retries and self.chance(5):
            attempts = 2
        condition = self.condition() if self.chance(percent) else None
        after = tuple(self.link() for _ in range(self.numbers(1, 2))) if self.chance(percent) else ()
        amount = None
        if retries and self.chance(percent // 3):
            amount = Lit(1) if self.chance(40) else self.link(lambda kind: kind == "amount", "amount")
        return Policy(condition, after, attempts, amount)

    def condition(self) -> Link:
        return self.link(lambda kind: kind == "flag", "flag") if self.chance(70) else self.link()

    def call(self) -> int:
        return self._call(self.maker.function(), 8)

    def conditional(self) -> int:
        return self._call(self.maker.function(), 50)

    def _call(self, key: int, percent: int) -> int:
        args = tuple((name, self.expression()) for name in PARAMETERS if self.chance(55))
        policy = self.policy(key, percent)
        return self.put(Call(key, args, policy, self.numbers(0, _places(args))), _kind(self.maker.functions[key]))

    def pure_call(self) -> int:
        """A call that may equal one before it, or nearly equal it."""
        if self.pure and self.chance(70):
            twin = self.one_of(self.pure)
            if self.chance(30):
                args = tuple((name, self.literal() if isinstance(value, Lit) else value) for name, value in twin.args)
                twin = replace(twin, args=args)
        else:
            there = [key for key, function in enumerate(self.maker.functions) if function.pure]
            key = self.one_of(there) if there and self.chance(50) else self.maker.pure_function()
            args = tuple((name, self.pure_input()) for name in PARAMETERS[: self.numbers(0, 2)])
            twin = Call(key, args, Policy(), len(args))
        self.pure.append(twin)
        return self.put(twin, "number")

    def pure_input(self) -> Expr:
        """A literal or a call: for what else is lazy the rules do not say when two are equal."""
        calls = [place for place, made in enumerate(self.made) if isinstance(made.node, (Call, Input))]
        if not calls or self.chance(40):
            return self.literal()
        last = Ref(calls[len(calls) - 1 - self.numbers(0, len(calls) - 1)])
        return Container("list", (last,)) if self.chance(15) else last

    def continuing(self) -> int:
        """A call that returns a graph."""
        key = self.maker.continuing_function()
        if self.maker.functions[key].template is None:
            return self.call()
        args: tuple[tuple[str, Expr], ...] = (("a", Lit(self.turns(key))),)
        args += tuple((name, self.expression(1)) for name in PARAMETERS[1:] if self.chance(50))
        return self.put(Call(key, args, self.policy(key, 10), self.numbers(0, _places(args))), "any")

    def turns(self, key: int) -> int:
        """How many turns: many for a plain loop, few where each turn may start several."""
        template = self.maker.functions[key].template
        assert template is not None
        branching = sum(self._continues(node) for node in template.nodes)
        captures = any(isinstance(link, Outer) for node in template.nodes for link in node_links(node)) or any(
            isinstance(link, Outer) for link in links(template.result)
        )
        return self.numbers(1, 2 if branching > 1 or captures else 12)

    def _continues(self, node: Node) -> int:
        if isinstance(node, (Call, Map)):
            return int(self.maker.functions[node.function].template is not None)
        return 0

    def loop(self, key: int) -> int:
        """In a template: the call with one turn less, of the same function or of one that calls that."""
        args: tuple[tuple[str, Expr], ...] = (("a", Given(0)),)
        args += tuple((name, self.expression(1)) for name in PARAMETERS[1:] if self.chance(60))
        policy = self.policy(key, 5) if self.chance(30) else Policy()
        if self.chance(15):
            column = Container("list", tuple(self.expression(0) for _ in range(self.numbers(0, 2))))
            return self.put(Map(key, (("b", column),), (("a", Given(0)),), policy), f"list{len(column.items)}")
        if self.chance(15):
            twin = len(self.maker.functions)
            again = Template((Call(key, (("a", Given(0)), ("b", Given(1)))),), Ref(0))
            self.maker.functions.append(Function("number", self.one_of(MODES), template=again))
            key = twin
        return self.put(Call(key, args, policy, self.numbers(0, _places(args))), "any")

    def route(self) -> int:
        kind = self.one_of(("flag", "key", "odd"))
        selector = self.link(lambda there: there == kind, kind)
        keys = [key for key in KEYS[kind] if not (self.maker.failing and self.chance(8))] or [KEYS[kind][0]]
        lists = self.chance(15)
        routes = []
        for key in keys:
            if self.chance(12):
                routes.append((key, Ref(self.put(self.skippable(), "number"))))
            elif self.chance(12):
                routes.append((key, Ref(self.route())))
            elif lists:
                routes.append((key, Ref(self.plain_call("list2"))))
            elif self.chance(40):
                routes.append((key, Ref(self.conditional() if self.chance(40) else self.add())))
            else:
                routes.append((key, self.expression(1)))
        kinds = {self.kind_of(route) for _, route in routes}
        router = self.put(Route(selector, tuple(routes)), kinds.pop() if len(kinds) == 1 else "any")
        if self.chance(60):
            return router
        key = self.maker.function()
        return self.put(Call(key, (("b", Ref(router)),), self.policy(key, 5)), _kind(self.maker.functions[key]))

    def skippable(self) -> Call:
        """A call with a condition of its own: a route that may turn out skipped."""
        key = self.maker.function("number")
        return Call(key, (), replace(self.policy(key, 0), run_if=self.condition()))

    def kind_of(self, expression: Expr) -> str:
        if isinstance(expression, (Ref, Outer)):
            return (self.made if isinstance(expression, Ref) else self.maker.outer)[expression.node].kind
        return "any"

    def map(self) -> int:
        continuing = self.chance(25)
        key = self.maker.continuing_function() if continuing else self.maker.function()
        template = self.maker.functions[key].template
        if continuing and template is None:
            key = self.maker.function()
        size = self.numbers(0, 3)
        fixed: tuple[tuple[str, Expr], ...] = ()
        free = PARAMETERS
        if self.maker.functions[key].template is not None:
            fixed, free = (("a", Lit(min(3, self.turns(key)))),), PARAMETERS[1:]
        columns = tuple((name, self.column(size)) for name in free[: 2 if self.chance(30) else 1])
        if len(columns) < len(free) and self.chance(40):
            fixed += ((free[-1], self.expression(1)),)
        return self.put(Map(key, columns, fixed, self.policy(key, 12)), f"list{size}")

    def column(self, size: int) -> Expr:
        """An input of a map: a list here, or a lazy list."""
        if self.chance(50):
            kind = "list" if self.chance(80) else "tuple"
            return Container(kind, tuple(self.expression(1) for _ in range(size)))
        if self.maker.failing and self.chance(5):
            size += 1
        return self.link(lambda kind: kind == f"list{size}", f"list{size}")

    def item(self) -> int:
        base = self.link(lambda kind: kind in ("pair", "record", "list2", "list3"), "pair")
        kind = self.kind_of(base)
        if kind == "record":
            key: Any = self.one_of(("k", "v"))
            key = "missing" if self.maker.failing and self.chance(8) else key
            return self.put(Item(base, key, self.item_policy()), "any")
        size = 2 if kind == "pair" else int(kind[4:])
        if self.chance(50):
            count = size + (self.maker.failing and self.chance(8))
            return self.put(Part(base, count, self.numbers(0, size - 1)), "any")
        key = self.numbers(0, size - 1) + (size if self.maker.failing and self.chance(8) else 0)
        return self.put(Item(base, key, self.item_policy()), "any")

    def item_policy(self) -> Policy:
        if self.chance(85):
            return Policy()
        return Policy(run_if=self.condition()) if self.chance(50) else Policy(after=(self.link(),))

    def sequence(self) -> int:
        """Two or three nodes that exist or are made for it, in an order that contradicts no data."""
        fresh = self.numbers(0, 2)
        for _ in range(fresh):
            self.one_of((self.call, self.call, self.conditional, self.continuing))()
        members: list[int] = []
        for place, made in enumerate(self.made):
            node = made.node
            if not isinstance(node, (Call, Map, Sequence)):
                continue
            if isinstance(node, Call) and self.maker.functions[node.function].pure:
                continue
            if members and self._first(place) <= members[-1]:
                continue
            if place >= len(self.made) - fresh or self.chance(35):
                members.append(place)
        if not members:
            return self.call()
        return self.put(Sequence(tuple(Ref(place) for place in members[-4:])), "any")

    def _first(self, place: int) -> int:
        node = self.made[place].node
        while isinstance(node, Sequence):
            place = node.members[0].node
            node = self.made[place].node
        return place

    def pipeline(self) -> int:
        value = self.literal() if self.chance(20) else self.expression(1)
        steps = []
        for _ in range(self.numbers(1, 4)):
            key = self.maker.function("number" if self.chance(70) else None)
            if self.maker.once and self.chance(25):
                # Whatever number it is fed, such a function returns its graph at most once.
                key = self.one_of(self.maker.once)
            style = self.one_of(("task", "partial", "function"))
            args = () if style == "task" or self.chance(40) else ((PARAMETERS[2], self.expression(1)),)
            steps.append(Step(key, args, self.policy(key, 40), style))
        return self.put(Pipeline(value, tuple(steps)), "any")

    def input(self) -> int:
        kind, values = self.one_of(
            (("number", (0, 1, 7)), ("flag", (True, False)), ("key", ("a", "b", "c")), ("none", (None,)))
        )
        if self.owner is not None:
            return self.call()
        self.maker.inputs += 1
        value = self.one_of(values)
        given = value is not None and self.chance(50)
        return self.put(Input(f"input{self.maker.inputs}", value, given), kind)


def _is_number(kind: str) -> bool:
    return kind == "number"


def _places(args: tuple[tuple[str, Expr], ...]) -> int:
    """How many of the arguments can be passed by place."""
    places = 0
    for (name, _), parameter in zip(args, PARAMETERS, strict=False):
        if name != parameter:
            break
        places += 1
    return places
