"""Two processes want one run: one has it, and the others hear so (S27)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.durability.host_lock import HostLock
from cascade.spec.records import Record, RunRow
from cascade.stores import open_store
from tests.durability.ledger import Ledger
from tests.durability.processes import Processes, outcome_of
from tests.durability.program import Order, Outcome
from tests.durability.shapes import SHAPES
from tests.property.values import portrait

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql", "redis")

SHORT = {"CASCADE_LEASE_SECONDS": "0.5"}


class Crowd:
    """Processes that all want to run one shape under one id."""

    def __init__(self, children: Processes, shape: str, store: str, folder: Path) -> None:
        self.children = children
        self.shape, self.store, self.folder = shape, store, folder
        self.orders: dict[int, Order] = {}

    def join(self, host: str = "", *, point: str | None = None, reach: int = 1, end: int = signal.SIGSTOP) -> int:
        """Start a process, on a machine of its own if that has a name."""
        environment = dict(SHORT)
        if host:
            (self.folder / host).mkdir(exist_ok=True)
            environment["TMPDIR"] = str(self.folder / host)
        order = Order(
            *(self.shape, self.store, "run", str(self.folder)),
            point=point,
            reach=reach,
            end=end,
            environment=environment,
        )
        child = self.children.start(order)
        self.orders[child] = order
        return child

    def outcome(self, child: int) -> Outcome:
        """Wait for a process to end by itself."""
        assert self.children.wait(child) == 0
        return outcome_of(self.orders[child], child)

    def look(self) -> tuple[RunRow | None, list[Record]]:
        store = open_store(self.store)
        try:
            return store.find("run"), sorted(store.records("run"))
        finally:
            store.close()

    def send(self) -> None:
        store = open_store(self.store)
        for name, payload in SHAPES[self.shape].signals:
            store.send("run", name, payload, 1.0)
        store.close()

    @property
    def expected(self) -> str:
        return portrait(SHAPES[self.shape].expected)


@pytest.mark.parametrize("count", [2, 8])
def test_of_processes_that_resume_a_run_at_once_one_has_it(
    count: int, children: Processes, store_url: str, tmp_path: Path
) -> None:
    crowd = Crowd(children, "chain", store_url, tmp_path)
    assert children.wait(crowd.join(point="effect.end", reach=3, end=signal.SIGKILL)) == signal.SIGKILL
    # Whoever gets it stands still with it, until all others have been told.
    racing = [crowd.join(point="run.recalled") for _ in range(count)]
    ended = {child: children.wait(child) for child in racing}
    (winner,) = [child for child, how in ended.items() if how == signal.SIGSTOP]
    for child in racing:
        if child != winner:
            error = outcome_of(crowd.orders[child], child).error
            assert error is not None
            assert error[0] == "RunOwnedError"
    os.kill(winner, signal.SIGCONT)
    assert crowd.outcome(winner).value == crowd.expected
    assert len({effect.key for effect in Ledger(tmp_path / "ledger").effects()}) == 6


@pytest.mark.parametrize("count", [2, 8])
def test_of_machines_that_begin_a_run_at_once_one_has_it(
    count: int, children: Processes, store_url: str, tmp_path: Path
) -> None:
    crowd = Crowd(children, "signal", store_url, tmp_path)
    racing = [crowd.join(f"host{number}") for number in range(count)]
    # The one that has it waits for signals, and renews its lease. The others see that, and end.
    for _ in range(count - 1):
        child = children.wait_for_any(racing)
        error = outcome_of(crowd.orders[child], child).error
        assert error is not None
        assert error[0] == "RunOwnedError", error
        racing.remove(child)
    crowd.send()
    assert crowd.outcome(racing[0]).value == crowd.expected
    effects = Ledger(tmp_path / "ledger").effects()
    assert len({effect.key for effect in effects}) == 2


ENTERED, LEAVE = threading.Event(), threading.Event()


@cs.task
def hold() -> str:
    ENTERED.set()
    assert LEAVE.wait(30)
    return "held"


def test_threads_of_one_process_are_told_apart_too(tmp_path: Path) -> None:
    def run() -> Any:
        return cs.run(hold(), run_id="run", store=f"sqlite:///{tmp_path}/flows.db", log_level="CRITICAL")

    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(run()))
    thread.start()
    assert ENTERED.wait(30)
    with pytest.raises(cs.RunOwnedError, match="a process on this machine"):
        run()
    LEAVE.set()
    thread.join()
    assert values == ["held"] == [run()]


def test_a_forked_process_has_none_of_the_locks_of_its_parent(tmp_path: Path) -> None:
    lock = HostLock("store", "run", tmp_path)
    assert lock.take()
    ask, answer = os.pipe()
    given, told = os.pipe()
    with warnings.catch_warnings():
        # Of threads that this process has; the child only looks at locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        own = HostLock("store", "run", tmp_path)
        os.write(answer, b"yes" if own.take() else b"not")
        os.read(given, 1)
        os.write(answer, b"yes" if own.take() else b"not")
        os._exit(0)
    assert os.read(ask, 3) == b"not"
    lock.release()
    os.write(told, b"!")
    assert os.read(ask, 3) == b"yes"
    os.waitpid(child, 0)
    for end in (ask, answer, given, told):
        os.close(end)


def test_to_look_at_a_lock_takes_it_from_nobody(tmp_path: Path) -> None:
    lock = HostLock("store", "run", tmp_path)
    program = "import pathlib, sys; from cascade.runtime.durability.host_lock import HostLock as Lock; "
    program += "lock = Lock('store', 'run', pathlib.Path(sys.argv[1])); print(lock.is_taken(), lock.take())"

    def elsewhere() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, tmp_path], capture_output=True, check=True
        ).stdout.decode()

    assert not lock.is_taken()
    assert elsewhere() == "False True\n"
    assert lock.take()
    # A process that closes a file gives back all its locks on it.
    assert lock.is_taken()
    assert HostLock("store", "run", tmp_path).is_taken()
    assert elsewhere() == "True False\n"
    lock.release()
    assert not lock.is_taken()


def test_a_store_that_a_link_names_has_the_locks_and_the_values_of_the_file(tmp_path: Path) -> None:
    """Who is gone is known at once by whatever name, and what is kept beside the file is found (S27)."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "folder").symlink_to(kept)
    (tmp_path / "link.db").symlink_to(kept / "flows.db")
    urls = [f"sqlite:///{tmp_path}/{name}" for name in ("link.db", "folder/flows.db", "kept/flows.db")]

    @cs.task
    def large() -> bytes:
        return b"x" * 1_000_000

    for writer in urls:
        assert len(cs.run(large(), run_id=writer, store=writer, log_level="CRITICAL")) == 1_000_000
    locks = [HostLock(url, "run") for url in urls]
    assert len({lock.token for lock in locks}) == 1
    assert locks[0].take()
    assert all(lock.is_taken() and not lock.take() for lock in locks)
    locks[0].release()
    for url in urls:
        store = open_store(url)
        assert store.url == url
        store.close()
        for writer in urls:
            assert len(cs.run(large(), run_id=writer, store=url, log_level="CRITICAL")) == 1_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "kept", "link.db"]


