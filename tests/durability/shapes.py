"""A dozen shapes of workflows: what each is, and what it gives when nothing goes wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cascade as cs
from tests.durability.described import Program, perform
from tests.durability.ledger import Ledger
from tests.property.description import (
    Call,
    Container,
    Fails,
    Function,
    Given,
    Item,
    Lit,
    Map,
    Node,
    Outer,
    Pipeline,
    Policy,
    Ref,
    Route,
    Sequence,
    Step,
    Template,
    Workflow,
)
from tests.property.prediction import Value
from tests.property.reference import predict
from tests.property.values import number_of


@dataclass(frozen=True)
class Shape:
    """A workflow that notes its effects.

    Attributes:
        name: what it is like.
        build: gives the target, for tasks that write into a ledger.
        expected: the value.
        calls: how often each function is called with success when nothing goes wrong.
        signals: what is sent to the run before it begins, by name, as JSON.
        heals: whether it fails at first, and would succeed when it is resumed.
    """

    name: str
    build: Callable[[Ledger], Any]
    expected: Any
    calls: Counter[str]
    signals: tuple[tuple[str, str], ...] = ()
    heals: bool = False


def described(name: str, functions: tuple[Function, ...], nodes: tuple[Node, ...], target: Any) -> Shape:
    """A shape whose value and calls the reference interpreter tells."""
    workflow = Workflow(functions, nodes, target)
    # What it comes to does not depend on how often something failed before it succeeded.
    sound = replace(workflow, functions=tuple(replace(function, fails=None) for function in functions))
    prediction = predict(sound)
    assert isinstance(prediction.outcome, Value), name
    retried = all(
        function.fails is None
        or any(isinstance(node, Call) and node.function == key and node.policy.attempts for node in nodes)
        for key, function in enumerate(functions)
    )
    return Shape(
        name,
        lambda ledger: perform(Program(workflow, ledger)).target,
        prediction.outcome.value,
        Counter({str(key): count for key, count in prediction.ledger.calls.items()}),
        heals=not retried,
    )


THREAD, ASYNC, INLINE, YIELDING = (Function(mode=mode) for mode in ("thread", "async", "inline", "yielding"))
ITEMS = Function("list5")


def chain() -> Shape:
    kinds = (THREAD, ASYNC, THREAD, INLINE, YIELDING, THREAD)
    nodes = tuple(Call(key, (("a", Ref(key - 1) if key else Lit(1)),)) for key in range(len(kinds)))
    return described("chain", kinds, nodes, Ref(len(kinds) - 1))


def fan_out() -> Shape:
    kinds = (THREAD, THREAD, ASYNC, THREAD)
    branches = tuple(Call(1 + number % 2, (("a", Ref(0)), ("b", Lit(number)))) for number in range(6))
    gathered = Container("list", tuple(map(Ref, range(1, 7))))
    return described("fan-out", kinds, (Call(0, (("a", Lit(2)),)), *branches, Call(3, (("a", gathered),))), Ref(7))


def mapped() -> Shape:
    nodes = (
        Call(0, (("a", Lit(3)),)),
        Map(1, (("a", Ref(0)),), (("b", Lit("fixed")),)),
        Map(2, (("a", Ref(1)),)),
        Call(3, (("a", Ref(2)),)),
    )
    return described("map", (ITEMS, THREAD, ASYNC, THREAD), nodes, Container("dict", (Ref(1), Ref(3))))


def router() -> Shape:
    nodes = (
        Call(0, (("a", Lit(4)),)),
        Call(1, (("a", Lit(1)),)),
        Call(1, (("a", Lit(2)),)),
        Call(1, (("a", Lit(3)),)),
        Route(Ref(0), (("a", Ref(1)), ("b", Ref(2)), ("c", Ref(3)))),
        Call(2, (("a", Ref(4)),)),
    )
    return described("router", (Function("key"), ASYNC, THREAD), nodes, Ref(5))


def condition() -> Shape:
    # Given 3 the first function says yes, given 1 no.
    nodes = (
        Call(0, (("a", Lit(3)),)),
        Call(0, (("a", Lit(1)),)),
        Pipeline(Lit(5), (Step(1, policy=Policy(run_if=Ref(0))), Step(1, policy=Policy(run_if=Ref(1))))),
        Pipeline(Ref(2), (Step(2, policy=Policy(run_if=Ref(1))), Step(2), Step(2, policy=Policy(run_if=Ref(0))))),
    )
    return described("condition", (Function("flag"), THREAD, ASYNC), nodes, Ref(3))


def sequence() -> Shape:
    nodes = (
        Call(0, (("a", Lit(1)),)),
        Call(1, (("a", Lit(2)),)),
        Call(0, (("a", Lit(3)),)),
        Sequence((Ref(0), Ref(1), Ref(2))),
        Call(3, (("a", Lit(4)),)),
        Call(2, (("a", Lit(5)),), Policy(run_if=Ref(4))),
        Call(0, (("a", Lit(6)),)),
        # Its first member is skipped, and so it is `None`.
        Sequence((Ref(5), Ref(6))),
    )
    kinds = (THREAD, ASYNC, INLINE, Function("none"))
    return described("sequence", kinds, nodes, Container("tuple", (Ref(3), Ref(7))))


def loop() -> Shape:
    again = Template((Call(1, (("a", Given(1)),)), Call(0, (("a", Given(0)), ("b", Ref(0))))), Ref(1))
    return described("loop", (Function(template=again), THREAD), (Call(0, (("a", Lit(5)), ("b", Lit(0)))),), Ref(0))


def async_loop() -> Shape:
    """A loop within a graph, whose turns have maps of their own."""
    turn = Template(
        (Call(1, (("a", Given(1)),)), Map(2, (("a", Ref(0)),)), Call(0, (("a", Given(0)), ("b", Ref(1))))), Ref(2)
    )
    kinds = (Function(mode="async", template=turn), Function("list2"), THREAD, THREAD)
    nodes = (Call(0, (("a", Lit(3)),)), Call(3, (("a", Ref(0)),)))
    return described("loop of maps", kinds, nodes, Ref(1))


def retry() -> Shape:
    flaky = Function(fails=Fails(2))
    nodes = (
        Call(0, (("a", Lit(1)),)),
        Call(1, (("a", Ref(0)),), Policy(attempts=3)),
        Call(2, (("a", Ref(0)),), Policy(attempts=4)),
        Call(0, (("a", Container("list", (Ref(1), Ref(2)))),)),
    )
    return described("retry", (THREAD, flaky, replace(flaky, mode="async")), nodes, Ref(3))


def nested() -> Shape:
    """Calls that return containers of calls that return calls, with a value of the outer graph within."""
    inner = Template((Call(2, (("a", Given(1)),)), Call(2, (("a", Ref(0)), ("b", Outer(0))))), Ref(1))
    outer = Template(
        (Call(0, (("a", Lit(1)), ("b", Given(1)))), Call(0, (("a", Lit(1)), ("b", Given(0))))),
        Container("list", (Ref(0), Ref(1))),
    )
    kinds = (Function(template=inner), Function(mode="async", template=outer), THREAD)
    nodes = (
        Call(2, (("a", Lit(1)),)),
        Call(1, (("a", Lit(1)),)),
        Map(0, (("a", Container("list", (Lit(1), Lit(0), Lit(1)))),)),
        Call(2, (("a", Ref(1)), ("b", Ref(2)))),
    )
    return described("nested tail calls", kinds, nodes, Ref(3))


def failure() -> Shape:
    """One call fails at its first attempt, which ends the run; the next attempt is the resumed run's."""
    nodes = (
        Call(0, (("a", Lit(1)),)),
        Call(1, (("a", Ref(0)),)),
        Call(0, (("a", Ref(1)),)),
        Call(2, (("a", Ref(0)),)),
        Item(Ref(3), "k"),
    )
    kinds = (THREAD, Function(fails=Fails(1)), Function("record"))
    return described("failure", kinds, nodes, Container("list", (Ref(2), Ref(4))))


