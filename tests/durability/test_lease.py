"""A process that has slept past its lease calls nothing before it knows that the run is still its own (S27)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

import cascade as cs
from cascade.stores import open_store
from cascade.testing import MockClock

pytestmark = pytest.mark.needs_extra("sqlite")

SLEEP = 3600.0


class World:
    """What the calls of a run do to the world, and what happens to it in the midst of the first of them."""

    url = ""
    clock = MockClock()
    made: ClassVar[list[str]] = []
    is_stolen = False

    @classmethod
    def call(cls, name: str) -> str:
        cls.made.append(name)
        if len(cls.made) == 1:
            if cls.is_stolen:
                cls.steal()
            cls.clock.advance(SLEEP)
        return name

    @classmethod
    def steal(cls) -> None:
        """A process on another machine takes the run over, for which the owner's lease has run out."""
        store = open_store(cls.url)
        found = store.find("run")
        assert found is not None
        owned = found._replace(host="elsewhere", owner="elsewhere", lease_until=cls.clock.now() + 2 * SLEEP)
        assert store.claim(owned, over=found.epoch) is not None
        store.close()


@pytest.fixture(autouse=True)
def world(tmp_path: Path) -> None:
    World.url = f"sqlite:///{tmp_path}/flows.db"
    World.clock = MockClock()
    World.made = []


@cs.task
def on_thread(name: str) -> str:
    return World.call(name)


@cs.task
async def on_loop(name: str) -> str:
    return World.call(name)


@cs.task(executor="inline")
def inline(name: str) -> str:
    return World.call(name)


@cs.task
def both(first: Any, second: Any) -> Any:
    return [first, second]


NAMES = ["a", "b", "c", "d"]
SHAPES: dict[str, Callable[[], Any]] = {
    "threads": lambda: [on_thread(name) for name in NAMES],
    "loop": lambda: [on_loop(name) for name in NAMES],
    "inline": lambda: [inline(name) for name in NAMES],
    "a map on threads": lambda: on_thread.map(name=NAMES),
    "a map on the loop": lambda: on_loop.map(name=NAMES),
    "calls with policies": lambda: [on_thread(name).with_constraints(slot=1) for name in NAMES],
}


def run(target: Any, durability: Literal["committed", "relaxed"], timeout: float | None = None) -> Any:
    async def main() -> Any:
        engine = cs.create_engine(store=World.url, clock=World.clock, max_workers=1, system_resources={"slot": 1})
        async with engine:
            return await engine.run(target, run_id="run", durability=durability, timeout=timeout)

    return asyncio.run(main())


@pytest.mark.parametrize("durability", ["committed", "relaxed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_who_has_lost_its_run_in_its_sleep_calls_nothing_more(
    shape: str, durability: Literal["committed", "relaxed"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "is_stolen", True)
    with pytest.raises(cs.RunOwnedError):
        run(SHAPES[shape](), durability)
    assert len(World.made) == 1


@pytest.mark.parametrize("durability", ["committed", "relaxed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_whose_run_nobody_has_taken_in_its_sleep_goes_on(
    shape: str, durability: Literal["committed", "relaxed"]
) -> None:
    assert run(SHAPES[shape](), durability) == NAMES
    assert sorted(World.made) == NAMES


def test_time_stands_still_while_a_store_writes() -> None:
    """A clock that jumps would otherwise end the run's time in the midst of a commit."""
    World.made.append("no sleep")
    assert run(both(on_loop("a"), on_thread(on_loop("b"))), "committed", timeout=1.0) == ["a", "b"]
    assert World.clock.monotonic() == 0.0
