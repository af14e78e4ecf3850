"""Live constraints: pause, concurrency, rates, scopes, times to live. (S24)"""

import asyncio
import logging
import math
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from cascade.runtime.clock import SystemClock
from cascade.runtime.constraints.handlers import HANDLERS, Handler
from cascade.runtime.constraints.manager import ConstraintManager, Permit
from cascade.runtime.constraints.scopes import Subject
from cascade.runtime.waiter import Waiter
from cascade.spec.constraint import GlobalConstraint, ResourceConstraint, calls_per_second, exact_amount
from cascade.spec.exceptions import CapacityError, CascadeError
from cascade.testing.clock import MockClock

FETCH = Subject("fetch", "run1", ("network",))
COUNT = Subject("count", "run1", ())
OTHER = Subject("fetch", "run2", ("network", "slow"))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def calls(manager: ConstraintManager, subject: Subject, number: int = 1, **options: Any) -> list[asyncio.Task[Permit]]:
    return [asyncio.ensure_future(manager.admit(subject, **options)) for _ in range(number)]


def started(tasks: Iterable[asyncio.Task[Permit]]) -> int:
    return sum(task.done() for task in tasks)


def test_nothing_in_force_holds_nothing_back() -> None:  # S24
    manager = ConstraintManager(SystemClock())
    assert not manager.active
    permit = manager.try_admit(FETCH)
    assert permit is not None
    permit.release()
    permit.release()
    assert manager.list() == ()


@pytest.mark.parametrize(
    ("scope", "held_back"),
    [
        ("global", {FETCH, COUNT, OTHER}),
        ("task:fetch", {FETCH, OTHER}),
        ("task:f*", {FETCH, OTHER}),
        ("task:FETCH", set()),
        ("task:etch", set()),
        ("run:run1", {FETCH, COUNT}),
        ("run:run*", set()),
        ("tag:slow", {OTHER}),
        ("tag:n?twork", {FETCH, OTHER}),
    ],
)
def test_a_scope_holds_back_what_it_names(scope: str, held_back: set[Subject]) -> None:  # S24
    manager = ConstraintManager(SystemClock())
    manager.set(GlobalConstraint.pause(scope))
    assert {subject for subject in (FETCH, COUNT, OTHER) if manager.try_admit(subject) is None} == held_back


def test_removing_a_pause_lets_all_go_at_once_in_their_order() -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.pause("task:fetch"))
        order: list[int] = []

        async def call(number: int) -> None:
            await manager.admit(FETCH)
            order.append(number)

        tasks = [asyncio.ensure_future(call(number)) for number in range(100)]
        await settle()
        assert order == []
        assert manager.remove("task:fetch")
        assert not manager.remove("task:fetch")
        await asyncio.gather(*tasks)
        assert order == list(range(100))
        assert not manager.active

    asyncio.run(main())


def test_a_concurrency_limit_lets_so_many_run_and_zero_is_a_pause() -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(2))
        tasks = calls(manager, FETCH, 3) + calls(manager, COUNT, 2)
        await settle()
        assert started(tasks) == 2
        (await tasks[0]).release()
        (await tasks[0]).release()
        await settle()
        assert started(tasks) == 3
        manager.set(GlobalConstraint.concurrency(0))
        for task in tasks[1:3]:
            (await task).release()
        await settle()
        assert started(tasks) == 3
        manager.set(GlobalConstraint.concurrency(10))
        await settle()
        assert started(tasks) == 5

    asyncio.run(main())


def test_lowering_a_limit_leaves_alone_what_runs_and_counts_it() -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(4))
        running = await asyncio.gather(*calls(manager, FETCH, 4))
        manager.set(GlobalConstraint.concurrency(2))
        tasks = calls(manager, FETCH, 2)
        await settle()
        for permit, expected in zip(running, (0, 0, 1, 2), strict=True):
            permit.release()
            await settle()
            assert started(tasks) == expected

    asyncio.run(main())