STOPS = (
    ("effect.end", 2),
    ("journal.commit.begin", 3),
    ("store.write.begin", 2),
    ("store.write.after-commit", 3),
    ("journal.commit.end", 2),
)


@pytest.mark.parametrize(("point", "reach"), STOPS)
def test_who_was_stopped_past_its_lease_and_goes_on_writes_nothing(
    point: str, reach: int, children: Processes, store_url: str, tmp_path: Path
) -> None:
    crowd = Crowd(children, "loop of maps", store_url, tmp_path)
    asleep = crowd.join("there", point=point, reach=reach)
    assert children.wait(asleep) == signal.SIGSTOP
    assert crowd.outcome(crowd.join("here")).value == crowd.expected
    there = crowd.look()
    effects = len(Ledger(tmp_path / "ledger").effects())
    os.kill(asleep, signal.SIGCONT)
    error = crowd.outcome(asleep).error
    assert error is not None
    assert error[0] == "RunOwnedError", error
    assert crowd.look() == there
    # Each of its four threads may have been between its look at the clock and its call.
    assert len(Ledger(tmp_path / "ledger").effects()) <= effects + 4
    assert crowd.outcome(crowd.join("here")).value == crowd.expected


def test_who_was_stopped_on_this_machine_keeps_its_run(children: Processes, tmp_path: Path) -> None:
    crowd = Crowd(children, "chain", f"sqlite:///{tmp_path}/flows.db", tmp_path)
    asleep = crowd.join(point="effect.end", reach=2)
    assert children.wait(asleep) == signal.SIGSTOP
    lease = float(SHORT["CASCADE_LEASE_SECONDS"])
    threading.Event().wait(lease)
    error = crowd.outcome(crowd.join()).error
    assert error is not None
    assert error[0] == "RunOwnedError"
    os.kill(asleep, signal.SIGCONT)
    assert crowd.outcome(asleep).value == crowd.expected
    assert len(Ledger(tmp_path / "ledger").effects()) == 6


def test_a_run_of_a_machine_that_died_is_taken_over_when_its_lease_has_run_out(
    children: Processes, store_url: str, tmp_path: Path
) -> None:
    crowd = Crowd(children, "nested tail calls", store_url, tmp_path)
    dead = crowd.join("there", point="journal.commit.end", reach=3, end=signal.SIGKILL)
    assert children.wait(dead) == signal.SIGKILL
    assert crowd.outcome(crowd.join("here")).value == crowd.expected
    row, _ = crowd.look()
    assert row is not None
    assert row.epoch == 2
