"""Cascade held against the reference on random workflows.

`CASCADE_RANDOM_WORKFLOWS=10000` looks at more. `python -m tests.property.fuzz 10000 1` does so without
pytest, from a seed, and makes a failing workflow small.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import lists

from tests.conftest import RANDOM_WORKFLOWS
from tests.property.description import Workflow
from tests.property.workflows import Examiner, examiner, workflows


@pytest.fixture(scope="module")
def examined() -> Iterator[Examiner]:
    with examiner() as made:
        yield made


def many(share: float) -> settings:
    """A share of all the workflows: several tests, so that they can run on several cores."""
    return settings(
        max_examples=max(1, round(RANDOM_WORKFLOWS * share)),
        # A failing workflow is made small by what knows workflows.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@many(0.25)
@given(workflow=workflows(on_failure="never"))
def test_workflows_without_failures(examined: Examiner, workflow: Workflow) -> None:
    examined.check(workflow)


@many(0.15)
@given(workflow=workflows(on_failure="never", most_nodes=4))
def test_small_workflows_without_failures(examined: Examiner, workflow: Workflow) -> None:
    examined.check(workflow)


@many(0.3)
@given(workflow=workflows(on_failure="continue"))
def test_workflows_that_go_on_after_failures(examined: Examiner, workflow: Workflow) -> None:
    examined.check(workflow)


@many(0.2)
@given(workflow=workflows(on_failure="stop"))
def test_workflows_that_stop_at_a_failure(examined: Examiner, workflow: Workflow) -> None:
    examined.check(workflow)


@many(0.1)
@given(several=lists(workflows(most_nodes=5), min_size=2, max_size=4))
def test_workflows_at_once(examined: Examiner, several: list[Workflow]) -> None:  # S21
    examined.check_together(several)