def test_a_new_limit_counts_calls_that_have_a_permit_and_those_enlisted() -> None:  # S24
    manager = ConstraintManager(SystemClock())
    untracked = manager.try_admit(FETCH)
    manager.set(GlobalConstraint.pause("task:else"))
    tracked = manager.try_admit(FETCH)
    enlisted = manager.enlist(FETCH)
    manager.set(GlobalConstraint.concurrency(2, "task:fetch"))
    assert untracked is not None
    assert tracked is not None
    untracked.release()
    assert manager.try_admit(FETCH) is None
    enlisted.release()
    assert manager.try_admit(FETCH) is not None
    assert manager.try_admit(FETCH) is None


def test_the_last_write_for_a_scope_and_type_wins_and_types_are_kept_apart() -> None:  # S24
    manager = ConstraintManager(SystemClock())
    manager.set(GlobalConstraint.concurrency(1))
    manager.set(GlobalConstraint.pause())
    manager.set(GlobalConstraint.concurrency(2, "task:fetch"))
    manager.set(GlobalConstraint.concurrency(3))
    assert manager.list() == (
        GlobalConstraint.concurrency(3),
        GlobalConstraint.pause(),
        GlobalConstraint.concurrency(2, "task:fetch"),
    )
    assert manager.remove("global", "pause")
    assert [str(c) for c in manager.list()] == ["concurrency 3 on global", "concurrency 2 on task:fetch"]
    assert manager.remove("global")
    assert len(manager.list()) == 1


def test_all_limits_on_a_call_must_allow_it_and_a_paused_task_does_not_hold_back_others() -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(1))
        manager.set(GlobalConstraint.pause("task:fetch"))
        (paused,) = calls(manager, FETCH)
        await settle()
        first, second = calls(manager, COUNT, 2)
        await settle()
        assert started([paused, first, second]) == 1
        manager.remove("task:fetch")
        await settle()
        assert not paused.done()
        (await first).release()
        await settle()
        # It came before the second call.
        assert paused.done()
        assert not second.done()

    asyncio.run(main())


def test_a_rate_below_one_a_second_lets_one_go_at_once_and_the_next_in_time() -> None:  # S24
    clock = MockClock()

    async def main() -> list[float]:
        manager = ConstraintManager(clock)
        manager.set(GlobalConstraint.rate_limit(0.1))
        moments: list[float] = []

        async def call() -> None:
            (await manager.admit(FETCH)).release()
            moments.append(clock.monotonic())

        await asyncio.gather(*(call() for _ in range(4)))
        return moments

    assert asyncio.run(main()) == [0.0, 10.0, 20.0, 30.0]


@pytest.mark.parametrize(("rate", "burst", "number"), [("10/m", 1, 25), ("7/s", 3, 100), (1 / 3, 2, 10), ("2/h", 5, 9)])
def test_a_rate_and_its_burst_are_held_exactly(rate: float | str, burst: int, number: int) -> None:  # S24
    clock = MockClock()

    async def main() -> list[float]:
        manager = ConstraintManager(clock)
        manager.set(GlobalConstraint.rate_limit(rate, burst))
        moments: list[float] = []

        async def call() -> None:
            await manager.admit(FETCH)
            moments.append(clock.monotonic())

        await asyncio.gather(*(call() for _ in range(number)))
        return moments

    interval = 1.0 / calls_per_second(rate)
    expected = [max(0.0, (position - burst + 1) * interval) for position in range(number)]
    assert asyncio.run(main()) == pytest.approx(expected)


def test_a_change_of_the_rate_does_not_fill_the_bucket() -> None:  # S24
    clock = MockClock(autojump_threshold=math.inf)
    manager = ConstraintManager(clock)
    manager.set(GlobalConstraint.rate_limit(1.0, burst=4))
    for _ in range(3):
        assert manager.try_admit(FETCH) is not None
    manager.set(GlobalConstraint.rate_limit(0.5, burst=4))
    assert manager.try_admit(FETCH) is not None
    assert manager.try_admit(FETCH) is None
    clock.advance(2.0)
    assert manager.try_admit(FETCH) is not None
    assert manager.try_admit(FETCH) is None


