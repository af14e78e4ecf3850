"""A PostgreSQL store connects again and repeats what it was doing (S27)."""

from __future__ import annotations

import re
import threading

import psycopg
import pytest

from cascade.adapters.stores.sql import open_sql_store, postgresql
from cascade.runtime import fault_points
from cascade.spec.exceptions import StoreError
from cascade.testing.contracts.opened_stores import run_threads
from cascade.testing.contracts.store import SCOPE, record, row
from cascade.testing.contracts.store_limits import free_slots
from cascade.testing.contracts.store_lines import numbered_lines

pytestmark = pytest.mark.needs_extra("postgresql")

FIRST = [record(1, scope=SCOPE), record(2, kind="failed")]
SECOND = [record(2), record(3), record(4, kind="continues"), record(5, scope=SCOPE)]
LINES = numbered_lines(1, 2, 3, 4, 5)
AFTERWARDS = [record(2), record(3), record(4, kind="continues"), record(5, scope=SCOPE)]

OPERATIONS = {
    "claim": lambda store: store.claim(row("run", owner="second"), over=1),
    "create": lambda store: store.claim(row("new"), over=None),
    "write": lambda store: store.write("run", 1, SECOND, [SCOPE], 200.0),
    "note_lines": lambda store: store.note_lines("run", 1, LINES[1:], 4),
    "finish": lambda store: store.finish("run", 1, "failed", "ValueError", 50.0),
    "take_signal": lambda store: store.take_signal("run", 1, 1, record(9)),
    "send": lambda store: store.send("run", "more", "2", 2.0),
    "cache": lambda store: store.cache("key", b"value", 1.0, None, 1000),
    "remove": lambda store: store.remove("run"),
    "uncache": lambda store: store.uncache("before"),
    "put_setting": lambda store: store.put_setting("other", "2", None),
    "remove_setting": lambda store: store.remove_setting("limit"),
    "take_slots": lambda store: store.take_slots("scope", "holder", 1, 5, 1.0, 100.0),
    "take_first_slots": lambda store: store.take_slots("scope", "other", 2, 5, 1.0, 100.0),
    "give_slots": lambda store: store.give_slots("scope", "holder", 1),
    "give_last_slots": lambda store: store.give_slots("scope", "holder", 3),
    "renew_slots": lambda store: store.renew_slots("holder", 200.0),
    "take_token": lambda store: store.take_token("scope", 1.0, 5.0, 2.0),
    "records": lambda store: store.records("run"),
    "outline": lambda store: store.outline("run"),
    "lines": lambda store: store.lines("run"),
}


def prepare(url):
    store = open_sql_store(url)
    store.claim(row("run"), over=None)
    store.write("run", 1, FIRST, [], 100.0)
    store.note_lines("run", 1, LINES[:3], 4)
    store.send("run", "go", "1", 1.0)
    store.cache("before", b"before", 1.0, None, 1000)
    store.put_setting("limit", "1", None)
    store.take_slots("scope", "holder", 3, 5, 1.0, 100.0)
    for _ in range(3):
        store.take_token("scope", 1.0, 5.0, 1.0)
    return store


def everything(store):
    """All that the store holds, but for the moments at which it was written."""
    return (
        [found._replace(updated=0.0) for found in store.runs()],
        sorted(store.records("run")),
        store.lines("run"),
        [signal[1:] for signal in store.signals("run")],
        store.cached("key", 5.0),
        store.cached("before", 5.0),
        store.settings(5.0),
        [free_slots(store, "scope", 5, now=now) for now in (5.0, 150.0)],
        [store.take_token("scope", 1.0, 5.0, 2.0) for _ in range(5)],
    )


def end_connections(url):
    """End every other connection to a database, as an administrator may."""
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_connection_lost_at_the_commit_changes_no_outcome(postgresql_server, monkeypatch, operation, known):
    undisturbed = prepare(postgresql_server.new_database())
    expected = OPERATIONS[operation](undisturbed)
    wanted = everything(undisturbed)
    undisturbed.close()

    url = postgresql_server.new_database()
    store = prepare(url)
    commit = psycopg.Connection.commit
    lost = []

    def lose(connection):
        if not lost:
            lost.append(1)
            if known:
                commit(connection)
            end_connections(url)
            with pytest.raises(psycopg.Error):
                connection.execute("SELECT 1")
            raise psycopg.OperationalError("the connection is lost")
        commit(connection)

    monkeypatch.setattr(psycopg.Connection, "commit", lose)
    found = OPERATIONS[operation](store)
    assert lost
    monkeypatch.undo()
    if operation == "remove":
        # Whether there was a run may have been answered by the attempt whose answer was lost.
        assert found or known
    else:
        assert str(found).replace("updated", "") == str(expected).replace("updated", "")
    assert everything(store) == wanted
    store.close()


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_a_server_restarted_in_mid_write_loses_and_doubles_nothing(own_postgresql_server, monkeypatch, moment):
    store = prepare(own_postgresql_server.new_database())
    point = {"before": "store.write.begin", "inside": "store.write.before-commit", "after": "store.write.after-commit"}
    moments = [point[moment]]

    def restart(reached):
        if reached in moments:
            moments.remove(reached)
            own_postgresql_server.stop("immediate")
            starter.start()

    starter = threading.Thread(target=own_postgresql_server.start)
    monkeypatch.setattr(fault_points, "on_reach", restart)
    store.write("run", 1, SECOND, [SCOPE], 200.0)
    starter.join()
    assert not moments
    assert sorted(store.records("run")) == sorted(AFTERWARDS)
    store.close()


