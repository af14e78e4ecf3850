"""With which status the programs of the command line end: as the table in docs/reference/command-line.md says."""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import Commands, ended

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

FLOW = """
    import asyncio, os, signal, sys, time
    import cascade as cs

    @cs.resource
    def room():
        yield "room"
        print("torn down", file=sys.stderr, flush=True)

    @cs.task
    def add(x: int, y: int = 1) -> int:
        return x + y

    @cs.task
    def fails() -> None:
        raise ValueError("no")

    @cs.task
    def leaves() -> None:
        sys.exit(7)

    def begun():
        print("begun", file=sys.stderr, flush=True)

    @cs.task
    def polls(room=cs.inject(room)) -> int:
        begun()
        while not cs.cancelled() and not os.path.exists("go"):
            time.sleep(0.005)
        return 1

    def hangs() -> None:
        begun()
        while not cs.cancelled():
            time.sleep(0.005)
        print("was asked to stop", file=sys.stderr, flush=True)
        time.sleep(600)

    good = add(cs.Param("n", type=int, default=1))
    bad = fails()
    out = leaves()
    polling = polls()
    thread = cs.task(hangs)()
    process = cs.task(hangs, executor="process")()

    @cs.task(executor="process")
    def ignoring() -> None:
        signal.signal(signal.SIGTERM, lambda *_: print("ignores SIGTERM", file=sys.stderr, flush=True))
        hangs()

    deaf = ignoring()

    @cs.task
    async def swallowing_all() -> None:
        begun()
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                print("was asked to stop", file=sys.stderr, flush=True)

    swallowing = swallowing_all()
"""

Cascade = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def cascade(tmp_path: Path) -> Iterator[Cascade]:
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    commands = Commands(tmp_path)
    yield commands.start
    commands.close()


def until(process: subprocess.Popen[str], text: str) -> str:
    """What it tells, up to a line with a text."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(seen)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "flow.py:good"], 0, ""),
        (["run", "flow.py:bad"], 1, "ValueError: no"),
        (["run", "flow.py:bad", "--on-failure", "continue"], 1, "ValueError: no"),
        (["run", "flow.py:good", "--store", "garbage.db"], 1, "garbage.db"),
        (["run", "flow.py:good", "-p", "n=x"], 2, "error: bad input"),
        (["run", "flow.py:nothing"], 2, "error: "),
        (["run", "nothing.py:good"], 2, "error: "),
        (["run", "flow.py:good", "--colour"], 2, "No such option"),
        (["watch", "nobody"], 2, "error: "),
        (["run", "flow.py:out"], 7, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_program_ends_with_the_documented_status(
    cascade: Cascade, tmp_path: Path, arguments: list[str], status: int, told: str
) -> None:  # S20
    (tmp_path / "garbage.db").write_bytes(b"this is no database" * 100)
    code, _, errors = ended(cascade(*arguments))
    assert code == status, errors
    assert told in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_and_tears_down(
    cascade: Cascade, tmp_path: Path, sent: signal.Signals
) -> None:  # S20, S27
    process = cascade("run", "flow.py:polling", "--run-id", "r")
    until(process, "begun")
    process.send_signal(sent)
    status, output, errors = ended(process)
    assert (status, output) == (130, "")
    assert errors.endswith("torn down\ninterrupted; go on with:  cascade resume r\n")
    # What can be resumed is no leftover.
    assert ended(cascade("gc", "--older-than", "0s"))[1].startswith("removed 0 runs")
    (tmp_path / "go").touch()
    assert ended(cascade("resume", "r"))[:2] == (0, "1\n")


@pytest.mark.parametrize("kind", ["thread", "process", "swallowing"])
def test_a_second_ctrl_c_ends_at_once_and_the_run_can_be_resumed(cascade: Cascade, kind: str) -> None:  # S20, S27
    process = cascade("run", f"flow.py:{kind}", "--run-id", "r")
    until(process, "begun")
    process.send_signal(signal.SIGINT)
    until(process, "was asked to stop")
    process.send_signal(signal.SIGINT)
    status, output, errors = ended(process)
    assert (status, output) == (130, "")
    assert errors.replace("was asked to stop\n", "") == "interrupted; go on with:  cascade resume r\n"
    (run,) = json.loads(ended(cascade("runs", "--json"))[1])
    assert run["status"] in ("cancelled", "interrupted")


def test_a_second_ctrl_c_kills_processes_without_asking_and_none_is_told_as_left_behind(
    cascade: Cascade,
) -> None:  # S20
    process = cascade("run", "flow.py:deaf", "--log-level", "INFO")
    until(process, "begun")
    process.send_signal(signal.SIGINT)
    until(process, "was asked to stop")
    process.send_signal(signal.SIGINT)
    status, _, errors = ended(process)
    assert status == 130
    assert "ignores SIGTERM" not in errors
    assert "abandoned" not in errors


def test_watching_ends_as_the_run_does(cascade: Cascade, tmp_path: Path) -> None:  # S20
    process = cascade("run", "flow.py:polling", "--run-id", "r")
    until(process, "begun")
    watchers = [cascade("watch", "r") for _ in range(2)]
    for watcher in watchers:
        assert watcher.stdout is not None
        watcher.stdout.readline()
    watchers[0].send_signal(signal.SIGINT)
    status, _, errors = ended(watchers[0])
    assert (status, errors) == (130, "run r goes on\n")
    (tmp_path / "go").touch()
    assert ended(process)[0] == ended(watchers[1])[0] == 0


def test_a_run_that_was_cancelled_or_killed_ends_what_watches_it(cascade: Cascade) -> None:  # S20
    cancelled, killed = [cascade("run", "flow.py:polling", "--run-id", name) for name in ("cancelled", "killed")]
    for process in (cancelled, killed):
        until(process, "begun")
    watchers = [cascade("watch", name) for name in ("cancelled", "killed")]
    for watcher in watchers:
        assert watcher.stdout is not None
        watcher.stdout.readline()
    assert ended(cascade("cancel", "cancelled"))[0] == 0
    killed.kill()
    assert [ended(process)[0] for process in (cancelled, *watchers)] == [1, 1, 130]
