"""What a process tells in its store of the runs that it has, and what `cascade watch` makes of it (S29)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.telemetry.standing import Standing
from cascade.control.kept_progress import SECONDS_KEPT, KeptProgress, kept_progress
from cascade.runtime.clock import SystemClock
from cascade.runtime.held_back import HeldBack
from cascade.runtime.progress import CallUnderWay, RunProgress, TaskProgress
from cascade.spec.protocols import Store
from cascade.spec.records import RunRow
from cascade.stores import open_store
from cascade.tools.command import top, watch
from cascade.tools.command.rm import remove

pytestmark = pytest.mark.needs_extra("cli", "sqlite")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("CASCADE_STORE", str(tmp_path / "runs.db"))
    store = open_store(tmp_path / "runs.db")
    yield store
    store.close()


@cs.task
async def train(number: int) -> None:
    await asyncio.Event().wait()


@cs.task(retry=cs.Retry(2, delay=3600.0))
async def flaky() -> None:
    raise ConnectionError("refused")


def while_it_waits(tmp_path: Path, look: Callable[[], bool]) -> None:
    """Have a run that waits for ever, for capacity and for a next attempt; look until that gives something."""

    async def main() -> None:
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        async with cs.create_engine(store=url, system_resources={"gpu": 1}) as engine:
            target = [*(train(number).with_constraints(gpu=1) for number in range(3)), flaky()]
            running = asyncio.ensure_future(engine.run(target, run_id="r"))
            async with asyncio.timeout(30):
                while not await asyncio.to_thread(look):  # noqa: ASYNC110 - the store tells nobody
                    await asyncio.sleep(0.05)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_who_watches_learns_what_is_active_retrying_and_blocked(store: Store, tmp_path: Path) -> None:
    found: list[KeptProgress | None] = []

    def look() -> bool:
        kept = kept_progress(store.settings(0.0), "r")
        found.append(kept)
        return kept is not None

    while_it_waits(tmp_path, look)
    assert found[-1] is not None
    progress, calls = found[-1]
    assert progress.held_back == (HeldBack("train", "waiting for gpu", 2),)
    assert progress.retrying == (("flaky", 1),)
    assert (progress.total, progress.done, progress.active) == (4, 0, 4)
    assert [task.name for task in progress.tasks or ()] == ["train", "flaky"]
    (call,) = calls
    assert call.task_id == "train#0"
    assert call.declared_at is not None
    assert call.declared_at[0].endswith("test_kept_progress.py")
    # Who has ended tells nothing.
    assert not [key for key in store.settings(0.0) if key.startswith("progress:")]


@cs.task
def once(failures: str) -> int:
    if Path(failures).exists():
        raise ConnectionError("refused")
    return 1


def test_what_a_killed_process_has_told_is_gone_when_another_one_is_through(store: Store, tmp_path: Path) -> None:
    failures = tmp_path / "failures"
    failures.touch()
    options: Any = {"run_id": "r", "store": tmp_path / "runs.db", "log_level": "CRITICAL"}
    with pytest.raises(ConnectionError):
        cs.run(once(str(failures)), **options)
    # As of a process that was killed: nobody has taken it away, and by now it is not believed any more.
    store.put_setting("progress:r", "{}", 1.0)
    failures.unlink()
    assert cs.run(once(str(failures)), **options) == 1
    assert store.settings(0.0) == {}


def test_what_a_killed_process_has_told_goes_with_its_run(store: Store) -> None:
    row = RunRow("r", "running", 0, "elsewhere", "process 7 on moon", 1.0, 100.0, 100.0, "train", b"", None, None)
    assert store.claim(row, over=None) is not None
    store.put_setting("progress:r", "{}", 1.0)
    remove(store, "r")
    assert store.settings(0.0) == {}


def test_a_store_that_was_slow_once_is_told_again_before_what_was_told_expires(tmp_path: Path) -> None:
    class Slow(SystemClock):
        moments = iter([100.0, 101.3])

        def monotonic(self) -> float:
            return next(self.moments)

    async def main() -> float:
        async with cs.create_engine(store=tmp_path / "runs.db") as engine:
            control: Any = engine._control
            control._clock = Slow()
            control._tell()
            return float(control._next_telling)

    assert 102.3 <= asyncio.run(main()) < 101.3 + SECONDS_KEPT


def test_watch_and_top_show_it_of_a_run_that_another_process_has(store: Store) -> None:
    row = RunRow("r", "running", 0, "elsewhere", "process 7 on moon", 4e9, 100.0, 100.0, "train", b"", None, None)
    assert store.claim(row, over=None) is not None
    task = TaskProgress("train", 7, 1, 6, 0, 0, True)
    progress = RunProgress(
        "r", None, "train", False, 7, 1, 6, 0, 0, 1, True, (task,), (HeldBack("train", "pause on global", 2),),
        (("train", 3),),
    )  # fmt: skip
    told = {**asdict(progress), "calls": [("train#0\x1b[31m", ("flow.py", 3)), ("train#1", None)]}
    store.put_setting("progress:r", json.dumps(told), None)
    seen = watch._look(store, "r", SystemClock(), watch._Newest())
    assert [watch._call_line(call, 77) for call in seen.calls] == [
        "active: train#0\\x1b[31m, called at flow.py:3", "active: train#1",
    ]  # fmt: skip
    deep = CallUnderWay("train#0", ("/home/somebody/projects/training/flow.py", 3))
    assert watch._call_line(deep, 50) == "active: train#0, called at flow.py:3"
    standing = Standing(100.0)
    standing.update(seen.view.progress, 101.0)
    waits = "3 waiting to be tried again, 2 blocked: pause on global"
    assert standing.line() == f"train: 1 of 7 tasks done, 1/s, 1 active, {waits}"
    (found,) = top._running(store, SystemClock())
    in_top = top._told(*found)
    assert [in_top[name] for name in ("total", "done", "active", "retrying", "blocked")] == [7, 1, 1, 3, 2]
    store.finish("r", 1, "succeeded", None, 103.0)
    assert watch._look(store, "r", SystemClock(), watch._Newest()).calls == ()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"calls": 1}', '{"calls": [], "tasks": [1], "held_back": null, "retrying": []}']
)
def test_what_another_version_has_told_is_passed_over(text: str) -> None:
    assert kept_progress({"progress:r": text}, "r") is None
    assert kept_progress({"progress:r": json.dumps({"calls": [], "unheard": 1})}, "r") is None
    assert kept_progress({}, "r") is None