def test_a_server_that_stays_away_is_an_error_in_the_end(own_postgresql_server, monkeypatch):
    monkeypatch.setattr(postgresql, "PATIENCE", 0.2)
    store = prepare(own_postgresql_server.new_database())
    own_postgresql_server.stop("immediate")
    try:
        with pytest.raises(StoreError, match="check that the server runs"):
            store.write("run", 1, SECOND, [SCOPE], 200.0)
    finally:
        own_postgresql_server.start()
    assert store.records("run") == FIRST
    store.write("run", 1, SECOND, [SCOPE], 200.0)
    assert sorted(store.records("run")) == sorted(AFTERWARDS)
    store.close()


def test_a_database_that_is_not_there_is_an_error_at_once(postgresql_url):
    with pytest.raises(StoreError, match='database "absent" does not exist'):
        open_sql_store(re.sub(r"/\w+\?", "/absent?", postgresql_url))


@pytest.mark.parametrize("url", ["postgresql://me@127.0.0.1:1/base", "postgresql:///base?host=/nowhere"])
def test_a_server_that_never_answered_is_not_waited_for_like_one_that_was_lost(monkeypatch, url):
    monkeypatch.setattr(postgresql, "FIRST_PATIENCE", 0.0)
    with pytest.raises(StoreError, match=r"cannot open it: .*; check its address, that the server runs") as caught:
        open_sql_store(url)
    # Nothing has begun.
    assert "resume" not in str(caught.value)


def test_a_server_that_starts_is_waited_for_when_a_store_is_opened(own_postgresql_server, monkeypatch):
    url = own_postgresql_server.new_database()
    refused = threading.Event()
    connect = psycopg.connect

    def starting(**settings):
        if not refused.is_set():
            refused.set()
            raise psycopg.OperationalError("connection failed: FATAL:  the database system is starting up")
        return connect(**settings)

    monkeypatch.setattr(psycopg, "connect", starting)
    monkeypatch.setattr(postgresql, "FIRST_PATIENCE", 0.0)
    open_sql_store(url).close()
    assert refused.is_set()


def test_a_password_is_told_to_nobody(monkeypatch):
    monkeypatch.setattr(postgresql, "FIRST_PATIENCE", 0.0)
    with pytest.raises(StoreError) as caught:
        open_sql_store("postgresql://me:secret@127.0.0.1:1/base")
    assert "secret" not in str(caught.value)
    assert "me:***@127.0.0.1" in str(caught.value)
    with pytest.raises(StoreError) as caught:
        open_sql_store("postgresql://me@127.0.0.1:1/base?password=secret")
    assert "secret" not in str(caught.value)


def test_what_is_committed_is_on_the_disk_whatever_the_server_is_set_to(postgresql_server):
    url = postgresql_server.new_database()
    with psycopg.connect(url, autocommit=True) as administrator:
        name = administrator.info.dbname
        administrator.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = prepare(url)
    found = store._database.read("look", lambda cursor: cursor.execute("SHOW synchronous_commit").fetchone())
    assert found == ("on",)
    store.close()


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_limits_are_kept_whatever_isolation_the_server_is_set_to(postgresql_server, isolation):
    url = postgresql_server.new_database()
    with psycopg.connect(url, autocommit=True) as administrator:
        name = administrator.info.dbname
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    stores = [open_sql_store(url) for _ in range(4)]
    together = threading.Barrier(len(stores))
    taken, errors = [], []

    def take(own):
        try:
            for turn in range(10):
                together.wait(60)
                taken.append(stores[own].take_slots(f"scope {turn}", f"holder {own}", 1, 2, 1.0, 100.0))
        except BaseException as error:
            errors.append(error)
            together.abort()

    run_threads(take, len(stores))
    assert not errors
    assert taken.count(True) == 20
    for store in stores:
        store.close()


def test_processes_that_open_a_new_database_at_once_make_its_tables_once(postgresql_server):
    url = postgresql_server.new_database()
    together = threading.Barrier(5)
    errors = []

    def open_store():
        try:
            together.wait(60)
            open_sql_store(url).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_store) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
