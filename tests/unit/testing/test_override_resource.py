"""Fakes in the place of resources, for one engine or for whatever a block runs (S22)."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cascade as cs
from cascade.runtime.events import ResourceAcquired, ResourceReleased
from cascade.testing import SpySubscriber, override_resource


@cs.resource
def database():
    yield "real"


@cs.task
def query(db=cs.inject("database")):
    return db


@cs.task
def query_by_definition(db=cs.inject(database)):
    return db


def run(target, **options):
    return cs.run(target, log_level="CRITICAL", **options)


def test_a_block_overrides_for_cs_run_and_ends() -> None:
    with override_resource("database", "fake"):
        assert run(query()) == "fake"
        assert run(query(), resources=[database]) == "fake"
    assert run(query(), resources=[database]) == "real"
    with pytest.raises(cs.UnknownResourceError):
        run(query())


def test_what_tasks_inject_by_definition_is_overridden_too() -> None:
    with override_resource(database, "fake"):
        assert run(query_by_definition()) == "fake"
    assert run(query_by_definition()) == "real"


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": 1}, object()])
def test_plain_values_are_injected_as_they_are(value) -> None:
    with override_resource("database", value):
        assert run(query()) is value


def test_generators_are_set_up_and_torn_down() -> None:
    told = []

    def fake():
        told.append("up")
        yield "fake"
        told.append("down")

    with override_resource("database", fake):
        assert run([query(), query()]) == ["fake", "fake"]
    assert told == ["up", "down"]


def test_async_generators_definitions_and_what_these_inject() -> None:
    async def slow():
        yield "slow"

    @cs.resource
    def other(base=cs.inject("base")):
        return f"on {base}"

    with override_resource("database", slow):
        assert run(query()) == "slow"
    with override_resource("base", "ground"), override_resource("database", other):
        assert run(query()) == "on ground"


def test_a_resource_that_others_inject_is_overridden_for_them() -> None:
    @cs.resource
    def report(db=cs.inject("database")):
        return f"report from {db}"

    @cs.task
    def read(report=cs.inject(report)):
        return report

    with override_resource("database", "fake"):
        assert run(read(), resources=[database]) == "report from fake"


def test_blocks_nest_and_the_inner_one_counts() -> None:
    with override_resource("database", "outer"):
        with override_resource("database", "inner"), override_resource("other", 1):
            assert run(query()) == "inner"
        assert run(query()) == "outer"


def test_a_block_that_raises_ends_the_override() -> None:
    with pytest.raises(ZeroDivisionError), override_resource("database", "fake"):
        raise ZeroDivisionError
    with pytest.raises(cs.UnknownResourceError):
        run(query())


def test_a_run_of_another_thread_is_not_touched() -> None:
    found = []
    with override_resource("database", "fake"):
        thread = threading.Thread(target=lambda: found.append(run(query_by_definition())))
        thread.start()
        thread.join()
    assert found == ["real"]


def test_it_holds_in_async_code_in_nested_runs_and_under_a_running_loop() -> None:
    @cs.task
    def nested():
        return run(query())

    @cs.task
    async def nested_async():
        return await cs.arun(query())

    async def main():
        with override_resource("database", "fake"):
            first = await cs.arun([query(), nested(), nested_async()], log_level="CRITICAL")
            return [*first, run(query())]

    assert asyncio.run(main()) == ["fake"] * 4


def test_it_holds_for_graphs_that_tasks_return() -> None:
    @cs.task
    def more():
        return query()

    with override_resource("database", "fake"):
        assert run(more()) == "fake"


def test_for_an_engine_it_holds_whoever_starts_the_run() -> None:
    async def main():
        async with cs.create_engine(resources=[database]) as engine, cs.create_engine(resources=[database]) as other:
            with override_resource(engine, "database", "fake"):
                found = await asyncio.to_thread(lambda: asyncio.run(engine.run(query())))
                values = [found, await engine.run(query()), await other.run(query())]
            return [*values, await engine.run(query())]

    assert asyncio.run(main()) == ["fake", "fake", "real", "real"]


def test_for_an_engine_a_definition_stands_for_its_name_and_blocks_nest() -> None:
    async def main():
        async with cs.create_engine() as engine:
            with override_resource(engine, database, None):
                with override_resource(engine, database, "inner"):
                    inner = await engine.run(query_by_definition())
                outer = await engine.run(query_by_definition())
            return inner, outer, await engine.run(query_by_definition())

    assert asyncio.run(main()) == ("inner", None, "real")


def test_no_engine_at_all_may_be_said_in_so_many_words() -> None:
    with override_resource(None, "database", "fake"):
        assert run(query()) == "fake"


def test_the_block_counts_before_the_engine_as_it_is_nearer() -> None:
    async def main():
        async with cs.create_engine() as engine:
            with override_resource(engine, "database", "engine"), override_resource("database", "block"):
                return await engine.run(query())

    assert asyncio.run(main()) == "block"


@pytest.mark.parametrize("arguments", [(1, "fake"), ("", "fake"), ("engine", "database", "fake"), (None, None, 1)])
def test_what_is_no_name_or_no_engine_is_an_error_at_once(arguments) -> None:
    with pytest.raises(cs.DeclarationError, match="override_resource"):
        override_resource(*arguments)


def test_a_plain_value_counts_as_one_resource_of_the_run() -> None:
    bus = cs.MessageBus()
    spy = SpySubscriber(bus)
    with override_resource("database", {"a": 1}):
        run([query() for _ in range(3)], bus=bus)
    assert [event.resource_name for event in spy.events_of_type(ResourceAcquired)] == ["database"]
    assert [event.resource_name for event in spy.events_of_type(ResourceReleased)] == ["database"]


def test_a_fake_lives_as_long_as_what_it_stands_in_for() -> None:
    # A test with a fake must see the life that the real resource has: here one for each attempt.
    @cs.resource(scope="task")
    def session():
        yield object()

    @cs.task
    def use(session=cs.inject(session)):
        return session

    made = []

    def fake():
        made.append(None)
        yield len(made)

    with override_resource(session, fake):
        assert sorted(run([use(), use()])) == [1, 2]


@pytest.mark.needs_extra("process")
def test_a_fake_for_a_resource_of_worker_processes_is_made_there() -> None:
    @cs.resource(per_worker=True)
    def model():
        yield "real"

    @cs.task(executor="process")
    def predict(model=cs.inject(model)):
        return model

    with override_resource(model, "fake"):
        assert run(predict()) == "fake"
