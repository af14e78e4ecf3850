"""What calls log and print is with the run when its process was killed, and seen from other processes (S27, S29)."""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Commands
from tests.integration.test_terminal import on_terminal

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

FLOW = """
    import os, signal, sys, time
    import cascade as cs

    @cs.task
    def step(n: int) -> int:
        print("begin", n)
        cs.log.info("row %d", n)
        if n == 3 and os.path.exists("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        print("end", n, file=sys.stderr)
        return n + 1

    @cs.task
    def hostile() -> None:
        print("\\x1b[31mred\\x07\\u202e")
        cs.log.warning("first\\nsecond")

    @cs.task
    def quick() -> int:
        return 1

    @cs.task
    def slow(n: int) -> str:
        for number in range(400):
            print("line", number)
        while not os.path.exists("go"):
            time.sleep(0.01)
        print("last")
        return "done"

    main = step(step(step(step(step(0)))))
    @cs.task
    def bar() -> None:
        for number in range(5_000):
            print(f"\\rdone {number}", end="", flush=True)
        print()
        for number in range(5_000):
            print(f"again {number}", end="\\r", file=sys.stderr)
        print("windows", end="\\r\\n")
        print("twice", end="\\r\\r\\n")

    drawn = bar()
    bad = cs.task(int, name="bad")("no")  # line of bad
    many = step.map(n=list(range(4)))
    odd = hostile()
    waiting = slow(quick())
"""

Cascade = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    return tmp_path


@pytest.fixture
def commands(folder: Path) -> Iterator[Commands]:
    begun = Commands(folder, CASCADE_STORE=str(folder / "runs.db"))
    yield begun
    begun.close()


@pytest.fixture
def start(commands: Commands) -> Callable[..., subprocess.Popen[str]]:
    return commands.start


@pytest.fixture
def cascade(commands: Commands) -> Cascade:
    return commands.call


def lines_of(cascade: Cascade) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cascade("show", "r", "--log", "--json")[1])
    return found


def test_a_killed_and_resumed_run_has_the_lines_of_both_processes(folder: Path, cascade: Cascade) -> None:
    (folder / "die").touch()
    assert cascade("run", "flow.py:main", "--run-id", "r")[0] == -signal.SIGKILL
    committed = [
        (f"step#{n}", source, text)
        for n in range(3)
        for source, text in (("stdout", f"begin {n}"), ("INFO", f"row {n}"), ("stderr", f"end {n}"))
    ]
    before = lines_of(cascade)
    # What the killed call said may have come through too.
    assert [(line["id"], line["source"], line["text"]) for line in before][:9] == committed
    assert {line["id"] for line in before[9:]} <= {"step#3"}
    (folder / "die").unlink()
    assert cascade("resume", "r", "--log-level", "CRITICAL")[:2] == (0, "begin 3\nbegin 4\n5\n")
    lines = lines_of(cascade)
    assert lines[: len(before)] == before
    assert [line["text"] for line in lines[len(before) :]] == ["begin 3", "row 3", "end 3", "begin 4", "row 4", "end 4"]
    assert [line["number"] for line in lines] == sorted({line["number"] for line in lines})
    shown = cascade("show", "r", "--log")
    assert (shown[0], shown[2]) == (0, "")
    assert [line.split("  ", 1)[1] for line in shown[1].splitlines()] == [
        f"{line['id']}  {line['source']}: {line['text']}" for line in lines
    ]


def test_lines_of_many_calls_are_all_there_when_the_run_was_killed_later(folder: Path, cascade: Cascade) -> None:
    (folder / "die").touch()
    assert cascade("run", "flow.py:many", "--run-id", "r", "--max-workers", "1")[0] == -signal.SIGKILL
    done = {place["id"] for place in json.loads(cascade("show", "r", "--json")[1])["places"]}
    lines = lines_of(cascade)
    for n in range(3):
        if f"step#0[{n}]" in done:
            mine = [line["text"] for line in lines if line["id"] == f"step#0[{n}]"]
            assert mine == [f"begin {n}", f"row {n}", f"end {n}"]


