"""S13: sequences run values one after another; pipelines feed each step the value before it."""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionStarted, TaskSkipped
from cascade.spec.exceptions import GraphCycleError
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import Trace, await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")
plus = cs.task(lambda x: x + 1, name="plus")
double = cs.task(lambda x: x * 2, name="double")


def no() -> cs.LazyResult[bool]:
    return cs.task(lambda: False, name="no")()


def yes() -> cs.LazyResult[bool]:
    return cs.task(lambda: True, name="yes")()


def reasons(trace: Trace) -> dict[str, str]:
    return {event.task_name: event.reason for event in trace.of(TaskSkipped)}


# Sequences.


@each_kind
def test_members_run_one_after_another_and_the_last_gives_the_value(kind: str) -> None:  # S13
    log = Log()
    note = log.task(kind)
    members = [note(place) for place in range(30)]
    backwards = list(reversed(members))
    assert run(cs.sequence(backwards)) == 0
    assert log.entries == list(range(29, -1, -1))


@each_kind
def test_a_member_starts_only_when_the_one_before_has_ended(kind: str) -> None:  # S13
    under_way: list[int] = []
    overlaps: list[int] = []

    def work(place: int) -> int:
        under_way.append(place)
        overlaps.append(len(under_way))
        under_way.remove(place)
        return place

    task = made(kind, work)
    run(cs.sequence([task(place) for place in range(50)]))
    assert set(overlaps) == {1}


def test_members_of_different_kinds_keep_the_order() -> None:  # S13
    log = Log()
    notes = [log.task(kind) for kind in ("sync", "async", "waiting", "inline", "policy")]
    run(cs.sequence([notes[place % 5](place) for place in range(40)]))
    assert log.entries == list(range(40))


@each_kind
def test_the_order_holds_for_these_values_whoever_else_uses_them(kind: str) -> None:  # S13
    log = Log()
    note = log.task(kind)
    second, first = note("second"), note("first")
    ordered = cs.sequence([first, second])
    run(gather(second, first, ordered), max_workers=4)
    assert log.entries == ["first", "second"]


def test_what_a_member_needs_need_not_wait() -> None:  # S13, S8
    early = threading.Event()
    needed = cs.task(early.set, name="needed")()
    first = cs.task(lambda: await_sign(early), name="first")()
    assert promptly(lambda: run(cs.sequence([first, gather(needed)]), max_workers=2)) == [None]


def test_sequences_nest() -> None:  # S13
    log = Log()
    note = log.task()
    inner = cs.sequence([note("b"), note("c")])
    assert run(cs.sequence([note("a"), inner, cs.sequence([cs.sequence([note("d")]), note("e")])])) == "e"
    assert log.entries == list("abcde")


def test_containers_maps_routers_items_and_pipelines_may_be_members() -> None:  # S13
    log = Log()
    note = log.task()
    members = [
        note("a"),
        note.map(["b", "c"]),
        cs.Router(note("d"), {"d": note("e")}),
        cs.pipeline(note("f"), [note]),
        [note("g")],
    ]
    assert run(cs.sequence(members), max_workers=1) == ["g"]
    assert sorted(log.entries) == ["a", "b", "c", "d", "e", "f", "f", "g"]


@each_kind
def test_the_values_in_a_container_member_wait_for_the_member_before(kind: str) -> None:  # S13
    """The members of the container are declared first, so nothing but the sequence puts them behind."""
    log = Log()
    note = log.task(kind)
    container = [note("b"), note("c")]
    first = note("a")
    run(cs.sequence([first, container]), max_workers=1)
    assert log.entries[0] == "a"


@each_kind
def test_a_map_member_starts_its_items_after_the_member_before(kind: str) -> None:  # S13, S17
    log = Log()
    note = log.task(kind)
    mapped = note.map(["b", "c"])
    run(cs.sequence([note("a"), mapped, note("d")]))
    assert (log.entries[0], log.entries[3]) == ("a", "d")


@each_kind
def test_the_routes_of_a_router_member_start_after_the_member_before(kind: str) -> None:  # S13, S10
    log = Log()
    note = log.task(kind)
    router = cs.Router(cs.Param("which"), {"x": note("b"), "y": note("never")})
    run(cs.sequence([note("a"), router, note("c")]), {"which": "x"})
    assert log.entries == ["a", "b", "c"]


@pytest.mark.parametrize("place", [0, 1, 2])
@each_kind
def test_a_skip_aborts_the_rest_and_the_whole_is_none(kind: str, place: int) -> None:  # S13
    log, trace = Log(), Trace()
    members = [log.task(kind, name=f"m{index}")(index) for index in range(3)]
    members[place] = members[place].run_if(no())
    assert run(gather(cs.sequence(members)), bus=trace.bus) == [None]
    assert log.entries == list(range(place))
    expected = {f"m{place}": "ConditionFalse"}
    expected.update({f"m{index}": "UpstreamSkipped_Sequence" for index in range(place + 1, 3)})
    assert reasons(trace) == expected


