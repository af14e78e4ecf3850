"""What a run leaves behind does not keep values, tasks or models alive. (S18, S26)"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.observed import run


class Large:
    """Stands for a value that somebody would miss the memory of."""


@cs.task
def make() -> Large:
    return Large()


@cs.task
def keep(value: Any) -> Any:
    return value


@cs.task
def returning() -> Any:
    return keep(make())


@cs.task
def fail(_: Any) -> None:
    raise ValueError("no")


@pytest.fixture
def without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def is_gone(seen: weakref.ref[Large]) -> bool:
    """Whether a value has died, once the thread that made it has come to its end, too."""
    for _ in range(1000):
        if seen() is None:
            return True
        threading.Event().wait(0.005)
    return False


TARGETS: list[Callable[[], Any]] = [
    make,
    lambda: keep(make()),
    returning,
    lambda: cs.Router(keep(1), {1: make(), 2: keep(2)}),
    lambda: keep(make()).run_if(keep(1)),
    lambda: make().with_retry(2),
    lambda: cs.sequence([keep(1), make()]),
]


@pytest.mark.usefixtures("without_the_collector")
@pytest.mark.parametrize("target", TARGETS)
def test_a_result_dies_with_its_last_reference(target: Callable[[], Any]) -> None:
    result = run(target())
    assert isinstance(result, Large)
    seen = weakref.ref(result)
    del result
    assert is_gone(seen)


@pytest.mark.usefixtures("without_the_collector")
def test_a_run_that_failed_keeps_no_values() -> None:
    seen: list[weakref.ref[Large]] = []

    @cs.task
    def note(value: Large) -> Large:
        seen.append(weakref.ref(value))
        return value

    value = note(make())
    with pytest.raises(ValueError, match="no"):
        run([fail(cs.sequence([value, keep(1)])), value])
    assert len(seen) == 1
    assert is_gone(seen[0])


def test_an_idle_engine_keeps_no_models_whose_methods_were_tasks() -> None:
    class Model:
        @cs.task
        def step(self, i: int) -> int:
            return i

    async def main() -> list[Model | None]:
        async with cs.create_engine() as engine:
            models: list[weakref.ref[Model]] = []
            for i in range(5):
                model = Model()
                models.append(weakref.ref(model))
                assert await engine.run(model.step(i)) == i
                del model
            gc.collect()
            return [reference() for reference in models]

    assert asyncio.run(main()) == [None] * 5
