"""S1: calling a task runs nothing, and checks its arguments on the spot."""

from __future__ import annotations

import asyncio
import functools
import traceback
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionFinished, TaskExecutionStarted
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import Trace, run

PACKAGE = str(Path(cs.__file__).parent)


@cs.task
def resize(image: str, width: int, *, height: int = 10) -> str:
    return f"{image}:{width}x{height}"


@each_kind
def test_calling_runs_nothing_until_a_run_asks(kind: str) -> None:  # S1
    log = Log()
    note = log.task(kind)
    first = note("a")
    note("unwanted", first)
    assert log.entries == []
    assert run(note("b", first)) == "b"
    assert log.entries == ["a", "b"]


def test_mapping_partials_and_policies_run_nothing_either() -> None:  # S1
    log = Log()
    note = log.task()
    note.map(["a"])
    note.partial("b")
    note("c").with_retry().named("d").after(note("e"))
    cs.pipeline(note("f"), [note])
    cs.sequence([note("g")])
    cs.Router(note("h"), {"h": note("i")})
    assert log.entries == []


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "image"),
    (("a",), {}, "width"),
    (("a", 1, 2), {}, "too many positional arguments"),
    (("a", 1), {"depth": 3}, "depth"),
    (("a", 1), {"width": 3}, "width"),
]


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "after good calls"])
@pytest.mark.parametrize(("args", "kwargs", "word"), WRONG)
def test_wrong_arguments_are_a_type_error_that_names_task_and_parameters(  # S1
    args: tuple[Any, ...], kwargs: dict[str, Any], word: str, warm: bool
) -> None:
    task = cs.task(resize.function, name="resize")
    if warm:
        task("a", 1)
        task("a", width=1)
        task("a", 1, height=2)
    with pytest.raises(TypeError) as caught:
        task(*args, **kwargs)
    message = str(caught.value)
    assert "'resize'" in message
    assert word in message
    for parameter in ("image", "width", "height"):
        assert parameter in message
    assert isinstance(caught.value, cs.TaskArgumentError)
    assert caught.value.task_name == "resize"


def test_a_misspelt_name_is_named() -> None:  # S1, S30
    with pytest.raises(TypeError, match="widht"):
        resize("a", widht=3)


def test_wrong_arguments_are_raised_on_the_callers_line() -> None:  # S1
    try:
        resize("a", 1, 2, 3)
    except TypeError as error:
        mine = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(PACKAGE)]
        assert mine[-1].filename == __file__
        assert mine[-1].line == 'resize("a", 1, 2, 3)'
    else:
        pytest.fail("the call was accepted")


def test_lazy_arguments_are_counted_like_values() -> None:  # S1
    one = resize("a", 1)
    with pytest.raises(TypeError, match="resize"):
        resize(one, 1, 2)
    with pytest.raises(TypeError, match="resize"):
        resize(image=one, wide=1)


@each_kind
def test_every_kind_of_task_checks_its_arguments(kind: str) -> None:  # S1
    def shift(x: int, by: int) -> int:
        return x + by

    task = made(kind, shift)
    with pytest.raises(TypeError, match=r"'shift'.*\bx\b.*\bby\b"):
        task(1)
    assert run(task(1, by=2)) == 3


def test_partials_maps_methods_and_functools_partials_are_checked_too() -> None:  # S1
    class Shop:
        @cs.task
        def price(self, item: str, amount: int) -> str:
            return f"{item}*{amount}"

    with pytest.raises(TypeError, match="resize"):
        resize.partial("a", 1, 2)
    with pytest.raises(TypeError, match="resize"):
        resize.partial(depth=3)
    with pytest.raises(TypeError, match="resize"):
        resize.partial("a")(1, 2)
    with pytest.raises(TypeError, match="resize"):
        resize.map(image=["a"], depth=[1])
    with pytest.raises(TypeError, match="price"):
        Shop().price("pear")
    half = cs.task(functools.partial(resize.function, "a"))
    with pytest.raises(TypeError, match="resize"):
        half(1, 2)
    assert run([half(3), Shop().price("pear", amount=2)]) == ["a:3x10", "pear*2"]


def test_required_keyword_only_arguments_are_asked_for_at_every_call() -> None:  # S1
    task = cs.task(lambda *, key: key, name="keyed")
    for _ in range(2):
        with pytest.raises(TypeError, match="keyed"):
            task()
        assert run(task(key=1)) == 1


def test_any_number_of_arguments_is_fine_where_the_signature_says_so() -> None:  # S1
    many = cs.task(lambda *args, **named: (args, named), name="many")
    assert run([many(), many(1, 2, 3), many(1, a=2)]) == [((), {}), ((1, 2, 3), {}), ((1,), {"a": 2})]


def test_builtins_without_a_signature_go_unchecked() -> None:  # S1
    largest = cs.task(max)
    assert run(largest(1, 3, 2)) == 3
    unchecked = largest()
    with pytest.raises(TypeError, match="max"):
        run(unchecked)


def test_a_task_is_named_by_its_function_or_as_told() -> None:  # S1
    def clean() -> None: ...

    assert cs.task(clean).name == "clean"
    assert cs.task(clean, name="scrub").name == "scrub"
    assert cs.task(sum).name == "sum"
    assert cs.task(functools.partial(clean)).name == "clean"
    assert cs.task(lambda: 1, name="one").name == "one"
    assert "scrub" in repr(cs.task(clean, name="scrub")())


@each_kind
def test_events_use_the_name(kind: str) -> None:  # S1
    trace = Trace()
    plain, told = made(kind, lambda: 1, name="told"), made(kind, lambda: 2, name="other")
    run([plain(), told().named("mine")], bus=trace.bus)
    assert {event.task_name for event in trace.of(TaskExecutionStarted)} == {"told", "mine"}
    assert {event.task_name for event in trace.of(TaskExecutionFinished)} == {"told", "mine"}


@each_kind
def test_errors_use_the_name(kind: str) -> None:  # S1
    def fall() -> None:
        raise ValueError("fell")

    with pytest.raises(ValueError, match="fell") as caught:
        run(made(kind, fall, name="told")())
    assert any("'told'" in note for note in caught.value.__notes__)


@each_kind
def test_scopes_use_the_name(kind: str) -> None:  # S1
    log = Log()
    held, free = log.task(kind, name="held_back"), log.task(kind, name="free")

    async def main() -> None:
        freed = asyncio.Event()
        bus = cs.MessageBus()
        bus.subscribe(TaskExecutionFinished, lambda event: freed.set() if event.task_name == "free" else None)
        async with cs.create_engine(bus=bus) as engine:
            engine.constraints.set(cs.GlobalConstraint.pause("task:held_*"))
            going = asyncio.create_task(engine.run([held("held"), free("free")]))
            await freed.wait()
            assert log.entries == ["free"]
            engine.constraints.remove("task:held_*")
            await going
            assert log.entries == ["free", "held"]

    asyncio.run(main())


def test_what_cannot_be_called_or_is_a_task_already_is_no_task() -> None:  # S1
    with pytest.raises(cs.DeclarationError, match="int"):
        cs.task(3)  # type: ignore[call-overload]
    with pytest.raises(cs.DeclarationError, match="already"):
        cs.task(resize)