def test_an_aborted_sequence_aborts_no_sequence_around_it() -> None:  # S13
    log = Log()
    note = log.task()
    inner = cs.sequence([note("never").run_if(no()), note("never either")])
    assert run(cs.sequence([note("a"), inner, note("b")])) == "b"
    assert log.entries == ["a", "b"]


@each_kind
def test_a_failure_raises(kind: str) -> None:  # S13
    log = Log()
    note = log.task(kind)
    failing = made(kind, lambda: 1 / 0, name="failing")()
    with pytest.raises(ZeroDivisionError):
        run(cs.sequence([note("a"), failing, note("b")]))
    assert log.entries == ["a"]
    with pytest.raises(cs.RunFailedGroup):
        run([cs.sequence([note("c"), failing, note("d")])], on_failure="continue")
    assert log.entries == ["a", "c"]


def test_a_cycle_is_a_validation_error_that_shows_it() -> None:  # S13
    log = Log()
    first = log.task(name="first")("first")
    second = log.task(name="second")("second", first)
    for target in (
        cs.sequence([second, first]),
        gather(cs.sequence([first, second]), cs.sequence([second, first])),
        cs.sequence([first, second, first]),
        cs.sequence([first, cs.sequence([second]), first]),
    ):
        with pytest.raises(GraphCycleError, match=r"first#\d.*second#\d|second#\d.*first#\d") as caught:
            run(target)
        assert isinstance(caught.value, ValueError)
    assert log.entries == []


def test_a_cycle_through_a_condition_a_route_or_an_amount_is_found() -> None:  # S13
    log = Log()
    note = log.task()
    first = note("first")
    for later in (
        note("x").run_if(first),
        cs.Router(cs.Param("p", default=1), {1: first}),
        note("x").with_constraints(gpu=first),
        note.map([first]),
        cs.pipeline(first, [note]),
        note("x").after(first),
    ):
        with pytest.raises(GraphCycleError):
            run(cs.sequence([later, first]), system_resources={"gpu": 1})
    assert log.entries == []


def test_values_in_two_sequences_keep_both_orders() -> None:  # S13
    log = Log()
    a, b, c, d = (log.task()(name) for name in "abcd")
    run(gather(cs.sequence([d, b, a]), cs.sequence([d, c, a])))
    assert log.entries[0] == "d"
    assert log.entries[3] == "a"


def test_a_sequence_inside_a_returned_graph() -> None:  # S13, S18
    log = Log()
    note = log.task()
    outer = cs.task(lambda: cs.sequence([note("a"), note("b").run_if(no()), note("c")]), name="outer")
    assert run(gather(outer())) == [None]
    assert run(outer()) is None
    assert log.entries == ["a", "a"]


@pytest.mark.parametrize("members", [[], [5], ["text"], [plus], [None]])
def test_members_that_cannot_be_run_are_refused(members: Any) -> None:  # S13, S30
    with pytest.raises(cs.CascadeError, match="sequence"):
        cs.sequence(members)


def test_the_same_value_twice_in_a_row_is_a_cycle_and_no_hang() -> None:  # S13
    value = plus(1)
    with pytest.raises(GraphCycleError):
        promptly(lambda: run(cs.sequence([value, value])))


def test_a_sequence_of_ten_thousand() -> None:  # S13
    log = Log()
    note = log.task()
    run(cs.sequence([note(place) for place in range(10_000)]))
    assert log.entries == list(range(10_000))


def test_sequences_nested_ten_thousand_deep() -> None:  # S13
    log = Log()
    note = log.task()
    whole: Any = cs.sequence([note(0)])
    for place in range(1, 10_000):
        whole = cs.sequence([whole, note(place)])
    assert run(whole) == 9_999
    assert log.entries == list(range(10_000))


# Pipelines.


@each_kind
def test_each_step_is_fed_the_value_before_it(kind: str) -> None:  # S13
    more, twice = made(kind, lambda x: x + 1, name="plus"), made(kind, lambda x: x * 2, name="double")
    assert run(cs.pipeline(5, [more, twice, more])) == 13
    assert run(cs.pipeline(more(0), [twice])) == 2
    assert run(cs.pipeline([more(0), 2], [cs.task(sum), twice])) == 6


def test_a_step_is_a_task_a_partial_or_a_function_of_a_lazy_value() -> None:  # S13
    power = cs.task(lambda base, exponent: base**exponent, name="power")
    steps = [
        power.partial(exponent=2),
        lambda value: power(3, value),
        functools.partial(power, exponent=1),
        lambda value: cs.Router(plus(0), {1: value, 2: 0}),
        lambda value: cs.sequence([plus(1), value]),
        lambda value: gather(value, value)[0],
    ]
    assert run(cs.pipeline(2, steps)) == 81


def test_no_steps_leave_the_value() -> None:  # S13
    assert run(cs.pipeline(5, [])) == 5
    assert run(cs.pipeline(plus(5), [])) == 6
    assert run(cs.pipeline([plus(5)], [])) == [6]


