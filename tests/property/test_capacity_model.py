"""Random schedules of requests, releases and cancellations against a sequential model of S23."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.runtime.capacity import Grant
from cascade.runtime.resource_manager import ResourceManager
from tests.conftest import RANDOM_WORKFLOWS

CAPACITIES = {"a": 3, "b": 1.0, "c": 0.7}
# Mostly amounts that fill a resource by half or more, so that queues are long and rarely empty.
AMOUNTS = st.one_of(
    st.builds(lambda a: {"a": a}, st.sampled_from([1, 2, 3, 3])),
    st.builds(lambda a, b: {"a": a, "b": b}, st.sampled_from([1, 2]), st.sampled_from([0.1, 0.3, 0.9])),
    st.builds(lambda b, c: {"b": b, "c": c}, st.sampled_from([0.2, 0.7, 1.0]), st.sampled_from([0.1, 0.35, 0.7])),
    st.builds(lambda a, c: {"c": c, "a": a, "unlisted": 5}, st.sampled_from([0, 2]), st.sampled_from([0, 0.7])),
)
KINDS = ["acquire", "acquire", "acquire", "try", "release", "release", "cancel", "settle"]
STEPS = st.lists(
    st.sampled_from(KINDS).flatmap(
        lambda kind: st.tuples(st.just(kind), AMOUNTS if kind in {"acquire", "try"} else st.integers(0, 30))
    ),
    min_size=30,
    max_size=60,
)


@dataclass
class Model:
    """The rule as it is written: in order of arrival, whoever shares nothing with an earlier one and fits."""

    used: dict[str, Fraction] = field(default_factory=lambda: dict.fromkeys(CAPACITIES, Fraction(0)))
    waiting: dict[int, dict[str, Fraction]] = field(default_factory=dict)
    granted: dict[int, dict[str, Fraction]] = field(default_factory=dict)

    def exact(self, amounts: Mapping[str, Any]) -> dict[str, Fraction]:
        return {name: Fraction(str(amount)) for name, amount in amounts.items() if name in self.used and amount}

    def arrive(self, number: int, amounts: Mapping[str, Any]) -> None:
        self.waiting[number] = self.exact(amounts)
        self.serve()

    def give_back(self, number: int) -> None:
        for name, amount in self.granted.pop(number).items():
            self.used[name] -= amount
        self.serve()

    def withdraw(self, number: int) -> None:
        del self.waiting[number]
        self.serve()

    def serve(self) -> None:
        claimed: set[str] = set()
        for number, amounts in list(self.waiting.items()):
            fits = all(self.used[name] + amount <= Fraction(str(CAPACITIES[name])) for name, amount in amounts.items())
            if fits and not claimed & set(amounts):
                self.granted[number] = self.waiting.pop(number)
                for name, amount in amounts.items():
                    self.used[name] += amount
            else:
                claimed |= set(amounts)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def follow(steps: list[tuple[str, Any]]) -> None:  # noqa: C901 - one branch for each kind of step
    manager = ResourceManager(CAPACITIES)
    model = Model()
    tasks: dict[int, asyncio.Task[Grant]] = {}
    held: dict[int, Grant] = {}
    released: set[int] = set()
    number = 0

    async def compare() -> None:
        await settle()
        for task_number, task in tasks.items():
            if task.done() and not task.cancelled() and task_number not in released:
                held[task_number] = task.result()
        assert set(held) == set(model.granted)
        assert {name: Fraction(str(used)) for name, (used, _) in manager.usage().items()} == model.used

    for step, value in [*steps, ("settle", 0)]:
        if step == "acquire":
            number += 1
            tasks[number] = asyncio.ensure_future(manager.acquire(value))
            await asyncio.sleep(0)
            model.arrive(number, value)
        elif step == "try":
            number += 1
            model.arrive(number, value)
            grant = manager.try_acquire(value)
            assert (grant is not None) == (number in model.granted)
            if grant is None:
                model.withdraw(number)
            else:
                held[number] = grant
        elif step == "settle":
            await compare()
        elif step == "release" and held:
            chosen = sorted(held)[value % len(held)]
            held.pop(chosen).release()
            released.add(chosen)
            model.give_back(chosen)
        elif step == "cancel" and (open_tasks := [n for n, task in tasks.items() if not task.done()]):
            # It may be granted already and not know it yet: then the model's grant is given back as well.
            chosen = open_tasks[value % len(open_tasks)]
            if chosen in model.waiting or (chosen in model.granted and not tasks[chosen].cancelling()):
                tasks[chosen].cancel()
                if chosen in model.granted:
                    model.give_back(chosen)
                else:
                    model.withdraw(chosen)
                await asyncio.sleep(0)

    while held:
        held.popitem()[1].release()
        await settle()
        for task_number, task in tasks.items():
            if task.done() and not task.cancelled() and task_number not in released | set(held):
                held[task_number] = task.result()
                released.add(task_number)
    assert all(task.done() for task in tasks.values())
    assert all(used == 0 for used, _ in manager.usage().values())


@settings(max_examples=max(1, round(RANDOM_WORKFLOWS * 0.3)))
@given(STEPS)
def test_any_schedule_is_served_as_the_rule_says_and_leaks_nothing(
    steps: list[tuple[str, Any]],
) -> None:  # S23
    asyncio.run(follow(steps))
