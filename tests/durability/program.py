"""A process that runs shapes, each in a child of its own which ends as it is told.

It is started once and has imported everything then: a child costs a fork and not the start of an interpreter. It has no
threads, so that nothing is lost by forking. It reads orders and writes answers, a line of JSON each.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cascade as cs
from cascade.runtime import fault_points


@dataclass(frozen=True)
class Order:
    """One child.

    Attributes:
        shape: what it runs.
        store: where it is kept.
        run_id: the run.
        folder: where the ledger is, and where the child leaves its outcome.
        point: where it meets its end, `any` for everywhere; `None` to end by itself.
        reach: at which time that it comes there.
        end: the signal that it sends itself.
        environment: changes to the environment.
    """

    shape: str
    store: str
    run_id: str
    folder: str
    point: str | None = None
    reach: int = 1
    end: int = signal.SIGKILL
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """How a run ended that was not killed.

    Attributes:
        value: what it gave, as `portrait` shows it.
        error: the class of what it raised, and its message.
        reached: how often each fault point was reached.
    """

    value: str | None
    error: tuple[str, str] | None
    reached: dict[str, int]


class Fuse:
    """Ends this process at a fault point, and counts how often each is reached."""

    def __init__(self, order: Order) -> None:
        self._point, self._reach, self._end = order.point, order.reach, order.end
        self._lock = threading.Lock()
        self.reached: Counter[str] = Counter()

    def __call__(self, point: str) -> None:
        with self._lock:
            self.reached[point] += 1
            times = self.reached.total() if self._point == "any" else self.reached[point]
            if self._point in (point, "any") and times == self._reach:
                # To this very thread: sent to the process, it could go on for a moment while another one takes it.
                signal.pthread_kill(threading.get_ident(), self._end)


def run_shape(order: Order) -> Outcome:
    """Run a shape in this process."""
    from tests.durability.ledger import Ledger
    from tests.durability.shapes import SHAPES
    from tests.property.values import portrait

    os.environ.update(order.environment)
    # Looked up again: another folder for temporary files is another machine, as far as locks go.
    tempfile.tempdir = None
    fault_points.on_reach = fuse = Fuse(order)
    target = SHAPES[order.shape].build(Ledger(Path(order.folder) / "ledger"))
    try:
        value = cs.run(target, run_id=order.run_id, store=order.store, log_level="CRITICAL", max_workers=4)
    except Exception as error:
        return Outcome(None, (type(error).__name__, str(error)), dict(fuse.reached))
    return Outcome(portrait(value), None, dict(fuse.reached))


def _be_child(order: Order) -> None:
    """Never returns."""
    status = 70
    try:
        null = os.open(os.devnull, os.O_RDWR)
        told = os.open(Path(order.folder) / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for theirs, ours in ((null, 0), (null, 1), (told, 2)):
            os.dup2(theirs, ours)
        outcome = run_shape(order)
        path = Path(order.folder) / f"outcome-{os.getpid()}"
        path.write_text(json.dumps(asdict(outcome)))
        status = 0
    finally:
        if status:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        sys.stderr.flush()
        os._exit(status)


def _start(order: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        _be_child(Order(**order))
    return child


def _wait(child: int) -> int:
    """The status of a child that has ended or stopped."""
    return os.waitpid(child, os.WUNTRACED)[1]


def _wait_for_any(children: list[int]) -> int:
    """The first of some children that has ended; negative if it did not end well."""
    while True:
        for child in children:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return found if status == 0 else -found
        # Only children of these are waited for: `waitpid(-1)` would take the status of others away.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


def _import_what_a_run_needs() -> None:
    """Have a first child run something, and import what it has imported."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "modules"
        child = os.fork()
        if child == 0:
            try:
                run_shape(Order("chain", f"sqlite:///{folder}/flows.db", "run", folder))
                names.write_text("\n".join(sys.modules))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        for name in names.read_text().splitlines():
            importlib.import_module(name)


def serve() -> None:
    """Carry out orders until there are no more."""
    warnings.simplefilter("error")
    _import_what_a_run_needs()
    assert threading.active_count() == 1
    acts: dict[str, Callable[[Any], int]] = {"start": _start, "wait": _wait, "wait_for_any": _wait_for_any}
    for line in sys.stdin:
        act, argument = json.loads(line)
        print(json.dumps(acts[act](argument)), flush=True)


if __name__ == "__main__":
    serve()
