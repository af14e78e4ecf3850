"""A SQLite store opens safely with what is there, and says what is wrong when it cannot (S27)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pysqlite3
import pytest

from cascade.adapters.stores.sql import migrations, open_sql_store, sqlite
from cascade.adapters.stores.sql.schema import metadata
from cascade.adapters.stores.sql.sqlite import SAFE_WAL, SqliteDatabase
from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import DeclarationError, MissingExtraError, StoreError
from cascade.spec.records import Line
from cascade.testing.contracts.store import record, row

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql")


class OldSqlite:
    """A driver whose SQLite is older than it is."""

    sqlite_version = "3.51.2"
    sqlite_version_info = (3, 51, 2)

    def __getattr__(self, name):
        return getattr(pysqlite3, name)


class WithoutSharedMemory:
    """A driver on a file system that has no memory shared between processes."""

    def __getattr__(self, name):
        return getattr(pysqlite3, name)

    def connect(self, path, **settings):
        return pysqlite3.connect(f"file:{path}?vfs=unix-dotfile", uri=True, **settings)


def open_with(driver, path):
    return SqliteDatabase(path, f"sqlite:///{path}", SystemClock(), driver)


def pragma(database, name):
    return database.read("look", lambda cursor: cursor.execute(f"PRAGMA {name}").fetchone()[0])


def test_a_new_store_is_readable_to_its_user_only(tmp_path):
    before = os.umask(0)
    try:
        store = open_sql_store(f"sqlite:///{tmp_path}/flows.db")
        store.claim(row("run"), over=None)
        found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    store.close()
    assert found == {"flows.db": 0o600, "flows.db-wal": 0o600, "flows.db-shm": 0o600}


def test_a_safe_sqlite_uses_a_log_and_syncs_it(tmp_path):
    assert pysqlite3.sqlite_version_info >= SAFE_WAL
    database = open_with(pysqlite3, tmp_path / "flows.db")
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == 2
    database.close()


@pytest.mark.parametrize("driver", [OldSqlite(), WithoutSharedMemory()])
def test_elsewhere_a_rollback_journal_is_used_and_its_end_synced(tmp_path, driver):
    database = open_with(driver, tmp_path / "flows.db")
    assert pragma(database, "journal_mode") == "delete"
    assert pragma(database, "synchronous") == 3
    database.close()


def test_an_old_sqlite_does_not_share_a_log(tmp_path):
    path = tmp_path / "flows.db"
    store = open_sql_store(f"sqlite:///{path}")
    with pytest.raises(StoreError, match=r"cascade-py\[sqlite\]"):
        pragma(open_with(OldSqlite(), path), "journal_mode")
    store.close()
    old = open_with(OldSqlite(), path)
    assert pragma(old, "journal_mode") == "delete"
    # And who could use a log joins those who cannot.
    new = open_sql_store(f"sqlite:///{path}")
    new.claim(row("run"), over=None)
    new.close()
    old.close()


def test_the_newest_driver_is_taken_and_pythons_own_will_do(monkeypatch, tmp_path):
    assert sqlite.newest_driver() is pysqlite3
    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    assert sqlite.newest_driver() is sqlite3
    store = open_sql_store(f"sqlite:///{tmp_path}/flows.db")
    store.claim(row("run"), over=None)
    store.write("run", 1, [record(1)], [], 100.0)
    assert store.records("run") == [record(1)]
    store.cache("key", b"value", 1.0, None, 100)
    assert store.cached("key", 2.0) == b"value"
    store.close()


def test_a_relative_path_stays_where_it_was_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_sql_store("sqlite:///flows.db")
    assert store.url == f"sqlite:///{tmp_path}/flows.db"
    store.close()
    monkeypatch.chdir("/")
    assert store.runs() == []
    store.close()
    assert (tmp_path / "flows.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite://host/flows.db", "name a file"),
        ("flows.db", "cannot be read"),
        ("mysql://user:secret@host/base", "there are sqlite and postgresql"),
        ("postgresql://user:secret@host:port/base", "cannot be read"),
        ("postgresql://user:secret@host:99999/base", "no address of a server"),
        ("postgresql://user:secret@[", "no address of a server"),
    ],
)
def test_a_url_that_names_no_store_is_an_error(url, words):
    with pytest.raises(DeclarationError, match=words) as caught:
        open_sql_store(url)
    assert "secret" not in str(caught.value)


def test_a_folder_that_is_not_there_is_an_error():
    with pytest.raises(StoreError, match="does not exist; make it first") as caught:
        open_sql_store("sqlite:////absent/folder/flows.db")
    assert str(caught.value).count("cannot open it") == 1


def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path):
    path = tmp_path / "flows.db"
    path.write_text("my notes " * 1000)
    with pytest.raises(StoreError, match="no SQLite database"):
        open_sql_store(f"sqlite:///{path}")
    assert path.read_text() == "my notes " * 1000


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        open_sql_store(f"sqlite:///{tmp_path}")


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path):
    store = open_sql_store(f"sqlite:///{tmp_path}/flows.db")
    store.claim(row("run"), over=None)
    store.write("run", 1, [record(1)], [], 100.0)
    store._database.read("limit", lambda cursor: cursor.execute("PRAGMA max_page_count = 1"))
    many = [record(number)._replace(payload=bytes(2000)) for number in range(2, 200)]
    with pytest.raises(StoreError, match="disk is full; make room"):
        store.write("run", 1, many, [], 100.0)
    assert store.records("run") == [record(1)]
    store._database.read("limit", lambda cursor: cursor.execute("PRAGMA max_page_count = 100000"))
    store.write("run", 1, many, [], 100.0)
    assert store.records("run") == [record(1), *many]
    store.close()


def test_a_file_that_stays_locked_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    store = open_sql_store(f"sqlite:///{tmp_path}/flows.db")
    store.claim(row("run"), over=None)
    other = pysqlite3.connect(str(tmp_path / "flows.db"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process has kept it locked"):
        store.write("run", 1, [record(1)], [], 100.0)
    other.execute("COMMIT")
    other.close()
    store.write("run", 1, [record(1)], [], 100.0)
    assert store.records("run") == [record(1)]
    store.close()


_WRITE = """
import sys
from cascade.adapters.stores.sql import open_sql_store
from cascade.testing.contracts.store import record, row