def test_what_another_limit_denies_burns_no_token() -> None:  # S24
    async def main() -> None:
        clock = MockClock(autojump_threshold=math.inf)
        manager = ConstraintManager(clock)
        manager.set(GlobalConstraint.rate_limit(1.0, burst=2))
        manager.set(GlobalConstraint.pause("task:fetch"))
        denied = calls(manager, FETCH, 3)
        for _ in range(3):
            assert manager.try_admit(FETCH) is None
        await settle()
        assert manager.try_admit(COUNT) is not None
        assert manager.try_admit(COUNT) is not None
        assert manager.try_admit(COUNT) is None
        assert started(denied) == 0
        for task in denied:
            task.cancel()
        await settle()

    asyncio.run(main())


def test_a_limit_that_expires_lets_those_who_wait_go_at_once() -> None:  # S24
    clock = MockClock()

    async def main() -> None:
        manager = ConstraintManager(clock)
        changes: list[bool] = []
        manager.subscribe(lambda: changes.append(manager.active))
        manager.set(GlobalConstraint.pause(ttl=60.0))
        manager.set(GlobalConstraint.concurrency(1, "task:fetch", ttl=30.0))
        tasks = calls(manager, FETCH, 3)
        await asyncio.gather(*tasks)
        assert clock.monotonic() == 60.0
        assert manager.list() == ()
        assert changes == [True, True, True, False]

    asyncio.run(main())


def test_setting_a_limit_again_starts_its_time_to_live_again() -> None:  # S24
    clock = MockClock(autojump_threshold=math.inf)
    manager = ConstraintManager(clock)
    manager.set(GlobalConstraint.pause(ttl=10.0))
    clock.advance(8.0)
    manager.set(GlobalConstraint.pause(ttl=10.0))
    clock.advance(8.0)
    assert manager.active
    manager.set(GlobalConstraint.pause())
    clock.advance(1000.0)
    assert manager.active


def test_being_held_back_is_told_once_with_the_reason() -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        reasons: list[str] = []
        manager.set(GlobalConstraint.concurrency(1, "task:f*"))
        (free,) = calls(manager, FETCH, on_blocked=reasons.append)
        await settle()
        assert reasons == []
        manager.set(GlobalConstraint.pause())
        (held,) = calls(manager, FETCH, on_blocked=reasons.append)
        await settle()
        manager.remove("global")
        await settle()
        assert not held.done()
        (await free).release()
        await held
        assert reasons == ["concurrency 1 on task:f*; pause on global"]

    asyncio.run(main())


def test_a_failing_on_blocked_withdraws_the_call() -> None:
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(1))
        permit = await manager.admit(FETCH)
        with pytest.raises(ZeroDivisionError):
            await manager.admit(FETCH, on_blocked=lambda reason: 1 / 0)
        permit.release()
        assert manager.try_admit(FETCH) is not None

    asyncio.run(main())


def test_a_permit_that_meets_the_cancellation_of_its_call_gives_back_slot_and_token() -> None:
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(1))
        manager.set(GlobalConstraint.rate_limit(1.0, burst=2, scope="task:fetch"))
        permit = await manager.admit(FETCH)
        unlucky, behind = calls(manager, FETCH, 2)
        await settle()
        permit.release()
        unlucky.cancel()
        await behind
        assert unlucky.cancelled()

    asyncio.run(main())


def test_the_one_timer_outlives_the_call_for_which_it_was_set() -> None:  # S24
    clock = MockClock(autojump_threshold=math.inf)
    manager = ConstraintManager(clock)
    manager.set(GlobalConstraint.rate_limit(1.0))
    ready = threading.Event()

    async def short() -> None:
        assert manager.try_admit(FETCH) is not None
        (task,) = calls(manager, FETCH)
        await settle()
        task.cancel()

    async def long() -> None:
        (task,) = calls(manager, FETCH)
        await settle()
        ready.set()
        await asyncio.wait_for(task, 10)

    asyncio.run(short())
    thread = threading.Thread(target=asyncio.run, args=(long(),))
    thread.start()
    assert ready.wait(10)
    clock.advance(1.0)
    thread.join(10)
    assert not thread.is_alive()


