"""The reference interpreter: what a workflow must do, worked out from the rules in the plainest way.

It computes on demand and by recursion, one thing after another: asking for the target asks for all that the
target needs, and for nothing else. It imports nothing of Cascade: errors and reasons are texts here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from tests.property.description import (
    PARAMETERS,
    Call,
    Container,
    Expr,
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
    Template,
    Workflow,
    links,
    node_links,
    node_name,
)
from tests.property.prediction import Error, Failed, Ledger, Outcome, Prediction, Skipped, Value
from tests.property.values import Boom, portrait

Address = tuple[int | None, int]
"""A node of a graph: the function whose template it belongs to (`None`: the workflow itself), and place."""

MOST_WORK = 1_500
MOST_NESTED = 40


class TooMuch(Exception):
    """The workflow makes more calls than a test should, or nests graphs deeper than this recursion may."""


def predict(workflow: Workflow) -> Prediction:
    """Work out what a run of the workflow must do.

    Raises:
        TooMuch: it would make more than about `MOST_WORK` calls.
    """
    interpreter = Interpreter(workflow)
    ledger = Ledger()
    graph = GraphRun(interpreter, ledger, None, (), workflow.target)
    outcome = graph.run()
    reasons: frozenset[str] = frozenset()
    if isinstance(outcome, Skipped):
        found = [(link, graph.outcome(graph.address(None, link))) for link in links(workflow.target)]
        skipped = [(link, end) for link, end in found if isinstance(end, Skipped)]
        if all(isinstance(graph.node(graph.address(None, link)), (Call, Map)) for link, _ in skipped):
            reasons = frozenset().union(*({end.reason} | end.members for _, end in skipped))
    values: dict[int, Any] = {}
    idle: set[int] = set()
    for place, node in enumerate(workflow.nodes):
        if isinstance(node, (Call, Map)):
            end = graph.known.get(graph.same.get((None, place), (None, place)))
            if isinstance(end, Value):
                values[place] = end.value
            else:
                idle.add(place)
    return Prediction(outcome, reasons, ledger, values, frozenset(idle))


class Interpreter:
    """One run of a workflow."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.work = 0
        self.depth = 0

    def perform(self, ledger: Ledger, key: int, arguments: tuple[Any, ...], attempts: int | None) -> Outcome | Error:
        """Call a function, repeat it where it fails, and go on with what it returns (S16, S18)."""
        function = self.workflow.functions[key]
        most = 1 if attempts is None else attempts
        for attempt in range(1, most + 1):
            self.work += 1 + len(portrait(arguments)) // 200
            if self.work > MOST_WORK:
                raise TooMuch
            ledger.calls[key] += 1
            try:
                function.complain(key, attempt, arguments)
            except Boom as error:
                if attempt == most:
                    return ("Boom", *error.args)
            else:
                break
        if function.continues(arguments):
            template = function.template
            assert template is not None
            self.depth += 1
            if self.depth > MOST_NESTED:
                raise TooMuch
            outcome = GraphRun(self, ledger, key, function.givens(key, arguments), template.result).run()
            self.depth -= 1
            return outcome
        return Value(function.value(key, arguments))


