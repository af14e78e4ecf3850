"""The store's database as tables in PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import MissingExtraError, StoreError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import URL
    from sqlalchemy.engine.interfaces import Dialect

    from cascade.adapters.stores.sql.database import Cursor
    from cascade.spec.protocols import Clock

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds for which a lost server is waited for."""

FIRST_PATIENCE: Final = 5.0
"""Seconds for which a server is waited for that has never answered: it may be that there is none."""

_CONNECTING: Final = 5
"""Seconds for which one attempt to connect may last."""

_LONGEST_PAUSE: Final = 1.0

# What ends by itself when repeated: serialization failures, deadlocks, a row that another process was faster to insert
# and that is found now, too many clients, servers that start or stop.
_PASSING: Final = frozenset({"40001", "40P01", "23505", "53300", "57P01", "57P02", "57P03"})

_PASSING_WORDS: Final = ("starting up", "shutting down", "recovery", "too many", "remaining connection slots")


class PostgresqlDatabase:
    """One connection to PostgreSQL, made again when it was lost; a transaction it was lost in is repeated.

    Args:
        url: where the server is.
        shown: the same without a password, for errors.
        clock: measures how long a lost server is waited for.
    """

    files = None
    falls_with_its_users = False
    # Asked of the catalogue: `to_regclass` may answer from before the lock for migrations was waited for.
    version_table_exists = (
        "SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'cascade_schema_version' AND pg_table_is_visible(oid)"
    )

    def __init__(self, url: URL, shown: str, clock: Clock) -> None:
        try:
            import psycopg as driver
        except ImportError:
            raise MissingExtraError(f"the store {shown}", "psycopg", "postgresql") from None
        self.url = shown
        dialect: Any = PGDialect_psycopg
        self.dialect: Dialect = dialect(paramstyle="format")
        self._driver = driver
        arguments: Any = self.dialect.create_connect_args(url)
        self._settings: dict[str, Any] = {"connect_timeout": _CONNECTING, "application_name": "cascade", **arguments[1]}
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._was_reached = False

    def checks_of(self, table: str) -> Sequence[str]:
        """Nothing: the server looks after its pages."""
        return ()

    def transact(
        self, doing: str, work: Callable[[Cursor], T], *, point: str | None = None, relaxed: bool = False
    ) -> T:
        def attempt(cursor: Cursor) -> T:
            if relaxed:
                cursor.execute("SET LOCAL synchronous_commit = off")
            result = work(cursor)
            if point is not None:
                reach(f"{point}.before-commit")
            return result

        result = self._repeated(doing, attempt)
        if point is not None:
            reach(f"{point}.after-commit")
        return result

    def read(self, doing: str, work: Callable[[Cursor], T]) -> T:
        def attempt(cursor: Cursor) -> T:
            # All that is read is of one moment, however many queries it takes.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return work(cursor)

        return self._repeated(doing, attempt)

    def lock(self, cursor: Cursor, key: bytes) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(key[:8], signed=True),))

    def failure(self, doing: str, problem: str) -> StoreError:
        return StoreError(self.url, f"cannot {doing}: {problem}")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(self._driver.Error):
                connection.close()

    def _repeated(self, doing: str, work: Callable[[Cursor], T]) -> T:
        began = self._clock.monotonic()
        pause = 0.01
        while True:
            try:
                return self._once(work)
            except self._driver.Error as error:
                connected = self._connection is not None
                lost = connected and not self._rolled_back()
                if not (lost or _is_passing(error, connected)):
                    raise self.failure(doing if self._was_reached else "open it", _explain(error)) from error
                patience = PATIENCE if self._was_reached or _has_answered(error) else FIRST_PATIENCE
                if self._clock.monotonic() + pause > began + patience:
                    raise self._unreachable(doing, error) from error
            threading.Event().wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _unreachable(self, doing: str, error: Exception) -> StoreError:
        if self._was_reached:
            return self.failure(
                doing, f"{_explain(error)}; check that the server runs and can be reached, then resume the run"
            )
        return self.failure(
            "open it",
            f"{_explain(error)}; check its address, that the server runs, and that it can be reached from here",
        )

    def _once(self, work: Callable[[Cursor], T]) -> T:
        connection = self._connected()
        with connection.cursor() as cursor:
            try:
                result = work(cursor)
                connection.commit()
            except self._driver.Error:
                raise
            except BaseException:
                self._rolled_back()
                raise
            return result

    def _connected(self) -> psycopg.Connection[Any]:
        connection = self._connection
        if connection is None:
            connection = self._driver.connect(**self._settings)
            self._connection = connection
            self._was_reached = True
            # Who has waited for a lock must see what was committed meanwhile, whatever the server's default is.
            connection.isolation_level = self._driver.IsolationLevel.READ_COMMITTED
            # A server may be set to promise less; more than `on`, as for replicas, is left to it.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
            connection.commit()
        return connection

    def _rolled_back(self) -> bool:
        """End the transaction; a connection that cannot is given up."""
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.rollback()
        except self._driver.Error:
            pass
        if connection.closed:
            self.close()
            return False
        return True


def _is_passing(error: Any, connected: bool) -> bool:
    """Whether what the server said, or that nobody answered, may be over soon."""
    if connected or error.sqlstate is not None:
        return error.sqlstate in _PASSING
    # While connecting there are words only. A server that answers FATAL has refused: a wrong password stays so.
    return not _has_answered(error) or any(state in str(error) for state in _PASSING_WORDS)


def _has_answered(error: Any) -> bool:
    """Whether it was a server that said so, and not the way to it."""
    return error.sqlstate is not None or "FATAL" in str(error)


def _explain(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
