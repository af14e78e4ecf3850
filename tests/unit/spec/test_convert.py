"""What text and other values become by the declared type of a parameter (S19)."""

from __future__ import annotations

import datetime as dt
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.spec.convert import kind_of
from cascade.spec.exceptions import DeclarationError
from cascade.spec.kinds import Misfit, Repeated


class Color(Enum):
    RED = "red one"
    BLUE = "RED"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


Choices = Literal["a", 1, True, None]  # noqa: PYI061 - the flat spelling is supported too
UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        (None, "8", "8"),
        (Any, "8", "8"),
        (str, " 8 ", " 8 "),
        (int, " -8 ", -8),
        (float, "8", 8.0),
        (float, "1e-3", 0.001),
        (bool, "true", True),
        (bool, "YES", True),
        (bool, "1", True),
        (bool, "on", True),
        (bool, "false", False),
        (bool, "No", False),
        (bool, "0", False),
        (bool, " off ", False),
        (Path, "a/b", Path("a/b")),
        (dt.date, "2024-02-29", dt.date(2024, 2, 29)),
        (dt.datetime, "2024-02-29T10:00:00", dt.datetime(2024, 2, 29, 10)),
        (dt.datetime, "2024-02-29T10:00:00+00:00", dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC)),
        (Color, "RED", Color.RED),
        (Color, "red one", Color.RED),
        (Level, "HIGH", Level.HIGH),
        (Level, "2", Level.HIGH),
        (Word, "YES", Word.YES),
        (Word, "yes", Word.YES),
        (Choices, "a", "a"),
        (Choices, "1", 1),
        (Choices, "yes", True),
        (Choices, "none", None),
        (list, "a, b", ["a", "b"]),
        (list[int], "1,2, 3", [1, 2, 3]),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], '["1"]', [1]),
        (list[str], "", []),
        (list[str], '["a,b", "c"]', ["a,b", "c"]),
        (list[Color], "RED,BLUE", [Color.RED, Color.BLUE]),
        (list[list[int]], "[[1], [2, 3]]", [[1], [2, 3]]),
        (list[int | None], "[1, null]", [1, None]),
        (dict, '{"a": [1]}', {"a": [1]}),
        (dict[str, float], '{"a": 1}', {"a": 1.0}),
        (dict[int, Path], '{"1": "p"}', {1: Path("p")}),
        (int | None, "3", 3),
        (int | None, "", None),
        (int | None, "none", None),
        (Optional[Path], "NULL", Path("NULL")),  # noqa: UP045 - the old spelling is supported too
        (Union[None, float], "null", None),  # noqa: UP007 - likewise
        (str | None, "none", "none"),
        (str | None, "", ""),
        (UserId, "3", 3),
        (Annotated[int, "seconds"], "3", 3),
    ],
)
def test_text_becomes_the_declared_type(declared: Any, text: str, value: Any) -> None:
    converted = kind_of(declared).accept(text)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (int, 3),
        (bool, False),
        (str, "x"),
        (Path, Path("x")),
        (Color, Color.BLUE),
        (Word, Word.YES),
        (str, Word.YES),
        (Literal[1, 2], 2),
        (dt.date, dt.date(2024, 1, 1)),
        (dt.datetime, dt.datetime(2024, 1, 1)),
        (list[int], [1, 2]),
        (dict[str, int], {"a": 1}),
        (int | None, None),
        (None, object()),
        (object, 3),
    ],
)
def test_values_of_the_type_are_taken_as_they_are(declared: Any, value: Any) -> None:
    assert kind_of(declared).accept(value) == value


def test_an_int_is_fine_for_a_float_and_becomes_one() -> None:
    value = kind_of(float).accept(2)
    assert (value, type(value)) == (2.0, float)


def test_the_raw_value_of_a_member_is_taken() -> None:
    assert kind_of(Level).accept(2) is Level.HIGH


def test_text_inside_a_given_list_is_converted() -> None:
    assert kind_of(list[int]).accept(["1", 2]) == [1, 2]