class GraphRun:
    """One graph of a run: the workflow's own, or one that a call returned."""

    def __init__(
        self,
        interpreter: Interpreter,
        ledger: Ledger,
        owner: int | None,
        givens: tuple[Any, ...],
        target: Expr,
    ) -> None:
        self.interpreter = interpreter
        self.workflow = interpreter.workflow
        self.ledger = ledger
        self.owner = owner
        self.givens = givens
        self.target = target
        self.reached = list(self._reach())
        self.before = self._orders()
        self.same = self._merged()
        self.known: dict[Address, Outcome] = {}

    def run(self) -> Outcome:
        outcome = self.gathered(self.owner, self.target)
        for address in self.reached:
            if self.same.get(address, address) == address and address not in self.known:
                self._prune(address)
        return outcome

    def node(self, address: Address) -> Node:
        owner, place = address
        if owner is None:
            return self.workflow.nodes[place]
        template = self.workflow.functions[owner].template
        assert isinstance(template, Template)
        return template.nodes[place]

    def address(self, owner: int | None, link: Link) -> Address:
        return (None, link.node) if isinstance(link, Outer) else (owner, link.node)

    def name(self, address: Address) -> str:
        return node_name(*address, self.node(address), self.workflow.functions)

    def _reach(self) -> Iterator[Address]:
        """Every node of the graph, those on routes that may never be chosen included."""
        seen: set[Address] = set()
        stack = [self.address(self.owner, link) for link in links(self.target)]
        while stack:
            address = stack.pop()
            if address not in seen:
                seen.add(address)
                yield address
                stack += [self.address(address[0], link) for link in node_links(self.node(address))]

    def _orders(self) -> dict[Address, list[Address]]:
        """What sequences put before each node (S13); a sequence within one hands it to its first member."""
        before: dict[Address, list[Address]] = {}
        for address in self.reached:
            node = self.node(address)
            if isinstance(node, Sequence):
                members = [self.address(address[0], link) for link in node.members]
                for earlier, later in itertools.pairwise(members):
                    while isinstance(first := self.node(later), Sequence):
                        later = self.address(later[0], first.members[0])
                    before.setdefault(later, []).append(earlier)
        return before

    def _merged(self) -> dict[Address, Address]:
        """For each call of a pure function the call that stands for all with equal inputs (S2)."""
        same: dict[Address, Address] = {}
        first: dict[Any, Address] = {}

        def likeness(owner: int | None, expression: Expr) -> Any:
            if isinstance(expression, Lit):
                return "literal", portrait(expression.value)
            if isinstance(expression, Given):
                return "literal", portrait(self.givens[expression.place])
            if isinstance(expression, Container):
                return expression.kind, *(likeness(owner, item) for item in expression.items)
            return "node", representative(self.address(owner, expression))

        def representative(address: Address) -> Address:
            if address not in same:
                node = self.node(address)
                same[address] = address
                if isinstance(node, Call) and self.workflow.functions[node.function].pure and node.policy == Policy():
                    inputs = tuple((name, likeness(address[0], value)) for name, value in node.args)
                    same[address] = first.setdefault((node.function, inputs), address)
            return same[address]

        for address in self.reached:
            representative(address)
        return same

    def _prune(self, address: Address) -> None:
        """Nothing that was decided wants this node (S11)."""
        node = self.node(address)
        if isinstance(node, (Call, Map)):
            self.ledger.ends[self.name(address), "Pruned"] += 1
        elif isinstance(node, Pipeline):
            for place in range(len(node.steps)):
                self.ledger.ends[f"{self.name(address)}.{place}", "Pruned"] += 1

    def outcome(self, address: Address) -> Outcome:
        """What becomes of a node that is wanted; each is computed once (S2)."""
        address = self.same[address]
        if address not in self.known:
            self.known[address] = self._compute(address)
        return self.known[address]

    def _compute(self, address: Address) -> Outcome:
        node = self.node(address)
        owner = address[0]
        if isinstance(node, Input):
            return Value(node.value)
        if isinstance(node, Call):
            return self._call(address, self.name(address), node.function, node.args, node.policy, None)
        if isinstance(node, Map):
            return self._map(address, node)
        if isinstance(node, Route):
            return self._route(owner, node)
        if isinstance(node, Sequence):
            return self._sequence(owner, node)
        if isinstance(node, Pipeline):
            return self._pipeline(address, node)
        return self._derived(address, node)

    def _needs(self, owner: int | None, expressions: Iterable[Expr]) -> list[Outcome]:
        return [self.outcome(self.address(owner, link)) for expression in expressions for link in links(expression)]

    def _why_not(self, address: Address, policy: Policy, data: list[Outcome]) -> str | None:
        """Why a node that is wanted must not run, or `None`; what it names is computed all the same."""
        owner = address[0]
        condition = None if policy.run_if is None else self.outcome(self.address(owner, policy.run_if))
        earlier = [self.outcome(self.address(owner, link)) for link in policy.after]
        earlier += [self.outcome(before) for before in self.before.get(address, ())]
        data = data + ([] if policy.amount is None else self._needs(owner, [policy.amount]))
        if isinstance(condition, Failed) and not condition.skipped:
            return "ConditionMissing"
        if isinstance(condition, (Skipped, Failed)):
            return "UpstreamSkipped_Condition"
        if isinstance(condition, Value) and not condition.value:
            return "ConditionFalse"
        if any(isinstance(need, Failed) for need in earlier + data):
            return "UpstreamFailed"
        if any(isinstance(need, Skipped) for need in earlier):
            return "UpstreamSkipped_Sequence"
        return _skip_of(data)

    def _call(
        self,
        address: Address,
        name: str,
        key: int,
        args: tuple[tuple[str, Expr], ...],
        policy: Policy,
        fed: Outcome | None,
    ) -> Outcome:
        """A call, or a step of a pipeline that is `fed` the value before it."""
        owner = address[0]
        data = [] if fed is None else [fed]
        data += self._needs(owner, [expression for _, expression in args])
        reason = self._why_not(address, policy, data)
        if reason is not None:
            self.ledger.ends[name, reason] += 1
            return Failed(skipped=True) if reason == "UpstreamFailed" else Skipped(reason)
        named = {parameter: self.filled(owner, expression) for parameter, expression in args}
        if isinstance(fed, Value):
            named["a"] = fed.value
        if self._beyond_capacity(owner, policy):
            return self._failure(name, ("CapacityError",))
        arguments = tuple(named.get(parameter) for parameter in PARAMETERS)
        result = self.interpreter.perform(self.ledger, key, arguments, policy.attempts)
        if isinstance(result, tuple):
            return self._failure(name, result)
        self.ledger.ends[name, "Succeeded"] += 1
        return replace(result, routed=False) if isinstance(result, Skipped) else result

    def _failure(self, name: str | None, *alternatives: Error) -> Outcome:
        if name is not None:
            self.ledger.ends[name, "Failed"] += 1
        self.ledger.failures.append(alternatives)
        return Failed()

    def _beyond_capacity(self, owner: int | None, policy: Policy) -> bool:
        return policy.amount is not None and self.filled(owner, policy.amount) > self.workflow.capacity

    def _map(self, address: Address, node: Map) -> Outcome:
        owner, name = address[0], self.name(address)
        reason = self._why_not(
            address, node.policy, self._needs(owner, [value for _, value in node.fixed + node.inputs])
        )
        if reason is not None:
            self.ledger.ends[name, reason] += 1
            return Failed(skipped=True) if reason == "UpstreamFailed" else Skipped(reason)
        columns = {parameter: list(self.filled(owner, value)) for parameter, value in node.inputs}
        if len(set(map(len, columns.values()))) > 1:
            return self._failure(name, ("MapInputError",))
        fixed = {parameter: self.filled(owner, value) for parameter, value in node.fixed}
        rows = list(zip(*columns.values(), strict=True))
        if rows and self._beyond_capacity(owner, node.policy):
            return self._failure(name, *[("CapacityError",)] * len(rows))
        results: list[Any] = []
        ledgers: list[Ledger] = []
        errors: list[Error] = []
        for row in rows:
            named = {**fixed, **dict(zip(columns, row, strict=True))}
            arguments = tuple(named.get(parameter) for parameter in PARAMETERS)
            ledgers.append(Ledger())
            result = self.interpreter.perform(ledgers[-1], node.function, arguments, node.policy.attempts)
            if isinstance(result, Value):
                results.append(result.value)
            elif isinstance(result, Skipped):
                errors.append(("DependencyMissingError",))
            elif isinstance(result, Failed):
                errors += [error for slot in ledgers[-1].failures for error in slot]
                self.ledger.vague |= len(ledgers[-1].failures) > 1
            else:
                errors.append(result)
        failed = len(results) < len(ledgers)
        for ledger in ledgers:
            # An item whose graph failed somewhere without failing itself tells that failure on its own.
            self.ledger.vague |= failed and bool(ledger.failures)
            self.ledger.absorb(ledger, spare=failed)
        if failed:
            return self._failure(name, *errors)
        self.ledger.ends[name, "Succeeded"] += 1
        return Value(results)

    def _route(self, owner: int | None, node: Route) -> Outcome:
        """S10: the selector decides which route is wanted at all."""
        selector = self.outcome(self.address(owner, node.selector))
        if isinstance(selector, Failed):
            return Failed(skipped=True)
        if isinstance(selector, Skipped):
            return Skipped("UpstreamSkipped_Data")
        chosen = [route for key, route in node.routes if portrait(key) == portrait(selector.value)]
        if not chosen:
            return self._failure(None, ("UnknownRouteError",))
        value = self.gathered(owner, chosen[0])
        if isinstance(value, Failed):
            return Failed(skipped=True)
        return Skipped("UpstreamSkipped_Route", routed=True) if isinstance(value, Skipped) else value

    def _sequence(self, owner: int | None, node: Sequence) -> Outcome:
        """S13: a skipped member makes the whole `None`."""
        members = [self.outcome(self.address(owner, link)) for link in node.members]
        if any(isinstance(member, Failed) for member in members):
            return Failed(skipped=True)
        if any(isinstance(member, Skipped) for member in members):
            return Value(None)
        return members[-1]

    def _pipeline(self, address: Address, node: Pipeline) -> Outcome:
        """S13: only what its condition skipped lets the value before it through; S12 where there is none."""
        current = self.gathered(address[0], node.value)
        for place, step in enumerate(node.steps):
            name = f"{self.name(address)}.{place}"
            result = self._call((address[0], -1), name, step.function, step.args, step.policy, current)
            if isinstance(result, Skipped):
                if result.reason not in ("ConditionFalse", "UpstreamSkipped_Condition"):
                    current = Skipped("UpstreamSkipped_Data")
                elif isinstance(current, Skipped):
                    current = Skipped("UpstreamSkipped_Route" if current.routed else "UpstreamSkipped_Data")
                elif isinstance(current, Failed):
                    current = Failed(skipped=True)
            else:
                current = Failed(skipped=True) if isinstance(result, Failed) else result
        return current

    def _derived(self, address: Address, node: Item | Part) -> Outcome:
        policy = node.policy if isinstance(node, Item) else Policy()
        base = self.outcome(self.address(address[0], node.base))
        reason = self._why_not(address, policy, [base])
        if reason is not None:
            return Failed(skipped=True) if reason == "UpstreamFailed" else Skipped(reason)
        assert isinstance(base, Value)
        try:
            if isinstance(node, Item):
                return Value(base.value[node.key])
            items = tuple(base.value)
            if len(items) != node.count:
                raise ValueError
            return Value(items[node.place])
        except (LookupError, ValueError) as error:
            self._failure(None, (type(error).__name__,))
            # Taking a value apart is a node of its own, which all its parts stand on.
            return Failed(skipped=isinstance(node, Part))

    def gathered(self, owner: int | None, expression: Expr) -> Outcome:
        """An expression where one value is wanted: as target, as route, at the head of a pipeline."""
        if isinstance(expression, (Ref, Outer)):
            return self.outcome(self.address(owner, expression))
        members = self._needs(owner, [expression])
        if any(isinstance(member, Failed) for member in members):
            return Failed(skipped=True)
        reason = _skip_of(members)
        if reason is not None:
            skipped = [member for member in members if isinstance(member, Skipped)]
            return Skipped(reason, members=frozenset().union(*({end.reason} | end.members for end in skipped)))
        return Value(self.filled(owner, expression))

    def filled(self, owner: int | None, expression: Expr) -> Any:
        """The value of an expression all of whose nodes have values."""
        if isinstance(expression, Lit):
            return expression.value
        if isinstance(expression, Given):
            return self.givens[expression.place]
        if isinstance(expression, Container):
            return expression.build([self.filled(owner, item) for item in expression.items])
        outcome = self.outcome(self.address(owner, expression))
        assert isinstance(outcome, Value)
        return outcome.value


def _skip_of(data: list[Outcome]) -> str | None:
    """S10, S12: how skipped data skips what needs it."""
    if any(isinstance(need, Skipped) and need.routed for need in data):
        return "UpstreamSkipped_Route"
    if any(isinstance(need, Skipped) for need in data):
        return "UpstreamSkipped_Data"
    return None
