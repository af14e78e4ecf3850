"""Lines of durable runs are gathered without waiting for the store, and written in groups (S27)."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.runtime.clock import SystemClock
from cascade.runtime.durability import kept_lines
from cascade.runtime.durability.kept_lines import KeptLines
from cascade.runtime.durability.writer import Writer
from cascade.spec.exceptions import RunOwnedError, StoreError
from cascade.spec.records import Line


class Notes:
    """A store of lines that can be held up, or fail."""

    def __init__(self) -> None:
        self.groups: list[list[Line]] = []
        self.asked = threading.Semaphore(0)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: Exception | None = None

    def note_lines(self, run_id: str, epoch: int, lines: list[Line], most: int) -> None:
        assert (run_id, epoch, most) == ("run", 3, kept_lines.MOST)
        self.asked.release()
        assert self.goes_on.wait(60)
        if self.error is not None:
            raise self.error
        self.groups.append(lines)

    def close(self) -> None:
        pass


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def writer(notes: Notes) -> Iterator[Writer]:
    store: Any = notes
    made = Writer(store, SystemClock(), 15.0)
    yield made
    notes.goes_on.set()
    made.close()


@pytest.fixture
def lines(writer: Writer) -> KeptLines:
    return KeptLines("run", 3, writer, SystemClock())


def take(lines: KeptLines, *texts: str) -> None:
    for text in texts:
        lines.take("stdout", "task#0", "task", 1, text)


def settle(writer: Writer) -> None:
    """Wait until the writer has done all that it was asked for."""
    done = threading.Event()
    writer.post(done.set)
    assert done.wait(60)


def texts(group: list[Line]) -> list[str]:
    return [line.text for line in group]


def test_what_comes_while_a_group_is_written_is_the_next_group(lines: KeptLines, notes: Notes, writer: Writer) -> None:
    notes.goes_on.clear()
    take(lines, "a")
    assert notes.asked.acquire(timeout=60)
    take(lines, "b", "c")
    notes.goes_on.set()
    settle(writer)
    assert [texts(group) for group in notes.groups] == [["a"], ["b", "c"]]
    (line,) = notes.groups[0]
    assert line[2:] == ("stdout", "task#0", "task", 1, "a")
    assert line.at > 0.0


def test_numbers_grow_and_come_after_those_of_earlier_owners(lines: KeptLines, notes: Notes, writer: Writer) -> None:
    for text in "abc":
        take(lines, text)
        settle(writer)
    numbers = [line.number for group in notes.groups for line in group]
    assert numbers == sorted(set(numbers))
    # Ten thousand million lines of the owner before.
    assert numbers[0] > KeptLines("run", 2, writer, SystemClock())._number + 10_000_000_000


def test_lines_are_handed_to_the_writer_before_what_is_submitted_after_them(
    lines: KeptLines, notes: Notes, writer: Writer
) -> None:
    seen: list[int] = []
    for count in range(50):
        take(lines, str(count))
        writer.post(lambda: seen.append(sum(map(len, notes.groups))))
    settle(writer)
    assert all(kept > count for count, kept in enumerate(seen))
    assert len(seen) == 50


def test_when_more_wait_than_are_kept_the_oldest_are_dropped_and_a_line_says_so(
    lines: KeptLines, notes: Notes, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_lines, "MOST", 3)
    notes.goes_on.clear()
    take(lines, "first")
    assert notes.asked.acquire(timeout=60)
    take(lines, *"abcdefg")
    notes.goes_on.set()
    settle(writer)
    first, (dropped, *kept) = notes.groups
    assert texts(first) == ["first"]
    assert texts(kept) == ["e", "f", "g"]
    assert dropped.text == "lines dropped before this, since the store did not take them in time: 4"
    assert (dropped.source, dropped.place, dropped.name) == ("WARNING", "", "")


def test_a_store_that_fails_loses_lines_and_says_so_once(
    lines: KeptLines, notes: Notes, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    notes.error = StoreError("sqlite:///here", "cannot keep lines: the disk is full")
    for group in (("a", "b"), ("c",)):
        notes.goes_on.clear()
        take(lines, *group)
        notes.goes_on.set()
        settle(writer)
    notes.error = None
    take(lines, "d")
    settle(writer)
    ((dropped, kept),) = notes.groups
    assert kept.text == "d"
    assert dropped.text.endswith(": 3")
    (record,) = [record for record in caplog.records if record.name == "cascade.store"]
    assert record.levelno == logging.ERROR
    assert "run 'run'" in record.getMessage()


def test_an_owner_that_has_lost_the_run_is_silent(
    lines: KeptLines, notes: Notes, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    notes.error = RunOwnedError("run", "another", "it was taken over")
    take(lines, "a")
    settle(writer)
    assert notes.groups == []
    assert not caplog.records


def test_a_signal_handler_may_print_while_a_line_is_taken(lines: KeptLines, notes: Notes, writer: Writer) -> None:
    class Interrupting:
        def now(self) -> float:
            lines._clock = SystemClock()
            take(lines, "inside")
            return 1.0

    clock: Any = Interrupting()
    lines._clock = clock
    with lines._lock:
        take(lines, "outside")
    settle(writer)
    assert sorted(line.text for group in notes.groups for line in group) == ["inside", "outside"]


def test_a_forked_process_keeps_nothing(lines: KeptLines, notes: Notes, writer: Writer) -> None:
    with lines._lock, warnings.catch_warnings():
        # Forking with threads is what this test is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            # On a thread of its own the lock, which is the parent's, would be waited for.
            thread = threading.Thread(target=take, args=(lines, "from the child"), daemon=True)
            thread.start()
            thread.join(30)
            os._exit(1 if thread.is_alive() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    settle(writer)
    assert notes.groups == []


def test_many_threads_keep_their_order(lines: KeptLines, notes: Notes, writer: Writer) -> None:
    def talk(own: int) -> None:
        take(lines, *(f"{own}:{number}" for number in range(500)))

    threads = [threading.Thread(target=talk, args=(own,)) for own in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(writer)
    whole = [line for group in notes.groups for line in group]
    assert len({line.number for line in whole}) == 4_000
    for own in range(8):
        mine = [line.text for line in whole if line.text.startswith(f"{own}:")]
        assert mine == [f"{own}:{number}" for number in range(500)]
