"""S22: injected resources are made at their first use and torn down always."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.observed import Trace, promptly, run


class Log(list[str]):
    """Resources that write down what happens to them."""

    def make(self, name: str, *, scope: Any = "run", is_async: bool = False, inner: Any = None, **more: Any) -> Any:
        def generator(inner: Any = cs.inject(inner) if inner else None) -> Any:
            self.append(f"+{name}")
            outcome = yield name
            self.append(f"-{name} {type(outcome.error).__name__ if outcome.error else 'ok'}")

        async def async_generator(inner: Any = cs.inject(inner) if inner else None) -> Any:
            await asyncio.sleep(0)
            self.append(f"+{name}")
            outcome = yield name
            await asyncio.sleep(0)
            self.append(f"-{name} {type(outcome.error).__name__ if outcome.error else 'ok'}")

        return cs.resource(name=name, scope=scope, **more)(async_generator if is_async else generator)


# S22
def test_a_generator_an_async_generator_a_function_and_a_coroutine_function_are_resources() -> None:
    @cs.resource
    def one() -> Any:
        yield 1

    @cs.resource
    async def two() -> Any:
        yield 2

    @cs.resource
    def three() -> int:
        return 3

    @cs.resource(name="vier")
    async def four() -> int:
        return 4

    @cs.task
    def use(
        a: Any = cs.inject(one), b: Any = cs.inject(two), c: Any = cs.inject("three"), d: Any = cs.inject("vier")
    ) -> Any:
        return a, b, c, d

    assert run(use(), resources=[three, four]) == (1, 2, 3, 4)


# S22
@pytest.mark.parametrize("kind", ["thread", "async", "inline", "policy", "map"])
def test_a_resource_is_injected_as_default_or_as_argument_in_every_kind_of_task(kind: str) -> None:
    @cs.resource
    def db() -> Any:
        yield "db"

    def by_default(x: int, db: Any = cs.inject("db")) -> Any:
        return x, db

    async def by_default_async(x: int, db: Any = cs.inject("db")) -> Any:
        return x, db

    def plain(x: int, db: Any = None) -> Any:
        return x, db

    if kind == "map":
        assert run(cs.task(by_default).map(x=[1]), resources=[db]) == [(1, "db")]
        assert run(cs.task(plain).partial(db=cs.inject("db")).map(x=[1]), resources=[db]) == [(1, "db")]
        return
    task: Any = cs.task(
        by_default_async if kind == "async" else by_default,
        executor="inline" if kind == "inline" else None,
        retry=2 if kind == "policy" else None,
    )
    assert run(task(1), resources=[db]) == (1, "db")
    assert run(task(1, "given"), resources=[db]) == (1, "given")
    given: Any = cs.task(plain, executor="inline" if kind == "inline" else None, retry=2 if kind == "policy" else None)
    assert run(given(1, db=cs.inject("db")), resources=[db]) == (1, "db")
    assert run(given(1, cs.inject("db")), resources=[db]) == (1, "db")
    assert run(given(1, db=cs.inject(db))) == (1, "db")


# S22
def test_names_are_found_in_the_run_and_on_the_engine_and_the_run_wins() -> None:
    @cs.resource(name="db")
    def of_engine() -> Any:
        yield "engine"

    @cs.resource(name="db")
    def of_run() -> Any:
        yield "run"

    async def main() -> Any:
        async with cs.create_engine() as engine:
            engine.register(of_engine)
            target = cs.task(lambda db: db)(db=cs.inject("db"))
            return await engine.run(target), await engine.run(target, resources=[of_run])

    assert asyncio.run(main()) == ("engine", "run")


# S22
@pytest.mark.parametrize("is_async", [False, True])
def test_resources_inject_resources_and_are_torn_down_in_reverse_order(is_async: bool) -> None:
    log = Log()
    a = log.make("a", is_async=is_async)
    b = log.make("b", is_async=is_async, inner=a)
    c = log.make("c", is_async=is_async, inner=b)
    assert run(cs.task(lambda c: c)(c=cs.inject(c))) == "c"
    assert log == ["+a", "+b", "+c", "-c ok", "-b ok", "-a ok"]


# S22
@pytest.mark.parametrize("is_async", [False, True])
def test_resources_of_the_run_are_made_once(is_async: bool) -> None:
    log = Log()
    db = log.make("db", is_async=is_async)

    @cs.task
    def use(x: int, db: Any = cs.inject(db)) -> int:
        return x

    assert promptly(lambda: run(use.map(x=range(30)))) == list(range(30))
    assert log == ["+db", "-db ok"]


# S22
def test_they_are_never_made_for_work_that_is_pruned_or_skipped() -> None:
    log = Log()
    db = log.make("db")

    @cs.task
    def use(db: Any = cs.inject(db)) -> str:
        return "used"

    choice = cs.Router(cs.task(lambda: "b")(), {"a": use(), "b": cs.task(lambda: "other")()})
    assert run(choice) == "other"
    assert run(cs.sequence([use().run_if(cs.task(bool)(0)), cs.task(lambda: 1)()])) is None
    assert log == []


# S22
@pytest.mark.parametrize("is_async", [False, True])
def test_resources_of_the_task_are_made_once_a_call(is_async: bool) -> None:
    log = Log()
    db = log.make("db", scope="task", is_async=is_async)

    @cs.task
    def use(x: int, db: Any = cs.inject(db)) -> int:
        log.append("use")
        return x

    run([use(1).named("first"), use(2)], max_workers=1)
    assert sorted(log) == sorted(["+db", "use", "-db ok"] * 2)


# S22
@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_code_after_yield_runs_after_a_failure_and_sees_it(scope: str, is_async: bool) -> None:
    log = Log()
    db = log.make("db", scope=scope, is_async=is_async)

    @cs.task
    def use(db: Any = cs.inject(db)) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        promptly(lambda: run(use()))
    assert log == ["+db", "-db KeyError"]


# S22
@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_code_after_yield_runs_after_a_cancellation(scope: str, is_async: bool) -> None:
    log = Log()
    db = log.make("db", scope=scope, is_async=is_async)

    async def main() -> None:
        started = asyncio.Event()

        @cs.task
        async def use(db: Any = cs.inject(db)) -> None:
            started.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(cs.arun(use(), log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))
    assert log == ["+db", "-db CancelledError"]


# S22
def test_an_async_teardown_of_the_task_is_not_cut_short_by_the_end_of_the_run() -> None:
    steps: list[str] = []

    async def main() -> None:
        tearing = asyncio.Event()

        @cs.resource(scope="task")
        async def session() -> Any:
            yield "session"
            steps.append("begins")
            tearing.set()
            for _ in range(20):
                await asyncio.sleep(0)
            steps.append("ends")

        @cs.task
        async def use(session: Any = cs.inject(session)) -> str:
            return "used"

        @cs.task
        async def fails() -> None:
            await tearing.wait()
            raise ValueError("elsewhere")

        with pytest.raises(ValueError, match="elsewhere"):
            await cs.arun([use(), fails()], log_level="CRITICAL")

    promptly(lambda: asyncio.run(main()))
    assert steps == ["begins", "ends"]


# S22
def test_nothing_is_thrown_into_the_generator() -> None:
    seen: list[Any] = []

    @cs.resource
    def db() -> Any:
        try:
            outcome = yield "db"
        except BaseException as error:
            seen.append(error)
            raise
        seen.append(type(outcome))
        seen.append(outcome.error)

    @cs.task
    def use(db: Any = cs.inject(db)) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        run(use())
    assert seen == [cs.Outcome, caught.value]


# S22
def test_the_outcome_of_a_success_has_no_error() -> None:
    seen: list[Any] = []

    @cs.resource
    def db() -> Any:
        seen.append((yield "db"))

    run(cs.task(lambda db: db)(db=cs.inject(db)))
    assert seen == [cs.Outcome(None)]


# S22
@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("is_async", [False, True])
def test_each_teardown_runs_even_if_another_raises_and_the_run_fails(scope: Any, is_async: bool) -> None:
    log = Log()

    def broken(name: str) -> Any:
        def generator() -> Any:
            log.append(f"+{name}")
            yield name
            log.append(f"-{name}")
            raise OSError(f"teardown of {name}")

        async def async_generator() -> Any:
            log.append(f"+{name}")
            yield name
            log.append(f"-{name}")
            raise OSError(f"teardown of {name}")

        return cs.resource(name=name, scope=scope)(async_generator if is_async else generator)

    a, b, c = broken("a"), log.make("b", scope=scope), broken("c")
    task = cs.task(lambda a, b, c: "value")
    with pytest.raises(OSError, match="teardown of c") as caught:
        promptly(lambda: run(task(a=cs.inject(a), b=cs.inject(b), c=cs.inject(c))))
    assert "teardown of a" in "\n".join(caught.value.__notes__)
    assert [line[:2] for line in log] == ["+a", "+b", "+c", "-c", "-b", "-a"]


# S22
@pytest.mark.parametrize("scope", ["run", "task"])
def test_a_teardown_that_raises_hides_no_earlier_error(scope: Any) -> None:
    @cs.resource(scope=scope)
    def db() -> Any:
        yield "db"
        raise OSError("teardown")

    @cs.task
    def use(db: Any = cs.inject(db)) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        run(use())
    assert "teardown" in "\n".join(caught.value.__notes__)


# S22
def test_sync_resources_are_set_up_and_torn_down_on_one_thread() -> None:
    threads: list[int] = []

    @cs.resource
    def a() -> Any:
        threads.append(threading.get_ident())
        yield "a"
        threads.append(threading.get_ident())

    @cs.resource
    def b(a: Any = cs.inject(a)) -> Any:
        threads.append(threading.get_ident())
        yield "b"
        threads.append(threading.get_ident())

    @cs.task
    def use(x: int, b: Any = cs.inject(b)) -> int:
        return x

    run(use.map(x=range(10)))
    assert len(threads) == 4
    assert len(set(threads)) == 1


def sqlite_resource(scope: Any = "run") -> Any:
    @cs.resource(scope=scope, thread_affine=True)
    def db() -> Any:
        connection = sqlite3.connect(":memory:")
        connection.execute("create table t (x)")
        yield connection
        connection.close()

    return db


# S22
@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("policy", [False, True])
def test_users_of_a_thread_affine_resource_run_on_its_thread(scope: Any, policy: bool) -> None:
    db = sqlite_resource(scope)

    @cs.task(retry=2 if policy else None)
    def insert(x: int, db: Any = cs.inject(db)) -> int:
        db.execute("insert into t values (?)", (x,))
        return int(db.execute("select count(*) from t").fetchone()[0])

    counts = promptly(lambda: run(insert.map(x=range(20))))
    assert sorted(counts) == (list(range(1, 21)) if scope == "run" else [1] * 20)


# S22
def test_users_of_a_resource_that_stands_on_a_thread_affine_one_run_on_its_thread_too() -> None:
    db = sqlite_resource()

    @cs.resource
    def repository(db: Any = cs.inject(db)) -> Any:
        yield db.execute

    @cs.task
    def insert(x: int, execute: Any = cs.inject(repository)) -> int:
        execute("insert into t values (?)", (x,))
        return x

    assert promptly(lambda: run(insert.map(x=range(5)))) == list(range(5))


# S22, S18
def test_a_user_of_a_thread_affine_resource_may_return_a_lazy_value() -> None:
    db = sqlite_resource()

    @cs.task
    def insert(x: int, db: Any = cs.inject(db)) -> Any:
        db.execute("insert into t values (?)", (x,))
        return insert(x - 1) if x else db.execute("select count(*) from t").fetchone()[0]

    assert promptly(lambda: run(insert(30))) == 31


# S22
def test_live_objects_are_refused_for_process_tasks_before_anything_runs() -> None:
    log = Log()
    db = log.make("db")

    @cs.task(executor="process")
    def use(db: Any = cs.inject(db)) -> None:
        raise AssertionError

    with pytest.raises(cs.ValidationError, match="per_worker"):
        run([cs.task(log.append)("ran"), use()])
    assert log == []


# S22
@pytest.mark.needs_extra("process")
def test_a_resource_per_worker_is_made_in_the_process() -> None:
    def pid() -> Any:
        import os

        yield os.getpid()

    def use(x: int, pid: Any = None) -> Any:
        import os

        return pid == os.getpid()

    definition = cs.resource(name="pid", per_worker=True)(pid)
    assert promptly(lambda: run(cs.task(use, executor="process")(1, pid=cs.inject(definition)))) is True


# S22
def test_an_unknown_name_is_a_name_error_before_anything_runs_and_shows_the_path() -> None:
    called: list[str] = []

    @cs.resource
    def repository(db: Any = cs.inject("db")) -> Any:
        yield "repository"

    with pytest.raises(NameError, match=r"use.*repository.*db") as caught:
        run([cs.task(called.append)("ran"), cs.task(lambda r: r, name="use")(r=cs.inject(repository))])
    assert isinstance(caught.value, cs.UnknownResourceError)
    assert called == []


# S22
def test_a_cycle_is_an_error_before_anything_runs_and_shows_the_path() -> None:
    called: list[str] = []

    @cs.resource
    def a(b: Any = cs.inject("b")) -> Any:
        yield "a"

    @cs.resource
    def b(a: Any = cs.inject("a")) -> Any:
        yield "b"

    target = [cs.task(called.append)("ran"), cs.task(lambda a: a, name="use")(a=cs.inject("a"))]
    with pytest.raises(cs.ResourceCycleError, match="'a' -> 'b' -> 'a'"):
        promptly(lambda: run(target, resources=[a, b]))
    assert called == []


# S22
def test_a_task_and_a_resource_of_one_name_are_no_cycle() -> None:
    @cs.resource
    def db() -> Any:
        yield "db"

    def use(db: Any = cs.inject("db")) -> Any:
        return db

    assert run(cs.task(use, name="db")(), resources=[db]) == "db"


# S22
@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_failing_set_up_fails_its_user_and_what_was_made_is_torn_down(scope: Any, is_async: bool) -> None:
    log = Log()
    a = log.make("a", scope=scope, is_async=is_async)

    def broken(a: Any = cs.inject(a)) -> Any:
        log.append("+broken")
        raise ConnectionError("no server")
        yield

    async def broken_async(a: Any = cs.inject(a)) -> Any:
        log.append("+broken")
        raise ConnectionError("no server")
        yield

    b = cs.resource(name="b", scope=scope)(broken_async if is_async else broken)
    with pytest.raises(ConnectionError, match="no server"):
        promptly(lambda: run(cs.task(lambda b: b)(b=cs.inject(b))))
    assert log == ["+a", "+broken", "-a ConnectionError"]


# S22, S16
@pytest.mark.parametrize("is_async", [False, True])
def test_a_set_up_that_is_repeated_by_retries_of_several_users_makes_one_resource(is_async: bool) -> None:
    made: list[int] = []
    torn_down: list[int] = []

    def flaky() -> Any:
        number = len(made) + 1
        made.append(number)
        if number == 1:
            raise ConnectionError("not yet")
        yield number
        torn_down.append(number)

    async def flaky_async() -> Any:
        number = len(made) + 1
        made.append(number)
        await asyncio.sleep(0)
        if number == 1:
            raise ConnectionError("not yet")
        yield number
        torn_down.append(number)

    db = cs.resource(name="db")(flaky_async if is_async else flaky)

    @cs.task
    async def use(x: int, db: Any = cs.inject(db)) -> Any:
        return db

    assert promptly(lambda: run(use.with_retry(5).map(x=range(5)))) == [2] * 5
    assert made == [1, 2]
    assert torn_down == [2]


# S22
@pytest.mark.parametrize("is_async", [False, True])
def test_a_resource_yields_exactly_once(is_async: bool) -> None:
    def never() -> Any:
        if made:
            yield

    async def never_async() -> Any:
        if made:
            yield

    def twice() -> Any:
        yield 1
        yield 2

    async def twice_async() -> Any:
        yield 1
        yield 2

    made: list[int] = []
    task = cs.task(lambda r: r)
    with pytest.raises(cs.ResourceError, match=r"never.*without yielding"):
        run(task(r=cs.inject(cs.resource(never_async if is_async else never))))
    with pytest.raises(cs.ResourceError, match=r"twice.*second time"):
        run(task(r=cs.inject(cs.resource(twice_async if is_async else twice))))


# S22
def test_an_override_stands_in_for_a_resource_until_it_is_undone() -> None:
    log = Log()
    db = log.make("db")
    target = cs.task(lambda db: db)(db=cs.inject(db))

    async def main() -> Any:
        async with cs.create_engine() as engine:
            undo = engine.override_resource_provider("db", "fake")
            first = await engine.run(target)
            undo()
            return first, await engine.run(target)

    assert asyncio.run(main()) == ("fake", "db")
    assert log == ["+db", "-db ok"]


# S22
def test_an_override_may_be_a_generator_function() -> None:
    torn_down: list[str] = []

    def fake() -> Any:
        yield "fake"
        torn_down.append("fake")

    async def main() -> Any:
        async with cs.create_engine() as engine:
            engine.override_resource_provider("db", fake)
            return await engine.run(cs.task(lambda db: db)(db=cs.inject("db")))

    assert asyncio.run(main()) == "fake"
    assert torn_down == ["fake"]


# S22, S28
def test_set_up_and_teardown_are_told() -> None:
    trace = Trace()
    log = Log()
    db = log.make("db")
    run(cs.task(lambda db: db, name="use")(db=cs.inject(db)), bus=trace.bus)
    assert trace.lines() == [
        "run use",
        "acquire db",
        "start use#0",
        "Succeeded use#0 = 'db'",
        "release db",
        "end Succeeded",
    ]


# S22
def test_definitions_that_mean_nothing_are_refused() -> None:
    with pytest.raises(cs.DeclarationError, match="scope"):
        cs.resource(scope="for ever")  # type: ignore[call-overload]
    with pytest.raises(cs.DeclarationError, match="inject"):
        cs.inject("")
    with pytest.raises(cs.DeclarationError, match="inject"):
        cs.inject(5)  # type: ignore[arg-type]
    with pytest.raises(cs.DeclarationError, match="x"):
        cs.resource(lambda x: x).injected  # noqa: B018
    run_scoped = cs.resource(name="outer")(lambda inner=cs.inject("inner"): inner)
    task_scoped = cs.resource(name="inner", scope="task")(lambda: 1)
    with pytest.raises(cs.ValidationError, match="inner"):
        run(cs.task(lambda r: r)(r=cs.inject("outer")), resources=[run_scoped, task_scoped])


# S22
def test_resources_are_torn_down_before_run_returns_and_after_all_work() -> None:
    order: list[str] = []

    @cs.resource
    def db() -> Any:
        yield "db"
        order.append("torn down")

    @cs.task
    def use(db: Any = cs.inject(db)) -> None:
        order.append("used")

    @cs.task
    def later(x: Any) -> None:
        order.append("later")

    run(later(use()))
    order.append("returned")
    assert order == ["used", "later", "torn down", "returned"]
