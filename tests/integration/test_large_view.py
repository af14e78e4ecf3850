"""The live view of 100,000 calls on a pseudo-terminal: few drawings, few lines, and an end that tells what failed."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from tests.integration.test_terminal import PREAMBLE, on_terminal

pytestmark = pytest.mark.needs_extra("terminal")

ROWS = 20
WORK = """
from cascade.adapters.telemetry import standing
from cascade.runtime.clock import SystemClock

# The slowest calls are told of runs that took longer than a test should.
standing.WORTH_TELLING = 0.0

@cs.task
def leaf(x):
    return x

@cs.task
def fails(x):
    raise ValueError(f"cannot use {x}")

@cs.task
def flaky(x):
    if cs.attempt() == 1:
        raise ConnectionError("refused")
    return x

clock = SystemClock()
began = clock.monotonic()
many = MANY
try:
    cs.run(
        [
            held(),  # the slow one
            *many,
            flaky.map(x=list(range(500))).with_retry(2),
            fails(1),  # the first to fail
            fails.map(x=[2]),  # the second to fail
        ],
        on_failure="continue",
    )
except cs.RunFailedGroup as error:
    print("failures", len(error.exceptions))
print("seconds", clock.monotonic() - began)
"""
# As an expression, and what the table by task shows of them.
MANY = {
    "items": ("[leaf.map(x=range(100_000))]", "100,000/100,000"),
    "calls": ("[leaf(x) for x in range(100_000)]", "100,000/100,000"),
}


def work(many: str) -> str:
    return textwrap.dedent(WORK).replace("MANY", MANY[many][0])


def line_of(source: str, comment: str) -> int:
    lines = (PREAMBLE + source).split("\n")
    (number,) = [number for number, line in enumerate(lines, 1) if f"# {comment}" in line]
    return number


@pytest.mark.parametrize("many", MANY)
def test_a_view_of_100_000_calls_is_calm_and_ends_with_what_matters(many: str) -> None:  # S29
    source = work(many)
    with on_terminal(source, columns=120, rows=ROWS) as program:
        # Long enough for the slow one to be seen more than once.
        while not re.search(r"100,500/100,503 tasks  0:(?!00)", program.screen.text):
            assert program.read(), program.screen.text
        shown = program.until(MANY[many][1], "0/1  1 active")
        assert re.search(r"  held .* 0/1  1 active", shown)
        program.go()
        final = program.end()
        raw = program.raw
    seconds = float(re.findall(r"seconds ([\d.]+)", final)[0])
    heights = [int(height) for height in re.findall(r"\x1b\[(\d+)A", raw)]
    retries = final.count("retrying flaky")
    # Five a second, and what is printed above a drawing may have it drawn again.
    assert len(heights) <= 5 * seconds + 2 + retries + 2
    assert max(heights) < ROWS
    assert retries < 25
    assert "failures 2" in final
    summary = final[final.index("failed after") :].split("\n")
    assert "100,501 of 100,503 tasks done, 2 failed, " in summary[0]
    assert re.match(rf" +held#\d+ took about \d.*, called at <string>:{line_of(source, 'the slow one')}$", summary[1])
    # On a machine that is slow today calls that wait for their second attempt take long too.
    failed = [line for line in summary[2:] if " took about " not in line]
    for told, comment, error in [(0, "the first to fail", "cannot use 1"), (1, "the second to fail", "cannot use 2")]:
        assert f"ValueError: {error}" in failed[told]
        assert failed[told].endswith(f"declared at <string>:{line_of(source, comment)}")


def test_a_view_of_many_calls_that_are_held_back_is_calm_and_tells_by_what() -> None:  # S23 S29
    source = """
    from cascade.runtime.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic()
    cs.run(
        [held().with_constraints(gpu=1), *[cs.task(abs)(-x).with_constraints(gpu=1) for x in range(5_000)]],
        system_resources={"gpu": 1},
    )
    print("seconds", clock.monotonic() - began)
    """
    with on_terminal(source, columns=120, rows=ROWS) as program:
        shown = program.until("5,000 blocked: waiting for gpu")
        assert re.search(r"  abs .* 0/5,000  5,000 blocked", shown)
        assert re.search(r"  held .* 0/1  1 active", shown)
        program.go()
        final = program.end()
    seconds = float(re.findall(r"seconds ([\d.]+)", final)[0])
    assert len(re.findall(r"\x1b\[(\d+)A", program.raw)) <= 5 * seconds + 2
    assert "finished in" in final
    assert "blocked" not in final


@pytest.mark.parametrize("many", MANY)
def test_100_000_calls_are_a_few_lines_where_there_is_no_terminal(many: str) -> None:  # S29
    preamble = "\n".join(line for line in PREAMBLE.split("\n") if "ioctl(" not in line)
    source = preamble + work(many)
    # What waits on a terminal for somebody to go on waits for nothing here.
    program = [sys.executable, "-c", source]
    done = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert "failures 2" in done.stdout
    lines = done.stderr.splitlines()
    assert len([line for line in lines if "retrying" not in line]) < 10
    assert 10 < len(lines) < 35
    assert "\x1b" not in done.stderr
