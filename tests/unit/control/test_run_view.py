"""What the records of a run tell of how far it has come. (S28)"""

from __future__ import annotations

from cascade.control.run_view import view_of
from cascade.spec.records import ROOT, Record, RecordKind, RunRow

ROW = RunRow("r", "running", 1, "h", "o", 99.0, 100.0, 160.0, "work", b"", None, None)


def record(number: int, kind: RecordKind, name: str = "work", attempt: int = 1, scope: bytes = b"s" * 16) -> Record:
    ended = 100.0 + number
    detail = f"ValueError: {number}" if kind == "failed" else None
    return Record(scope, bytes([number]), kind, 0, f"[{number}]", name, attempt, ended, ended, detail, None, None, None)


def test_calls_are_counted_by_task_and_maps_by_their_items() -> None:
    records = [
        record(1, "value"), record(2, "volatile"), record(3, "failed", attempt=3), record(4, "skipped"),
        record(5, "mapped"), record(6, "continues", "loop"), record(7, "value", "other"),
        record(8, "value", "", scope=ROOT),
    ]  # fmt: skip
    view = view_of(ROW, records, 160.0)
    told = [
        (task.name, task.total, task.done, task.active, task.skipped, task.failed) for task in view.progress.tasks or ()
    ]
    assert told == [("work", 4, 2, 0, 1, 1), ("loop", 1, 0, 1, 0, 0), ("other", 1, 1, 0, 0, 0)]
    assert (view.progress.total, view.progress.done, view.progress.failed, view.progress.skipped) == (6, 3, 1, 1)
    assert not view.progress.is_complete
    assert view.retries == 2


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    records = [record(number, "value") for number in range(60)]
    assert view_of(ROW, records, 160.0).rate == 0.9
    assert view_of(ROW._replace(created=155.0), records, 160.0).rate == 1.8
    assert view_of(ROW, records, 1000.0).rate == 0.0


def test_the_last_errors_come_first_and_few() -> None:
    view = view_of(ROW, [record(number, "failed") for number in range(60)], 160.0)
    assert [error.detail for error in view.errors] == [f"ValueError: {number}" for number in (59, 58, 57, 56, 55)]


def test_of_a_run_that_has_ended_all_is_known() -> None:
    assert view_of(ROW._replace(status="failed"), [record(1, "value")], 160.0).progress.is_complete
