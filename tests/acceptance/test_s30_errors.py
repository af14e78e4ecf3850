"""S30: errors have one root, the standard class that fits, and the objects concerned."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

import cascade as cs
from cascade.spec import exceptions
from tests.acceptance.observed import promptly, run


@cs.task
def give(value: Any) -> Any:
    return value


@cs.task
def double(x: int) -> int:
    return 2 * x


# S30
def test_every_error_has_the_one_root() -> None:
    for name, kind in vars(exceptions).items():
        if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == exceptions.__name__:
            assert issubclass(kind, (cs.CascadeError, cs.CascadeWarning)), name
    for name in dir(cs):
        if name.endswith(("Error", "Group")):
            assert issubclass(getattr(cs, name), cs.CascadeError), name


async def nested() -> Any:
    return run(double(1))


CASES: dict[str, tuple[Any, type[Exception], type[Exception]]] = {
    "route": (lambda: run(cs.Router(give("c"), {"a": give(1), "b": give(2)})), cs.UnknownRouteError, ValueError),
    "lengths": (lambda: run(cs.task(max).map([1], [1, 2])), cs.MapInputError, ValueError),
    "map input": (lambda: run(double.map(x=give(5))), cs.MapInputError, ValueError),
    "parameter": (lambda: run(cs.Param("x")), cs.ParameterError, ValueError),
    "amount": (
        lambda: run(give(1).with_constraints(gpu=3), system_resources={"gpu": 2}),
        cs.ValidationError,
        ValueError,
    ),
    "resource": (lambda: run(cs.task(lambda r: r)(r=cs.inject("nobody"))), cs.UnknownResourceError, NameError),
    "timeout": (
        lambda: run(cs.task(asyncio.sleep)(60).with_timeout(0.01)),
        cs.TaskTimeoutError,
        TimeoutError,
    ),
    "arguments": (lambda: double(1, 2, 3), cs.TaskArgumentError, TypeError),
    "lazy value": (lambda: bool(double(1)), cs.LazyValueError, TypeError),
    "skipped": (lambda: run(double(1).run_if(give(False))), cs.DependencyMissingError, LookupError),
    "result": (lambda: run(cs.task(lambda: asyncio.sleep(0))()), cs.TaskResultError, TypeError),
    "nested": (lambda: run(cs.task(nested)()), cs.NestedRunError, RuntimeError),
    "declaration": (lambda: double(1).with_timeout(-1), cs.DeclarationError, ValueError),
}


# S30
@pytest.mark.parametrize("name", CASES)
def test_an_error_is_of_the_root_and_of_the_standard_class_that_fits(name: str) -> None:
    make, kind, standard = CASES[name]
    with pytest.raises(kind) as caught:
        promptly(make)
    assert isinstance(caught.value, standard)
    assert isinstance(caught.value, cs.CascadeError)


# S30
def test_errors_keep_the_objects_concerned() -> None:
    with pytest.raises(cs.UnknownRouteError) as route:
        run(cs.Router(give("c"), {"a": give(1), None: give(2)}))
    assert route.value.value == "c"
    assert route.value.routes == ("a", None)
    with pytest.raises(cs.MapInputError) as lengths:
        run(cs.task(lambda a, b: a, name="pair").map([1], [1, 2]))
    assert (lengths.value.task_name, lengths.value.lengths) == ("pair", {"a": 1, "b": 2})
    with pytest.raises(cs.DependencyMissingError) as missing:
        run({"key": double(1).run_if(give(False))})
    assert missing.value.task_id == "target"
    assert missing.value.dependency_id == "double#1"
    assert missing.value.reason == "ConditionFalse"
    assert "key" in missing.value.arg_name
    with pytest.raises(cs.TaskArgumentError) as arguments:
        double()
    assert arguments.value.task_name == "double"
    with pytest.raises(cs.TaskTimeoutError) as timeout:
        run(cs.task(asyncio.sleep, name="nap")(60).with_timeout(0.01))
    assert (timeout.value.task_name, timeout.value.timeout) == ("nap", 0.01)
    fine = double(2)
    with pytest.raises(cs.RunFailedGroup) as group:
        run([fine, cs.task(divmod)(1, 0)], on_failure="continue")
    assert group.value.results[fine] == 4
    assert isinstance(group.value.exceptions[0], ZeroDivisionError)


# S30
@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: run(cs.Router(give("c"), {"a": give(1), "b": give(2)})), ["'c'", "'a'", "'b'", "give"]),
        (lambda: run(cs.task(max).map([1], [1, 2])), ["max", "1", "2"]),
        (lambda: run(give(1).with_constraints(gpu=3), system_resources={"gpu": 2}), ["give", "gpu", "3", "2"]),
        (lambda: run(cs.task(lambda r: r, name="use")(r=cs.inject("nobody"))), ["use", "nobody", "resources="]),
        (lambda: run(double(1).run_if(give(False))), ["double", "ConditionFalse"]),
        (lambda: double(y=1), ["double", "double(x"]),
        (lambda: run(cs.Param("count", type=int), {"cuont": 1}), ["count", "cuont", "did you mean"]),
        (lambda: double(1).run_if(True), ["run_if", "Param"]),  # type: ignore[arg-type]
        (lambda: run(cs.task(nested)()), ["arun"]),
    ],
)
def test_errors_say_what_was_expected_what_came_and_what_to_do(make: Any, parts: list[str]) -> None:
    with pytest.raises(cs.CascadeError) as caught:
        promptly(make)
    for part in parts:
        assert part in str(caught.value)


# S30
def test_errors_survive_pickling() -> None:
    import pickle

    errors: list[Exception] = [
        cs.UnknownRouteError("s", "c", ("a",)),
        cs.MapInputError("t", {"x": 1}, "problem"),
        cs.DependencyMissingError("t", "a", "d", "Pruned"),
        cs.TaskArgumentError("t", "(x)", "problem"),
        cs.TaskTimeoutError("t#0", "t", 1.5),
        cs.ValidationError("one", "two"),
        cs.MissingExtraError("f", "l", "e"),
    ]
    for error in errors:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert copy.__dict__ == error.__dict__


# S30, S15
def test_an_exception_of_a_task_is_never_wrapped_and_has_notes() -> None:
    class OwnError(Exception):
        pass

    error = OwnError("mine")

    def raises(x: int) -> None:
        raise error

    with pytest.raises(OwnError) as caught:
        run(double(cs.task(raises)(1)))
    assert caught.value is error
    notes = "\n".join(caught.value.__notes__)
    for part in ("raises#0", "test_s30_errors.py:", "double#1"):
        assert part in notes


# S30
def test_a_value_whose_repr_raises_does_not_break_an_error() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

        def __hash__(self) -> int:
            return 1

    with pytest.raises(cs.UnknownRouteError, match="Broken"):
        run(cs.Router(cs.task(Broken)(), {"a": give(1)}))
    with pytest.raises(cs.MapInputError):
        run(double.map(x=cs.task(Broken)()))
