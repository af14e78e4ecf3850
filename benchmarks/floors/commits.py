"""The least that a durable step takes: one transaction of SQLite that survives loss of power."""

from __future__ import annotations

import sqlite3

from benchmarks.measuring import seconds_per_unit


def commit(count: int) -> float:
    """Seconds of one commit of one small row, in the folder where the process runs."""
    connection = sqlite3.connect("floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE done (node TEXT PRIMARY KEY, value BLOB)")

    def do(count: int) -> int:
        connection.execute("DELETE FROM done")
        for index in range(count):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO done VALUES (?, ?)", (f"step#{index}", b"1"))
            connection.execute("COMMIT")
        return int(connection.execute("SELECT count(*) FROM done").fetchone()[0])

    try:
        return seconds_per_unit(do, count, int)
    finally:
        connection.close()
