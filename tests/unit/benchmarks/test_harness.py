from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.case import Call, Case, Goal
from benchmarks.catalog import CASES
from benchmarks.environments import PEERS
from benchmarks.harness import Measured, measure, run_once


def call(function, *, limit=60.0, terminal=False, **arguments):
    return Call("tests.unit.benchmarks.contestants", function, arguments, limit=limit, terminal=terminal)


def once(function, **options):
    measured = Measured(call(function, **options))
    run_once(measured, sys.executable)
    return measured


def test_everybody_takes_turns_in_processes_of_their_own(tmp_path):
    log = str(tmp_path / "log")
    case = Case(
        "case",
        "a case",
        "task",
        call("logged", value=6, log=log, name="cascade"),
        references={"floor": call("logged", value=2, log=log, name="floor")},
        peers={"peer": call("logged", value=60, log=log, name="peer"), "absent": call("dies")},
        goals=(Goal(3.5, "ratio"),),
    )

    result = measure(case, rounds=3, pythons={"peer": sys.executable})

    names, processes = zip(*[line.split() for line in Path(log).read_text("utf-8").splitlines()], strict=True)
    assert names == ("floor", "cascade", "peer", "cascade", "peer", "floor", "peer", "floor", "cascade")
    assert len(set(processes)) == 9
    assert (result.cascade.value, result.floor, result.ratio, result.reached) == (6, 2, 3, True)
    assert list(result.peers) == ["peer"]


def test_a_number_is_the_median_of_the_rounds(tmp_path):
    result = measure(Case("case", "a case", "task", call("counted", log=str(tmp_path / "log"))), rounds=5)
    assert result.cascade.values == [1, 2, 3, 4, 5]
    assert result.cascade.value == 3


def test_what_a_contestant_prints_is_not_its_answer():
    assert once("chatty").value == 7


def test_a_wrong_result_is_no_number():
    measured = once("wrong")
    assert measured.value is None
    assert (measured.problem, measured.details) == ("WrongResultError", "expected 1, got 2")


def test_a_contestant_that_cannot_do_the_case_says_why():
    assert once("unfit").problem == "no terminal"


def test_a_crash_is_told_with_its_last_words():
    measured = once("dies")
    assert measured.problem == "crashed"
    assert "status 3" in measured.details
    assert "the reason" in measured.details


def test_a_contestant_is_given_up_after_its_limit():
    measured = once("hangs", limit=1.0)
    assert (measured.value, measured.problem) == (None, "over 1 s")


def test_a_contestant_may_have_a_terminal():
    assert once("terminal", terminal=True).value == 1
    assert once("terminal").value == 0


def test_who_failed_once_is_not_run_again(tmp_path):
    told = []
    result = measure(Case("case", "a case", "task", call("wrong")), rounds=3, tell=told.append)
    assert told == ["case: Cascade: WrongResultError expected 1, got 2"]
    assert result.reached is None


def test_goals_are_numbers_ratios_or_differences():
    assert Goal(5.0).reached(5.0, None) is True
    assert Goal(5.0).reached(5.1, None) is False
    assert Goal(1.5, "ratio").reached(3.0, 2.0) is True
    assert Goal(1.5, "ratio").reached(3.0, None) is None
    assert Goal(0.5, "difference").reached(2.6, 2.0) is False


def test_cases_have_names_of_their_own_and_peers_that_exist():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {peer for case in CASES for peer in case.peers} <= set(PEERS)


def test_quick_cases_have_a_floor():
    assert all(case.references and case.cascade for case in CASES if case.quick)