PATTERNS = [
    ("skip", "run", "run"),
    ("run", "skip", "run"),
    ("run", "run", "skip"),
    ("skip", "skip", "run"),
    ("run", "skip", "skip"),
    ("skip", "skip", "skip"),
    ("skip", "run", "skip"),
    ("run", "run", "run"),
]


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
@pytest.mark.parametrize("where", ["target", "argument", "container", "condition chain"])
@each_kind
def test_a_step_skipped_by_its_condition_lets_the_value_before_it_through(  # S13
    kind: str, pattern: tuple[str, ...], where: str
) -> None:
    expected = 1
    steps: list[Any] = []
    for place, what in enumerate(pattern):
        step = made(kind, lambda x, place: x * 10 + place, name=f"step{place}").partial(place=place)
        if where == "condition chain":
            skipped_condition = yes().run_if(no())
            steps.append(step.run_if(yes() if what == "run" else skipped_condition))
        else:
            steps.append(step.run_if(yes() if what == "run" else no()))
        if what == "run":
            expected = expected * 10 + place
    whole = cs.pipeline(1, steps)
    if where == "argument":
        assert run(gather(whole)) == [expected]
    elif where == "container":
        assert run({"k": [whole]}) == {"k": [expected]}
    else:
        assert run(whole) == expected


def test_the_condition_of_a_step_may_look_at_the_value() -> None:  # S13
    large = cs.task(lambda x: x > 10, name="large")
    steps = [lambda value: double(value).run_if(large(value))] * 2
    assert run(cs.pipeline(5, steps)) == 5
    assert run(cs.pipeline(11, steps)) == 44


def test_a_step_skipped_for_another_reason_lets_nothing_through() -> None:  # S13, S12
    trace = Trace()
    lost = plus(1).run_if(no())
    for step in (
        lambda value: gather(value, lost),
        lambda value: gather(value).after(lost),
        lambda value: cs.Router(plus(0), {1: gather(value).run_if(no())}),
        lambda value: gather(gather(value).run_if(no())),
    ):
        with pytest.raises(cs.DependencyMissingError):
            run(gather(cs.pipeline(1, [step])), bus=trace.bus)


def test_a_skipped_beginning_skips_the_pipeline() -> None:  # S13, S12
    with pytest.raises(cs.DependencyMissingError):
        run(cs.pipeline(plus(1).run_if(no()), [double, plus]))
    with pytest.raises(cs.DependencyMissingError):
        run(cs.pipeline(plus(1).run_if(no()), [double.run_if(no())]))
    assert run(cs.sequence([cs.pipeline(plus(1).run_if(no()), [double])])) is None


def test_nowhere_else_does_a_skipped_node_let_its_input_through() -> None:  # S13, S14
    for target in (
        double(plus(1)).run_if(no()),
        gather(double(plus(1)).run_if(no())),
        cs.Router(plus(0), {1: double(5).run_if(no())}),
        [double(plus(1)).run_if(no())],
    ):
        with pytest.raises(cs.DependencyMissingError):
            run(target)


@each_kind
def test_a_failing_step_raises(kind: str) -> None:  # S13
    log = Log()
    fails = made(kind, lambda x: 1 / 0, name="fails")
    with pytest.raises(ZeroDivisionError):
        run(cs.pipeline(1, [fails, log.task(kind)]))
    assert log.entries == []
    with pytest.raises(cs.RunFailedGroup):
        run(cs.pipeline(1, [fails, log.task(kind)]), on_failure="continue")
    assert log.entries == []


@each_kind
def test_a_step_may_return_a_graph(kind: str) -> None:  # S13, S18
    returning = made(kind, lambda x: plus(double(x)), name="returning")
    assert run(cs.pipeline(1, [returning, returning.run_if(no()), returning])) == 7
    skipping = made(kind, lambda x: plus(x).run_if(no()), name="skipping")
    assert run(cs.pipeline(1, [plus])) == 2
    assert run(gather(cs.pipeline(cs.sequence([skipping(1)]), [gather]))) == [[None]]


@pytest.mark.parametrize("steps", [[5], [None], ["double"], [lambda value: 5], [lambda value: None]])
def test_steps_that_are_none_are_refused(steps: Any) -> None:  # S13, S30
    with pytest.raises(TypeError, match="pipeline"):
        cs.pipeline(1, steps)


def test_steps_without_need_are_not_run() -> None:  # S13, S8
    trace = Trace()
    whole = cs.pipeline(1, [plus, double])
    cs.pipeline(whole, [plus.named("unwanted")])
    assert run(whole, bus=trace.bus) == 4
    assert [event.task_name for event in trace.of(TaskExecutionStarted)] == ["plus", "double"]


@pytest.mark.parametrize("every", [1, 3])
def test_a_pipeline_of_ten_thousand_steps(every: int) -> None:  # S13
    never = no()
    steps = [plus if place % every == 0 else plus.run_if(never) for place in range(10_000)]
    assert run(cs.pipeline(0, steps)) == sum(place % every == 0 for place in range(10_000))


def test_a_pipeline_of_ten_thousand_skipped_steps() -> None:  # S13
    never = no()
    assert run(cs.pipeline("through", [plus.run_if(never)] * 10_000)) == "through"
