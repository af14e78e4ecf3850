"""Spies and fakes for the ports, each in the engine that it is meant for."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.graph.build import build_graph
from cascade.spec.protocols import CacheBackend, CachePolicy, Executor, Solver, StateBackend
from cascade.testing import (
    FailingCacheBackend,
    FailingStateBackend,
    FakeCachePolicy,
    FakeExecutor,
    FakeSolver,
    MissingAnswerError,
    MockClock,
    SpyCacheBackend,
    SpyExecutor,
    SpySolver,
    SpyStateBackend,
    SpyStates,
    TraceRecorder,
)


@cs.task
def one():
    return 1


@cs.task
def add(x, y=1):
    return x + y


@cs.task
async def double(x):
    return 2 * x


@cs.task
def total(values):
    return sum(values)


def run_on(engine_parts, target, params=None, **options):
    async def main():
        async with cs.create_engine(**engine_parts) as engine:
            return await engine.run(target, params, **options)

    return asyncio.run(main())


def called(spy):
    return [(call.name, call.args, dict(call.kwargs)) for call in spy.calls]


@pytest.mark.parametrize(
    ("part", "port"),
    [
        (SpyExecutor(), Executor),
        (FakeExecutor({}), Executor),
        (SpySolver(), Solver),
        (FakeSolver(), Solver),
        (SpyStateBackend(), StateBackend),
        (FailingStateBackend(), StateBackend),
        (SpyCacheBackend(), CacheBackend),
        (FailingCacheBackend(), CacheBackend),
        (FakeCachePolicy(), CachePolicy),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_each_has_the_methods_of_its_port(part, port) -> None:
    assert isinstance(part, port)


def test_a_whole_workflow_runs_through_an_executor_that_lends_no_threads() -> None:
    spy = SpyExecutor()
    mapped = add.map(x=[1, 2, 3])
    target = {
        "call": add(one(), y=double(5)),
        "map": total(mapped),
        "route": cs.Router(one(), {1: add(100), 2: add(200)}),
        "skipped input": cs.pipeline(one(), [add.run_if(cs.Param("again", default=False)), double]),
        "order": cs.sequence([one(), add(7)]),
        "policy": add(1).with_retry(max_attempts=2).with_timeout(60),
        "part": cs.task(lambda: {"a": [3]}, name="table")()["a"][0],
    }
    assert run_on({"executor": spy}, target) == {
        "call": 11, "map": 9, "route": 101, "skipped input": 2, "order": 8, "policy": 2, "part": 3
    }  # fmt: skip
    assert spy.closed
    names = sorted(call.name for call in spy.calls)
    assert names == sorted(
        ["one", "double", "add"] + ["add"] * 3 + ["total"] + ["one", "add"] + ["one", "double"] + ["one", "add"]
        + ["add", "table"]
    )  # fmt: skip


def test_what_tasks_return_and_loops_of_it_go_through_the_executor_too() -> None:
    @cs.task
    def countdown(n):
        return countdown(n - 1) if n else "done"

    spy = SpyExecutor()
    assert run_on({"executor": spy}, countdown(50)) == "done"
    assert [call.args for call in spy.calls] == [(n,) for n in range(50, -1, -1)]


def test_a_spy_tells_nodes_and_finished_arguments() -> None:
    spy = SpyExecutor()
    run_on({"executor": spy}, add(one(), y=[one()][0]))
    # Arguments by name go by position where that says the same: it is the cheaper call.
    assert called(spy)[-1] == ("add", (1, 1), {})
    assert spy.calls[-1].node_id == "add#2"
    assert spy.calls_of("one") == spy.calls[:2]
    spy.calls.clear()
    assert len(spy.calls) == 3


def test_failures_and_retries_go_through_the_executor() -> None:
    attempts = []

    @cs.task
    def flaky():
        attempts.append(None)
        if len(attempts) < 3:
            raise OSError("not yet")
        return len(attempts)

    spy = SpyExecutor()
    clock = MockClock()
    assert run_on({"executor": spy, "clock": clock}, flaky().with_retry(max_attempts=3, delay=3600)) == 3
    assert [call.name for call in spy.calls] == ["flaky"] * 3
    assert clock.monotonic() == 7200.0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_an_exit_that_comes_through_an_executor_stops_the_run_and_propagates(error, on_failure) -> None:
    # S15
    @cs.task
    def leave():
        raise error

    with pytest.raises(type(error)) as caught:
        run_on({"executor": SpyExecutor()}, [leave(), one()], on_failure=on_failure)
    assert caught.value is error


def test_ten_thousand_items_and_a_chain_of_two_thousand_go_through_an_executor() -> None:
    spy = SpyExecutor()
    assert run_on({"executor": spy}, total(double.map(x=range(10_000)))) == 2 * sum(range(10_000))
    assert len(spy.calls) == 10_001
    value = one()
    for _ in range(2000):
        value = double(value) if _ % 100 == 0 else add(value, 0)
    assert run_on({"executor": SpyExecutor()}, value) == 2**20


def test_a_mock_clock_does_not_jump_while_an_executor_makes_a_call() -> None:
    # The clock's promise: time never passes while somebody works. The timeout would be over at the first jump.
    gate = threading.Event()

    @cs.task
    def wait():
        gate.wait(10)
        return "waited"

    async def main(executor):
        async with cs.create_engine(executor=executor, clock=MockClock()) as engine:
            running = asyncio.ensure_future(engine.run(wait().with_timeout(60)))
            await asyncio.sleep(0.1)
            gate.set()
            return await running

    assert asyncio.run(main(SpyExecutor())) == "waited"


@pytest.mark.filterwarnings("ignore::cascade.ThreadTimeoutWarning")
def test_a_mock_clock_does_not_jump_while_a_thread_makes_a_call_with_policies() -> None:
    gate = threading.Event()

    @cs.task
    def wait():
        gate.wait(10)
        return "waited"

    async def main():
        async with cs.create_engine(clock=MockClock()) as engine:
            running = asyncio.ensure_future(engine.run(wait().with_timeout(60)))
            await asyncio.sleep(0.1)
            gate.set()
            return await running

    assert asyncio.run(main()) == "waited"


def test_a_fake_executor_answers_in_the_place_of_tasks() -> None:
    async def slow(x, y=1):
        await asyncio.sleep(0)
        return x * 100

    fake = FakeExecutor({"one": 5, "add": slow, "total": sorted})
    target = total([add(one()), one(), *[add(place) for place in range(2)]])
    assert run_on({"executor": fake}, target) == [0, 5, 100, 500]
    assert len(fake.calls_of("add")) == 3


@pytest.mark.parametrize("answer", [OSError("down"), OSError])
def test_a_fake_executor_raises_exceptions_that_are_answers(answer) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        run_on({"executor": FakeExecutor({"one": answer})}, one())


def test_a_fake_executor_without_an_answer_says_so() -> None:
    with pytest.raises(MissingAnswerError, match=r"no answer for task 'add'; it has answers for 'one': add one"):
        run_on({"executor": FakeExecutor({"one": 1})}, add(one()))


def test_a_fake_executor_can_leave_the_rest_to_another() -> None:
    fake = FakeExecutor({"one": 41}, otherwise=LocalExecutor())
    assert run_on({"executor": fake}, add(one())) == 42
    assert [call.name for call in fake.calls] == ["one", "add"]


def test_a_fake_can_stand_for_one_named_executor() -> None:
    @cs.task(executor="cluster")
    def heavy(x):
        raise AssertionError("not here")

    fake = FakeExecutor({"heavy": lambda x: x + 1})
    assert run_on({"executors": {"cluster": fake}}, heavy(one())) == 2
    assert called(fake) == [("heavy", (1,), {})]


def test_a_spy_solver_sees_the_graphs_that_an_engine_plans() -> None:
    spy = SpySolver()
    assert run_on({"solver": spy}, add(one())) == 2
    assert [[node.id for node in graph.nodes] for graph in spy.graphs] == [["one#0", "add#1"]]
    assert [list(plan.order) for plan in spy.plans] == [[0, 1]]


def test_a_fake_solver_decides_who_goes_first_where_there_is_one_worker() -> None:
    # S8: the solver's order is the preference, exact with one worker.
    said = []
    say = cs.task(said.append)
    run_on({"solver": FakeSolver(), "max_workers": 1}, [say("a"), say("b"), say("c")])
    assert said == ["c", "b", "a"]
    said.clear()
    wanted = {"b": 0, "a": 1, "c": 2}
    solver = FakeSolver(lambda node: wanted.get(node.name, 9))
    named = [say(name).named(name) for name in "abc"]
    run_on({"solver": solver, "max_workers": 1}, named)
    assert said == ["b", "a", "c"]


def test_a_fake_solver_changes_no_result() -> None:
    late, early = add(1), add(2)
    target = {
        "sequence": cs.sequence([early, late]),
        "route": cs.Router(one(), {1: add(late), 2: add(5)}),
        "map": add.map(x=[late, early]),
        "skip": cs.pipeline(late, [add.run_if(cs.Param("no", default=False))]),
    }
    assert run_on({"solver": FakeSolver()}, target) == {"sequence": 2, "route": 3, "map": [3, 4], "skip": 2}


def test_a_spy_state_backend_sees_what_is_written() -> None:
    states = SpyStates()
    target = cs.Router(one(), {1: add(10), 2: add(20)})
    assert run_on({"state_backend": states}, target, run_id="nightly") == 11
    (run_id,) = states.by_run
    state = states.by_run[run_id]
    assert run_id == "nightly"
    assert state.written["one#0"] == 1
    assert state.written["add#1"] == 11
    assert state.skipped == {"add#2": "Pruned"}
    assert {method for method, _ in state.calls} <= {"put_many", "put_result", "mark_skipped", "discard"}


def test_each_run_has_its_state() -> None:
    states = SpyStates()
    run_on({"state_backend": states}, one(), run_id="first")
    run_on({"state_backend": states}, add(1), run_id="second")
    assert states.by_run["first"].written == {"one#0": 1}
    assert states.by_run["second"].written == {"add#0": 2}


def test_a_state_that_cannot_be_written_fails_the_run() -> None:
    full = FailingStateBackend(OSError("full"))

    async def main():
        async with cs.create_engine(state_backend=lambda _: full) as engine:
            trace = TraceRecorder(engine.bus)
            with pytest.raises(OSError, match="full"):
                await engine.run(add(one()))
            return trace.lines

    assert asyncio.run(main())[-1] == "run finished Failed: OSError: full"


def test_a_state_may_fail_after_some_writes() -> None:
    async def main():
        state = FailingStateBackend(OSError("full"), after=2)
        await state.put_result("a#0", 1)
        await state.mark_skipped("b#1", "Pruned")
        for write in (state.put_result("c#2", 1), state.mark_skipped("c#2", ""), state.put_many({}, {})):
            with pytest.raises(OSError, match="full"):
                await write
        return await state.get_result("a#0"), await state.get_skip_reason("b#1"), await state.has_result("c#2")

    assert asyncio.run(main()) == (1, "Pruned", False)


def test_a_spy_cache_tells_hits_from_misses() -> None:
    spy = SpyCacheBackend()
    cached = add.with_cache(cs.InputsCache(spy))
    assert run_on({}, [cached(1), cached(2)]) == [2, 3]
    assert (len(spy.misses), len(spy.hits), sorted(value for _, value in spy.puts)) == (2, 0, [2, 3])
    assert run_on({}, [cached(1), cached(2)]) == [2, 3]
    assert (len(spy.misses), len(spy.hits), len(spy.puts)) == (2, 2, 2)


def test_an_empty_memory_cache_given_to_a_policy_is_the_one_that_is_used() -> None:
    # S25: the backend stores; that it is empty, and so false, does not mean that there is none.
    backend = cs.InMemoryCacheBackend()
    run_on({}, add(1).with_cache(cs.InputsCache(backend)))
    assert len(backend) == 1


def test_an_empty_memory_cache_given_to_an_engine_or_a_run_is_the_one_that_is_used() -> None:
    backend = cs.InMemoryCacheBackend()
    run_on({"cache": backend}, add(1).with_cache(cs.InputsCache()))
    assert len(backend) == 1
    backend = cs.InMemoryCacheBackend()
    cs.run(add(1).with_cache(cs.InputsCache()), cache=backend, log_level="CRITICAL")
    assert len(backend) == 1


counted_calls: list[str] = []


# Not a local function: what that closes over, a growing list here, would be a part of its cache key.
def counted(x: str) -> str:
    counted_calls.append(x)
    return x


def test_runs_of_one_process_share_the_default_cache() -> None:
    for _ in range(2):
        cs.run(cs.task(counted)("only once").with_cache(cs.InputsCache()), log_level="CRITICAL")
    assert counted_calls == ["only once"]


def test_a_failing_cache_fails_no_task(caplog: pytest.LogCaptureFixture) -> None:
    # S25
    failing = FailingCacheBackend()
    with caplog.at_level(logging.WARNING, logger="cascade.cache"):
        assert run_on({}, add(1).with_cache(cs.InputsCache(failing))) == 2
    assert failing.calls == 2
    assert "the cache is down" in caplog.text


def test_a_fake_policy_decides_keys_products_and_backend() -> None:
    spy = SpyCacheBackend()
    policy = FakeCachePolicy(
        lambda arguments: f"x is {arguments['x']}", spy, ttl=5.0, product=lambda value: ("product", value)
    )
    cached = add.with_cache(policy)
    assert run_on({}, [cached(1, 2), cached(2, 2)]) == [("product", 3), ("product", 4)]
    assert sorted(key for key, _ in spy.puts) == ["x is 1", "x is 2"]
    assert run_on({}, cached(1, 40)) in (3, ("product", 3))
    assert {"x": 1, "y": 2} in policy.asked
    assert build_graph(cached(1))[0].lazies[0].policy.cache.ttl == 5.0


def test_an_injected_positional_argument_arrives_as_the_resource() -> None:
    # S22: found with a dry run, which has to refuse an unknown name wherever it stands.
    @cs.resource
    def lamp():
        yield "on"

    assert run_on({"resources": [lamp]}, add(cs.inject("lamp"), "!")) == "on!"
    assert run_on({"resources": [lamp]}, add("is ", cs.inject(lamp))) == "is on"
    assert run_on({"resources": [lamp]}, add.partial(y=cs.inject("lamp")).map(x=["is "])) == ["is on"]


@pytest.mark.filterwarnings("ignore::cascade.ThreadTimeoutWarning")
def test_a_run_returns_although_a_call_that_took_too_long_still_occupies_its_thread() -> None:
    # S20: nobody waits for what was abandoned.
    gate, returned = threading.Event(), threading.Event()

    @cs.task
    def stuck():
        gate.wait(20)

    def work() -> None:
        with pytest.raises(cs.TaskTimeoutError):
            cs.run(stuck().with_timeout(0.01), log_level="CRITICAL")
        returned.set()

    thread = threading.Thread(target=work)
    thread.start()
    in_time = returned.wait(5)
    gate.set()
    thread.join()
    assert in_time


def test_a_mock_clock_jumps_while_a_thread_waits_for_a_nested_run() -> None:
    # S21: the thread that started the nested run does not work but waits, as the retries in it do.
    attempts = []

    @cs.task
    def flaky():
        attempts.append(None)
        if len(attempts) < 3:
            raise OSError("not yet")
        return "at last"

    @cs.task
    def nested():
        return cs.run(flaky().with_retry(max_attempts=3, delay=3600), log_level="CRITICAL")

    async def main():
        clock = MockClock()
        async with cs.create_engine(clock=clock) as engine:
            return await asyncio.wait_for(engine.run(nested()), 5), clock.monotonic()

    assert asyncio.run(main()) == ("at last", 7200.0)