def test_rates_and_times_to_live_work_on_the_system_clock_and_leave_no_thread() -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(SystemClock())
        manager.set(GlobalConstraint.rate_limit(500.0))
        await asyncio.wait_for(asyncio.gather(*calls(manager, FETCH, 5)), 10)
        manager.set(GlobalConstraint.pause(ttl=0.01))
        await asyncio.wait_for(manager.admit(FETCH), 10)
        manager.remove("global")

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "cascade-clock":
            thread.join(10)
            assert not thread.is_alive()


def test_a_suspended_permit_makes_room_until_it_resumes() -> None:  # S21
    manager = ConstraintManager(SystemClock())
    manager.set(GlobalConstraint.concurrency(1))
    outer = manager.try_admit(FETCH)
    assert outer is not None
    assert manager.try_admit(COUNT) is None
    outer.suspend()
    outer.suspend()
    inner = manager.try_admit(COUNT)
    assert inner is not None
    outer.resume()
    inner.release()
    assert manager.try_admit(COUNT) is None
    outer.suspend()
    outer.release()
    outer.resume()
    assert manager.try_admit(COUNT) is not None


def test_subscribers_hear_of_changes_until_they_leave_and_harm_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = ConstraintManager(SystemClock())
    heard: list[tuple[bool, int]] = []
    manager.subscribe(lambda: 1 / 0)
    leave = manager.subscribe(lambda: heard.append((manager.active, threading.get_ident())))
    thread = threading.Thread(target=manager.set, args=(GlobalConstraint.pause(),))
    with caplog.at_level(logging.CRITICAL, logger="cascade"):
        thread.start()
        thread.join()
        manager.remove("global")
        leave()
        leave()
        manager.set(GlobalConstraint.pause())
    assert [active for active, _ in heard] == [True, False]
    assert heard[1][1] == threading.get_ident() != heard[0][1]


def test_two_loops_in_two_threads_share_one_manager_while_limits_change_and_calls_are_cancelled() -> None:
    manager = ConstraintManager(SystemClock())
    manager.set(GlobalConstraint.pause("task:nothing"))
    running = 0
    served = 0
    lock = threading.Lock()
    errors: list[BaseException] = []
    over = threading.Event()

    async def call(subject: Subject) -> None:
        nonlocal running, served
        permit = await manager.admit(subject)
        with lock:
            running += 1
            assert running <= 6
        try:
            await asyncio.sleep(0)
            served += 1
        finally:
            with lock:
                running -= 1
            permit.release()

    async def main() -> None:
        subjects = (FETCH, COUNT, OTHER)
        tasks = [asyncio.ensure_future(call(subjects[number % 3])) for number in range(300)]
        for task in tasks[::5]:
            await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        errors.extend(r for r in results if r is not None and not isinstance(r, asyncio.CancelledError))

    def change() -> None:
        limits = [
            GlobalConstraint.concurrency(2, "run:run1"),
            GlobalConstraint.pause("task:fetch", ttl=0.001),
            GlobalConstraint.rate_limit(1e5, 3, "task:count"),
            GlobalConstraint.concurrency(0, "tag:slow"),
        ]
        turn = 0
        while not over.is_set():
            limit = limits[turn % len(limits)]
            manager.set(limit)
            manager.remove(limit.scope)
            turn += 1

    manager.set(GlobalConstraint.concurrency(6))
    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    changer = threading.Thread(target=change)
    for thread in (*threads, changer):
        thread.start()
    for thread in threads:
        thread.join(60)
    over.set()
    changer.join(60)
    assert errors == []
    assert served >= 400
    permits = [manager.try_admit(FETCH) for _ in range(6)]
    assert None not in permits
    assert manager.try_admit(FETCH) is None


