"""Running shapes in processes that are killed, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.durability.program import Order, Outcome

ROOT = Path(__file__).parents[2]


class Processes:
    """Children of a process that has imported everything already."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.program"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, order: Order) -> int:
        """Start a child; its id."""
        return self._ask("start", asdict(order))

    def wait(self, child: int) -> int:
        """Wait until a child has ended or stopped; the signal that did it, or 0."""
        status = self._ask("wait", child)
        if os.WIFSTOPPED(status):
            return os.WSTOPSIG(status)
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status)
        assert os.WEXITSTATUS(status) == 0, f"child {child} broke: look into the file stderr of its folder"
        return 0

    def wait_for_any(self, children: list[int]) -> int:
        """Wait until one of several children has ended by itself; which."""
        child = self._ask("wait_for_any", children)
        assert child > 0, "a child broke: look into the file stderr of its folder"
        return child

    def run(self, order: Order) -> Outcome | None:
        """Run a child to its end; `None` if it was killed as it was told."""
        child = self.start(order)
        ended_by = self.wait(child)
        if ended_by:
            assert (ended_by, order.point is not None) == (signal.SIGKILL, True)
            return None
        return outcome_of(order, child)

    def _ask(self, act: str, argument: Any) -> int:
        stdin, stdout = self._server.stdin, self._server.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps([act, argument]), file=stdin, flush=True)
        answer: int = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        assert self._server.wait(30) == 0
        assert self._server.stdout is not None
        self._server.stdout.close()


def outcome_of(order: Order, child: int) -> Outcome:
    """How the run of a child ended."""
    return Outcome(**json.loads((Path(order.folder) / f"outcome-{child}").read_text()))


@contextmanager
def processes() -> Iterator[Processes]:
    made = Processes()
    try:
        yield made
    finally:
        made.close()
