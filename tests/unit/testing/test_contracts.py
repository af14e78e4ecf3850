"""The contract suites catch what breaks a contract: each wrong implementation fails the test that is about it."""

from __future__ import annotations

import asyncio

import pytest

from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.adapters.state import InMemoryStateBackend
from cascade.testing.contracts.executor import ExecutorContract
from cascade.testing.contracts.solver import SolverContract
from cascade.testing.contracts.state import StateBackendContract


def suite_for(contract, make, **attributes):
    hook = {StateBackendContract: "make_backend", ExecutorContract: "make_executor", SolverContract: "make_solver"}
    # Not named Test...: pytest must not collect what is meant to fail.
    made = type("Suite", (contract,), {hook[contract]: lambda self, *arguments: make(*arguments), **attributes})
    return made()


class NoneIsMissing(InMemoryStateBackend):
    async def has_result(self, node_id):
        return self._results.get(node_id) is not None


class KeepsSkips(InMemoryStateBackend):
    async def put_result(self, node_id, value):
        self._results[node_id] = value


class GivesNoneForUnknown(InMemoryStateBackend):
    async def get_result(self, node_id):
        return self._results.get(node_id)


class RefusesUnknown(InMemoryStateBackend):
    async def discard(self, node_ids):
        for node_id in list(node_ids):
            del self._results[node_id]


class NeverClears(InMemoryStateBackend):
    async def clear(self):
        pass


class InParts(InMemoryStateBackend):
    async def put_result(self, node_id, value):
        if value == "refused":
            raise ValueError(value)
        await super().put_result(node_id, value)


ONE_FOR_ALL = InMemoryStateBackend()
BROKEN_STATES = [
    (NoneIsMissing, lambda suite: suite.test_a_result_comes_back_as_it_was(None)),
    (KeepsSkips, lambda suite: suite.test_what_is_known_last_of_a_node_counts()),
    (GivesNoneForUnknown, lambda suite: suite.test_of_an_unknown_node_there_is_neither_result_nor_skip()),
    (RefusesUnknown, lambda suite: suite.test_what_is_discarded_is_gone_and_the_rest_stays()),
    (NeverClears, lambda suite: suite.test_after_clear_nothing_is_known_and_all_can_be_kept_again()),
    (InParts, lambda suite: suite.test_a_batch_that_cannot_be_kept_is_not_kept_in_part()),
    (lambda run_id: ONE_FOR_ALL, lambda suite: suite.test_runs_do_not_see_each_other()),
    (InMemoryStateBackend, lambda suite: suite.test_a_second_backend_of_a_run_finds_what_the_first_kept()),
]


@pytest.mark.parametrize(("make", "broken"), BROKEN_STATES)
def test_a_broken_state_backend_is_caught(make, broken) -> None:
    with pytest.raises((AssertionError, KeyError)):
        broken(suite_for(StateBackendContract, make, persistent=True, refused="refused"))


class Plan:
    def __init__(self, order, stages):
        self.order, self.stages = order, stages


class Forgets:
    def resolve(self, graph):
        plan = NativeSolver().resolve(graph)
        return Plan(list(plan.order)[:-1], list(plan.stages)[:-1])


class GoesBackwards:
    def resolve(self, graph):
        plan = NativeSolver().resolve(graph)
        return Plan(plan.order, list(reversed(plan.stages)))


class ChangesTheGraph:
    def resolve(self, graph):
        graph.needs[-1] = ()
        return NativeSolver().resolve(graph)


class ChangesItsMind:
    def __init__(self):
        self.times = 0

    def resolve(self, graph):
        self.times += 1
        order = list(range(len(graph)))
        return Plan(order if self.times % 2 else order[::-1], NativeSolver().resolve(graph).stages)


def workflow():
    from cascade.testing.contracts import solver

    return solver._diamond()


BROKEN_SOLVERS = [
    (Forgets, lambda suite: suite.test_the_order_names_every_node_once(workflow)),
    (Forgets, lambda suite: suite.test_the_stages_hold_every_node_once_and_after_all_that_it_depends_on(workflow)),
    (Forgets, lambda suite: suite.test_an_engine_with_it_computes_what_is_expected(workflow)),
    (
        GoesBackwards,
        lambda suite: suite.test_the_stages_hold_every_node_once_and_after_all_that_it_depends_on(workflow),
    ),
    (ChangesTheGraph, lambda suite: suite.test_planning_is_pure(workflow)),
    (ChangesItsMind, lambda suite: suite.test_planning_is_pure(workflow)),
]


@pytest.mark.parametrize(("make", "broken"), BROKEN_SOLVERS)
def test_a_broken_solver_is_caught(make, broken) -> None:
    with pytest.raises((AssertionError, ValueError)):
        broken(suite_for(SolverContract, make))


class OnTheLoop(LocalExecutor):
    async def execute(self, node, args, kwargs):
        return node.task.function(*args, **kwargs)


class LosesNames(LocalExecutor):
    async def execute(self, node, args, kwargs):
        return await super().execute(node, args, {})


class Wraps(LocalExecutor):
    async def execute(self, node, args, kwargs):
        try:
            return await super().execute(node, args, kwargs)
        except Exception as error:
            raise RuntimeError(str(error)) from error


class OneAtATime(LocalExecutor):
    def __init__(self):
        super().__init__()
        self.lock = asyncio.Lock()

    async def execute(self, node, args, kwargs):
        async with self.lock:
            return await super().execute(node, args, kwargs)


class LeavesCallsBehind(LocalExecutor):
    """Returns when it is cancelled, while the call goes on."""

    async def execute(self, node, args, kwargs):
        return await asyncio.shield(super().execute(node, args, kwargs))


class ClosesOnce(LocalExecutor):
    closed = False

    async def close(self):
        assert not self.closed
        self.closed = True
        await super().close()


BROKEN_EXECUTORS = [
    (LosesNames, lambda suite, folder: suite.test_arguments_arrive_by_position_and_by_name()),
    (Wraps, lambda suite, folder: suite.test_a_call_raises_what_the_function_raises_and_the_next_is_made()),
    (OneAtATime, lambda suite, folder: suite.test_two_calls_are_under_way_at_once(folder)),
    (
        LeavesCallsBehind,
        lambda suite, folder: suite.test_a_call_that_was_cancelled_has_no_effect_once_it_has_returned(folder),
    ),
    (ClosesOnce, lambda suite, folder: suite.test_it_may_be_closed_twice_and_without_a_call()),
    (OnTheLoop, lambda suite, folder: suite.test_a_call_sees_the_context_and_changes_it_for_nobody()),
]


@pytest.mark.parametrize(("make", "broken"), BROKEN_EXECUTORS)
def test_a_broken_executor_is_caught(make, broken, tmp_path, monkeypatch) -> None:
    from cascade.testing.contracts import executor

    monkeypatch.setattr(executor, "_PATIENCE", 0.2)
    with pytest.raises((AssertionError, RuntimeError, TimeoutError)):
        broken(suite_for(ExecutorContract, make), tmp_path)
