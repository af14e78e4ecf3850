"""What is said of a SQLite file that cannot be opened: the cause that it has, and what to do."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import StoreError

pytestmark = pytest.mark.needs_extra("sqlite")


def opened(path: Path, code: int) -> str:
    """What is said where SQLite refuses with a code."""
    from cascade.adapters.stores.sql.sqlite import SqliteDatabase

    def connect(*_: Any, **__: Any) -> Any:
        error = sqlite3.OperationalError("refused")
        error.sqlite_errorcode = code
        raise error

    driver = SimpleNamespace(Error=sqlite3.Error, connect=connect, sqlite_version_info=(3, 53, 0))
    database = SqliteDatabase(path, f"sqlite:///{path}", SystemClock(), driver)
    with pytest.raises(StoreError) as refused:
        database.read("list the runs", lambda cursor: cursor.fetchone())
    return str(refused.value)


@pytest.mark.parametrize(
    ("free", "told"), [(4096, "the disk is full; make room"), (1 << 30, "the disk is full or failed")]
)
def test_memory_that_cannot_grow_on_a_full_disk_is_a_full_disk(
    tmp_path: Path, free: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert told in opened(tmp_path / "flows.db", sqlite3.SQLITE_IOERR | 19 << 8)


def test_a_folder_in_the_place_of_the_file_is_called_one(tmp_path: Path) -> None:
    said = opened(tmp_path, sqlite3.SQLITE_CANTOPEN)
    assert "cannot open it: a folder cannot be opened as a store; name a file" in said
    assert said.count("cannot open it") == 1
    assert "permission" not in said


@pytest.mark.parametrize("code", [sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN])
def test_that_reading_takes_the_permission_to_write_is_said(tmp_path: Path, code: int) -> None:
    said = opened(tmp_path / "flows.db", code)
    assert "reading" in said
    assert "folder" in said
