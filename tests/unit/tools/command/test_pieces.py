"""The parts of the command line by themselves: ages, lines for a shell, exit codes, and trees of records."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.runtime.durability.keys import RESULT, ROOT_GRAPH, TARGET, scope_of_items
from cascade.spec.exceptions import (
    CapacityError,
    MissingExtraError,
    ParameterError,
    ResumeError,
    RunOwnedError,
    StoreError,
)
from cascade.spec.records import ROOT, Record, RecordKind
from cascade.tools.command.endings import CommandError, message_of, status_of
from cascade.tools.command.inputs import texts_of
from cascade.tools.command.journal_tree import all_places, places_called, result_of, tree_of
from cascade.tools.command.moments import age_of, iso, moment_of, shown_moment
from cascade.tools.command.shell_line import resume_line, shell_line
from cascade.tools.command.stores import way_on

pytestmark = pytest.mark.needs_extra("cli")


def record(
    scope: bytes, node: bytes, label: str, kind: RecordKind = "value", inner: bytes | None = None, turn: int = 0
) -> Record:
    name = label.partition("#")[0]
    return Record(scope, node, kind, turn, label, name, 1, 10.0, 12.0, None, "1", b"", inner)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5d", 129_600), ("4W", 2_419_200), (" 0s ", 0)]
)
def test_ages_have_units(text: str, seconds: float) -> None:
    assert age_of(text, "--older-than") == seconds
    assert moment_of(text, "--since", 3e6) == 3e6 - seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "yesterday", "2030-13-01", "1e9d", "\x1b[31m"])
def test_what_is_no_age_and_no_date_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(CommandError, match="--older-than: expected an age"):
        age_of(text, "--older-than")
    with pytest.raises(CommandError, match="--since: expected a date") as refused:
        moment_of(text, "--since", 0.0)
    assert "\x1b" not in message_of(refused.value)


def test_dates_are_moments() -> None:
    assert moment_of("1970-01-02T00:00:00+00:00", "--since", 0.0) == 86_400
    assert moment_of("2030-01-31", "--since", 0.0) < moment_of("2030-01-31T18:00", "--since", 0.0)


@pytest.mark.parametrize("moment", [0.0, 1.7e9, float("nan"), float("inf"), -1e30, 1e30])
def test_any_number_in_a_store_can_be_shown_as_a_moment(moment: float) -> None:
    assert isinstance(shown_moment(moment), str)
    assert iso(moment) is None or str(iso(moment)).endswith("Z")


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1, max_size=4))
def test_a_shell_reads_the_words_of_a_line_as_they_were(words: list[str]) -> None:
    line = shell_line(words)
    assert line.isprintable()
    code = "import os,sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -I -S -c {shell_line([code])} {line}"], capture_output=True, check=True
    )
    assert done.stdout == b"\0".join(word.encode() for word in words)


def test_bytes_that_are_no_text_come_back_from_a_shell() -> None:
    assert shell_line(["a\udcff"]) == "$'a\\xff'"
    assert resume_line("--x", "sqlite:///a b.db") == "cascade resume --store 'sqlite:///a b.db' -- --x"


@pytest.mark.parametrize(
    ("given", "shown", "told"),
    [
        (None, "postgresql://u:***@h/db", "with:  cascade resume r"),
        ("postgresql://u@h/db", "postgresql://u@h/db", "with:  cascade resume --store postgresql://u@h/db r"),
        ("/x/runs.db", "sqlite:////x/runs.db", "with:  cascade resume --store sqlite:////x/runs.db r"),
        ("postgresql://u:secret@h/db", "postgresql://u:***@h/db", "with the same --store and:  cascade resume r"),
        ("redis://:secret@h/0", "redis://h/0", "with the same --store and:  cascade resume r"),
        (
            "postgresql://h/db?password=secret",
            "postgresql://h/db?password=secret",
            "with the same --store and:  cascade resume r",
        ),
    ],
)
def test_the_line_that_goes_on_with_a_run_works_and_shows_no_password(
    given: str | None, shown: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CASCADE_STORE", raising=False)
    assert way_on("r", given, shown) == told
    if given is not None:
        monkeypatch.setenv("CASCADE_STORE", given)
        assert way_on("r", given, shown) == "with:  cascade resume r"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CommandError("no"), 2),
        (ParameterError("n: bad"), 2),
        (MissingExtraError("x", "y", "z"), 2),
        (ResumeError("other parameters"), 2),
        (RunOwnedError("r", "", "alive"), 2),
        (StoreError("s", "disk full"), 1),
        (CapacityError("too much"), 1),
        (RuntimeError("a bug"), None),
    ],
)
def test_each_kind_of_error_has_its_exit_status(error: Exception, status: int | None) -> None:
    assert status_of(error) == status


@given(st.text())
def test_no_message_of_an_error_can_move_a_terminal(text: str) -> None:
    for error in (CommandError(text), ParameterError(text), StoreError(text, text)):
        told = message_of(error)
        assert told.encode(), "a terminal takes UTF-8, which has no lone surrogates"
        assert not set(told) & set("\x1b\0\r\x9b\u202e")


def test_parameters_may_hold_equals_signs_and_be_given_again() -> None:
    assert texts_of(["a=1=2", "b=", "a=3"]) == {"a": ["1=2", "3"], "b": [""]}
    with pytest.raises(ParameterError) as refused:
        texts_of(["a", "=1", "b=2"])
    assert len(refused.value.problems) == 2


def test_what_is_inside_a_place_stands_under_it() -> None:
    items = scope_of_items(ROOT_GRAPH, b"m")
    records = [
        record(items, b"0", "[0]"),
        record(ROOT_GRAPH, b"f", "fetch#0"),
        record(items, b"1", "[1]", "continues", b"inner", 2),
        record(b"inner", b"x", "deep#0"),
        record(ROOT_GRAPH, b"m", "pages#1", "mapped", items),
        record(ROOT, TARGET, "target", "continues", b"tail", 3),
        record(b"tail", b"y", "step#0", "failed"),
        record(ROOT, RESULT, "result"),
    ]
    roots = tree_of(records)
    assert [place.path for place in all_places(roots)] == [
        "fetch#0", "pages#1", "pages#1[0]", "pages#1[1]", "pages#1[1]/deep#0", "target", "target/step#0",
    ]  # fmt: skip
    assert result_of(records) is records[-1]
    for name in ("pages#1[1]@2/deep#0", "pages#1[1]/deep#0", "deep#0"):
        assert [place.path for place in places_called(roots, name)] == ["pages#1[1]/deep#0"]
    assert [place.path for place in places_called(roots, "start#9@3/step#0")] == ["target/step#0"]
    assert places_called(roots, "nothing") == []


def test_the_name_of_a_task_means_its_places_but_not_the_items_of_a_map() -> None:
    items = scope_of_items(ROOT_GRAPH, b"m")
    records = [
        record(items, b"0", "[0]"),
        record(ROOT_GRAPH, b"m", "pages#0", "mapped", items),
        record(ROOT_GRAPH, b"a", "add#1"),
        record(ROOT_GRAPH, b"b", "add#2"),
    ]
    roots = tree_of(records)
    assert [place.path for place in places_called(roots, "pages")] == ["pages#0"]
    assert [place.path for place in places_called(roots, "add")] == ["add#1", "add#2"]


def test_items_of_a_map_that_has_not_ended_stand_together() -> None:
    (around,) = tree_of([record(b"items", b"0", "[0]"), record(b"items", b"1", "[1]")])
    assert around.record is None
    assert [place.title for place in around.inside] == ["[0]", "[1]"]


def test_records_in_a_circle_and_very_deep_ones_make_a_tree() -> None:
    circle = [
        record(ROOT_GRAPH, b"a", "a#0", "continues", b"one"),
        record(b"one", b"b", "b#0", "continues", b"two"),
        record(b"two", b"c", "c#0", "continues", b"one"),
    ]
    assert len(list(all_places(tree_of(circle)))) == 3
    deep = [record(ROOT_GRAPH, b"n", "n#0", "continues", b"0")]
    deep += [record(b"%d" % level, b"n", "n#0", "continues", b"%d" % (level + 1)) for level in range(5000)]
    assert len(list(all_places(tree_of(deep)))) == 5001
