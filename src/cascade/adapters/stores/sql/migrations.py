"""Brings the tables of a database up to date: one function for each version, each in its own transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sqlalchemy.schema import CreateIndex, CreateTable

from cascade.adapters.stores.sql import schema

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine.interfaces import Dialect

    from cascade.adapters.stores.sql.database import Cursor, Database

# Nobody can tell which lock PostgreSQL numbers belong to; this one is Cascade's migrations.
_LOCK: Final = b"cascade\0"

Migration = Callable[["Cursor", "Dialect"], None]


def create_tables(cursor: Cursor, dialect: Dialect) -> None:
    """Version 1. Whoever changes the schema writes the tables as they were into this function first."""
    tables = (
        schema.runs,
        schema.owners,
        schema.records,
        schema.signals,
        schema.cache,
        schema.cache_size,
        schema.settings,
        schema.slots,
        schema.tokens,
    )
    for table in tables:
        create_table(cursor, dialect, table)
    cursor.execute("INSERT INTO cascade_cache_size (bytes) VALUES (0)")


def add_lines(cursor: Cursor, dialect: Dialect) -> None:
    """Version 2 keeps what calls log and print."""
    create_table(cursor, dialect, schema.lines)


MIGRATIONS: Final[tuple[Migration, ...]] = (create_tables, add_lines)
"""What leads from each version to the next; an empty database has version 0."""


def migrate(database: Database, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Run the migrations that the database has not seen. Processes that do it at once wait for each other.

    Raises:
        StoreError: the database is newer than this program.
    """
    newest = len(migrations)
    doing = "bring its tables up to date"

    def version(cursor: Cursor) -> int:
        cursor.execute(database.version_table_exists)
        if cursor.fetchone() is None:
            return 0
        cursor.execute("SELECT version FROM cascade_schema_version")
        rows = cursor.fetchall()
        found = rows[0][0] if len(rows) == 1 else None
        if not isinstance(found, int) or found < 1:
            raise database.failure(doing, "its table of versions is damaged; restore it from a backup")
        if found > newest:
            raise database.failure(
                doing,
                f"its tables have version {found}, and this Cascade knows {newest} at most; "
                "it was written by a newer Cascade: upgrade, or use another store",
            )
        return found

    def step(cursor: Cursor) -> int:
        database.lock(cursor, _LOCK)
        found = version(cursor)
        if found == newest:
            return found
        if found == 0:
            create_table(cursor, database.dialect, schema.versions)
            cursor.execute("INSERT INTO cascade_schema_version (version) VALUES (0)")
        migrations[found](cursor, database.dialect)
        cursor.execute(f"UPDATE cascade_schema_version SET version = {found + 1}")  # noqa: S608 - a number
        return found + 1

    reached = database.read(doing, version)
    while reached < newest:
        reached = database.transact(doing, step)


def create_table(cursor: Cursor, dialect: Dialect, table: Table) -> None:
    """Create a table with its indexes."""
    cursor.execute(str(CreateTable(table).compile(dialect=dialect)))
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        cursor.execute(str(CreateIndex(index).compile(dialect=dialect)))
