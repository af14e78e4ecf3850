"""Stores that fail: the run says so, what was committed is used when it is resumed, and no value is wrong (S27).

`CASCADE_STORE_FAILURES=all` has each call fail in each way on each shape; the usual way is one after the other.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

import cascade as cs
from cascade.adapters.stores.sql import sqlite
from cascade.runtime import fault_points
from cascade.spec.exceptions import StoreError
from cascade.stores import open_store
from tests.durability.ledger import Effect, Ledger
from tests.durability.shapes import SHAPES, Shape
from tests.durability.standing import committed
from tests.property.construction import same
from tests.property.values import Boom
from tests.servers import PostgresqlServer, RedisServer

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql", "redis")

FAILURES: dict[str, Callable[[], OSError]] = {
    "disk full": lambda: StoreError("sqlite:///here", "cannot write: the disk is full; make room and resume the run"),
    "I/O error": lambda: OSError(errno.EIO, "Input/output error"),
    "busy": lambda: StoreError("sqlite:///here", "cannot write: another process keeps it locked"),
}


THOROUGH = {"chain", "map", "large results", "signal"}


class Failing:
    """A store of which one call fails, before it does anything or after it has done it all."""

    def __init__(self, url: str, failing: int | None = None, *, afterwards: bool = False, error: Any = None) -> None:
        self.store = open_store(url)
        self.calls: list[str] = []
        self._failing, self._afterwards, self._error = failing, afterwards, error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name == "close" or not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            fails = len(self.calls) == self._failing
            if fails and not self._afterwards:
                raise self._error()
            answer = found(*arguments, **named)
            if fails:
                raise self._error()
            return answer

        return call


class Place:
    """A run of a shape in this process.

    Args:
        url: its store.
        folder: where its ledger is.
    """

    def __init__(self, shape: Shape, url: str, folder: Path, run_id: str = "run") -> None:
        self.shape = shape
        self.url = url
        self.run_id = run_id
        folder.mkdir(exist_ok=True)
        # Nobody's power fails here.
        self.ledger = Ledger(folder / "ledger", synced=False)
        if shape.signals:
            store = open_store(url)
            for name, payload in shape.signals:
                store.send(run_id, name, payload, 1.0)
            store.close()

    def run(self, store: Any = None, **options: Any) -> Any:
        target = self.shape.build(self.ledger)
        return cs.run(target, run_id=self.run_id, store=store or self.url, log_level="CRITICAL", **options)

    def committed(self) -> set[str]:
        store = open_store(self.url)
        found = committed(self.run_id, store.records(self.run_id), self.ledger.effects())
        store.close()
        return found

    def check_resumed(self) -> None:
        """Resumed on a store that works it gives its value, and makes no call again that was committed."""
        before = self.ledger.effects()
        final = self.committed()
        try:
            value = self.run()
        except Boom:
            # It has not failed yet, as far as the store knows.
            assert self.shape.heals
            value = self.run()
        after = self.ledger.effects()
        assert same(value, self.shape.expected)
        assert [effect for effect in after[len(before) :] if effect.key in final] == []
        self.check_calls(after)

    def check_calls(self, effects: list[Effect]) -> None:
        assert Counter(function for function, _ in {(effect.function, effect.key) for effect in effects}) == (
            self.shape.calls
        )


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "cascade-store"]


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("name", SHAPES)
def test_every_call_of_the_store_may_fail(name: str, kind: str, afterwards: bool, tmp_path: Path) -> None:
    undisturbed = Place(SHAPES[name], f"sqlite:///{tmp_path}/whole.db", tmp_path / "whole")
    whole = Failing(undisturbed.url)
    try:
        assert same(undisturbed.run(whole), SHAPES[name].expected)
    except Boom:
        assert SHAPES[name].heals
    error = FAILURES[kind]
    step = 1 if name in THOROUGH or os.environ.get("CASCADE_STORE_FAILURES") == "all" else len(FAILURES)
    first = 1 + (list(SHAPES).index(name) + list(FAILURES).index(kind)) % step
    # How many calls there are depends on which completions came together.
    for failing in range(first, len(whole.calls) + 1, step):
        place = Place(SHAPES[name], f"sqlite:///{tmp_path}/{failing}.db", tmp_path / str(failing))
        store = Failing(place.url, failing, afterwards=afterwards, error=error)
        try:
            value = place.run(store, on_failure="continue" if failing % 2 else "stop")
        except (OSError, cs.RunFailedGroup, Boom) as raised:
            # Only who waits for a signal asks the store in a task.
            told = raised.exceptions[0] if isinstance(raised, cs.RunFailedGroup) else raised
            if isinstance(told, Boom):
                assert SHAPES[name].heals
                notes = " ".join(getattr(raised, "__notes__", ()))
                told_too = f"and journaling the end of the run raised {type(error()).__name__}: {error()}"
                assert len(store.calls) < failing or told_too in notes
            else:
                assert len(store.calls) >= failing
                assert str(told) == str(error())
        else:
            assert len(store.calls) < failing
            assert same(value, SHAPES[name].expected)
        assert no_thread_is_left()
        made = len(place.ledger.effects())
        assert made == len(place.ledger.effects()), "something went on after the run had ended"
        place.check_resumed()


def fail_at(point: str, times: int, error: Callable[[], OSError]) -> Counter[str]:
    """Have a fault point raise when it is reached for the given time."""
    reached: Counter[str] = Counter()

    def on_reach(name: str) -> None:
        reached[name] += 1
        if name == point and reached[name] == times:
            raise error()

    fault_points.on_reach = on_reach
    return reached


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("point", ["store.claim", "store.write", "store.blob", "store.finish"])
def test_the_disk_may_fail_within_any_transaction(point: str, code: int, tmp_path: Path) -> None:
    moments = ("written", "renamed") if point == "store.blob" else ("before-commit", "after-commit")
    for moment in moments:
        for times in range(1, 5):
            place = Place(SHAPES["large results"], f"sqlite:///{tmp_path}/{moment}{times}.db", tmp_path / moment)
            reached = fail_at(f"{point}.{moment}", times, lambda: OSError(code, "the disk has failed", "flows.db"))
            if times > 1 and point in ("store.claim", "store.finish"):
                break
            try:
                place.run()
            except StoreError as error:
                told = str(error)
            else:
                told = ""
            # Here it may not be reached as often.
            assert ("the disk has failed" in told and "flows.db" in told) == (reached[f"{point}.{moment}"] >= times)
            fault_points.on_reach = None
            assert no_thread_is_left()
            place.check_resumed()
            place.ledger.path.unlink()
            place.ledger = Ledger(place.ledger.path)


def test_a_full_database_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/flows.db"
    connect = sqlite.SqliteDatabase._connect

    def small(database: sqlite.SqliteDatabase) -> None:
        connect(database)
        (pages,) = database._connection.execute("PRAGMA page_count").fetchone()
        if pages > 1:
            database._connection.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(sqlite.SqliteDatabase, "_connect", small)
    told: list[str] = []
    for number in range(30):
        place = Place(SHAPES["map"], url, tmp_path / str(number), run_id=f"run{number}")
        try:
            assert same(place.run(), place.shape.expected)
        except StoreError as error:
            told.append(str(error))
            break
    assert [text for text in told if "the disk is full; make room and resume the run" in text], told
    monkeypatch.undo()
    place.check_resumed()


def test_a_store_that_others_keep_locked_is_an_error_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(SHAPES["chain"], f"sqlite:///{tmp_path}/flows.db", tmp_path / "run")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    other: list[Any] = []

    def lock(point: str) -> None:
        if point == "effect.end" and len(place.ledger.effects()) == 3:
            connection = sqlite.newest_driver().connect(
                f"{tmp_path}/flows.db", isolation_level=None, check_same_thread=False
            )
            connection.execute("BEGIN IMMEDIATE")
            other.append(connection)

    fault_points.on_reach = lock
    with pytest.raises(StoreError, match="another process has kept it locked"):
        place.run()
    fault_points.on_reach = None
    for connection in other:
        connection.close()
    monkeypatch.undo()
    assert len(place.ledger.effects()) == 3
    place.check_resumed()


def in_the_middle(act: Callable[[], object], point: str, times: int) -> list[str]:
    """Do something when a fault point is reached for the given time."""
    reached: list[str] = []

    def on_reach(name: str) -> None:
        if name == point:
            reached.append(name)
            if len(reached) == times:
                act()

    fault_points.on_reach = on_reach
    return reached


POINTS = ("store.write.begin", "store.write.before-commit", "store.write.after-commit", "store.claim.after-commit")


def end_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", ["loop", "signal", "map"])
def test_a_connection_to_postgresql_that_drops_does_not_show(
    name: str, point: str, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    url = postgresql_server.new_database()
    place = Place(SHAPES[name], url, tmp_path)
    reached = in_the_middle(lambda: end_connections(url), point, 1 if "claim" in point else 2)
    assert same(place.run(), place.shape.expected)
    assert reached
    effects = place.ledger.effects()
    assert len({effect.key for effect in effects}) == len(effects)
    place.check_calls(effects)


@pytest.mark.parametrize("known", [True, False])
def test_a_commit_whose_answer_is_lost_counts_once(
    known: bool, postgresql_server: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql_server.new_database()
    place = Place(SHAPES["loop of maps"], url, tmp_path)
    commit = psycopg.Connection.commit
    commits: list[int] = []

    def lose(connection: psycopg.Connection[Any]) -> None:
        commits.append(1)
        if len(commits) % 4 == 0:
            if known:
                commit(connection)
            end_connections(url)
            with pytest.raises(psycopg.Error):
                connection.execute("SELECT 1")
            raise psycopg.OperationalError("the connection is lost")
        commit(connection)

    monkeypatch.setattr(psycopg.Connection, "commit", lose)
    assert same(place.run(), place.shape.expected)
    assert len(commits) > 8
    effects = place.ledger.effects()
    assert len({effect.key for effect in effects}) == len(effects)
    place.check_calls(effects)


@pytest.mark.parametrize("point", ["store.write.begin", "store.write.before-commit", "store.write.after-commit"])
def test_postgresql_may_be_restarted_in_mid_run(
    point: str, own_postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    place = Place(SHAPES["nested tail calls"], own_postgresql_server.new_database(), tmp_path)
    starter = threading.Thread(target=own_postgresql_server.start)

    def restart() -> None:
        own_postgresql_server.stop("immediate")
        starter.start()

    in_the_middle(restart, point, 2)
    assert same(place.run(), place.shape.expected)
    starter.join()
    effects = place.ledger.effects()
    assert len({effect.key for effect in effects}) == len(effects)
    place.check_calls(effects)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", ["loop", "signal", "map"])
def test_a_connection_to_redis_that_drops_does_not_show(name: str, point: str, redis_url: str, tmp_path: Path) -> None:
    place = Place(SHAPES[name], redis_url, tmp_path)

    def drop() -> None:
        with redis.Redis.from_url(redis_url) as administrator:
            administrator.client_kill_filter(_type="normal", skipme=True)

    reached = in_the_middle(drop, point, 1 if "claim" in point else 2)
    assert same(place.run(), place.shape.expected)
    assert reached
    effects = place.ledger.effects()
    assert len({effect.key for effect in effects}) == len(effects)
    place.check_calls(effects)


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("point", ["store.write.begin", "store.write.before-commit", "store.write.after-commit"])
def test_redis_may_be_restarted_in_mid_run(point: str, how: str, own_redis_server: RedisServer, tmp_path: Path) -> None:
    place = Place(SHAPES["nested tail calls"], own_redis_server.url, tmp_path)
    starter = threading.Thread(target=own_redis_server.start)

    def restart() -> None:
        getattr(own_redis_server, how)()
        starter.start()

    in_the_middle(restart, point, 2)
    assert same(place.run(), place.shape.expected)
    starter.join()
    effects = place.ledger.effects()
    assert len({effect.key for effect in effects}) == len(effects)
    place.check_calls(effects)
