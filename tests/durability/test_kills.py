"""A process is killed at each point of journaling, again while it recovers, and in the end nothing shows (S27).

`CASCADE_KILLS=10000` kills that many processes; the usual number is enough to meet each point on each shape.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cascade.spec.records import RunRow
from cascade.stores import open_store
from tests.durability.ledger import Effect, Ledger
from tests.durability.processes import Processes
from tests.durability.program import Order
from tests.durability.shapes import SHAPES, Shape
from tests.durability.standing import committed
from tests.property.values import portrait

pytestmark = pytest.mark.needs_extra("sqlite")

KILLS = int(os.environ.get("CASCADE_KILLS", "500"))
POINTS = (
    "run.locked",
    "store.claim.before-commit",
    "store.claim.after-commit",
    "run.recalled",
    "effect.begin",
    "effect.end",
    "journal.commit.begin",
    "store.write.begin",
    "store.write.before-commit",
    "store.write.after-commit",
    "journal.commit.end",
    "store.finish.before-commit",
    "store.finish.after-commit",
    "run.unlock",
)
OF_ONE_SHAPE = (
    ("large results", "store.blob.written"),
    ("large results", "store.blob.renamed"),
    ("signal", "store.signal.before-commit"),
    ("signal", "store.signal.after-commit"),
)
CASES = [*((shape, point) for shape in SHAPES for point in POINTS), *OF_ONE_SHAPE]
SHARE = -(-KILLS // len(CASES))

Death = tuple[str, int]


class Story:
    """One run in its own folder, from its beginning to its end, with all the processes that died over it."""

    def __init__(self, children: Processes, shape: Shape, folder: Path) -> None:
        folder.mkdir()
        self.children = children
        self.shape = shape
        self.folder = folder
        self.store = f"sqlite:///{folder}/flows.db"
        self.ledger = Ledger(folder / "ledger")
        self.kills = 0
        self.reached: dict[str, int] = {}
        if shape.signals:
            store = open_store(self.store)
            for name, payload in shape.signals:
                store.send("run", name, payload, 1.0)
            store.close()

    def tell(self, deaths: list[Death]) -> None:
        """Run it, kill it, resume it, and look at what happened each time."""
        final: set[str] = set()
        waiting = [*deaths, None, None]
        while waiting:
            death = waiting.pop(0)
            seen = len(self.ledger.effects())
            order = Order(self.shape.name, self.store, "run", str(self.folder))
            if death is not None:
                order = replace(order, point=death[0], reach=death[1])
            outcome = self.children.run(order)
            effects = self.ledger.effects()
            again = [effect for effect in effects[seen:] if effect.key in final]
            assert not again, f"called again after it was committed: {again}"
            if outcome is None:
                self.kills += 1
            elif outcome.value is not None:
                assert outcome.value == portrait(self.shape.expected)
                self.reached = outcome.reached
                break
            else:
                assert self.shape.heals, outcome.error
                assert outcome.error is not None
                assert outcome.error[0] == "Boom", outcome.error
            final = self.final(effects)
            if self.shape.name in ("chain", "loop"):
                ahead = {effect.key for effect in effects} - final
                assert len(ahead) <= 1, f"called on inputs that were not committed: {ahead}"
        else:
            raise AssertionError("it never came to an end")
        self.check(self.ledger.effects())

    def final(self, effects: list[Effect]) -> set[str]:
        store = open_store(self.store)
        try:
            return committed("run", store.records("run"), effects)
        finally:
            store.close()

    def check(self, effects: list[Effect]) -> None:
        """No step is missing, no step was two, and the store says that the run has ended."""
        steps: dict[str, set[tuple[str, int, str]]] = {}
        for effect in effects:
            steps.setdefault(effect.key, set()).add((effect.function, effect.number, effect.place))
        assert not [(key, calls) for key, calls in steps.items() if len(calls) > 1], "a key stands for two calls"
        assert Counter(function for ((function, _, _),) in steps.values()) == self.shape.calls
        row = self.row()
        assert (row.status, row.lease_until, row.error) == ("succeeded", 0.0, None)

    def row(self) -> RunRow:
        store = open_store(self.store)
        try:
            row = store.find("run")
            assert row is not None
            return row
        finally:
            store.close()


@pytest.fixture(scope="session")
def undisturbed(children: Processes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Story]:
    """Each shape once without any death."""
    told: dict[str, Story] = {}
    for shape in SHAPES.values():
        told[shape.name] = Story(children, shape, tmp_path_factory.mktemp("undisturbed") / "run")
        told[shape.name].tell([])
    return told


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_not_killed_does_everything_once(name: str, undisturbed: dict[str, Story]) -> None:
    shape = SHAPES[name]
    effects = [(effect.key, effect.attempt) for effect in undisturbed[name].ledger.effects()]
    assert len(effects) == len(set(effects))
    assert undisturbed[name].children.run(Order(name, undisturbed[name].store, "run", str(undisturbed[name].folder)))
    assert len(undisturbed[name].ledger.effects()) == len(effects), "a finished run was called again"
    assert shape.calls


@pytest.mark.parametrize(("name", "point"), CASES)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    name: str, point: str, children: Processes, undisturbed: dict[str, Story], tmp_path: Path
) -> None:
    chance = random.Random(f"{name} {point}")
    times = undisturbed[name].reached
    kills = number = 0
    while kills < SHARE:
        at = point, chance.randint(1, times.get(point, 1))
        anywhere = "any", chance.randint(1, sum(times.values()))
        # What is reached by a resumed run alone needs a death before; elsewhere the second one is in the recovery.
        deaths = [anywhere, at] if point == "run.recalled" or number % 3 == 2 else [at, anywhere]
        story = Story(children, SHAPES[name], tmp_path / str(number))
        story.tell(deaths)
        kills += story.kills
        number += 1
        # How completions come together in groups is different each time, so that a point may be reached less often.
        assert number <= 3 * SHARE, f"{point} is hardly ever reached"


@pytest.mark.parametrize("renewal", [1, 2, 5])
def test_an_owner_that_is_killed_while_it_renews_its_lease_leaves_a_run_that_goes_on(
    renewal: int, children: Processes, tmp_path: Path
) -> None:
    # Nobody sends the signals that it waits for, so that it has nothing to do but to renew.
    shape = SHAPES["signal"]
    story = Story(children, replace(shape, signals=()), tmp_path / "run")
    order = Order(shape.name, story.store, "run", str(story.folder), point="lease.renew", reach=renewal)
    assert children.run(replace(order, environment={"CASCADE_LEASE_SECONDS": "0.3"})) is None
    assert story.row().status == "running"
    store = open_store(story.store)
    for name, payload in shape.signals:
        store.send("run", name, payload, 1.0)
    store.close()
    story.tell([("any", 6)])
    assert len(story.ledger.effects()) in (2, 3)
