"""Plans of workflows: built and checked as for a run, and nothing is run."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cascade as cs
from cascade.runtime.events import Event
from cascade.testing import FakeSolver, SpyExecutor, SpySolver, SpyStates, SpySubscriber, override_resource


@cs.task
def one():
    return 1


@cs.task
def add(x, y=1):
    return x + y


@cs.task
def positive(x):
    return x > 0


def _circle():
    first = one()
    return cs.sequence([add(first), first])


def ids(plan):
    return [[node.id for node in stage] for stage in plan.stages]


def test_the_plan_of_a_diamond() -> None:
    top = one()
    plan = cs.dry_run(add(add(top, 2), y=add(top, 3)))
    assert ids(plan) == [["one#0"], ["add#1", "add#2"], ["add#3"]]
    assert [node.id for node in plan.nodes] == ["one#0", "add#1", "add#2", "add#3"]
    assert plan.target.id == "add#3"
    assert plan.inputs == {}
    assert isinstance(plan.stages, tuple)
    assert all(isinstance(stage, tuple) for stage in plan.stages)


def test_nothing_at_all_is_run() -> None:
    touched = []

    @cs.resource
    def lamp():
        touched.append("resource")
        yield 1

    @cs.task
    def use(x, lamp=cs.inject(lamp)):
        touched.append("task")

    @cs.task
    async def use_async(x):
        touched.append("coroutine")

    @cs.task(executor="process")
    def use_process(x):
        touched.append("process")

    def items():
        touched.append("items")
        yield 1

    class Cache:
        backend = None
        ttl = None

        def key(self, function, arguments):
            touched.append("key")
            return ""

    target = cs.sequence(
        [
            use(1).with_cache(Cache()).with_constraints(gpu=1),
            use_async.map(x=items()),
            cs.Router(use(2), {None: use_process(3)}),
            use(4).run_if(use(5)),
        ]
    )
    bus = cs.MessageBus()
    spy, states, executor = SpySubscriber(bus), SpyStates(), SpyExecutor()
    engine = cs.create_engine(executor=executor, bus=bus, state_backend=states, system_resources={"gpu": 1})
    threads = set(threading.enumerate())
    plan = cs.dry_run(target, engine=engine)
    str(plan)
    cs.dry_run(target, system_resources={"gpu": 1})
    assert touched == []
    assert set(threading.enumerate()) <= threads
    assert spy.events_of_type(Event) == []
    assert states.by_run == {}
    assert executor.calls == []
    # And the target is as good as new.
    with pytest.raises(AttributeError):
        asyncio.run(engine.run(target))


def test_it_works_in_async_code_and_inside_tasks() -> None:
    @cs.task
    def plan_inside():
        return len(cs.dry_run(add(one())).nodes)

    async def main():
        return len(cs.dry_run(add(one())).nodes)

    assert asyncio.run(main()) == 2
    assert cs.run(plan_inside(), log_level="CRITICAL") == 2


def test_parameters_are_resolved_as_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # S19
    monkeypatch.setenv("TOKEN", "very secret")
    target = [cs.Param("times", type=int), cs.Param("word", default="a"), cs.Env("TOKEN")]
    plan = cs.dry_run(target, {"times": "3"})
    assert plan.inputs == {"times": 3, "word": "a", "$TOKEN": "very secret"}
    assert "times = 3" in str(plan)
    assert "$TOKEN is given" in str(plan)
    assert "secret" not in str(plan)


@pytest.mark.parametrize(
    ("target", "params"),
    [
        (lambda: add(cs.Param("x", type=int)), {}),
        (lambda: add(cs.Param("x", type=int)), {"x": "three"}),
        (lambda: add(cs.Param("count", type=int)), {"coutn": 1}),
        (lambda: add(one(), y=cs.inject("nowhere")), {}),
        (lambda: one().with_constraints(gpu=9), {}),
        (_circle, {}),
        (cs.task(one.function, executor="cluster"), {}),
        (lambda: [add(cs.Param("x", type=int)), one().with_constraints(gpu=9), add(cs.inject("nowhere"))], {}),
    ],
)
def test_what_a_run_would_refuse_is_refused_with_the_same_words(target, params) -> None:
    value = target()
    with pytest.raises(cs.ValidationError) as planned:
        cs.dry_run(value, params, system_resources={"gpu": 2})
    with pytest.raises(cs.ValidationError) as run:
        cs.run(value, params, system_resources={"gpu": 2}, log_level="CRITICAL")
    assert type(planned.value) is type(run.value)
    assert str(planned.value) == str(run.value)


def test_resources_are_found_where_a_run_finds_them() -> None:
    @cs.resource
    def db():
        yield 1

    target = add(1, cs.inject("db"))
    with pytest.raises(cs.UnknownResourceError):
        cs.dry_run(target)
    engine = cs.create_engine(resources=[db])
    assert len(cs.dry_run(target, resources=[db]).nodes) == 1
    assert len(cs.dry_run(target, engine=engine).nodes) == 1
    with override_resource("db", 1):
        assert len(cs.dry_run(target).nodes) == 1


def test_the_solver_of_the_engine_plans() -> None:
    spy = SpySolver(FakeSolver())
    plan = cs.dry_run([one(), add(1)], engine=cs.create_engine(solver=spy))
    assert ids(plan) == [["add#1", "one#0"], ["container#2"]]
    assert spy.graphs == [plan.graph]


def test_an_engine_and_capacities_do_not_go_together() -> None:
    with pytest.raises(cs.DeclarationError, match="create_engine"):
        cs.dry_run(one(), engine=cs.create_engine(), system_resources={"gpu": 1})


def test_the_text_tells_conditions_routes_order_and_policies() -> None:
    plot = add(1).run_if(positive(cs.Param("width", default=3)))
    log = one().after(plot)
    cheap = add(7).with_retry(max_attempts=4).with_constraints(gpu=1, memory=cs.Param("memory", default=2))
    target = cs.Router(one(), {1: log, "cheap": cheap, None: 5})
    assert str(cs.dry_run(target)).split("\n") == [
        "9 nodes in 5 stages; nothing was run",
        "inputs",
        "  width = 3",
        "  memory = 2",
        "stage 1",
        "  width#0  input",
        "  memory#4  input",
        "  one#6",
        "  constant#7  constant; 5; only for route None of router#8",
        "stage 2",
        "  positive#1  x from width#0",
        "  add#5  memory from memory#4; only for route 'cheap' of router#8; up to 4 attempts; gpu 1",
        "stage 3",
        "  add#2  only if positive#1",
        "stage 4",
        "  one#3  after add#2; only for route 1 of router#8",
        "stage 5",
        "  router#8  router; selector from one#6; route 1: one#3; route 'cheap': add#5; route None: constant#7; target",
    ]


def test_the_repr_is_the_text_so_that_a_prompt_shows_it() -> None:
    plan = cs.dry_run(add(one()))
    text = "2 nodes in 2 stages; nothing was run\nstage 1\n  one#0\nstage 2\n  add#1  x from one#0; target"
    assert (repr(plan), str(plan)) == (text, text)


@pytest.mark.parametrize("target", [None, 3, [1, 2], "text"])
def test_plain_values_have_a_plan(target) -> None:
    plan = cs.dry_run(target)
    assert len(plan.nodes) == 1
    assert "1 node in 1 stage; nothing was run" in str(plan)


def test_hostile_names_stay_on_their_line() -> None:
    plan = cs.dry_run(add(1).named("two\nlines \x1b[31m" + "x" * 500))
    lines = str(plan).split("\n")
    assert len(lines) == 3
    assert "two\\nlines \\x1b[31m" in lines[2]
    assert len(lines[2]) < 100


def test_large_plans_are_whole_but_their_text_is_not() -> None:
    chain = one()
    for _ in range(10_000):
        chain = add(chain)
    plan = cs.dry_run(chain)
    assert len(plan.stages) == 10_001
    assert str(plan).endswith("and 9,901 more stages")
    plan = cs.dry_run([add(number) for number in range(10_000)])
    assert [len(stage) for stage in plan.stages] == [10_000, 1]
    assert len(str(plan).split("\n")) < 60
    assert "  and 9,950 more nodes" in str(plan)