@pytest.mark.parametrize(
    ("declared", "value", "told"),
    [
        (int, "x", "expected int, got 'x'"),
        (int, "1.5", "expected int, got '1.5'"),
        (int, 1.0, "expected int, got float 1.0"),
        (int, True, "expected int, got bool True"),
        (int, None, "expected int, got None"),
        (int, "9" * 10_000, "expected int, got '999"),
        (float, True, "expected float, got bool True"),
        (float, 10**400, "too large"),
        (bool, "maybe", "expected bool (true/false, yes/no, on/off, 1/0), got 'maybe'"),
        (bool, 1, "got int 1"),
        (str, 1, "expected str, got int 1"),
        (Path, "", "expected Path, got ''"),
        (Path, 3, "expected Path, got int 3"),
        (dt.date, "yesterday", "expected date (ISO, as 2030-12-31), got 'yesterday'"),
        (dt.date, dt.datetime(2024, 1, 1), "expected date"),
        (dt.datetime, dt.date(2024, 1, 1), "expected datetime"),
        (Color, "GREEN", "expected Color, one of RED, BLUE, got 'GREEN'"),
        (Level, True, "expected Level"),
        (Literal["a", 1], "b", "expected one of 'a', 1, got 'b'"),
        (Literal[1], True, "expected one of 1, got bool True"),
        (list[int], "1,x", "item 1: expected int, got 'x'"),
        (list[int], "[1", "no JSON"),
        (list[int], "[" * 100_000, "no JSON"),
        (list[list[int]], "1,2", "as JSON"),
        (list[int], (1,), "expected list[int] (comma separated or JSON), got tuple (1,)"),
        (list[int], [1, True], "item 1: expected int, got bool True"),
        (dict, "[1]", "expected dict (as a JSON object), got '[1]'"),
        (dict[str, int], '{"a": "x"}', "at 'a': expected int, got 'x'"),
        (dict[str, int], {"a": None}, "at 'a': expected int, got None"),
        (int | None, "x", "expected int or None, got 'x'"),
        (list[int] | None, "x", "item 0: expected int, got 'x'"),
        (int | None, 1.5, "expected int or None, got float 1.5"),
    ],
)
def test_a_misfit_tells_what_was_expected_and_what_came(declared: Any, value: Any, told: str) -> None:
    with pytest.raises(Misfit) as caught:
        kind_of(declared).accept(value)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_list_given_several_times_is_one_list() -> None:
    assert kind_of(list[int]).accept(Repeated(["1", "2,3", "[4]"])) == [1, 2, 3, 4]
    assert kind_of(list[int] | None).accept(Repeated(["1", "2"])) == [1, 2]
    assert kind_of(int).accept(Repeated(["1", "2"])) == 2


@pytest.mark.parametrize(
    "declared",
    [
        set,
        tuple[int, ...],
        bytes,
        int | str,
        "int",
        type(None),
        Enum,
        list[set[int]],
        dict[str, bytes],
        3,
        dt.time,
    ],
)
def test_a_type_that_text_cannot_be_read_as_is_refused(declared: Any) -> None:
    with pytest.raises(DeclarationError, match="not supported; use int, float"):
        kind_of(declared)


def test_a_repr_that_raises_does_not_hide_the_misfit() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(Misfit) as caught:
        kind_of(int).accept(Broken())
    assert "expected int, got Broken" in str(caught.value)


@given(st.lists(st.integers()))
def test_a_list_of_numbers_survives_its_text(numbers: list[int]) -> None:
    assert kind_of(list[int]).accept(",".join(map(str, numbers))) == numbers


@given(
    st.text(),
    st.sampled_from([int, float, bool, Path, Color, dt.date, list[int], dict[str, int], int | None]),
)
def test_any_text_is_converted_or_a_misfit(text: str, declared: Any) -> None:
    kind = kind_of(declared)
    try:
        value = kind.accept(text)
    except Misfit:
        return
    assert kind.accept(value) == value
