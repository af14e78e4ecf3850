"""Described workflows made with Cascade: real tasks, real lazy values, and a record of what the run did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cascade as cs
from cascade.runtime.events import Event, TaskExecutionFinished, TaskSkipped
from tests.property.description import (
    Call,
    Container,
    Expr,
    Given,
    Input,
    Item,
    Lit,
    Map,
    Node,
    Outer,
    Part,
    Pipeline,
    Policy,
    Route,
    Sequence,
    Step,
    Workflow,
    links,
    node_links,
    node_name,
)
from tests.property.values import Boom, portrait


class Built:
    """A workflow made with Cascade.

    Attributes:
        lazies: the workflow's nodes, in their order.
        target: what to run.
        params: what to run it with.
        calls: the functions that were called, in order; cleared by whoever runs it again.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.calls: list[int] = []
        self.functions = [self._function(key) for key in range(len(workflow.functions))]
        self.tasks: dict[tuple[int, str], Any] = {}
        self.lazies: list[Any] = []
        self.asked = _asked(workflow)
        for place, node in enumerate(workflow.nodes):
            self.lazies.append(self._node(None, place, node, self.lazies, ()))
        self.target = self._value(workflow.target, self.lazies, ())
        self.params = {node.name: node.value for node in self.asked}

    def _function(self, key: int) -> Callable[..., Any]:
        spec = self.workflow.functions[key]

        def call(*arguments: Any) -> Any:
            if spec.fails is not None:
                spec.complain(key, cs.attempt(), arguments)
            if spec.continues(arguments):
                return self._returned(key, spec.givens(key, arguments))
            return spec.value(key, arguments)

        def plain(a: Any = None, b: Any = None, c: Any = None) -> Any:
            self.calls.append(key)
            return call(a, b, c)

        async def coroutine(a: Any = None, b: Any = None, c: Any = None) -> Any:
            self.calls.append(key)
            if spec.mode == "yielding":
                await asyncio.sleep(0)
            return call(a, b, c)

        return plain if spec.mode in ("thread", "inline") else coroutine

    def _task(self, key: int, name: str) -> Any:
        """The task for one node: named by it, so that events tell nodes apart without a policy a call."""
        if (key, name) not in self.tasks:
            spec = self.workflow.functions[key]
            executor = "inline" if spec.mode == "inline" else None
            self.tasks[key, name] = cs.task(self.functions[key], name=name, pure=spec.pure, executor=executor)
        return self.tasks[key, name]

    def _returned(self, key: int, givens: tuple[Any, ...]) -> Any:
        template = self.workflow.functions[key].template
        assert template is not None
        nodes: list[Any] = []
        for place, node in enumerate(template.nodes):
            nodes.append(self._node(key, place, node, nodes, givens))
        return self._value(template.result, nodes, givens)

    def _value(self, expression: Expr, nodes: list[Any], givens: tuple[Any, ...]) -> Any:
        if isinstance(expression, Lit):
            return expression.value
        if isinstance(expression, Given):
            return givens[expression.place]
        if isinstance(expression, Container):
            return expression.build([self._value(item, nodes, givens) for item in expression.items])
        return (self.lazies if isinstance(expression, Outer) else nodes)[expression.node]

    def _node(self, owner: int | None, place: int, node: Node, nodes: list[Any], givens: tuple[Any, ...]) -> Any:
        def value(expression: Expr) -> Any:
            return self._value(expression, nodes, givens)

        def values(args: tuple[tuple[str, Expr], ...]) -> dict[str, Any]:
            return {name: value(expression) for name, expression in args}

        name = node_name(owner, place, node, self.workflow.functions)
        if isinstance(node, Call):
            task = self._task(node.function, name)
            args = [value(expression) for _, expression in node.args]
            kwargs = dict(zip([name for name, _ in node.args], args, strict=True))
            for parameter, _ in node.args[: node.positional]:
                del kwargs[parameter]
            # Policies may be asked for on the task or on what its call gives: each on every other node.
            if place % 2:
                return _with(task, node.policy, value)(*args[: node.positional], **kwargs)
            return _with(task(*args[: node.positional], **kwargs), node.policy, value)
        if isinstance(node, Map):
            task = self._task(node.function, "item")
            task = task.partial(**values(node.fixed)) if node.fixed else task
            inputs = values(node.inputs)
            # One input that is the first parameter can be given by place.
            first = (inputs.pop("a"),) if place % 3 == 0 and "a" in inputs else ()
            if place % 2:
                return _with(task, node.policy, value).map(*first, **inputs).named(name)
            return _with(task.map(*first, **inputs), node.policy, value).named(name)
        if isinstance(node, Route):
            return cs.Router(value(node.selector), {key: value(route) for key, route in node.routes})
        if isinstance(node, Sequence):
            return cs.sequence([value(member) for member in node.members])
        if isinstance(node, Pipeline):
            steps = [self._step(f"{name}.{k}", step, values(step.args), value) for k, step in enumerate(node.steps)]
            return cs.pipeline(value(node.value), steps)
        if isinstance(node, Item):
            return _with(value(node.base)[node.key], node.policy, value)
        if isinstance(node, Part):
            return value(node.base).unpack(node.count)[node.place]
        kind = None if node.value is None else type(node.value)
        if node in self.asked:
            return cs.Param(node.name, type=kind)
        return cs.Param(node.name, node.value, type=kind)

    def _step(self, name: str, step: Step, args: dict[str, Any], value: Callable[[Expr], Any]) -> Any:
        task = self._task(step.function, name)
        if step.style == "function":
            return lambda fed: _with(task(fed, **args), step.policy, value)
        return _with(task if step.style == "task" else task.partial(**args), step.policy, value)


