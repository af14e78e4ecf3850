"""What the view of a run says of calls whose state it cannot see at every look, and at the end."""

from __future__ import annotations

import asyncio
import io
import re

import pytest

import cascade as cs
from cascade.adapters.telemetry import TerminalReporter
from cascade.adapters.telemetry.sentences import sentence
from cascade.adapters.telemetry.standing import Standing
from cascade.runtime import events
from cascade.runtime.progress import RunProgress, TaskProgress

pytestmark = pytest.mark.needs_extra("terminal")


def progress(*tasks: TaskProgress, is_near: bool = True) -> RunProgress:
    return RunProgress("r", None, "target", False, 9, 1, 1, 0, 0, 1, True, tasks if is_near else None)


def task(name: str, active: int) -> TaskProgress:
    return TaskProgress(name, 3, 3 - active, active, 0, 0, True)


def test_rows_stay_while_a_graph_is_too_large_for_a_close_look() -> None:  # S29
    standing = Standing(0.0)
    standing.update(progress(task("held", 1)), 1.0)
    standing.update(progress(is_near=False), 2.0)
    assert standing.rows == {"held": task("held", 1)}


def test_only_who_can_still_wait_is_shown_as_blocked() -> None:  # S24 S29
    from cascade.adapters.telemetry.live_view import LiveView

    standing = Standing(0.0)
    for name in ("over", "goes on"):
        standing.note(events.TaskBlocked(run_id="r", task_id=f"{name}#0", task_name=name, reason="pause on global"))
    standing.update(progress(task("over", 0), task("goes on", 1)), 1.0)
    lines, _ = LiveView(io.StringIO()).lines(standing, 1.0, 100, 30)
    shown = re.sub(r"\x1b\[[\d;]*m", "", lines[-1])
    assert shown.strip() == "goes on blocked 1 time: pause on global"


def test_what_was_left_behind_is_told_without_a_timeout_that_it_may_not_have_had() -> None:  # S20
    event = events.TaskAbandoned(run_id="r", task_id="t#0", task_name="t", timeout=5.0)
    assert sentence(event) == "abandoned t#0: nothing could stop it, and it goes on"


def test_the_summary_of_a_cancelled_run_tells_no_error_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # S20 S29
    for name in ("watch.PATIENCE", "terminal.PATIENCE", "terminal._FIRST_LINE"):
        monkeypatch.setattr(f"cascade.adapters.telemetry.{name}", 0.0)
    monkeypatch.setattr("cascade.adapters.telemetry.standing._WORTH_TELLING", 0.0)
    loop: asyncio.AbstractEventLoop
    told: asyncio.Event

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            loop.call_soon_threadsafe(told.set)
            return written

    stream = Stream()

    @cs.task
    async def wait() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        nonlocal loop, told
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        async with cs.create_engine() as engine:
            with TerminalReporter(engine, stream=stream):
                running = asyncio.ensure_future(engine.run(wait()))
                await told.wait()
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running

    asyncio.run(main())
    assert "wait: cancelled after" in stream.getvalue()
    assert "CancelledError" not in stream.getvalue()
