"""S12: skips travel from node to node, each with one of the reasons that there are."""

from __future__ import annotations

import threading
from time import process_time
from typing import Any

import pytest

import cascade as cs
from cascade.runtime import flow
from cascade.runtime.events import TaskExecutionFinished, TaskExecutionStarted, TaskSkipped
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import Trace, await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")


def reasons(trace: Trace) -> dict[str, str]:
    return {event.task_name: event.reason for event in trace.of(TaskSkipped)}


def no() -> cs.LazyResult[bool]:
    return cs.task(lambda: False, name="no")()


def skipped(kind: str = "sync") -> cs.LazyResult[Any]:
    return made(kind, lambda: 1, name="skipped")().run_if(no())


def skipped_route() -> cs.LazyResult[Any]:
    return cs.Router(cs.task(lambda: 1, name="pick")(), {1: skipped()})


def only(target: cs.LazyResult[Any], **options: Any) -> dict[str, str]:
    """The reasons of a run whose target is skipped."""
    trace = Trace()
    assert run(cs.sequence([target]), bus=trace.bus, system_resources={"gpu": 9}, **options) is None
    return reasons(trace)


DATA = {
    "argument": gather,
    "keyword": lambda s: cs.task(lambda *, k: k, name="gather")(k=s),
    "container": lambda s: gather([{"k": (s,)}]),
    "one of several": lambda s: gather(1, s, gather(2).named("fine")),
    "item": lambda s: gather(s["k"]),
    "unpacked": lambda s: gather(*s.unpack(2)),
    "map input": lambda s: cs.task(abs, name="gather").map(s),
    "fixed argument of a map": lambda s: gather.partial(s).map([1]),
    "amount": lambda s: gather().with_constraints(gpu=s),
    "amount of a map": lambda s: gather.with_constraints(gpu=s).map([1]),
    "map": lambda s: gather(cs.task(abs, name="mapped").map(s)),
}


@pytest.mark.parametrize("way", DATA)
@each_kind
def test_a_skipped_data_input_skips_the_consumer(way: str, kind: str) -> None:  # S12
    assert only(DATA[way](skipped(kind)))["gather"] == "UpstreamSkipped_Data"


@each_kind
def test_after_a_skipped_node_is_skipped_as_sequence(kind: str) -> None:  # S12
    assert only(made(kind, lambda: 1, name="later")().after(skipped(kind)))["later"] == "UpstreamSkipped_Sequence"
    assert only(gather().after(gather(skipped(kind)).named("between")))["gather"] == "UpstreamSkipped_Sequence"


@each_kind
def test_skips_travel_all_the_way(kind: str) -> None:  # S12
    value: Any = skipped(kind)
    for place in range(20):
        value = made(kind, lambda x: x, name=f"step{place}")(value)
    found = only(value)
    assert found.pop("skipped") == "ConditionFalse"
    assert set(found.values()) == {"UpstreamSkipped_Data"}
    assert len(found) == 20


@pytest.mark.parametrize(
    ("condition", "sequence", "route", "data", "expected"),
    [
        (True, True, True, True, "UpstreamSkipped_Condition"),
        (False, True, True, True, "UpstreamSkipped_Sequence"),
        (False, False, True, True, "UpstreamSkipped_Route"),
        (False, False, False, True, "UpstreamSkipped_Data"),
        (True, False, False, True, "UpstreamSkipped_Condition"),
        (False, True, False, True, "UpstreamSkipped_Sequence"),
        (False, True, True, False, "UpstreamSkipped_Sequence"),
        (True, False, True, False, "UpstreamSkipped_Condition"),
    ],
)
@pytest.mark.parametrize("first", ["data", "route"])
def test_of_several_reasons_the_first_counts(  # S12
    condition: bool, sequence: bool, route: bool, data: bool, expected: str, first: str
) -> None:
    inputs = [(data, skipped), (route, skipped_route)]
    if first == "route":
        inputs.reverse()
    target: Any = gather(*[make() for wanted, make in inputs if wanted])
    if sequence:
        target = target.after(skipped())
    if condition:
        target = target.run_if(skipped())
    assert only(target)["gather"] == expected


def test_a_router_as_condition_or_before_is_named_by_its_use() -> None:  # S12
    assert only(gather().run_if(skipped_route()))["gather"] == "UpstreamSkipped_Condition"
    assert only(gather().after(skipped_route()))["gather"] == "UpstreamSkipped_Sequence"
    assert only(gather(skipped_route()))["gather"] == "UpstreamSkipped_Route"
    assert only(gather([skipped_route()]))["gather"] == "UpstreamSkipped_Route"


def test_only_the_nearest_consumer_of_a_router_tells_the_route() -> None:  # S12
    found = only(gather(gather(skipped_route()).named("near")).named("far"))
    assert (found["near"], found["far"]) == ("UpstreamSkipped_Route", "UpstreamSkipped_Data")


@each_kind
def test_dependents_of_a_failure_are_skipped_in_runs_that_continue(kind: str) -> None:  # S12
    trace = Trace()
    failing = made(kind, lambda: 1 / 0, name="failing")()
    step = made(kind, lambda *_: 1, name="step")
    near = step(failing).named("near")
    targets = [
        step(near).named("far"),
        step().after(failing).named("later"),
        step(failing["k"]).named("item"),
        step(cs.sequence([failing])).named("sequence"),
        step(cs.pipeline(failing, [step.named("pipe")])).named("pipeline"),
        step(cs.Router(failing, {1: 2})).named("selected"),
        step(cs.Router(step().named("pick"), {1: failing})).named("routed"),
        step([failing]).named("packed"),
        step().with_constraints(gpu=failing).named("sized"),
        cs.task(abs, name="mapped").map(failing),
    ]
    with pytest.raises(cs.RunFailedGroup) as caught:
        run(targets, bus=trace.bus, on_failure="continue", system_resources={"gpu": 1})
    assert len(caught.value.exceptions) == 1
    assert reasons(trace) == dict.fromkeys(
        ["near", "far", "later", "item", "sequence", "pipe", "pipeline", "selected", "routed", "packed", "sized",
         "mapped"], "UpstreamFailed",
    )  # fmt: skip


