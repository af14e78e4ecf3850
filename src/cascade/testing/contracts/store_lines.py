"""What every `Store` must do with what calls log and print, as tests for whoever writes one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.spec.exceptions import RunOwnedError
from cascade.spec.records import Line, RunRow
from cascade.testing.contracts.opened_stores import ODD_TEXTS, OpenedStores

if TYPE_CHECKING:
    from cascade.spec.protocols import Store

_texts = st.text(st.characters(), max_size=20) | st.sampled_from(ODD_TEXTS)
_lines = st.builds(
    Line,
    number=st.integers(1, 2**50),
    at=st.floats(0, 1e11),
    source=_texts,
    place=_texts,
    name=_texts,
    attempt=st.integers(0, 2**40),
    text=_texts,
)


class StoreLinesContract(OpenedStores):
    """Tests of what a store keeps of what calls log and print: a part of `StoreContract`."""

    def test_lines_come_back_as_they_were_in_order(self) -> None:
        store = _started(self.open())
        first, second = numbered_lines(1, 2, 5), numbered_lines(6, 1 << 32, 1 << 50)
        store.note_lines("run", 1, first, 100)
        store.note_lines("run", 1, second, 100)
        store.note_lines("run", 1, [], 100)
        assert store.lines("run") == first + second
        assert self.open().lines("run") == first + second

    def test_lines_above_a_number_are_found(self) -> None:
        store = _started(self.open())
        lines = numbered_lines(1, 2, 5, 6, 1 << 50)
        store.note_lines("run", 1, lines, 100)
        assert [store.lines("run", after) for after in (1, 4, 6, 1 << 50)] == [lines[1:], lines[2:], lines[4:], []]
        assert store.lines("absent") == []

    def test_lines_belong_to_their_run(self) -> None:
        store = _started(_started(self.open()), "other")
        store.note_lines("run", 1, numbered_lines(1, 2), 2)
        store.note_lines("other", 1, numbered_lines(1, 3), 2)
        store.note_lines("run", 1, numbered_lines(4), 2)
        assert store.lines("run") == numbered_lines(2, 4)
        assert store.lines("other") == numbered_lines(1, 3)

    @pytest.mark.parametrize("group", [1, 3, 7, 50])
    def test_only_the_last_lines_are_kept(self, group: int) -> None:
        store = _started(self.open())
        lines = numbered_lines(*range(1, 41))
        for start in range(0, len(lines), group):
            store.note_lines("run", 1, lines[start : start + group], 10)
            end = min(start + group, len(lines))
            assert store.lines("run") == lines[max(0, end - 10) : end]
        fresh = self.open()
        fresh.claim(_row("run", owner="second"), over=1)
        fresh.note_lines("run", 2, numbered_lines(41), 10)
        assert fresh.lines("run") == numbered_lines(*range(32, 42))
        fresh.note_lines("run", 2, numbered_lines(42), 3)
        assert fresh.lines("run") == numbered_lines(40, 41, 42)

    def test_lines_noted_twice_are_kept_once(self) -> None:
        store = _started(self.open())
        store.note_lines("run", 1, numbered_lines(1, 2), 4)
        for _ in range(2):
            store.note_lines("run", 1, numbered_lines(3, 4, 5), 4)
        assert store.lines("run") == numbered_lines(2, 3, 4, 5)
        changed = [line._replace(text="changed") for line in numbered_lines(5, 6)]
        store.note_lines("run", 1, changed, 4)
        assert store.lines("run") == [*numbered_lines(3, 4), *changed]

    def test_who_has_lost_the_run_notes_nothing(self) -> None:
        store = _started(self.open())
        store.note_lines("run", 1, numbered_lines(1), 10)
        other = self.open()
        other.claim(_row("run", owner="second"), over=1)
        with pytest.raises(RunOwnedError) as caught:
            store.note_lines("run", 1, numbered_lines(1, 2), 1)
        assert (caught.value.run_id, caught.value.owner) == ("run", "second")
        with pytest.raises(RunOwnedError):
            other.note_lines("run", 3, numbered_lines(2), 10)
        with pytest.raises(RunOwnedError):
            other.note_lines("absent", 1, numbered_lines(2), 10)
        assert other.lines("run") == numbered_lines(1)
        other.note_lines("run", 2, numbered_lines(2), 10)
        assert other.lines("run") == numbered_lines(1, 2)

    def test_lines_change_nothing_else_of_their_run(self) -> None:
        store = _started(self.open())
        before = store.find("run")
        store.note_lines("run", 1, numbered_lines(1, 2), 10)
        assert store.find("run") == before
        assert store.records("run") == store.outline("run") == []
        store.write("run", 1, [], [], 100.0)
        store.finish("run", 1, "failed", None, 50.0)
        assert store.lines("run") == numbered_lines(1, 2)
        store.sweep(1e9)
        assert store.lines("run") == numbered_lines(1, 2)

    def test_lines_are_removed_with_their_run(self) -> None:
        store = _started(_started(self.open()), "other")
        for run_id in ("run", "other"):
            store.note_lines(run_id, 1, numbered_lines(1, 2), 2)
        assert store.remove("run")
        assert store.lines("run") == []
        assert store.lines("other") == numbered_lines(1, 2)
        with pytest.raises(RunOwnedError):
            store.note_lines("run", 1, numbered_lines(3), 10)
        _started(store)
        assert store.lines("run") == []
        store.note_lines("run", 1, numbered_lines(1), 2)
        assert store.lines("run") == numbered_lines(1)

    def test_the_owner_of_a_run_that_was_removed_and_made_again_notes_nothing(self) -> None:
        store = _started(self.open())
        store.note_lines("run", 1, numbered_lines(1), 10)
        other = self.open()
        other.remove("run")
        _started(other)
        with contextlib.suppress(RunOwnedError):
            # A store may tell it from the epoch alone, which is the same.
            store.note_lines("run", 1, [], 10)
        other.note_lines("run", 1, numbered_lines(7), 10)
        assert other.lines("run") == numbered_lines(7)

    def test_many_lines_at_once_come_back(self) -> None:
        store = _started(self.open())
        lines = numbered_lines(*range(1, 5_001))
        store.note_lines("run", 1, lines, 4_000)
        assert store.lines("run") == lines[1_000:]

    def test_any_line_comes_back_as_it_was(self) -> None:
        @given(lines=st.lists(_lines, max_size=8, unique_by=lambda line: line.number), run_id=_texts)
        @settings(max_examples=25, deadline=None)
        def comes_back(lines: list[Line], run_id: str) -> None:
            lines.sort()
            store = self.open()
            store.remove(run_id)
            _started(store, run_id)
            store.note_lines(run_id, 1, lines, 100)
            assert store.lines(run_id) == lines
            store.close()

        comes_back()

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_odd_text_of_lines_comes_back_as_it_was(self, text: str) -> None:
        store = _started(self.open(), text)
        odd = [Line(1, 1.5, text, text, text, 1, text)]
        store.note_lines(text, 1, odd, 10)
        assert store.lines(text) == odd


def numbered_lines(*numbers: int) -> list[Line]:
    """Lines with these numbers."""
    return [
        Line(number, 1.5 + number % 100, "stdout", f"talk#{number}", "talk", 1, f"line {number}") for number in numbers
    ]


def _row(run_id: str, *, owner: str = "first") -> RunRow:
    return RunRow(run_id, "running", 0, "host", owner, 100.0, 1.5, 1.5, "target", b"params", None, None)


def _started(store: Store, run_id: str = "run") -> Store:
    """The store, with a run in its first epoch."""
    claimed = store.claim(_row(run_id), over=None)
    assert claimed is not None
    return store
