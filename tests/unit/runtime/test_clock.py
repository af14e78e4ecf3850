"""Time is a port: the real clock's timers, and the mock that jumps when all wait."""

import asyncio
import logging
import math
import threading

import pytest

from cascade.runtime.chance import Randomness
from cascade.runtime.clock import SystemClock
from cascade.testing.clock import MockClock


def test_timers_of_the_system_clock_ring_in_the_order_of_their_moments() -> None:
    clock = SystemClock()
    rung: list[str] = []
    last = threading.Event()
    now = clock.monotonic()
    clock.call_at(now + 0.02, lambda: (rung.append("second"), last.set()))
    clock.call_at(now + 0.01, lambda: rung.append("first"))
    clock.call_at(now, lambda: rung.append("past"))
    assert last.wait(10)
    assert rung == ["past", "first", "second"]


def test_a_cancelled_timer_does_not_ring_and_the_clocks_thread_ends_with_its_last_timer() -> None:
    clock = SystemClock()
    timer = clock.call_at(clock.monotonic() + 3600.0, lambda: pytest.fail("cancelled"))
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "cascade-clock"]
    timer.cancel()
    timer.cancel()
    thread.join(10)
    assert not thread.is_alive()
    rung = threading.Event()
    clock.call_at(clock.monotonic(), rung.set)
    assert rung.wait(10)