def _asked(workflow: Workflow) -> list[Input]:
    """The parameters that the run must be given: those without a default that the target can reach."""
    stack = list(links(workflow.target))
    seen: set[int] = set()
    while stack:
        link = stack.pop()
        if link.node not in seen:
            seen.add(link.node)
            stack += node_links(workflow.nodes[link.node])
    nodes = [workflow.nodes[place] for place in sorted(seen)]
    return [node for node in nodes if isinstance(node, Input) and node.given]


def _with(fluent: Any, policy: Policy, value: Callable[[Expr], Any]) -> Any:
    """A task or lazy value with what the policy asks for."""
    if policy.run_if is not None:
        fluent = fluent.run_if(value(policy.run_if))
    if policy.after:
        fluent = fluent.after(*map(value, policy.after))
    if policy.attempts is not None:
        fluent = fluent.with_retry(max_attempts=policy.attempts)
    if policy.amount is not None:
        fluent = fluent.with_constraints(slots=value(policy.amount))
    return fluent


@dataclass
class Observation:
    """What a run did, in the words of the reference; `ends` is `None` where other runs told theirs too."""

    value: Any = None
    error: BaseException | None = None
    calls: Counter[int] = field(default_factory=Counter)
    ends: Counter[tuple[str, str]] | None = None
    ended_twice: list[str] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    hangs: bool = False


class Variant:
    """One way to make an engine, whose runs must all keep the same rules.

    Args:
        name: for messages.
        make: makes the engine from a bus and the number of slots that it has.
        listens: whether to subscribe to events; without, ends are not known.
        hangs_after: seconds that no workflow can take unless it hangs.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[cs.MessageBus, int], Any],
        *,
        listens: bool = True,
        hangs_after: float = 30.0,
    ) -> None:
        self.name = name
        self.make = make
        self.listens = listens
        self.hangs_after = hangs_after
        self.engines: dict[int, tuple[Any, _Listener | None]] = {}

    def engine(self, capacity: int) -> tuple[Any, _Listener | None]:
        if capacity not in self.engines:
            bus = cs.MessageBus()
            self.engines[capacity] = self.make(bus, capacity), _Listener(bus) if self.listens else None
        return self.engines[capacity]

    async def observe(self, built: Built) -> Observation:
        """Run a workflow alone."""
        engine, listener = self.engine(built.workflow.capacity)
        if listener is not None:
            listener.events.clear()
        seen = await self._run(engine, built)
        if listener is not None:
            listener.report(seen)
        return seen

    async def observe_together(self, several: list[Built]) -> list[Observation]:
        """Run workflows at once, on one engine where they ask for the same capacity."""
        engines = [self.engine(built.workflow.capacity)[0] for built in several]
        return await asyncio.gather(*map(self._run, engines, several))

    async def _run(self, engine: Any, built: Built) -> Observation:
        built.calls.clear()
        seen = Observation()
        try:
            async with asyncio.timeout(self.hangs_after) as limit:
                seen.value = await engine.run(built.target, built.params, on_failure=built.workflow.on_failure)
        except Exception as error:
            seen.error = error
            seen.hangs = limit.expired()
        made = len(built.calls)
        seen.calls = Counter(built.calls[:made])
        await asyncio.sleep(0)
        seen.late = built.calls[made:]
        return seen

    async def close(self) -> None:
        for engine, _ in self.engines.values():
            await engine.close()
        self.engines.clear()


class _Listener:
    def __init__(self, bus: cs.MessageBus) -> None:
        self.events: list[Event] = []
        bus.subscribe(TaskExecutionFinished, self.events.append)
        bus.subscribe(TaskSkipped, self.events.append)

    def report(self, seen: Observation) -> None:
        ended: Counter[str] = Counter()
        ends = seen.ends = Counter()
        for event in self.events:
            assert isinstance(event, (TaskExecutionFinished, TaskSkipped))
            ended[event.task_id] += 1
            if event.task_id.endswith("]"):
                # An item tells of itself under the name of its map.
                continue
            end = event.reason if isinstance(event, TaskSkipped) else event.status
            ends[event.task_name, end] += 1
        seen.ended_twice = [task_id for task_id, times in ended.items() if times > 1]


def error_of(error: BaseException) -> tuple[Any, ...]:
    """An exception as the reference names it."""
    return ("Boom", *error.args) if isinstance(error, Boom) else (type(error).__name__,)


def same(left: Any, right: Any) -> bool:
    return portrait(left) == portrait(right)
