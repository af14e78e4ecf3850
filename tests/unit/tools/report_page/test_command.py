from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cascade as cs

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

WORKFLOW = """
import cascade as cs

@cs.task
def first(): return 1

@cs.task
def second(x): return x + 1

main = second(first())
"""


def cascade(folder: Path, *arguments: str, settings: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CASCADE_STORE": "", "XDG_CONFIG_HOME": str(settings or folder)}
    command = [sys.executable, "-m", "cascade", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_run_of_the_command_line_can_be_drawn_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(WORKFLOW)
    assert cascade(tmp_path, "run", "steps.py:main", "--run-id", "r").returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = str(tmp_path / ".cascade" / "cascade.db")
    told = cascade(elsewhere, "report", "r", "--html", "r.html", "--graph", "--store", store, settings=tmp_path)
    assert (told.returncode, told.stdout) == (0, f"{elsewhere / 'r.html'}\n")
    page = (elsewhere / "r.html").read_text()
    assert page.count('class="box s-done') == 2
    assert page.count('class="line k-data') == 1


def test_wrong_use_ends_with_2_and_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    cs.run(cs.task(lambda: 1, name="one")(), run_id="nightly", store=url, log_level="CRITICAL")
    for arguments, message in [
        (("nightl", "--html", "a.html"), "did you mean 'nightly'?"),
        (("nightly", "--html", "missing/a.html"), "cannot be written: No such file or directory"),
        (("nightly", "--html", "a.html", "--graph"), "was started from code"),
    ]:
        told = cascade(tmp_path, "report", *arguments, "--store", url)
        assert told.returncode == 2
        assert message in told.stderr
    assert not list(tmp_path.glob("*.html"))