def test_a_timer_whose_callback_raises_is_logged_and_the_others_ring(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = SystemClock()
    rung = threading.Event()
    with caplog.at_level(logging.ERROR, logger="cascade"):
        clock.call_at(clock.monotonic(), lambda: 1 / 0)
        clock.call_at(clock.monotonic() + 0.001, rung.set)
        assert rung.wait(10)
    assert "ZeroDivisionError" in caplog.text


def test_a_timer_with_a_loop_rings_on_it() -> None:
    clock = SystemClock()

    async def main() -> None:
        rung = asyncio.get_running_loop().create_future()
        clock.call_at(clock.monotonic() + 0.001, lambda: rung.set_result(threading.get_ident()), loop=rung.get_loop())
        assert await rung == threading.get_ident()
        await clock.sleep(0.001)

    asyncio.run(main())


def test_the_mock_clock_jumps_from_deadline_to_deadline() -> None:
    clock = MockClock(start=50.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async def main() -> None:
        await asyncio.gather(sleeper("c", 7200.0), sleeper("a", 3600.0), sleeper("b", 3600.0), sleeper("now", 0))

    asyncio.run(main())
    assert woken == [("now", 0.0), ("a", 3600.0), ("b", 3600.0), ("c", 7200.0)]
    assert clock.now() == 7250.0


def test_the_mock_clock_does_not_jump_while_somebody_has_something_to_do() -> None:
    clock = MockClock()

    async def main() -> None:
        sleeping = asyncio.ensure_future(clock.sleep(1.0))
        for _ in range(500):
            await asyncio.sleep(0)
            assert clock.monotonic() == 0.0
        await sleeping

    asyncio.run(main())
    assert clock.monotonic() == 1.0


def test_the_mock_clock_waits_for_calls_on_threads() -> None:
    clock = MockClock()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        go = threading.Event()
        seen: list[float] = []

        def call() -> None:
            go.wait(10)
            seen.append(clock.monotonic())
            loop.call_soon_threadsafe(done.set_result, None)

        clock.busy()
        thread = threading.Thread(target=call)
        thread.start()
        sleeping = asyncio.ensure_future(clock.sleep(5.0))
        # The loop is quiet in between: real time passes, and still nobody may jump.
        await asyncio.sleep(0.02)
        assert not sleeping.done()
        go.set()
        await done
        clock.idle()
        await sleeping
        assert seen == [0.0]
        thread.join(10)

    asyncio.run(main())
    assert clock.monotonic() == 5.0


def test_the_mock_clock_serves_loops_in_several_threads_and_survives_the_end_of_each() -> None:
    clock = MockClock()
    woken: list[tuple[float, str]] = []
    ready = threading.Barrier(2)

    async def main(name: str, step: float, times: int) -> None:
        clock.monotonic()
        ready.wait(10)
        for _ in range(times):
            await clock.sleep(step)
            woken.append((clock.monotonic(), name))

    threads = [
        threading.Thread(target=lambda: asyncio.run(main("short", 3.0, 3))),
        threading.Thread(target=lambda: asyncio.run(main("long", 2.0, 10))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [moment for moment, name in woken if name == "long"] == [2.0 * k for k in range(1, 11)]
    assert [moment for moment, name in woken if name == "short"] == [3.0, 6.0, 9.0]
    assert [moment for moment, _ in woken] == sorted(moment for moment, _ in woken)


def test_loops_that_hand_work_to_each_other_count_as_busy() -> None:
    clock = MockClock()

    async def ping(inbox: asyncio.Queue[int], peer: tuple[asyncio.AbstractEventLoop, asyncio.Queue[int]]) -> None:
        loop, outbox = peer
        while (number := await inbox.get()) < 200:
            assert clock.monotonic() == 0.0
            loop.call_soon_threadsafe(outbox.put_nowait, number + 1)
        loop.call_soon_threadsafe(outbox.put_nowait, number + 1)

    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[int]]] = []
    ready = threading.Barrier(2)
    errors: list[BaseException] = []

    async def main(number: int) -> None:
        inbox: asyncio.Queue[int] = asyncio.Queue()
        ends.append((asyncio.get_running_loop(), inbox))
        ready.wait(10)
        clock.monotonic()
        peer = next(end for end in ends if end[1] is not inbox)
        ready.wait(10)
        if number == 0:
            inbox.put_nowait(0)
        sleeping = asyncio.ensure_future(clock.sleep(1.0))
        await ping(inbox, peer)
        await sleeping

    def run(number: int) -> None:
        try:
            asyncio.run(main(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


def test_a_mock_clock_with_an_infinite_threshold_moves_only_by_hand() -> None:
    clock = MockClock(autojump_threshold=math.inf)

    async def main() -> None:
        sleeping = asyncio.ensure_future(clock.sleep(10.0))
        await asyncio.sleep(0.005)
        assert clock.monotonic() == 0.0
        clock.advance(4.0)
        await asyncio.sleep(0.005)
        assert not sleeping.done()
        clock.advance(6.0)
        await sleeping

    asyncio.run(main())


def test_advancing_stops_at_each_deadline_that_comes_up_on_the_way() -> None:
    clock = MockClock(autojump_threshold=math.inf)
    rung: list[float] = []

    def again() -> None:
        rung.append(clock.monotonic())
        clock.call_at(clock.monotonic() + 1.0, again)

    clock.call_at(1.0, again)
    clock.advance(3.5)
    assert rung == [1.0, 2.0, 3.0]
    assert clock.monotonic() == 3.5
    with pytest.raises(ValueError, match="got -1"):
        clock.advance(-1)


def test_a_timer_without_a_loop_rings_before_those_who_sleep_until_the_same_moment() -> None:
    clock = MockClock()
    seen: list[str] = []

    async def main() -> None:
        sleeping = asyncio.ensure_future(clock.sleep(1.0))
        await asyncio.sleep(0)
        clock.call_at(1.0, lambda: seen.append("timer"))
        await sleeping
        seen.append("sleeper")

    asyncio.run(main())
    assert seen == ["timer", "sleeper"]


def test_a_cancelled_sleep_is_no_deadline() -> None:
    clock = MockClock()

    async def main() -> None:
        sleeping = asyncio.ensure_future(clock.sleep(1.0))
        await asyncio.sleep(0)
        sleeping.cancel()
        await clock.sleep(2.0)
        assert sleeping.cancelled()

    asyncio.run(main())
    assert clock.monotonic() == 2.0


def test_a_threshold_leaves_real_time_for_the_world_outside() -> None:
    clock = MockClock(autojump_threshold=0.2)

    async def main() -> None:
        async with asyncio.timeout(10):
            sleeping = asyncio.ensure_future(clock.sleep(1000.0))
            await asyncio.sleep(0.01)
            assert clock.monotonic() == 0.0
            await sleeping

    asyncio.run(main())


def test_run_ids_sort_by_time_differ_and_repeat_with_a_seed() -> None:
    first, again = Randomness(seed=1), Randomness(seed=1)
    ids = [first.run_id(1_700_000_000.0) for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert ids == [again.run_id(1_700_000_000.0) for _ in range(1000)]
    # A wall clock that is set back does not bring back earlier ids.
    assert first.run_id(1_600_000_000.0) > ids[-1]
    assert Randomness().run_id(1_700_000_000.0) != Randomness().run_id(1_700_000_000.0)
    assert Randomness().run_id(2e9) > Randomness().run_id(1e9)
    assert 0.0 <= Randomness().random() < 1.0