def test_what_is_drawn_around_prints_is_no_line_of_the_call_that_prints(folder: Path, cascade: Cascade) -> None:
    source = f"""
    @cs.task
    def talk():
        wait()
        for number in range(3):
            print("row", number)
            # So that it is drawn again.
            threading.Event().wait(0.1)
        print("half", end="", flush=True)
        wait()

    cs.run(talk(), run_id="r", store={str(folder / "runs.db")!r})
    """
    with on_terminal(source) as program:
        program.until("0/1 tasks")
        program.go()
        program.until("half")
        program.go()
        program.end()
    assert [line["text"] for line in lines_of(cascade)] == ["row 0", "row 1", "row 2", "half"]


def test_no_terminal_obeys_a_line(cascade: Cascade) -> None:
    assert cascade("run", "flow.py:odd", "--run-id", "r")[0] == 0
    status, output, errors = cascade("show", "r", "--log")
    assert (status, errors) == (0, "")
    first, second, third = output.splitlines()
    assert first.endswith("  hostile#0  stdout: \\x1b[31mred\\x07\\u202e")
    assert second.endswith("  hostile#0  WARNING: first")
    assert third == "    second"
    assert [line["text"] for line in lines_of(cascade)] == ["\x1b[31mred\x07\u202e", "first\nsecond"]


def test_a_run_without_lines_says_so_beside_the_output(cascade: Cascade, folder: Path) -> None:
    (folder / "flow.py").write_text("import cascade as cs\nmain = cs.task(abs)(-1)\n")
    assert cascade("run", "flow.py:main", "--run-id", "r")[0] == 0
    assert cascade("show", "r", "--log") == (0, "", "nothing was logged or printed in run r\n")
    assert lines_of(cascade) == []


def test_watch_prints_new_lines(folder: Path, start: Any) -> None:
    run = start("run", "flow.py:waiting", "--run-id", "r")
    for printed in run.stdout:
        if printed == "line 399\n":
            break
    watch = start("watch", "r")
    seen = [watch.stdout.readline()]
    while "line 399" not in seen[-1]:
        assert seen[-1], watch.stderr.read()
        seen.append(watch.stdout.readline())
    (folder / "go").touch()
    output, errors = watch.communicate(timeout=120)
    assert (watch.returncode, errors) == (0, "")
    assert all("  slow#1  stdout: line 39" in line for line in seen)
    assert output.count("stdout: last") == 1
    run.communicate(timeout=120)


def test_watch_on_a_terminal_prints_lines_above_its_view(folder: Path, commands: Commands) -> None:
    run = commands.start("run", "flow.py:waiting", "--run-id", "r")
    for printed in run.stdout:
        if printed == "line 399\n":
            break
    source = "from cascade.tools.command import main; main()"
    with on_terminal(source, arguments=("watch", "r"), environment=commands.environment) as program:
        shown = program.until("stdout: line 399", "quick")
        (folder / "go").touch()
        final = program.end()
    assert program.process.returncode == 0
    assert shown.index("line 399") < shown.index("quick")
    lines = final.strip().split("\n")
    assert [line.rpartition("stdout: ")[2] for line in lines[-3:-1]] == ["line 399", "last"]
    assert lines[-1].startswith("slow: finished in ")
    run.communicate(timeout=120)


def test_watch_tells_an_error_with_the_line_where_the_task_was_called(folder: Path, cascade: Cascade) -> None:  # S29
    assert cascade("run", "flow.py:bad", "--run-id", "r", "--log-level", "CRITICAL")[0] == 1
    source = (folder / "flow.py").read_text().split("\n")
    line = next(number for number, text in enumerate(source, 1) if "# line of bad" in text)
    first = cascade("watch", "r")[1].splitlines()[0]
    assert first.startswith("bad#0 failed: ValueError: invalid literal")
    assert first.endswith(f", declared at {folder / 'flow.py'}:{line}")


def test_of_a_bar_that_draws_itself_again_the_last_state_is_kept(cascade: Cascade) -> None:
    assert cascade("run", "flow.py:drawn", "--run-id", "r", "--log-level", "CRITICAL")[0] == 0
    told = [(line["source"], line["text"]) for line in lines_of(cascade)]
    assert told == [("stdout", "done 4999"), ("stdout", "windows"), ("stdout", "twice"), ("stderr", "again 4999")]
