"""Runs contestants: each measurement in a fresh process, all contestants in turns, round after round."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter

from benchmarks.case import Call, Case

ROOT = Path(__file__).resolve().parent.parent
# Peers are there to compare with, not to be watched closely: fewer rounds, and one where a round takes long.
PEER_ROUNDS = 3
LONG_ROUND = 5.0


@dataclass
class Measured:
    """What one contestant showed in one case: a number a round, or the reason why there is none."""

    call: Call
    values: list[float] = field(default_factory=list[float])
    wall: float = 0.0
    problem: str = ""
    details: str = ""

    @property
    def value(self) -> float | None:
        return median(self.values) if self.values and not self.problem else None


@dataclass
class Result:
    """A case and what everybody showed in it."""

    case: Case
    cascade: Measured | None
    references: dict[str, Measured]
    peers: dict[str, Measured]

    def contestants(self) -> Iterator[tuple[str, Measured]]:
        yield from self.references.items()
        if self.cascade is not None:
            yield "Cascade", self.cascade
        yield from self.peers.items()

    @property
    def reference(self) -> float | None:
        """What the goals are relative to."""
        if self.case.ideal is not None:
            return self.case.ideal
        return self.floor

    @property
    def floor(self) -> float | None:
        return next((measured.value for measured in self.references.values()), None)

    @property
    def ratio(self) -> float | None:
        """Cascade's number to that of the first reference."""
        value, floor = self.cascade.value if self.cascade else None, self.floor
        return value / floor if value is not None and floor else None

    @property
    def reached(self) -> bool | None:
        """Whether all goals are; `None` where there is none, or where something that they need is missing."""
        if not self.case.goals or self.cascade is None or self.cascade.value is None:
            return None
        verdicts = [goal.reached(self.cascade.value, self.reference) for goal in self.case.goals]
        return None if None in verdicts else all(verdicts)


def measure(
    case: Case,
    *,
    rounds: int | None = None,
    pythons: Mapping[str, str] | None = None,
    first_reference_only: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Result:
    """Measure a case.

    Args:
        rounds: how many times everything is measured, the case's own number by default; slow peers less often.
        pythons: the interpreters of the peers that take part, by their names.
        first_reference_only: leaves the other references out.
        tell: gets a line when something goes wrong.
    """
    pythons = pythons or {}
    references = {
        name: Measured(call)
        for index, (name, call) in enumerate(case.references.items())
        if index == 0 or not first_reference_only
    }
    result = Result(
        case,
        Measured(case.cascade) if case.cascade else None,
        references,
        {name: Measured(call) for name, call in case.peers.items() if name in pythons},
    )
    contestants = list(result.contestants())
    for number in range(rounds or case.rounds):
        # Who comes first changes, so that nobody always runs in the wake of the same other.
        turn = number % len(contestants)
        for name, measured in contestants[turn:] + contestants[:turn]:
            is_peer = result.peers.get(name) is measured
            if measured.problem or (is_peer and (number >= PEER_ROUNDS or measured.wall > LONG_ROUND)):
                continue
            run_once(measured, pythons[name] if is_peer else sys.executable)
            if measured.problem:
                tell(f"{case.name}: {name}: {measured.problem} {measured.details}".rstrip())
    return result


def run_once(measured: Measured, python: str) -> None:
    """Add one value, or note why there is none."""
    call = measured.call
    arguments = json.dumps(dict(call.arguments))
    command = [python, "-m", "benchmarks.contestant", call.module, call.function, arguments]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, tempfile.TemporaryFile() as errors:
        master, slave = pty.openpty() if call.terminal else (-1, -1)
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave if call.terminal else errors,
            start_new_session=True,
        )
        if call.terminal:
            os.close(slave)
            Thread(target=_drain, args=(master,), daemon=True).start()
        began = perf_counter()
        try:
            output, _ = process.communicate(timeout=call.limit)
        except subprocess.TimeoutExpired:
            measured.problem = f"over {call.limit:.0f} s"
            return
        finally:
            _end(process)
            measured.wall = perf_counter() - began
        try:
            answer = json.loads(output)
        except ValueError:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            measured.problem = "crashed"
            measured.details = f"with status {process.returncode} after {measured.wall:.0f} s: {lines[-1:]}"
            return
    if "value" in answer:
        measured.values.append(answer["value"])
    elif "unfit" in answer:
        measured.problem = answer["unfit"]
    else:
        measured.problem = answer["error"]
        measured.details = answer["message"]


def environment(folder: str) -> dict[str, str]:
    """The variables of a process: nothing of the caller's Python, and a home of its own for what tools keep there."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CASCADE", "VIRTUAL_ENV"))
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "PYTHONHASHSEED": "0",
        "HOME": folder,
        "XDG_CONFIG_HOME": os.path.join(folder, ".config"),
        "TERM": "xterm-256color",
    }


def _drain(master: int) -> None:
    """Read what is written to a terminal, as a terminal does."""
    try:
        while os.read(master, 65_536):
            pass
    except OSError:
        pass
    finally:
        os.close(master)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a contestant and what it may have started: its whole session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
    if process.stdout:
        process.stdout.close()