class _Now:
    ledger: Ledger


def _count(name: str, *arguments: Any) -> int:
    number = number_of((name, arguments))
    _Now.ledger.note(name, number)
    return number


@cs.task
def write_page(number: int) -> bytes:
    return _count("write_page", number).to_bytes(4, "big") * 100_000


@cs.task
async def write_text(page: bytes) -> str:
    return f"{_count('write_text', page[:4])} " * 50_000


@cs.task
def measure(page: bytes, text: str) -> tuple[int, str, int]:
    return len(page), text[:8], _count("measure", page[:4], text[:8])


@cs.task
def ask(question: str) -> int:
    return _count("ask", question)


@cs.task
def decide(asked: int, answer: str, other: int) -> tuple[int, str, int]:
    return _count("decide", asked, answer, other), answer, other


def _large() -> Any:
    first, second = write_page(1), write_page(2)
    return measure(first, write_text(second))


def _with_signal() -> Any:
    asked = ask("may I?")
    return decide(asked, cs.wait_for_signal("answer", str).after(asked), cs.wait_for_signal("other", int))


def _written(build: Callable[[], Any], ledger: Ledger) -> Any:
    _Now.ledger = ledger
    return build()


def large() -> Shape:
    pages = [number_of(("write_page", (number,))).to_bytes(4, "big") for number in (1, 2)]
    text = f"{number_of(('write_text', (pages[1],)))} " * 50_000
    value = len(pages[0]) * 100_000, text[:8], number_of(("measure", (pages[0], text[:8])))
    calls = Counter({"write_page": 2, "write_text": 1, "measure": 1})
    return Shape("large results", partial(_written, _large), value, calls)


def signal() -> Shape:
    value = number_of(("decide", (number_of(("ask", ("may I?",))), "yes", 7))), "yes", 7
    sent = (("answer", '"yes"'), ("other", "7"), ("answer", '"no"'))
    return Shape("signal", partial(_written, _with_signal), value, Counter({"ask": 1, "decide": 1}), sent)


SHAPES = {
    shape.name: shape
    for shape in (
        *(chain(), fan_out(), mapped(), router(), condition(), sequence(), loop(), async_loop(), retry(), nested()),
        *(failure(), large(), signal()),
    )
}
