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
from cascade.runtime.held_back import HeldBack
from cascade.runtime.progress import RunProgress, TaskProgress, progress_of

pytestmark = pytest.mark.needs_extra("terminal")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def progress(
    *tasks: TaskProgress,
    is_near: bool = True,
    held_back: tuple[HeldBack, ...] | None = None,
    pausing: tuple[tuple[str, int], ...] = (),
    done: int = 1,
) -> RunProgress:
    active = sum(task.active for task in tasks)
    rows = tasks if is_near else None
    return RunProgress("r", None, "target", False, 9, done, active, 0, 0, 1, True, rows, held_back, pausing)


def retrying(name: str, number: int) -> events.TaskRetrying:
    return events.TaskRetrying(
        run_id="r", task_id=f"{name}#{number}", task_name=name, attempt=1, max_attempts=3, delay=5.0, error="no"
    )


def task(name: str, active: int) -> TaskProgress:
    return TaskProgress(name, active, 0, active, 0, 0, True)


def test_rows_stay_while_a_graph_is_too_large_for_a_close_look() -> None:  # S29
    standing = Standing(0.0)
    standing.update(progress(task("held", 1)), 1.0)
    standing.update(progress(is_near=False), 2.0)
    assert standing.rows == {"held": task("held", 1)}


def drawn(standing: Standing, columns: int = 120, rows: int = 30) -> str:
    from cascade.adapters.telemetry.live_view import LiveView

    lines, widths = LiveView(io.StringIO()).lines(standing, 1.0, columns, rows)
    assert max(widths) < columns
    assert len(lines) < max(rows, 2)
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(lines))


@pytest.mark.parametrize(
    ("columns", "told"), [(25, r"a_very_\w*…  99/1,000 *$"), (40, "99/1,000  3 active"), (60, "━  99/1,000  3 active")]
)
def test_in_a_narrow_terminal_names_are_cut_and_numbers_are_not(columns: int, told: str) -> None:  # S29
    standing = Standing(0.0)
    standing.update(progress(TaskProgress("a_very_long_name_of_a_task" * 2, 1000, 99, 3, 0, 0, True)), 1.0)
    assert re.search(told, drawn(standing, columns)), drawn(standing, columns)


@pytest.mark.parametrize("rows", range(1, 12))
def test_there_is_a_view_however_low_the_terminal_is(rows: int) -> None:  # S29
    standing = Standing(0.0)
    standing.update(progress(*(task(f"task_{number}", 1) for number in range(5))), 1.0)
    assert "target" in drawn(standing, rows=rows)
    standing.update(progress(task("alone", 1)), 2.0)
    assert "target" in drawn(standing, rows=rows)


def test_a_map_that_has_failed_is_counted_although_nobody_has_looked_before() -> None:  # S17 S29
    @cs.task
    async def fail(number: int) -> int:
        raise ValueError(number)

    held = asyncio.Event()

    @cs.task
    async def last() -> None:
        await held.wait()

    async def main() -> None:
        failed = asyncio.Event()

        def hear(event: events.TaskExecutionFinished) -> None:
            if event.task_id == "fail#0":
                failed.set()

        async with cs.create_engine() as engine:
            engine.bus.subscribe(events.TaskExecutionFinished, hear)
            run = asyncio.create_task(engine.run([fail.map(number=[1, 2, 3]), last()], on_failure="continue"))
            await failed.wait()
            (seen,) = progress_of(engine)
            (row,) = [each for each in seen.tasks or () if each.name == "fail"]
            assert row.failed == row.total == seen.failed > 0
            held.set()
            with pytest.raises(cs.RunFailedGroup):
                await run

    asyncio.run(main())


def test_while_all_that_is_left_is_held_back_nobody_says_how_long_it_takes() -> None:  # S24 S29
    standing = Standing(0.0)
    standing.update(progress(task("held", 2), held_back=(), done=7), 20.0)
    assert standing.seconds_left is not None
    held = (HeldBack("held", "pause on global", 2),)
    standing.update(progress(task("held", 2), held_back=held, done=7), 21.0)
    assert standing.seconds_left is None


def test_the_view_tells_who_waits_now_and_for_what_and_counts_it_among_nobody_else() -> None:  # S16 S23 S24 S29
    standing = Standing(0.0)
    for number in range(4):
        standing.note(retrying("held", number))
    blocked = (HeldBack("held", "pause on global", 2), HeldBack("other", "waiting for gpu", 4))
    standing.update(progress(task("held", 6), task("other", 4), held_back=blocked, pausing=(("held", 3),)), 2.0)
    assert re.search(r"held .* 1 active 3 retrying 2 blocked *\n", drawn(standing))
    assert re.search(r"other .*  4 blocked *\n", drawn(standing))
    waits = "3 waiting to be tried again; 4 blocked: waiting for gpu; 2 blocked: pause on global"
    assert f"  {waits}; 4 retries" in drawn(standing)
    assert "1 active, 3 waiting to be tried again, 4 blocked: waiting for gpu" in standing.line()
    standing.update(progress(task("held", 6), task("other", 4), held_back=()), 6.0)
    assert re.search(r"held .*  6 active *\n", drawn(standing))
    assert "blocked" not in drawn(standing)
    assert "retrying" not in drawn(standing)
    assert "4 retries" in drawn(standing)


def test_who_waits_for_many_things_is_told_in_a_few_words() -> None:  # S23 S29
    standing = Standing(0.0)
    blocked = tuple(HeldBack(f"t{number}", f"waiting for r{number}", 1 + (number < 2)) for number in range(50))
    standing.update(progress(task("held", 60), held_back=blocked), 1.0)
    assert standing.waits() == [
        "2 blocked: waiting for r0", "2 blocked: waiting for r1", "48 blocked by other things",
    ]  # fmt: skip


def test_what_was_seen_to_hold_back_stays_while_there_is_too_much_to_look_at() -> None:  # S24 S29
    standing = Standing(0.0)
    standing.update(progress(task("held", 6), held_back=(HeldBack("held", "pause on global", 2),)), 1.0)
    standing.update(progress(is_near=False), 2.0)
    assert standing.blocked == {"held": 2}


def test_what_was_left_behind_is_told_without_a_timeout_that_it_may_not_have_had() -> None:  # S20
    event = events.TaskAbandoned(run_id="r", task_id="t#0", task_name="t", timeout=5.0)
    assert sentence(event) == "abandoned t#0: nothing could stop it, and it goes on"


def test_the_summary_of_a_cancelled_run_tells_no_error_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # S20 S29
    for name in ("watch.PATIENCE", "terminal.PATIENCE", "terminal._FIRST_LINE"):
        monkeypatch.setattr(f"cascade.adapters.telemetry.{name}", 0.0)
    monkeypatch.setattr("cascade.adapters.telemetry.standing.WORTH_TELLING", 0.0)
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