def test_new_types_of_constraint_come_with_a_handler() -> None:
    class Closed(Handler):
        def ready_at(self, now: float) -> float:
            return math.inf

    manager = ConstraintManager(SystemClock(), {**HANDLERS, "pause": Closed})
    manager.set(GlobalConstraint.pause())
    assert manager.try_admit(FETCH) is None
    with pytest.raises(ValueError, match="no handler for constraints of type 'pause'; there are: concurrency"):
        ConstraintManager(SystemClock(), {"concurrency": HANDLERS["concurrency"]}).set(GlobalConstraint.pause())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: GlobalConstraint.pause("tasks:x"), "a scope must be 'global', 'task:<glob>'.*got 'tasks:x'"),
        (lambda: GlobalConstraint.pause("task:"), "a scope must be .*got 'task:'"),
        (lambda: GlobalConstraint.pause(None), "a scope must be .*got None"),  # type: ignore[arg-type]
        (lambda: GlobalConstraint.pause(ttl=0), "a ttl must be .*above 0, or None, got 0"),
        (
            lambda: GlobalConstraint.concurrency(-1),
            "a concurrency limit must be an int of at least 0, got -1",
        ),
        (lambda: GlobalConstraint.concurrency(True), "got True"),
        (lambda: GlobalConstraint.concurrency(1.5), "got 1.5"),  # type: ignore[arg-type]
        (lambda: GlobalConstraint.rate_limit(0), "a rate must be .*got 0; to let no call start, pause"),
        (lambda: GlobalConstraint.rate_limit("fast"), "such as '5/s'.*got 'fast'"),
        (lambda: GlobalConstraint.rate_limit("0/s"), "got '0/s'"),
        (lambda: GlobalConstraint.rate_limit("5/w"), "got '5/w'"),
        (lambda: GlobalConstraint.rate_limit(math.nan), "got nan"),
        (lambda: GlobalConstraint.rate_limit(1, burst=0), "a burst must be an int of at least 1, got 0"),
        (lambda: GlobalConstraint("global", "rate_limit"), "a rate must be .*got None"),
        (lambda: GlobalConstraint("global", "stop"), "'pause', 'concurrency' or 'rate_limit', got 'stop'"),
    ],
)
def test_a_constraint_that_cannot_be_says_what_was_expected(make: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        make()
    assert isinstance(caught.value, CascadeError)


@pytest.mark.parametrize(
    ("rate", "per_second", "text"),
    [
        (5, 5.0, "5/s"),
        ("5/s", 5.0, "5/s"),
        ("10/m", 1 / 6, "10/m"),
        (" 2 / h ", 2 / 3600, "2/h"),
        ("0.5/s", 0.5, "30/m"),
    ],
)
def test_rates_are_numbers_or_texts(rate: float | str, per_second: float, text: str) -> None:
    constraint = GlobalConstraint.rate_limit(rate)
    assert constraint.rate == pytest.approx(per_second)
    assert str(constraint) == f"rate {text} on global"


def test_a_resource_constraint_checks_what_is_known_and_names_what_is_lazy() -> None:  # S23
    class Lazy:
        __cascade_lazy__ = True

    lazy = Lazy()
    constraint = ResourceConstraint({"gpu": 1, "memory_gb": lazy})
    assert constraint.lazy_amounts == {"memory_gb": lazy}
    assert dict(constraint.merged(ResourceConstraint({"gpu": 2})).amounts) == {"gpu": 2, "memory_gb": lazy}
    with pytest.raises(CapacityError) as caught:
        ResourceConstraint({"gpu": -1, "memory_gb": "much", "": 1})
    assert len(caught.value.problems) == 3
    assert exact_amount("gpu", 2.0) == 2


def test_a_reserved_slot_is_kept_from_those_who_may_wait_for_capacity_and_lent_to_others() -> None:  # S23, S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(1))
        waits = await manager.admit(FETCH)
        waits.reserve()
        assert manager.try_admit(COUNT) is None
        lent = manager.try_admit(COUNT, "spare_at")
        assert lent is not None
        assert manager.try_admit(COUNT, "spare_at") is None
        later = asyncio.ensure_future(manager.admit(COUNT, claim="spare_at"))
        back = asyncio.ensure_future(manager.come_back(waits))
        await settle()
        assert not back.done()
        lent.release()
        assert await back is waits
        await settle()
        assert not later.done()
        waits.release()
        (await later).release()

    asyncio.run(main())


@pytest.mark.parametrize("meanwhile", ["paused", "raised", "nothing left"])
@pytest.mark.parametrize("waits_for_its_slot", [False, True])
def test_who_comes_back_to_other_limits_is_let_go_anew(meanwhile: str, waits_for_its_slot: bool) -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(1))
        manager.set(GlobalConstraint.rate_limit("1/h", 2, "task:count"))
        waits = await manager.admit(COUNT)
        waits.reserve()
        lent = manager.try_admit(FETCH, "spare_at")
        assert lent is not None
        back: asyncio.Future[Permit | None] | None = None
        if waits_for_its_slot:
            back = asyncio.ensure_future(manager.come_back(waits))
            await settle()
        if meanwhile == "paused":
            manager.set(GlobalConstraint.pause("task:count"))
        elif meanwhile == "raised":
            manager.set(GlobalConstraint.concurrency(2))
        else:
            manager.remove("global")
            manager.remove("task:count")
        permit = await (back or manager.come_back(waits))
        assert (permit is None) == (meanwhile == "paused")
        assert permit is not waits
        lent.release()
        if permit is not None:
            permit.release()
        manager.remove("task:count", "pause")
        if meanwhile == "paused":
            # The token came back, too.
            for _ in range(2):
                again = manager.try_admit(COUNT)
                assert again is not None
                again.release()

    asyncio.run(main())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_return_that_is_cancelled_before_or_after_it_is_granted_leaves_nothing(when: str) -> None:  # S24
    async def main() -> None:
        manager = ConstraintManager(MockClock(autojump_threshold=math.inf))
        manager.set(GlobalConstraint.concurrency(1))
        manager.set(GlobalConstraint.rate_limit("1/h", 2))
        waits = await manager.admit(FETCH)
        waits.reserve()
        lent = manager.try_admit(COUNT, "spare_at")
        assert lent is not None
        back = asyncio.ensure_future(manager.come_back(waits))
        await settle()
        if when == "after":
            lent.release()
        back.cancel()
        await settle()
        waits.release()
        lent.release()
        assert manager.try_admit(COUNT) is not None
        assert manager._gate._reserved == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    "limits",
    [
        [GlobalConstraint.concurrency(1)],
        [GlobalConstraint.rate_limit(1.0)],
        [GlobalConstraint.pause("run:run1")],
        [
            GlobalConstraint.concurrency(1),
            GlobalConstraint.rate_limit(1.0, 2, "task:fetch"),
            GlobalConstraint.concurrency(2, "run:run1"),
            GlobalConstraint.concurrency(3, "tag:net*"),
        ],
    ],
)
def test_the_cost_grows_with_how_many_wait_and_each_is_woken_once(
    limits: list[GlobalConstraint], monkeypatch: pytest.MonkeyPatch
) -> None:  # S24
    asked = woken = 0

    def counting(base: Any) -> Any:
        class Counting(base):  # type: ignore[misc]
            def ready_at(self, now: float) -> float:
                nonlocal asked
                asked += 1
                return base.ready_at(self, now)  # type: ignore[no-any-return]

        return Counting

    stop_waiting = Waiter.stop_waiting

    def counted(self: Waiter) -> None:
        nonlocal woken
        woken += 1
        stop_waiting(self)

    monkeypatch.setattr(Waiter, "stop_waiting", counted)

    async def serve(number: int) -> int:
        nonlocal asked, woken
        asked = woken = 0
        clock = MockClock(autojump_threshold=math.inf)
        manager = ConstraintManager(clock, {name: counting(base) for name, base in HANDLERS.items()})
        for limit in limits:
            manager.set(limit)
        served = 0

        async def call(subject: Subject) -> None:
            nonlocal served
            permit = await manager.admit(subject)
            await asyncio.sleep(0)
            permit.release()
            served += 1

        tasks = [asyncio.ensure_future(call((FETCH, COUNT, OTHER)[place % 3])) for place in range(number)]
        await settle()
        manager.remove("run:run1", "pause")
        while served < number:
            await settle()
            clock.advance(1.0)
        await asyncio.gather(*tasks)
        assert woken <= number
        return asked

    few, many = asyncio.run(serve(200)), asyncio.run(serve(800))
    assert many < 4.5 * few
    assert many < 40 * 800
