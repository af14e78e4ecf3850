from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.serializers import SignedSerializer
from cascade.runtime.durability.keys import ROOT_GRAPH, scope_of_items
from cascade.spec.records import Record, RunRow
from cascade.tools.report_page.model import Report, is_map
from cascade.tools.report_page.page import page_of

pytestmark = pytest.mark.needs_extra("cli")


def row(**changes: Any) -> RunRow:
    params = SignedSerializer(bytes(32)).dumps({}, context=b"")
    return RunRow("r", "succeeded", 1, "", "", 0.0, 100.0, 110.0, "t", params, None, None)._replace(**changes)


def record(node: str, kind: Any = "value", *, scope: bytes = ROOT_GRAPH, **changes: Any) -> Record:
    made = Record(scope, node.encode(), kind, 0, f"{node}#1", node, 1, 100.0, 101.0, None, None, None, None)
    return made._replace(**changes)


def test_calls_are_counted_by_the_names_of_their_tasks() -> None:
    report = Report(
        row(),
        [
            record("a", name="fetch"),
            record("b", name="fetch", attempt=3, ended=103.0),
            record("c", "failed", name="fetch", attempt=2, detail="ValueError: no"),
            record("d", "skipped", name="fetch", detail="Pruned"),
            record("e", "skipped", name="fetch", detail="ConditionFalse"),
            record("f", "skipped", name="fetch", detail="Pruned"),
            record("g", "continues", name="fetch", turn=2),
        ],
    )
    (task,) = report.tasks
    assert (task.count, task.done, task.failed, task.skipped, task.going) == (7, 2, 1, 3, 1)
    assert task.reasons == {"Pruned": 2, "ConditionFalse": 1}
    assert (task.attempts, task.total, task.longest) == (6, 5.0, 3.0)
    assert task.mean == pytest.approx(5 / 3)


def test_a_map_is_no_call_of_its_own_whether_it_ended_or_failed() -> None:
    for kind in ("mapped", "failed"):
        scope = scope_of_items(ROOT_GRAPH, b"m")
        items = [record(f"[{number}]", scope=scope, label=f"[{number}]", name="fetch") for number in range(3)]
        inner = scope if kind == "mapped" else None
        report = Report(row(), [*items, record("m", kind, name="fetch", inner=inner)])
        assert [is_map(place) for place in report.places] == [True, False, False, False]
        assert report.tasks[0].count == 3


def test_an_error_is_told_once_where_it_came_from() -> None:
    scope = scope_of_items(ROOT_GRAPH, b"m")
    item = record("[0]", "failed", scope=scope, label="[0]", detail="ValueError: here")
    report = Report(row(), [item, record("m", "failed", detail="ValueError: here")])
    assert [place.title for place in report.failures] == ["[0]"]


def test_a_page_lists_the_first_places_and_those_that_failed_and_counts_all() -> None:
    scope = scope_of_items(ROOT_GRAPH, b"m")
    items = [record(f"{number}", scope=scope, label=f"[{number}]", name="fetch") for number in range(100)]
    items[90] = items[90]._replace(kind="failed", detail="ValueError: late")
    report = Report(row(), [*items, record("m", "failed")], most_places=10)
    assert report.total == 101
    assert report.tasks[0].count == 100
    columns = report.columns()
    titles = [columns["texts"][number] for number in columns["title"]]
    assert titles == ["m#1", *(f"[{number}]" for number in range(9)), "[90]"]
    assert columns["parent"] == [-1, *([0] * 10)]


def test_parameters_that_are_plain_data_are_shown() -> None:
    params = SignedSerializer(bytes(32)).dumps({"day": 3, "where": Path("/tmp"), "bad\0": "\x1b[31m"}, context=b"x")
    shown = Report(row(params=params), []).params
    assert shown == [("day", "3"), ("where", repr(Path("/tmp"))), ("bad\\x00", "'\\x1b[31m'")]


class Trap:
    """Unpickling it is seen."""

    loaded = False

    def __reduce__(self) -> Any:
        return _spring, ()


def _spring() -> None:
    Trap.loaded = True


@pytest.mark.parametrize(
    "params",
    [
        SignedSerializer(bytes(32)).dumps({"a": Trap()}, context=b""),
        b"\x01P" + bytes(32) + pickle.dumps(Trap()),
        b"\x01P",
        b"",
    ],
)
def test_nothing_is_unpickled_and_damage_is_no_parameter(params: bytes) -> None:
    assert Report(row(params=params), []).params == []
    assert not Trap.loaded


def test_parameters_given_on_a_command_line_are_shown_as_they_were_given() -> None:
    program = json.dumps(
        {
            "file": "/w/flow.py",
            "module": "flow",
            "name": "main",
            "folder": "/w",
            "on_failure": "stop",
            "params": {"day": ["3"]},
            "max_workers": None,
            "durability": "committed",
        }
    )
    assert Report(row(program=program), []).params == [("day", "3")]


@pytest.mark.parametrize("changes", [{"params": {"day": 3}}, {"params": []}, {"folder": 1}, {"file": ["x"]}])
def test_a_program_that_was_altered_is_shown_as_far_as_it_can_be(changes: dict[str, Any]) -> None:
    program = {"file": None, "module": "flow", "name": "main", "folder": "/w", "on_failure": "stop"}
    program |= {"params": {"day": ["3"]}, "max_workers": None, "durability": "committed", **changes}
    report = Report(row(program=json.dumps(program)), [])
    assert report.params in ([("day", "3")], [])
    page_of(report, "succeeded", None, 0.0)


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), -1e300, 1e300])
def test_damaged_times_give_numbers_that_json_has(moment: float) -> None:
    report = Report(row(), [record("a", began=moment), record("b", ended=moment)])
    json.dumps(report.columns(), allow_nan=False)


def test_texts_are_bounded_and_cannot_be_obeyed() -> None:
    report = Report(row(), [record("a", label="x" * 10_000, name="\u202e\x1b[31m\0\ud800", preview="y" * 10_000)])
    columns = report.columns()
    assert max(map(len, columns["texts"])) <= 1_000
    assert "\\u202e\\x1b[31m\\x00\\ud800" in columns["texts"]
    assert report.tasks[0].name == "\\u202e\\x1b[31m\\x00\\ud800"


def test_the_records_of_a_real_run_are_understood(tmp_path: Path) -> None:
    from cascade.stores import open_store

    url = f"sqlite:///{tmp_path / 'runs.db'}"
    double = cs.task(lambda x: 2 * x, name="double")
    assert cs.run(double.map(x=[1, 2]), run_id="r", store=url, log_level="CRITICAL") == [2, 4]
    store = open_store(url)
    found = store.find("r")
    assert found is not None
    report = Report(found, store.records("r"))
    store.close()
    assert [(task.name, task.count, task.done) for task in report.tasks] == [("double", 2, 2)]
    assert report.result is not None
    assert report.result.preview == "[2, 4]"
