"""A run whose owner elsewhere may be alive is waited for: people are told, and may end the wait (S20, S27)."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.telemetry import TerminalReporter
from cascade.runtime.clock import SystemClock
from cascade.runtime.durability.host_lock import HostLock
from cascade.runtime.events import RunBlocked, RunStarted
from cascade.spec.records import RunRow
from cascade.stores import open_store
from cascade.testing import MockClock
from tests.commands import Commands, ended

pytestmark = pytest.mark.needs_extra("sqlite")

OWNER = "process 7 on another machine"
RUNS_OUT = 12.0
LONG = 30.0


class World:
    """What does not work yet."""

    is_broken = False


@cs.task
def answer() -> int:
    if World.is_broken:
        raise ConnectionError
    return 42


def claim_elsewhere(url: str, now: float) -> RunRow:
    """Have a process on another machine take a run that nobody has."""
    store = open_store(url)
    found = store.find("run")
    assert found is not None
    owned = found._replace(host="a boot/1.2/a lock", owner=OWNER, lease_until=now + RUNS_OUT, updated=now)
    claimed = store.claim(owned, over=found.epoch)
    store.close()
    assert claimed is not None
    return claimed


class Elsewhere:
    """A run that a process on another machine has had, and may have still."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/flows.db"
        self.clock = MockClock()
        self.bus = cs.MessageBus()
        World.is_broken = True
        with pytest.raises(ConnectionError):
            cs.run(answer(), run_id="run", store=self.url, log_level="CRITICAL")
        World.is_broken = False
        self.row = claim_elsewhere(self.url, self.clock.now())

    def run(self, act: Callable[[cs.Engine], Any], clock: MockClock | None = None) -> Any:
        """Let an engine act that has this run's store, clock and bus."""

        async def main() -> Any:
            async with cs.create_engine(store=self.url, clock=clock or self.clock, bus=self.bus) as engine:
                async with asyncio.timeout(LONG):
                    return await act(engine)

        return asyncio.run(main())

    def check_is_untouched(self) -> None:
        """The run is as its owner has left it, and no process of this machine has its lock."""
        store = open_store(self.url)
        assert store.find("run") == self.row
        store.close()
        lock = HostLock(store.url, "run")
        assert lock.take()
        lock.release()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


def test_who_waits_for_an_owner_elsewhere_says_so_once_before_the_run_starts(elsewhere: Elsewhere) -> None:
    told: list[Any] = []
    elsewhere.bus.subscribe(RunBlocked, told.append)
    elsewhere.bus.subscribe(RunStarted, told.append)
    assert elsewhere.run(lambda engine: engine.run(answer(), run_id="run")) == 42
    assert [type(event) for event in told] == [RunBlocked, RunStarted]
    assert told[0] == RunBlocked(run_id="run", owner=OWNER, seconds=RUNS_OUT)
    assert elsewhere.clock.monotonic() >= RUNS_OUT


