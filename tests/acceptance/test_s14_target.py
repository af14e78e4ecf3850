"""S14: a skipped target is an error that tells why; only a sequence gives `None`."""

from __future__ import annotations

from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished
from tests.acceptance.kinds import each_kind, made
from tests.acceptance.observed import Trace, run

gather = cs.task(lambda *values: list(values), name="gather")


def no() -> cs.LazyResult[bool]:
    return cs.task(lambda: False, name="no")()


def one(kind: str = "sync") -> cs.LazyResult[int]:
    return made(kind, lambda: 1, name="one")()


@each_kind
def test_a_skipped_target_raises_with_the_reason(kind: str) -> None:  # S14
    with pytest.raises(cs.DependencyMissingError) as caught:
        run(one(kind).run_if(no()))
    error = caught.value
    assert (error.task_id, error.reason) == ("target", "ConditionFalse")
    assert error.dependency_id.startswith("one#")
    assert error.arg_name
    for text in ("target", error.dependency_id, "ConditionFalse"):
        assert text in str(error)
    assert isinstance(error, LookupError)
    assert isinstance(error, cs.CascadeError)


REASONS = {
    "UpstreamSkipped_Data": lambda: gather(one().run_if(no())),
    "UpstreamSkipped_Sequence": lambda: gather().after(one().run_if(no())),
    "UpstreamSkipped_Condition": lambda: gather().run_if(one().run_if(no())),
    "UpstreamSkipped_Route": lambda: gather(cs.Router(one(), {1: one().run_if(no())})),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_that_of_the_target(reason: str) -> None:  # S14
    with pytest.raises(cs.DependencyMissingError) as caught:
        run(REASONS[reason]())
    assert caught.value.reason == reason


@each_kind
@pytest.mark.parametrize("reason", REASONS)
def test_a_skipped_member_of_a_container_target_is_named(kind: str, reason: str) -> None:  # S14
    lost = REASONS[reason]()
    for target, place in (
        ([one(kind), lost], "[1]"),
        ({"x": one(kind), "y": [lost]}, "['y'][0]"),
        ((lost, one(kind)), "[0]"),
    ):
        with pytest.raises(cs.DependencyMissingError) as caught:
            run(target)
        error = caught.value
        assert (error.task_id, error.arg_name, error.reason) == ("target", place, reason)
        assert error.dependency_id.startswith("gather#")


@pytest.mark.parametrize(
    "target",
    [
        lambda: one().run_if(no())["k"],
        lambda: cs.Router(one(), {1: one().run_if(no())}),
        lambda: cs.Router(one().run_if(no()), {1: one()}),
        lambda: cs.pipeline(one().run_if(no()), [gather]),
        lambda: cs.task(abs).map([1]).run_if(no()),
        lambda: cs.Param("p", default=1).run_if(no()),
        lambda: cs.Router(one(), {1: [one().run_if(no())]}),
        lambda: cs.sequence([one()]).run_if(no()),
    ],
)
def test_whatever_kind_of_value_the_target_is(target: Any) -> None:  # S14
    with pytest.raises(cs.DependencyMissingError) as caught:
        run(target())
    assert caught.value.task_id == "target"
    assert caught.value.reason


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_sequence_gives_none_whichever_member_was_skipped(place: int) -> None:  # S14, S13
    members = [one(), one(), one()]
    members[place] = members[place].run_if(no())
    assert run(cs.sequence(members)) is None
    assert run([cs.sequence(members), 5]) == [None, 5]


@each_kind
def test_a_target_that_returned_a_skipped_value_is_skipped_with_that_reason(kind: str) -> None:  # S14, S18
    returning = made(kind, lambda: one().run_if(no()), name="returning")
    with pytest.raises(cs.DependencyMissingError) as caught:
        run(returning())
    assert caught.value.reason == "ConditionFalse"
    with pytest.raises(cs.DependencyMissingError):
        run([returning(), 1])


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_everything_that_can_run_has_run_and_the_run_has_failed(on_failure: str) -> None:  # S14, S28
    trace = Trace()
    ran: list[int] = []
    runs = cs.task(lambda: ran.append(1), name="runs")
    with pytest.raises(cs.DependencyMissingError):
        run([one().run_if(no()), runs()], bus=trace.bus, on_failure=on_failure)
    assert ran == [1]
    assert [event.status for event in trace.of(RunFinished)] == ["Failed"]


def test_a_none_value_is_not_missing() -> None:  # S14
    nothing = cs.task(lambda: None, name="nothing")
    assert run(nothing()) is None
    assert run([nothing(), nothing().run_if(one())]) == [None, None]
    assert run(cs.Router(nothing(), {None: nothing()})) is None
