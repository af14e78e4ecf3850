"""`cascade` as a program of its own: installed or by `python -m`, killed, interrupted, and resumed (S20, S27)."""

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

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

FLOW = """
    import os, signal, sys, time
    import cascade as cs
    from beside import twice

    def note(text):
        with open("ledger", "a") as ledger:
            ledger.write(text + "\\n")

    @cs.task
    def first(n: int) -> int:
        note("first")
        return twice(n)

    @cs.task
    def second(n: int) -> int:
        if os.path.exists("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.path.exists("wait"):
            note("waiting")
            sys.stderr.write("waiting\\n")
            sys.stderr.flush()
            while not cs.cancelled():
                time.sleep(0.01)
            return 0
        note("second")
        return n + 1

    @cs.task
    def loop(n: int, sofar: int = 0):
        if n == 2 and os.path.exists("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        note(f"turn {n}")
        return sofar if n == 0 else loop(n - 1, sofar + n)

    main = second(first(cs.Param("n", default=3)))
    turns = loop(first(2))

    if __name__ == "__main__":
        print(cs.run(main, run_id="shared", store=os.path.abspath(".cascade/cascade.db"), log_level="CRITICAL"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    (tmp_path / "beside.py").write_text("def twice(n):\n    return 2 * n\n")
    return tmp_path


@pytest.fixture
def commands(folder: Path) -> Iterator[Commands]:
    begun = Commands(folder)
    yield begun
    begun.close()


@pytest.fixture
def start(commands: Commands) -> Callable[..., subprocess.Popen[str]]:
    return commands.start


@pytest.fixture
def cascade(commands: Commands) -> Callable[..., tuple[int, str, str]]:
    return commands.call


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text().split()


def test_a_killed_run_is_shown_as_interrupted_and_resumed(folder: Path, cascade: Any) -> None:  # S27
    (folder / "die").touch()
    status, _, _ = cascade("run", "flow.py:main", "-p", "n=20", "--run-id", "r")
    assert status == -signal.SIGKILL
    (run,) = json.loads(cascade("runs", "--json")[1])
    assert run["status"] == "interrupted"
    told = cascade("show", "r")[1]
    assert "r  interrupted" in told
    assert told.endswith("go on with:  cascade resume r\n")
    (folder / "die").unlink()
    assert cascade("resume", "r", "--log-level", "CRITICAL") == (0, "41\n", "")
    assert ledger(folder) == ["first", "second"]


def test_a_killed_loop_goes_on_in_its_turn(folder: Path, cascade: Any) -> None:  # S27
    (folder / "die").touch()
    assert cascade("run", "flow.py:turns", "--run-id", "r")[0] == -signal.SIGKILL
    explained = cascade("resume", "r", "--explain")
    assert explained[0] == 0
    assert "goes on" in explained[1]
    (folder / "die").unlink()
    assert cascade("resume", "r")[:2] == (0, "10\n")
    assert (folder / "ledger").read_text().splitlines() == ["first", *(f"turn {n}" for n in (4, 3, 2, 1, 0))]


def test_ctrl_c_ends_with_130_and_the_line_that_resumes(folder: Path, start: Any, cascade: Any) -> None:  # S20
    (folder / "wait").touch()
    with start("run", "flow.py:main", "--run-id", "r") as process:
        for line in process.stderr:
            if line == "waiting\n":
                break
        running = json.loads(cascade("runs", "--json")[1])
        refused = cascade("rm", "r", "--yes")
        second = cascade("resume", "r")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert running[0]["status"] == "running"
    assert running[0]["owner"]
    assert (refused[0], "it is running" in refused[2]) == (2, True)
    assert (second[0], "is owned" in second[2], "goes on" in second[2]) == (2, True, False)
    assert process.returncode == 130
    assert errors.endswith("interrupted; go on with:  cascade resume r\n")
    (folder / "wait").unlink()
    assert json.loads(cascade("runs", "--json")[1])[0]["status"] == "cancelled"
    assert cascade("resume", "r")[0] == 0
    assert ledger(folder).count("first") == 1


def test_a_script_and_the_command_line_go_on_with_each_other(folder: Path, cascade: Any) -> None:  # S26
    (folder / ".cascade").mkdir()
    (folder / "die").touch()
    assert cascade(program=("flow.py",))[0] == -signal.SIGKILL
    (folder / "die").unlink()
    assert cascade("run", "flow.py:main", "--run-id", "shared")[:2] == (0, "7\n")
    assert ledger(folder) == ["first", "second"]
    assert cascade(program=("flow.py",)) == (0, "7\n", "")
    assert ledger(folder) == ["first", "second"]


def test_they_do_so_where_the_name_of_the_script_has_dots(folder: Path, cascade: Any) -> None:  # S26
    (folder / "flow.py").rename(folder / "flow.v2.py")
    (folder / ".cascade").mkdir()
    (folder / "die").touch()
    assert cascade(program=("flow.v2.py",))[0] == -signal.SIGKILL
    (folder / "die").unlink()
    assert cascade("run", "flow.v2.py:main", "--run-id", "shared")[:2] == (0, "7\n")
    assert ledger(folder) == ["first", "second"]


def test_without_typer_one_line_says_how_to_install_it(cascade: Any) -> None:
    without = "import sys; sys.modules['typer'] = None; from cascade.tools.command import main; main()"
    assert cascade(program=("-c", without)) == (
        2,
        "",
        "error: the command line cascade needs Typer and Rich: pip install 'cascade-py[cli]'\n",
    )


def test_help_lists_the_commands(cascade: Any) -> None:
    status, output, errors = cascade("--help")
    assert (status, errors) == (0, "")
    for name in ("run", "resume", "runs", "show", "why", "plan", "graph", "rm", "gc"):
        assert f" {name} " in output
