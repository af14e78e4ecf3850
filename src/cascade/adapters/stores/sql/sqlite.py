"""The store's database as one SQLite file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from cascade.adapters.stores.sql.payload_files import PayloadFiles
from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import StoreError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect

    from cascade.adapters.stores.sql.database import Cursor
    from cascade.spec.protocols import Clock

T = TypeVar("T")

SAFE_WAL: Final = (3, 51, 3)
"""Before this version, two connections that write or checkpoint at once can corrupt a file with a write-ahead log."""

BUSY_SECONDS: Final = 30.0

_LOG_PAGES: Final = 128
"""After so many the log is written over from its beginning. A commit that makes the log's file longer takes twice as
long as one that does not (ext4: 220 us and 115), and SQLite's own 1,000 pages are more than most runs ever write."""

_FULL: Final = 1 << 20
"""Bytes: where a disk has less left, it is for that reason that something on it failed. SQLite says so of its own
files, but not of the memory that processes share, which is a file too."""

_REMEDIES: Final = {
    5: "another process has kept it locked for {busy:.0f} s; end that process, or give each its own store",
    6: "another process has kept it locked for {busy:.0f} s; end that process, or give each its own store",
    8: "it may not be written, which reading it takes too; check the permissions of the file and of its folder",
    10: "the disk is full or failed; make room, or check it and the system's log, then resume the run",
    11: "the file is damaged; restore it from a backup, or delete it to begin anew",
    13: "the disk is full; make room and resume the run",
    14: "SQLite cannot open it or the files beside it, which reading takes too; check the permissions of the file and "
    "of its folder",
    18: "a value is larger than SQLite allows; have the task return the path of a file instead",
    23: "it may not be read; check the permissions of the file",
    26: "the file is no SQLite database; give the store another name, or delete the file to begin anew",
}


