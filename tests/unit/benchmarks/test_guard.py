from __future__ import annotations

import json

import pytest

from benchmarks import guard
from benchmarks.case import Call, Case


def case(value, floor=1.0):
    contestants = "tests.unit.benchmarks.contestants"
    return Case(
        "case",
        "a case",
        "task",
        Call(contestants, "constant", {"value": value}),
        references={"floor": Call(contestants, "constant", {"value": floor})},
        quick=True,
    )


@pytest.fixture
def ratios(tmp_path, monkeypatch):
    path = tmp_path / "ratios.json"
    path.write_text(json.dumps({"case": 10.0, "another": 1.0}), "utf-8")
    monkeypatch.setattr(guard, "RATIOS", path)
    return path


def test_a_ratio_up_to_twice_what_is_kept_passes(ratios):
    assert guard.check([case(20.0)], rounds=1, write=False) == 0


def test_a_gross_loss_fails_after_a_second_look(ratios, capsys):
    assert guard.check([case(20.1)], rounds=1, write=False) == 1
    shown = capsys.readouterr().out
    assert "once more" in shown
    assert "LOST" in shown


def test_a_case_without_a_number_fails(ratios, capsys):
    broken = Case(
        "case", "", "task", Call("tests.unit.benchmarks.contestants", "dies"), references=case(1.0).references
    )
    assert guard.check([broken], rounds=1, write=False) == 1
    assert "NO RESULT" in capsys.readouterr().out


def test_a_case_that_is_not_kept_yet_passes(ratios):
    ratios.write_text("{}", "utf-8")
    assert guard.check([case(1_000.0)], rounds=1, write=False) == 0


def test_ratios_are_kept_when_asked_for(ratios):
    assert guard.check([case(30.0, floor=2.0)], rounds=1, write=True) == 0
    assert json.loads(ratios.read_text("utf-8")) == {"case": 15.0, "another": 1.0}