def test_a_shorter_lease_of_ones_own_does_not_shorten_the_wait(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASCADE_LEASE_SECONDS", "1")
    assert elsewhere.run(lambda engine: engine.run(answer(), run_id="run")) == 42
    assert elsewhere.clock.monotonic() >= RUNS_OUT


def test_where_nobody_listens_it_is_logged_once(elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cascade"):
        assert elsewhere.run(lambda engine: engine.run(answer(), run_id="run")) == 42
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("cascade.store", logging.INFO)
    for part in ("'run'", OWNER, "12.0 s at most", "may be alive"):
        assert part in record.getMessage()


def test_an_owner_that_renews_its_lease_has_been_told_of_too(elsewhere: Elsewhere) -> None:
    told: list[RunBlocked] = []

    def renew(event: RunBlocked) -> None:
        told.append(event)
        store = open_store(elsewhere.url)
        store.write("run", elsewhere.row.epoch, [], [], elsewhere.row.lease_until + 5.0)
        store.close()

    elsewhere.bus.subscribe(RunBlocked, renew)
    with pytest.raises(cs.RunOwnedError, match="goes on renewing its lease"):
        elsewhere.run(lambda engine: engine.run(answer(), run_id="run"))
    assert len(told) == 1


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_run_tells_on_stderr_why_it_does_not_begin(
    log_format: Any, elsewhere: Elsewhere, capsys: pytest.CaptureFixture[str]
) -> None:  # S29
    options: Any = {"run_id": "run", "store": elsewhere.url, "clock": elsewhere.clock, "log_format": log_format}
    assert cs.run(answer(), log_level="INFO", **options) == 42
    told = capsys.readouterr().err.splitlines()
    if log_format == "json":
        told = [line for line in told if json.loads(line)["event"] == "RunBlocked"]
        assert {"run_id": "run", "owner": OWNER, "seconds": RUNS_OUT, "level": "INFO"}.items() <= (
            json.loads(told[0]).items()
        )
    else:
        assert told[0] == (
            f"[cascade 0:00] blocked run run: {OWNER} has it and may be alive; waits 12.0s at most, until its lease "
            "has run out"
        )
    assert len(told) == 1


def test_the_terminal_keeps_nothing_of_a_run_that_does_not_begin(elsewhere: Elsewhere) -> None:  # S29
    told = io.StringIO()

    async def act(engine: cs.Engine) -> dict[str, Any]:
        with TerminalReporter(engine, stream=told) as reporter:
            with pytest.raises(cs.RunTimeoutError):
                await engine.run(answer(), run_id="run", timeout=RUNS_OUT / 2)
            return dict(reporter._standings)

    assert elsewhere.run(act) == {}
    assert "blocked run run" in told.getvalue()


def test_at_warning_it_is_silent(elsewhere: Elsewhere, capsys: pytest.CaptureFixture[str]) -> None:  # S29
    options: Any = {"run_id": "run", "store": elsewhere.url, "clock": elsewhere.clock}
    assert cs.run(answer(), log_level="WARNING", **options) == 42
    assert capsys.readouterr().err == ""


FLOW = """
import os
import cascade as cs

@cs.task
def answer():
    assert os.path.exists("ready")
    return 42

main = answer()
"""


@pytest.mark.needs_extra("cli")
def test_the_command_line_tells_why_a_run_does_not_begin(tmp_path: Path) -> None:  # S29
    (tmp_path / "flow.py").write_text(FLOW)
    url = f"sqlite:///{tmp_path}/.cascade/cascade.db"
    commands = Commands(tmp_path)
    try:
        assert commands.call("run", "flow.py:main", "--run-id", "run")[0] == 1
        (tmp_path / "ready").touch()
        row = claim_elsewhere(url, SystemClock().now())
        resuming = commands.start("resume", "run")
        assert resuming.stderr is not None
        assert any("blocked run run" in line and OWNER in line for line in resuming.stderr)
        # The owner gives the run up, as it does when it is interrupted.
        store = open_store(url)
        store.finish("run", row.epoch, "cancelled", None, row.updated)
        store.close()
        status, output, _ = ended(resuming)
        assert (status, output) == (0, "42\n")
    finally:
        commands.close()


class Waiting(MockClock):
    """A clock that stands still, and tells when somebody waits for it to go on."""

    def __init__(self) -> None:
        super().__init__(autojump_threshold=math.inf)
        self.waits = threading.Event()

    def call_at(self, *arguments: Any, **named: Any) -> Any:
        timer = super().call_at(*arguments, **named)
        self.waits.set()
        return timer


def test_an_engine_ends_the_wait_from_any_thread(elsewhere: Elsewhere) -> None:  # S20
    clock = Waiting()

    async def act(engine: cs.Engine) -> None:
        run = asyncio.create_task(engine.run(answer(), run_id="run"))
        assert await asyncio.to_thread(clock.waits.wait, LONG)
        assert not await asyncio.to_thread(engine.cancel, "run", "nobody wants it")
        with pytest.raises(cs.RunCancelledError, match=r"^nobody wants it$"):
            await run

    elsewhere.run(act, clock)
    elsewhere.check_is_untouched()


def test_to_cancel_a_run_that_turns_out_to_have_finished_cancels_no_other_of_its_id(tmp_path: Path) -> None:  # S20
    async def main() -> None:
        async with cs.create_engine(store=tmp_path / "flows.db") as engine:
            assert await engine.run(answer(), run_id="run") == 42
            assert not engine.cancel("run")
            assert await engine.run(answer(), run_id="run") == 42
            store = open_store(tmp_path / "flows.db")
            assert store.remove("run")
            store.close()
            assert await engine.run(answer(), run_id="run") == 42

    asyncio.run(main())


def test_a_handle_ends_the_wait(elsewhere: Elsewhere) -> None:  # S20
    clock = Waiting()
    handle = cs.start(answer(), run_id="run", store=elsewhere.url, clock=clock, log_level="CRITICAL")
    assert clock.waits.wait(LONG)
    handle.cancel("nobody wants it")
    with pytest.raises(cs.RunCancelledError, match=r"^nobody wants it$"):
        handle.result(LONG)
    assert handle.status == "cancelled"
    elsewhere.check_is_untouched()


@pytest.mark.parametrize("early", [True, False])
def test_what_is_cancelled_before_it_waits_does_not_wait(early: bool, elsewhere: Elsewhere) -> None:  # S20
    async def act(engine: cs.Engine) -> Any:
        def cancel(_: object = None) -> None:
            engine.cancel("run", "nobody wants it")

        # Told on the loop of the run, before the wait begins.
        end = elsewhere.bus.subscribe(RunBlocked, cancel)
        if early:
            end()
            cancel()
        with pytest.raises(cs.RunCancelledError, match=r"^nobody wants it$"):
            await engine.run(answer(), run_id="run")
        elsewhere.check_is_untouched()
        end()
        # That was the run that was to be cancelled, and not the next one.
        return await engine.run(answer(), run_id="run")

    assert elsewhere.run(act) == 42


def test_the_timeout_of_a_run_ends_the_wait(elsewhere: Elsewhere) -> None:  # S20
    with pytest.raises(cs.RunTimeoutError, match="timeout of 5 s"):
        elsewhere.run(lambda engine: engine.run(answer(), run_id="run", timeout=5.0))
    assert elsewhere.clock.monotonic() == 5.0
    elsewhere.check_is_untouched()


def test_the_timeout_of_a_run_counts_the_wait(elsewhere: Elsewhere) -> None:  # S20
    moment = dt.datetime.fromtimestamp(elsewhere.clock.now() + 30.0, dt.UTC)
    began: list[float] = []
    elsewhere.bus.subscribe(RunStarted, lambda event: began.append(elsewhere.clock.monotonic()))
    with pytest.raises(cs.RunTimeoutError, match="timeout of 20 s"):
        elsewhere.run(lambda engine: engine.run([answer(), cs.sleep_until(moment)], run_id="run", timeout=20.0))
    assert RUNS_OUT <= began[0] <= 20.0 == elsewhere.clock.monotonic()


def test_a_task_that_waits_for_an_owner_can_be_cancelled_itself(elsewhere: Elsewhere) -> None:  # S20
    clock = Waiting()

    async def act(engine: cs.Engine) -> None:
        run = asyncio.create_task(engine.run(answer(), run_id="run"))
        assert await asyncio.to_thread(clock.waits.wait, LONG)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    elsewhere.run(act, clock)
    elsewhere.check_is_untouched()