class SqliteDatabase:
    """One connection to a SQLite file: with a write-ahead log, or with a rollback journal where that is not safe.

    Either way what is committed survives a loss of power.

    Args:
        path: the file, made readable to this user only; its folder must exist.
        url: the store, for errors.
        clock: measures how long another process may keep the file locked.
        driver: a module with SQLite in it; by default the newest that is installed.
    """

    falls_with_its_users = True
    version_table_exists = "SELECT name FROM sqlite_master WHERE name = 'cascade_schema_version'"

    def __init__(self, path: Path, url: str, clock: Clock, driver: Any = None) -> None:
        self.url = url
        # What is kept beside the file is found by whatever links it is named.
        self.path = path = Path(os.path.realpath(path))
        self.dialect: Dialect = SQLiteDialect_pysqlite(paramstyle="qmark")
        self.files = PayloadFiles(path.with_name(f"{path.name}.files"))
        self.journal_mode = ""
        self._clock = clock
        self._driver = newest_driver() if driver is None else driver
        self._connection: Any = None
        self._cursor: Any = None

    def checks_of(self, table: str) -> Sequence[str]:
        return (f"PRAGMA integrity_check('{table}')",)

    def transact(
        self, doing: str, work: Callable[[Cursor], T], *, point: str | None = None, relaxed: bool = False
    ) -> T:
        try:
            cursor = self._connected()
            # Only the log stays whole when a commit is not synced.
            relaxed = relaxed and self.journal_mode == "wal"
            if relaxed:
                cursor.execute("PRAGMA synchronous = NORMAL")
            try:
                cursor.execute("BEGIN IMMEDIATE")
                result = work(cursor)
                if point is not None:
                    reach(f"{point}.before-commit")
                cursor.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                if relaxed and self._cursor is not None:
                    cursor.execute("PRAGMA synchronous = FULL")
            if point is not None:
                reach(f"{point}.after-commit")
            return result
        except StoreError:
            raise
        except (self._driver.Error, UnicodeDecodeError, OSError) as error:
            self._fail(doing, error)

    def read(self, doing: str, work: Callable[[Cursor], T]) -> T:
        try:
            cursor = self._connected()
            try:
                cursor.execute("BEGIN")
                result = work(cursor)
                cursor.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            return result
        except StoreError:
            raise
        except (self._driver.Error, UnicodeDecodeError, OSError) as error:
            self._fail(doing, error)

    def lock(self, cursor: Cursor, key: bytes) -> None:
        """Nothing to do: a transaction that writes has the only lock there is."""

    def failure(self, doing: str, problem: str) -> StoreError:
        return StoreError(self.url, f"cannot {doing}: {problem}")

    def close(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(self._driver.Error):
                connection.close()

    def _roll_back(self) -> None:
        """End the transaction, whatever state it is in; a connection that cannot is given up."""
        if self._connection is None or not self._connection.in_transaction:
            return
        try:
            self._connection.rollback()
        except self._driver.Error:
            self.close()

    def _fail(self, doing: str, error: Exception) -> NoReturn:
        if isinstance(error, OSError):
            problem = f"{error.strerror or error} ({error.filename or self.path})"
        elif isinstance(error, UnicodeDecodeError):
            # A column, or even SQLite's own message, has bytes in it that are no text.
            problem = _REMEDIES[11]
        else:
            problem = self._explain(error)
        raise self.failure(doing, problem) from error

    def _explain(self, error: Exception) -> str:
        code = getattr(error, "sqlite_errorcode", None)
        remedy = _REMEDIES.get(code & 0xFF) if isinstance(code, int) else None
        if remedy is _REMEDIES[10] and self._disk_is_full():
            remedy = _REMEDIES[13]
        if remedy is None and "decode" in str(error):
            remedy = _REMEDIES[11]
        if remedy is None:
            return f"{error} ({type(error).__name__})"
        return f"{remedy.format(busy=BUSY_SECONDS)} ({error})"

    def _disk_is_full(self) -> bool:
        try:
            return shutil.disk_usage(self.path.parent).free < _FULL
        except OSError:
            return False

    def _connected(self) -> Any:
        if self._cursor is None:
            try:
                self._connect()
            except StoreError:
                # An `OSError` too, which tells already what is wrong.
                self.close()
                raise
            except (self._driver.Error, UnicodeDecodeError, OSError) as error:
                self.close()
                self._fail("open it", error)
            except BaseException:
                self.close()
                raise
        return self._cursor

    def _connect(self) -> None:
        if not self.path.parent.is_dir():
            raise self.failure("open it", f"the folder {str(self.path.parent)!r} does not exist; make it first")
        if self.path.is_dir():
            raise self.failure("open it", "a folder cannot be opened as a store; name a file, as in sqlite:///flows.db")
        with contextlib.suppress(FileExistsError):
            # SQLite gives its own files beside this one the same permissions.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = self._driver.connect(
            str(self.path), isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
        )
        self._connection = connection
        connection.execute("PRAGMA cell_size_check = ON")
        self.journal_mode = self._set_journal_mode()
        # EXTRA: where a transaction is committed by deleting the journal, its deletion must be synced too.
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.journal_mode == 'wal' else 'EXTRA'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        self._cursor = connection.cursor()

    def _set_journal_mode(self) -> str:
        if self._driver.sqlite_version_info >= SAFE_WAL:
            mode = self._ask_for("wal")
            if mode != "wal" or self._is_readable():
                return mode
            # The log needs memory shared between processes, which a network's file system does not give.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            mode = self._ask_for("delete")
            self._connection.execute("PRAGMA locking_mode = NORMAL")
        else:
            mode = self._ask_for("delete")
        if mode == "wal":
            raise self.failure(
                "open it",
                f"another process has it open in a way that SQLite {self._driver.sqlite_version} cannot share safely; "
                "pip install 'cascade-py[sqlite]' here, or wait until that process has ended",
            )
        return mode

    def _ask_for(self, mode: str) -> str:
        """The mode that SQLite has after it was asked: another one while other connections use that."""
        deadline = self._clock.monotonic() + BUSY_SECONDS
        while True:
            try:
                # Asked first: to change the mode takes locks, to have it already none.
                (found,) = self._connection.execute("PRAGMA journal_mode").fetchone()
                if found != mode:
                    (found,) = self._connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
                return str(found)
            except self._driver.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in {5, 6} or self._clock.monotonic() > deadline:
                    raise
                if self._driver.sqlite_version_info < SAFE_WAL:
                    (found,) = self._connection.execute("PRAGMA journal_mode").fetchone()
                    return str(found)
            # SQLite does not wait by itself for this lock.
            threading.Event().wait(0.01)

    def _is_readable(self) -> bool:
        try:
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except self._driver.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in {10, 14, 15}:
                return False
            raise
        return True


def newest_driver() -> Any:
    """Python's own module, or `pysqlite3` where that carries a newer SQLite."""
    try:
        pysqlite3: Any = import_module("pysqlite3")
    except ModuleNotFoundError:
        return sqlite3
    return pysqlite3 if pysqlite3.sqlite_version_info > sqlite3.sqlite_version_info else sqlite3
