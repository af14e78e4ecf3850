from __future__ import annotations

import pytest

from benchmarks import report, words
from benchmarks.case import Call, Case, Goal
from benchmarks.harness import Measured, Result


def result(case, cascade, references=(), peers=()):
    def measured(value):
        return Measured(case.cascade, problem=value) if isinstance(value, str) else Measured(case.cascade, [value])

    return Result(
        case,
        measured(cascade),
        {name: measured(value) for name, value in dict(references).items()},
        {name: measured(value) for name, value in dict(peers).items()},
    )


CALL = Call("m", "f", note="at 1,000")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0000042, "seconds", "4.20 us"),
        (0.00000006, "seconds", "60.0 ns"),
        (0.1034, "seconds", "103 ms"),
        (12.3, "seconds", "12.3 s"),
        (0, "bytes", "0.00 B"),
        (1234, "bytes", "1.21 KB"),
        (3, "frames", "3 frames"),
        (None, "seconds", "-"),
    ],
)
def test_numbers_have_three_digits_and_a_unit(value, unit, shown):
    assert words.amount(value, unit) == shown


def test_a_row_tells_number_floor_ratio_goal_and_verdict():
    case = Case("chain", "a chain", "task", CALL, goals=(Goal(5e-6),))
    page = report.page([result(case, 4e-6, {"plain loop": 2e-7})], 1.0)
    assert "| a chain | a task | 4.00 us | plain loop 200 ns | 20.0 x | <= 5 us | yes |" in page


def test_a_goal_that_is_missed_and_one_that_cannot_be_judged_stand_out():
    case = Case("chain", "a chain", "task", CALL, goals=(Goal(5e-6),))
    assert "| **no** |" in report.page([result(case, 6e-6)], 1.0)
    assert "| **no number** |" in report.page([result(case, "RecursionError")], 1.0)


def test_the_ideal_goes_before_the_floors():
    case = Case("sleeps", "sleeps", "run", CALL, references={"pool": CALL}, ideal=0.1, goals=(Goal(1.15, "ratio"),))
    page = report.page([result(case, 0.11, {"pool": 0.2})], 1.0)
    assert "| 110 ms | ideal 100 ms, pool 200 ms | 1.10 x | <= 1.15 x ideal | yes |" in page


def test_a_peer_has_its_number_its_ratio_to_cascade_and_its_size_or_the_reason_why_not():
    case = Case("chain", "a chain", "task", CALL)
    page = report.page([result(case, 4e-6, peers={"dask": 2e-4, "redun": "RecursionError"})], 1.0)
    assert "| case | Cascade | dask | redun |" in page
    assert "| 200 us, 50.0 x, at 1,000 | RecursionError, at 1,000 |" in page


def test_the_machine_is_told_without_names_and_paths():
    told = " ".join(report.machine())
    assert "cores" in told
    assert "/" not in told.replace("x86/64", "")


def test_rows_that_were_measured_again_replace_the_old_ones_and_no_others():
    chain = Case("chain", "a chain", "task", CALL, goals=(Goal(5e-6),))
    other = Case("loop", "a loop", "turn", CALL)
    page = report.page([result(chain, 6e-6, peers={"dask": 6e-4}), result(other, 1e-6, peers={"redun": 1e-3})], 1.0)
    renewed = report.renewed(page, [result(chain, 4e-6, peers={"dask": 4e-4})])
    assert "| a chain | a task | 4.00 us | - | - | <= 5 us | yes |" in renewed
    assert "| a chain, a task | 4.00 us | 400 us, 100 x, at 1,000 |  |" in renewed
    assert "| a loop, a turn | 1.00 us |  | 1.00 ms, 1,000 x, at 1,000 |" in renewed
    assert renewed.count("a chain") == page.count("a chain")
    assert "- measured again on " in renewed
    twice = report.renewed(renewed, [result(other, 1e-6)])
    assert twice.count("- measured again on ") == 2
    assert "1.00 ms, 1,000 x" in twice
