"""What the store asks of a database: transactions that are there when they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect

    from cascade.adapters.stores.sql.payload_files import PayloadFiles
    from cascade.spec.exceptions import StoreError

T = TypeVar("T")


class Cursor(Protocol):
    """What both drivers' cursors can do; text is SQL in the form of the database's dialect."""

    @property
    def rowcount(self) -> int: ...

    def execute(self, text: Any, parameters: Any = ..., /) -> Any: ...

    def executemany(self, text: Any, rows: Iterable[Any], /) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Database(Protocol):
    """A database, connected when it is first needed and again when the connection was lost."""

    @property
    def url(self) -> str:
        """The database, without a password."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def files(self) -> PayloadFiles | None:
        """Where large payloads are kept beside the database; `None` where they are kept in it."""
        ...

    @property
    def falls_with_its_users(self) -> bool:
        """Whether all who use it lose their power when it does."""
        ...

    @property
    def version_table_exists(self) -> str:
        """A query for one row if the table of versions is there."""
        ...

    def checks_of(self, table: str) -> Sequence[str]:
        """Queries that find damage in what belongs to a table; each answers `ok` where there is none."""
        ...

    def transact(
        self, doing: str, work: Callable[[Cursor], T], *, point: str | None = None, relaxed: bool = False
    ) -> T:
        """Do some work in one transaction that writes, and commit it.

        The work is repeated where the connection was lost, even if it was committed.

        Args:
            doing: what is done, for errors: "cannot ...".
            point: the fault points around the commit begin with this.
            relaxed: the commit may be lost with the power.
        """
        ...

    def read(self, doing: str, work: Callable[[Cursor], T]) -> T:
        """Do some work that only reads."""
        ...

    def lock(self, cursor: Cursor, key: bytes) -> None:
        """Let nobody else past this with the same key until this transaction has ended; the first 8 bytes count."""
        ...

    def failure(self, doing: str, problem: str) -> StoreError:
        """An error of this database."""
        ...

    def close(self) -> None: ...
