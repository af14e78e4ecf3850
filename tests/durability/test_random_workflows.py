"""Random workflows that are broken off at a random moment and resumed, held against the reference (S27).

`CASCADE_RANDOM_WORKFLOWS=10000` looks at more.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

import cascade as cs
from cascade.runtime import fault_points
from cascade.spec.exceptions import StoreError
from cascade.stores import open_store
from tests.conftest import RANDOM_WORKFLOWS
from tests.durability.described import MOST_FUNCTIONS, Program, perform
from tests.durability.ledger import Effect, Ledger
from tests.durability.standing import committed
from tests.property.construction import error_of, same
from tests.property.description import Workflow
from tests.property.prediction import Prediction, Skipped, Value
from tests.property.reference import TooMuch, predict
from tests.property.values import Boom
from tests.property.workflows import workflows

pytestmark = pytest.mark.needs_extra("sqlite")


class BrokenOff(Exception):
    """The process would be dead here."""


class Fuse:
    """Lets nothing be written any more from some moment on, as if the process had died there."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._lock = threading.Lock()
        self.blown = False

    def __call__(self, point: str) -> None:
        if point.startswith("store."):
            with self._lock:
                self._left -= 1
                self.blown = self.blown or self._left < 0
            if self.blown:
                raise BrokenOff(point)


class Place:
    """Engines on one store, for one workflow after another: what is broken off is a run, and not the engine."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder}/flows.db"
        self.folder = folder
        self.runner = asyncio.Runner()
        self.store = open_store(url)
        self.engines = {
            capacity: cs.create_engine(store=url, system_resources={"slots": capacity}, max_workers=8)
            for capacity in (1, 2)
        }
        self.runs = 0

    def close(self) -> None:
        for engine in self.engines.values():
            self.runner.run(engine.close())
        self.store.close()
        self.runner.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("broken-off"))
    yield made
    made.close()


class Broken:
    """One workflow, broken off and resumed."""

    def __init__(self, place: Place, workflow: Workflow, prediction: Prediction) -> None:
        self.place, self.workflow, self.prediction = place, workflow, prediction
        place.runs += 1
        self.run_id = f"run{place.runs}"
        self.ledger = Ledger(place.folder / self.run_id, synced=False)
        self.has_failed = False

    def run(self, durability: Any) -> tuple[Any, BaseException | None]:
        program = perform(Program(self.workflow, self.ledger))
        engine = self.place.engines[self.workflow.capacity]
        going = engine.run(
            *(program.target, program.params),
            run_id=self.run_id,
            durability=durability,
            on_failure=self.workflow.on_failure,  # type: ignore[arg-type]
        )
        try:
            return self.place.runner.run(going), None
        except Exception as error:
            return None, error

    def committed(self, effects: list[Effect]) -> set[str]:
        records = self.place.store.records(self.run_id)
        self.has_failed = self.has_failed or any(record.kind == "failed" for record in records)
        if self.has_failed:
            # What a failure had pruned is wanted after all when that has healed.
            records = [record for record in records if record.kind != "skipped"]
        return committed(self.run_id, records, effects)

    def tell(self, moments: list[int], durability: Any) -> None:
        final: set[str] = set()
        for after in [*moments, 10**9]:
            seen = len(self.ledger.effects())
            fault_points.on_reach = fuse = Fuse(after)
            value, error = self.run(durability)
            fault_points.on_reach = None
            effects = self.ledger.effects()
            again = [effect for effect in effects[seen:] if effect.key in final]
            assert not again, f"called again after it was committed: {again}"
            final = self.committed(effects)
            if fuse.blown:
                assert error is not None
                assert isinstance(error, BrokenOff | StoreError | cs.RunFailedGroup) or self.may_raise(error), error
            else:
                self.check(value, error)

    def may_raise(self, error: BaseException) -> bool:
        """Whether it may have come to its own end, before it was known that the store had failed."""
        if type(error).__name__ == "DependencyMissingError":
            # Or what failed in the first run has healed in a resumed one, and now other branches are taken.
            return isinstance(self.prediction.outcome, Skipped) or bool(self.prediction.ledger.failures)
        if isinstance(error, Boom):
            # A failed attempt that was not repeated, because the run had been stopped meanwhile.
            return True
        return error_of(error) in {known for slot in self.prediction.ledger.failures for known in slot}

    def check(self, value: Any, error: BaseException | None) -> None:
        """It ended by itself, with what the reference says, or with what it says after some failure has healed."""
        if self.prediction.ledger.failures or self.prediction.ledger.vague:
            # An attempt that failed counts in the resumed run, so that a task may succeed there which never would.
            return
        if not isinstance(self.prediction.outcome, Value):
            assert type(error).__name__ == "DependencyMissingError", error
            return
        assert error is None, error
        assert same(value, self.prediction.outcome.value)
        made: dict[str, Effect] = {}
        for effect in self.ledger.effects():
            known = made.setdefault(effect.key, effect)
            assert known[:2] == effect[:2], "a key stands for two calls"
        succeeded = Counter(int(effect.function) for effect in made.values())
        expected = self.prediction.ledger.calls
        assert set(succeeded) == set(expected)
        for function, times in expected.items():
            # Attempts of one call have one key.
            assert succeeded[function] <= times
            if self.workflow.functions[function].fails is None:
                assert succeeded[function] == times


@settings(
    max_examples=max(1, round(RANDOM_WORKFLOWS * 0.2)),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(
    workflow=workflows(on_failure="never", most_nodes=10),
    moments=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    durability=st.sampled_from(["committed", "committed", "relaxed"]),
)
def test_what_was_broken_off_comes_to_the_same(
    place: Place, workflow: Workflow, moments: list[int], durability: str
) -> None:
    check(place, workflow, moments, durability)


@settings(
    max_examples=max(1, round(RANDOM_WORKFLOWS * 0.1)),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(
    workflow=workflows(on_failure="continue", most_nodes=8),
    moments=st.lists(st.integers(0, 60), min_size=1, max_size=3),
)
def test_what_was_broken_off_among_failures_calls_nothing_again(
    place: Place, workflow: Workflow, moments: list[int]
) -> None:
    check(place, workflow, moments, "committed")


def check(place: Place, workflow: Workflow, moments: list[int], durability: str) -> None:
    try:
        prediction = predict(workflow)
    except TooMuch:
        return
    if len(workflow.functions) <= MOST_FUNCTIONS:
        note(str(workflow))
        note(repr(workflow))
        Broken(place, workflow, prediction).tell(moments, durability)