def test_a_failure_counts_before_a_skip() -> None:  # S12
    trace = Trace()
    failing = cs.task(lambda: 1 / 0, name="failing")()
    with pytest.raises(cs.RunFailedGroup):
        run([gather(skipped(), failing)], bus=trace.bus, on_failure="continue")
    assert reasons(trace)["gather"] == "UpstreamFailed"


@each_kind
def test_what_never_started_because_the_run_stopped_says_so(kind: str) -> None:  # S12
    trace = Trace()
    done = made(kind, lambda: 1, name="done")()
    failing = made(kind, lambda _: 1 / 0, name="failing")(done)
    step = made(kind, lambda *_: 1, name="step")
    after = step(failing).named("after")
    with pytest.raises(ZeroDivisionError):
        run([step(after).named("further"), after, step.named("mapped").map(gather(failing))], bus=trace.bus)
    assert reasons(trace) == dict.fromkeys(["after", "further", "gather", "mapped"], "RunStopped")
    assert {event.task_name: event.status for event in trace.of(TaskExecutionFinished)} == {
        "done": "Succeeded",
        "failing": "Failed",
    }


def test_what_was_ready_but_not_started_when_the_run_stopped_says_so() -> None:  # S12, S15
    trace, log = Trace(), Log()
    failing = cs.task(lambda: 1 / 0, name="failing")()
    late = log.task(name="late")("late")
    with pytest.raises(ZeroDivisionError):
        run([failing, late], bus=trace.bus, max_workers=1)
    assert log.entries == []
    assert reasons(trace) == {"late": "RunStopped"}


def test_what_was_pruned_or_skipped_before_the_stop_keeps_its_reason() -> None:  # S12, S28
    trace = Trace()
    chosen = cs.Router(cs.task(lambda: 1, name="pick")(), {1: 1, 2: gather().named("pruned")})
    dropped = gather().named("dropped").run_if(no())
    failing = cs.task(lambda *_: 1 / 0, name="failing")(chosen, cs.sequence([dropped]))
    with pytest.raises(ZeroDivisionError):
        run([failing, gather(failing).named("after")], bus=trace.bus)
    assert reasons(trace) == {"pruned": "Pruned", "dropped": "ConditionFalse", "after": "RunStopped"}
    assert all(len(ends) == 1 for ends in trace.terminal().values()), trace.terminal()


def test_nodes_of_returned_graphs_and_their_parents_end_once_when_the_run_stops() -> None:  # S12, S18, S28
    trace = Trace()

    @cs.task
    def returning() -> Any:
        failing = cs.task(lambda: 1 / 0, name="failing")()
        return gather(failing).named("inner after")

    with pytest.raises(ZeroDivisionError):
        run([gather(returning()).named("outer after")], bus=trace.bus)
    assert all(len(ends) == 1 for ends in trace.terminal().values()), trace.terminal()
    assert reasons(trace) == {"inner after": "RunStopped", "outer after": "RunStopped"}


def test_events_of_a_stopped_run_with_calls_under_way_are_complete() -> None:  # S12, S28
    trace = Trace()
    started, failed = threading.Event(), threading.Event()

    @cs.task
    def fails() -> None:
        await_sign(started)
        raise ValueError("stop")

    @cs.task
    def slow() -> None:
        started.set()
        await_sign(failed)

    trace.bus.subscribe(TaskExecutionFinished, lambda event: failed.set() if event.status == "Failed" else None)
    value = slow()
    with pytest.raises(ValueError, match="stop"):
        promptly(lambda: run([fails(), value, gather(value)], bus=trace.bus))
    ends = {key.split("#")[0]: found for key, found in trace.terminal().items()}
    assert ends == {"fails": ["Failed"], "slow": ["Succeeded"], "gather": ["RunStopped"]}
    assert {event.task_name for event in trace.of(TaskExecutionStarted)} == {"fails", "slow"}


ALL_REASONS = {
    "ConditionFalse", "ConditionMissing", "UpstreamSkipped_Condition", "UpstreamSkipped_Sequence",
    "UpstreamSkipped_Route", "UpstreamSkipped_Data", "UpstreamFailed", "Pruned", "RunStopped",
}  # fmt: skip


def test_these_reasons_are_all_there_are() -> None:  # S12
    named = {
        value
        for name, value in vars(flow).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }
    assert named == ALL_REASONS


def test_a_cache_hit_is_an_events_reason_and_no_skip() -> None:  # S12, S25
    backend = cs.InMemoryCacheBackend()
    trace = Trace()
    value = cs.task(len, name="cached")("abc").with_cache(cs.InputsCache(backend))
    assert run(gather(value)) == [3]
    assert run(gather(value, cs.task(lambda: 1)().after(value)), bus=trace.bus) == [3, 1]
    assert reasons(trace) == {"cached": "CacheHit"}


def test_many_skips_cost_about_as_much_each_as_few() -> None:  # S12
    def cost(size: int) -> float:
        trace = Trace()
        root = skipped()
        values = [gather(root) for _ in range(size)]
        target = cs.sequence([values])
        began = process_time()
        run(target, bus=trace.bus)
        spent = process_time() - began
        assert len(trace.of(TaskSkipped)) == size + 1
        return spent / size

    small = min(cost(1_000) for _ in range(3))
    assert min(cost(20_000) for _ in range(2)) < 10 * small
