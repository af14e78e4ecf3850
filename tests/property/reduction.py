"""Making a failing workflow small: simpler descriptions are tried as long as they fail too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from time import monotonic
from typing import Any

from tests.property.description import (
    Call,
    Container,
    Fails,
    Function,
    Given,
    Input,
    Lit,
    Map,
    Outer,
    Pipeline,
    Policy,
    Ref,
    Sequence,
    Step,
    Template,
    Workflow,
    links,
    node_links,
)


def reduced(workflow: Workflow, fails: Callable[[Workflow], bool], seconds: float = 60.0) -> Workflow:
    """The smallest workflow that is found which still fails.

    Args:
        workflow: one that fails.
        fails: tells whether another one does; may raise for one that makes no sense, which then does not.
        seconds: how long to try.
    """
    ends = monotonic() + seconds

    def still_fails(candidate: Workflow) -> bool:
        try:
            return fails(candidate)
        except Exception:
            return False

    progress = True
    while progress:
        progress = False
        for candidate in _simpler(workflow):
            if monotonic() > ends:
                return workflow
            if still_fails(candidate):
                workflow = candidate
                progress = True
                break
    return workflow


def _simpler(workflow: Workflow) -> Iterator[Workflow]:
    slim = _without_unused(workflow)
    if slim != workflow:
        yield slim
    for link in links(workflow.target):
        if link != workflow.target:
            yield replace(workflow, target=link)
    for target in _simpler_values(workflow.target):
        yield replace(workflow, target=target)
    for place in range(len(workflow.nodes) - 1, -1, -1):
        for node in _simpler_nodes(workflow.nodes[place]):
            yield replace(workflow, nodes=_put(workflow.nodes, place, node))
        for link in node_links(workflow.nodes[place]):
            yield _redirected(workflow, place, link.node)
    for key, function in enumerate(workflow.functions):
        for simpler in _simpler_functions(function):
            yield replace(workflow, functions=_put(workflow.functions, key, simpler))


def _put(items: tuple[Any, ...], place: int, item: Any) -> tuple[Any, ...]:
    return (*items[:place], item, *items[place + 1 :])


def _simpler_nodes(node: Any) -> Iterator[Any]:
    """Simpler nodes or steps instead of one."""
    if isinstance(node, (Call, Map)) and node != Call(node.function):
        yield Call(node.function)
    if not isinstance(node, Input):
        yield Input("yes", value=True)
        yield Input("no", value=False)
    for policy in _simpler_policies(getattr(node, "policy", Policy())):
        yield replace(node, policy=policy)
    for name in ("args", "inputs", "fixed", "routes"):
        pairs = getattr(node, name, ())
        for place, (key, expression) in enumerate(pairs):
            if name != "routes" or len(pairs) > 1:
                yield _positionless(replace(node, **{name: pairs[:place] + pairs[place + 1 :]}))
            for simpler in _simpler_values(expression):
                yield replace(node, **{name: _put(pairs, place, (key, simpler))})
    if isinstance(node, Sequence) and len(node.members) > 1:
        for place in range(len(node.members)):
            yield Sequence(node.members[:place] + node.members[place + 1 :])
    if isinstance(node, Pipeline):
        yield from _simpler_pipelines(node)


def _simpler_policies(policy: Policy) -> Iterator[Policy]:
    for field in fields(policy):
        if getattr(policy, field.name) != field.default:
            yield replace(policy, **{field.name: field.default})
    if len(policy.after) > 1:
        yield replace(policy, after=policy.after[:1])
        yield replace(policy, after=policy.after[1:])


def _simpler_pipelines(node: Pipeline) -> Iterator[Pipeline]:
    for simpler in _simpler_values(node.value):
        yield replace(node, value=simpler)
    for place, step in enumerate(node.steps):
        if len(node.steps) > 1:
            yield replace(node, steps=node.steps[:place] + node.steps[place + 1 :])
        if step.style != "task" and not step.args:
            yield replace(node, steps=_put(node.steps, place, replace(step, style="task")))
        for simpler_step in _simpler_nodes(step):
            if isinstance(simpler_step, Step):
                yield replace(node, steps=_put(node.steps, place, simpler_step))


def _positionless(node: Any) -> Any:
    return replace(node, positional=0) if isinstance(node, Call) else node


def _simpler_values(expression: Any) -> Iterator[Any]:
    if isinstance(expression, Container):
        yield from expression.items
        for place, item in enumerate(expression.items):
            if expression.kind not in ("box", "point"):
                yield replace(expression, items=expression.items[:place] + expression.items[place + 1 :])
            for simpler in _simpler_values(item):
                yield replace(expression, items=_put(expression.items, place, simpler))
        if expression.kind != "list":
            yield replace(expression, kind="list")
    elif isinstance(expression, (Ref, Outer, Given)):
        yield Lit(0)
    elif isinstance(expression, Lit) and expression != Lit(0):
        yield Lit(0)
        if type(expression.value) is int and expression.value > 1:
            yield Lit(1)


def _simpler_functions(function: Function) -> Iterator[Function]:
    if function.mode != "inline":
        yield replace(function, mode="inline")
        if function.mode != "thread":
            yield replace(function, mode="thread")
        if function.mode == "yielding":
            yield replace(function, mode="async")
    if function.fails is not None:
        yield replace(function, fails=None)
        if function.fails != Fails():
            yield replace(function, fails=Fails())
        if function.fails.one_in > 1:
            yield replace(function, fails=replace(function.fails, one_in=1))
    if function.pure:
        yield replace(function, pure=False)
    if function.gives != "number" and function.template is None:
        yield replace(function, gives="number")
    template = function.template
    if template is None:
        return
    yield replace(function, template=None)
    for result in _simpler_values(template.result):
        yield replace(function, template=replace(template, result=result))
    for place in range(len(template.nodes) - 1, -1, -1):
        for node in _simpler_nodes(template.nodes[place]):
            if not isinstance(node, Input):
                yield replace(function, template=replace(template, nodes=_put(template.nodes, place, node)))
        used = {link.node for node in template.nodes for link in node_links(node) if isinstance(link, Ref)}
        used |= {link.node for link in links(template.result) if isinstance(link, Ref)}
        if place not in used:
            moved = _moved(template, {old: old - (old > place) for old in range(len(template.nodes))})
            yield replace(function, template=replace(moved, nodes=moved.nodes[:place] + moved.nodes[place + 1 :]))


def _redirected(workflow: Workflow, place: int, instead: int) -> Workflow:
    """The workflow with what names one node naming another."""
    return _renumbered(workflow, {old: old for old in range(len(workflow.nodes))} | {place: instead})


def _without_unused(workflow: Workflow) -> Workflow:
    """The workflow without the nodes and functions that the target cannot reach."""
    nodes: set[int] = set()
    functions: set[int] = set()
    stack: list[Any] = [workflow.target]

    def visit(thing: Any, owner: Template | None) -> None:
        for part in _parts(thing):
            if isinstance(part, Outer) or (isinstance(part, Ref) and owner is None):
                if part.node not in nodes:
                    nodes.add(part.node)
                    stack.append(workflow.nodes[part.node])
            elif hasattr(part, "function") and part.function not in functions:
                functions.add(part.function)
                template = workflow.functions[part.function].template
                if template is not None:
                    visit(template, template)

    while stack:
        visit(stack.pop(), None)
    kept = sorted(nodes)
    keys = sorted(functions)
    workflow = _renumbered(workflow, {old: new for new, old in enumerate(kept)})
    new_key = {old: new for new, old in enumerate(keys)}
    workflow = replace(
        workflow,
        nodes=tuple(workflow.nodes[place] for place in kept),
        functions=tuple(workflow.functions[key] for key in keys),
    )
    return _mapped(
        workflow,
        lambda part: (
            replace(part, function=new_key[part.function])
            if hasattr(part, "function") and part.function in new_key
            else part
        ),
    )


def _renumbered(workflow: Workflow, places: dict[int, int]) -> Workflow:
    def outer(part: Any) -> Any:
        return Outer(places[part.node]) if isinstance(part, Outer) and part.node in places else part

    def top(part: Any) -> Any:
        return Ref(places[part.node]) if isinstance(part, Ref) and part.node in places else part

    return replace(
        workflow,
        functions=_mapped(workflow.functions, outer),
        nodes=_mapped(workflow.nodes, top),
        target=_mapped(workflow.target, top),
    )


def _moved(template: Template, places: dict[int, int]) -> Template:
    moved: Template = _mapped(
        template, lambda part: Ref(places.get(part.node, part.node)) if isinstance(part, Ref) else part
    )
    return moved


def _parts(thing: Any) -> Iterator[Any]:
    """A description and all descriptions inside it."""
    if isinstance(thing, tuple):
        for item in thing:
            yield from _parts(item)
    elif is_dataclass(thing) and not isinstance(thing, Lit):
        yield thing
        for field in fields(thing):
            yield from _parts(getattr(thing, field.name))


def _mapped(thing: Any, change: Callable[[Any], Any]) -> Any:
    """A description with a function applied to every description inside it."""
    if isinstance(thing, tuple):
        return tuple(_mapped(item, change) for item in thing)
    if is_dataclass(thing) and not isinstance(thing, (Lit, Input)):
        changes = {field.name: _mapped(getattr(thing, field.name), change) for field in fields(thing)}
        return change(replace(thing, **changes))
    return thing
