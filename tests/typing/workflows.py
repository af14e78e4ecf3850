"""Routers, sequences, pipelines, inputs, resources and runs."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, assert_type

import cascade as cs


@cs.task
def number(x: int = 1) -> int:
    return x


@cs.task
def text(x: int = 1) -> str:
    return str(x)


def routers() -> None:  # S10
    selector = cs.Param("kind", type=str)
    assert_type(cs.Router(selector, {"a": number(1), "b": number(2)}), cs.Router[int])
    assert_type(cs.Router(selector, {"a": 1, "b": 2}), cs.Router[int])
    assert_type(cs.Router(selector, {"a": number(1), "b": 2}), cs.Router[int])
    assert_type(cs.Router(selector, {"a": number(1), None: None}), cs.Router[int | None])
    routes = {"a": number(1), "b": number(2)}
    routed: cs.LazyResult[int] = cs.Router(selector, routes).named("routed").run_if(number())
    number(routed)
    number(cs.Router(number(), {1: number(1), 2: 2}))
    number(cs.Router(number(), {1: number(1), 2: "b"}))  # type: ignore[arg-type]
    text(cs.Router(number(), {1: cs.Router(selector, routes), 2: number(3)}))
    cs.Router(True, {True: 1})  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    cs.Router(number(), [1, 2])  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


def sequences_and_pipelines() -> None:  # S13
    assert_type(cs.sequence([number(), text()]), cs.LazyResult[Any])
    cs.sequence([[number(), text()], {"a": number()}, number()])
    cs.sequence([number, text])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    assert_type(cs.pipeline(1, [number, number.partial(), lambda x: text(x).named("last")]), cs.LazyResult[Any])
    cs.pipeline(number(), [number.run_if(cs.Param("again", default=False)), text])
    cs.pipeline(1, number)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def inputs() -> None:  # S19
    assert_type(cs.Param("a"), cs.LazyResult[Any])
    assert_type(cs.Param("a", default=1), cs.LazyResult[int])
    assert_type(cs.Param("a", type=int, description="how many"), cs.LazyResult[int])
    assert_type(cs.Param("a", default=None, type=int), cs.LazyResult[int | None])
    assert_type(cs.Param("a", type=list[int]), cs.LazyResult[list[int]])
    assert_type(cs.Env("HOME"), cs.LazyResult[str])
    assert_type(cs.Env("EDITOR", None), cs.LazyResult[str | None])


@cs.resource
def database() -> Iterator[sqlite3.Connection]:
    yield sqlite3.connect(":memory:")


@cs.resource(name="session", scope="task")
async def open_session(connection: sqlite3.Connection = cs.inject(database)) -> AsyncIterator[int]:
    yield connection.total_changes


@cs.resource(thread_affine=True)
def told_the_outcome() -> Generator[str, cs.Outcome, None]:
    outcome = yield "resource"
    print(outcome.error)


@cs.resource(per_worker=True)
def without_teardown() -> int:
    return 1


@cs.task
def store(row: str, connection: sqlite3.Connection = cs.inject(database), session: Any = cs.inject("session")) -> int:
    return connection.execute(row).rowcount


def resources() -> None:  # S22
    assert_type(store("row"), cs.LazyResult[int])
    store(text(), connection=cs.inject("database"))
    store.map(row=["a", "b"])
    cs.inject(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    cs.resource(scope="ever")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]


def runs() -> None:
    assert_type(cs.run(number()), int)
    assert_type(cs.run(number(), {"x": 1}), int)
    assert_type(cs.run(number.map(x=[1, 2])), list[int])
    assert_type(cs.run((number(), text())), tuple[int, str])
    assert_type(cs.run([number(), number()]), list[int])
    assert_type(cs.run({"a": number(), "b": number()}), dict[str, int])
    assert_type(cs.run({"a": [number()], "b": {"c": text()}}), Any)
    assert_type(cs.run(cs.Param("x", default=1)), int)
    assert_type(cs.run(cs.Router(number(), {1: text(1), 2: text(2)})), str)
    wrong: str = cs.run(number())  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    del wrong


async def asynchronous_runs() -> None:
    assert_type(await cs.arun(number()), int)
    assert_type(await cs.arun(number.map(x=[1, 2])), list[int])
