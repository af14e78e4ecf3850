from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.spec.exceptions import MissingExtraError

if TYPE_CHECKING:
    from cascade.adapters.stores.sql.store import SqlStore
    from cascade.spec.protocols import Clock


def open_sql_store(url: str, *, clock: Clock | None = None) -> SqlStore:
    """Open a store in a SQLite file or a PostgreSQL database, and bring its tables up to date.

    Args:
        url: `sqlite:///flows.db`, `sqlite:////var/lib/flows.db` or `postgresql://user:password@host/database`.
        clock: by which it is noted when a run was written last.

    Raises:
        DeclarationError: the URL names no store.
        MissingExtraError: SQLAlchemy or the database's driver is not installed.
        StoreError: the store cannot be opened; the message says why and what to do.

    >>> store = open_sql_store("sqlite:///flows.db")
    >>> store.runs()
    []
    >>> store.close()
    """
    try:
        from cascade.adapters.stores.sql.store import SqlStore
    except ModuleNotFoundError as error:
        if error.name != "sqlalchemy":
            raise
        extra = "sqlite" if url.startswith("sqlite") else "postgresql"
        raise MissingExtraError(f"the store {extra}", "SQLAlchemy", extra) from None
    return SqlStore(url, clock=clock)
