"""Workflows that random search has found to break a rule once, made small; each is checked on all engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.property.description import (
    Call,
    Container,
    Expr,
    Fails,
    Function,
    Input,
    Lit,
    Map,
    Node,
    Pipeline,
    Policy,
    Ref,
    Route,
    Step,
    Template,
    Workflow,
)
from tests.property.workflows import Examiner, examiner

NO, YES = Input("no", value=False), Input("yes", value=True)


@pytest.fixture(scope="module")
def examined() -> Iterator[Examiner]:
    with examiner() as made:
        yield made


def workflow(
    functions: list[Function], *nodes: Node, target: Expr | None = None, on_failure: str = "continue"
) -> Workflow:
    return Workflow(tuple(functions), nodes, target or Ref(len(nodes) - 1), on_failure)


FOUND = {
    "a thread's call follows an inline one": workflow(  # S8
        [Function(mode="inline"), Function()], Call(0), Call(1, (("a", Ref(0)),))
    ),
    "each node ends once where a run stops": workflow(  # S28
        [Function(fails=Fails())], Call(0), on_failure="stop"
    ),
    "an unknown key prunes all routes": workflow(  # S10
        [Function()], YES, Call(0), Route(Ref(0), (("a", Ref(1)),))
    ),
    "results are there for each of the calls that were merged": workflow(  # S2, S15
        [Function(pure=True), Function(fails=Fails())],
        Call(0, (("a", Lit(1)),), positional=1),
        Call(1),
        Call(0, (("a", Lit(1)),), positional=1),
        target=Container("list", (Ref(0), Ref(1), Ref(2))),
    ),
    "a map of nothing takes nothing": workflow(  # S17, S23
        [Function()], Map(0, (("b", Container("list", ())),), policy=Policy(amount=Lit(1)))
    ),
    "a router whose selector is a skipped router was not skipped by its route": workflow(  # S10
        [Function(), Function()],
        NO,
        Call(0, policy=Policy(run_if=Ref(0))),
        Route(Ref(0), ((False, Ref(1)),)),
        Route(Ref(2), ((False, Lit(0)),)),
        Call(1, (("b", Ref(3)),)),
    ),
    "a returned container with a skipped member": workflow(  # S14, S18
        [
            Function(template=Template((Call(1), Call(2, policy=Policy(run_if=Ref(0)))), Container("list", (Ref(1),)))),
            Function("none"),
            Function(),
        ],
        Call(0, (("a", Lit(1)),)),
    ),
    "a returned pipeline that would let a skipped value through": workflow(  # S12, S13
        [
            Function(
                template=Template(
                    (
                        Call(1),
                        Call(2, policy=Policy(run_if=Ref(0))),
                        Pipeline(Ref(1), (Step(2, policy=Policy(run_if=Ref(0))),)),
                    ),
                    Ref(2),
                )
            ),
            Function("none"),
            Function(),
        ],
        Call(0, (("a", Lit(1)),)),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_broke_once(examined: Examiner, name: str) -> None:
    examined.check(FOUND[name])
