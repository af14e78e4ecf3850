"""The least that a durable step takes: one transaction of SQLite that survives loss of power."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from benchmarks.measuring import seconds_per_unit

SQLITE: Final[Any] = import_module("pysqlite3" if find_spec("pysqlite3") else "sqlite3")
"""The library that Cascade uses too."""


def commit(count: int, row: int = 1, log_pages: int = 1_000) -> float:
    """Seconds of one commit of one row with so many bytes in it, in the folder where the process runs.

    Args:
        log_pages: after so many the log is written over; with SQLite's own 1,000 it grows all the time here.
    """
    connection = SQLITE.connect("floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={log_pages}")
    connection.execute("CREATE TABLE done (node TEXT PRIMARY KEY, value BLOB)")
    value = bytes(row)

    def do(count: int) -> int:
        connection.execute("DELETE FROM done")
        for index in range(count):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO done VALUES (?, ?)", (f"step#{index}", value))
            connection.execute("COMMIT")
        return int(connection.execute("SELECT count(*) FROM done").fetchone()[0])

    try:
        return seconds_per_unit(do, count, int)
    finally:
        connection.close()