store = open_sql_store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
store.claim(row(sys.argv[2]), over=None)
for number in range(100):
    store.write(sys.argv[2], 1, [record(number)], [], 100.0)
store.close()
"""


def test_processes_share_one_file_from_its_beginning(tmp_path):
    url = f"sqlite:///{tmp_path}/flows.db"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITE, url, f"run {own}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for own in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "open\n"
    for writer in writers:
        writer.communicate("\n", timeout=60)
        assert writer.returncode == 0
    store = open_sql_store(url)
    for own in range(3):
        assert store.records(f"run {own}") == [record(number) for number in range(100)]
    store.close()


def test_a_missing_library_is_one_line_that_names_the_extra():
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from cascade.adapters.stores.sql import open_sql_store\n"
        "try: open_sql_store(sys.argv[1])\n"
        "except ImportError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, "sqlite:///x.db"], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("pip install 'cascade-py[sqlite]'\n")
    code = code.replace("sqlalchemy", "psycopg")
    said = subprocess.run([sys.executable, "-c", code, "postgresql://h/d"], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("pip install 'cascade-py[postgresql]'\n")
    assert issubclass(MissingExtraError, ImportError)


# Migrations


def test_each_version_is_reached_from_every_earlier_one_and_keeps_what_there_was(tmp_path):
    def add_column(cursor, dialect):
        cursor.execute("ALTER TABLE cascade_runs ADD COLUMN note TEXT")

    def fill_column(cursor, dialect):
        cursor.execute("UPDATE cascade_runs SET note = 'old'")

    later = (*migrations.MIGRATIONS, add_column, fill_column)
    for earlier in range(len(migrations.MIGRATIONS), len(later) + 1):
        path = tmp_path / f"{earlier}.db"
        store = open_sql_store(f"sqlite:///{path}")
        store.claim(row("run"), over=None)
        store.write("run", 1, [record(1)], [], 100.0)
        migrations.migrate(store._database, later[:earlier])
        migrations.migrate(store._database, later)
        migrations.migrate(store._database, later)
        assert store.records("run") == [record(1)]
        store.close()
        with sqlite3.connect(path) as look:
            assert look.execute("SELECT note FROM cascade_runs").fetchall() == [("old",)]
            assert look.execute("SELECT version FROM cascade_schema_version").fetchall() == [(len(later),)]
        look.close()


def test_a_migration_that_fails_leaves_the_version_before(tmp_path):
    def fail(cursor, dialect):
        cursor.execute("CREATE TABLE half (a)")
        cursor.execute("CREATE TABLE half (a)")

    store = open_sql_store(f"sqlite:///{tmp_path}/flows.db")
    with pytest.raises(StoreError, match="half already exists"):
        migrations.migrate(store._database, (*migrations.MIGRATIONS, fail))
    store.close()
    open_sql_store(store.url).close()


def test_a_store_of_a_newer_program_is_refused(tmp_path):
    open_sql_store(f"sqlite:///{tmp_path}/flows.db").close()
    with sqlite3.connect(tmp_path / "flows.db") as newer:
        newer.execute("UPDATE cascade_schema_version SET version = 99")
    newer.close()
    with pytest.raises(StoreError, match=r"version 99.*newer Cascade: upgrade"):
        open_sql_store(f"sqlite:///{tmp_path}/flows.db")


def test_a_store_of_version_1_gets_lines_and_keeps_what_there_was(tmp_path):
    path = tmp_path / "flows.db"
    store = open_sql_store(f"sqlite:///{path}")
    store.claim(row("run"), over=None)
    store.write("run", 1, [record(1)], [], 100.0)
    store.close()
    with sqlite3.connect(path) as older:
        older.execute("DROP TABLE cascade_lines")
        older.execute("UPDATE cascade_schema_version SET version = 1")
    older.close()
    store = open_sql_store(f"sqlite:///{path}")
    assert store.records("run") == [record(1)]
    assert store.lines("run") == []
    line = Line(1, 1.5, "INFO", "task#1", "task", 1, "said")
    store.note_lines("run", 1, [line], 10)
    store.write("run", 1, [record(2)], [], 100.0)
    assert store.lines("run") == [line]
    assert store.records("run") == [record(1), record(2)]
    assert store.remove("run")
    store.close()


def tables_of(database, path):
    database.close()
    with sqlite3.connect(path) as look:
        made = look.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    look.close()
    return "\n".join(" ".join(statement.split()) for (statement,) in made) + "\n"


@pytest.mark.parametrize("version", range(1, len(migrations.MIGRATIONS) + 1))
def test_the_tables_of_each_version_stay_what_they_were(tmp_path, version):
    # Who changes the schema adds a migration, and keeps what earlier versions made.
    database = SqliteDatabase(tmp_path / "flows.db", "sqlite:///flows.db", SystemClock())
    migrations.migrate(database, migrations.MIGRATIONS[:version])
    expected = Path(__file__).with_name(f"sql_version_{version}.txt")
    assert tables_of(database, tmp_path / "flows.db") == expected.read_text()
    assert len(metadata.tables) == 11
