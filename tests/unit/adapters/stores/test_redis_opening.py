"""What a store in Redis looks at when it is opened, and what it tells (S27, S30)."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
import redis

from cascade.adapters.stores.redis_store import open_redis_store
from cascade.spec.exceptions import CascadeWarning, DeclarationError, MissingExtraError, StoreError, StoreWarning
from cascade.testing.contracts.store import SCOPE, record, row
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.needs_extra("redis")

SAFE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


@pytest.fixture
def start_server(tmp_path) -> Iterator[Callable[..., RedisServer]]:
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            server = RedisServer(tmp_path, *options)
            # A member of a cluster needs the port that is 10,000 higher too.
            while not 0 < server.port < 55_000:
                server.port = free_port()
            server.start()
            stack.callback(server.kill)
            return server

        yield start


def told_at_opening(url: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_redis_store(url).close()
    assert all(found.category is StoreWarning for found in caught)
    return [str(found.message) for found in caught]


def test_a_server_that_loses_nothing_is_opened_without_a_word(redis_url: str) -> None:
    assert told_at_opening(redis_url) == []
    assert issubclass(StoreWarning, CascadeWarning)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"appendfsync": "everysec"}, "a loss of power may take the last second"),
        ({"appendfsync": "no"}, "a loss of power may take what the system had not yet written"),
        ({"appendonly": "no"}, "the server writes nothing to its disk"),
        ({"appendonly": "no", "save": "900 1"}, "loses all since its last snapshot"),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "set maxmemory-policy noeviction"),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-random"}, "set maxmemory-policy noeviction"),
        ({"maxmemory": "100mb", "maxmemory-policy": "volatile-lru"}, None),
        ({"maxmemory": "100mb", "maxmemory-policy": "noeviction"}, None),
        ({"maxmemory-policy": "allkeys-lru"}, None),
    ],
)
def test_a_server_that_may_lose_what_it_keeps_is_told_with_the_remedy(
    own_redis_server: RedisServer, settings: dict[str, str], told: str | None
) -> None:
    with contextlib.closing(redis.Redis.from_url(own_redis_server.url)) as client:
        for name, value in settings.items():
            client.config_set(name, value)
    said = told_at_opening(own_redis_server.url)
    assert len(said) == (told is not None)
    if told is not None:
        assert told in said[0]
        assert said[0].startswith(f"store {own_redis_server.url}: ")


@pytest.mark.parametrize(
    ("rules", "appendonly", "told"),
    [
        ("-config", "yes", "how often the server's journal goes to its disk could not be checked"),
        ("-config", "no", "whether the server saves its data could not be checked"),
        ("-config -info", "yes", "whether the server keeps its data could not be checked"),
    ],
)
def test_what_a_managed_server_does_not_tell_is_said(
    own_redis_server: RedisServer, rules: str, appendonly: str, told: str
) -> None:
    with contextlib.closing(redis.Redis.from_url(own_redis_server.url)) as client:
        client.config_set("appendonly", appendonly)
        client.execute_command(
            "ACL", "SETUSER", "flows", "on", ">secret", "resetkeys", "~cascade:*", "+@all", *rules.split()
        )
    url = own_redis_server.url.replace("//", "//flows:secret@")
    (said,) = told_at_opening(url)
    assert told in said
    assert "secret" not in said
    # Commands on its own keys are all that the store needs.
    with pytest.warns(StoreWarning):
        store = open_redis_store(url)
    with contextlib.closing(store):
        store.claim(row("run"), over=None)
        store.write("run", 1, [record(1)], [SCOPE], 100.0)
        store.send("run", "go", "1", 1.0)
        store.take_signal("run", 1, store.signals("run")[0].number, record(2))
        store.cache("key", b"", 1.0, None, 10)
        store.sweep(5.0)
        store.finish("run", 1, "succeeded", None, 5.0)
        assert store.remove("run")


def test_all_keys_of_a_run_are_in_one_part_of_a_cluster(start_server) -> None:
    server = start_server(*SAFE, "--cluster-enabled", "yes")
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            pass
    with contextlib.closing(open_redis_store(server.url)) as store:
        for run_id in ("run", "", "{a}", "}{", "a}b"):
            store.claim(row(run_id), over=None)
            store.write(run_id, 1, [record(1), record(2, scope=SCOPE)], [b"x" * 16], 100.0)
            store.send(run_id, "go", "1", 1.0)
            store.take_signal(run_id, 1, store.signals(run_id)[0].number, record(3))
            assert len(store.records(run_id)) == 3
            assert store.remove(run_id)
        store.cache("key", b"value", 1.0, 2.0, 10)
        assert store.sweep(5.0) == 1


def test_the_password_is_needed_and_never_told(own_redis_server: RedisServer) -> None:
    with contextlib.closing(redis.Redis.from_url(own_redis_server.url)) as client:
        client.config_set("requirepass", "s3cret")
    with pytest.raises(StoreError, match="put the right user and password into the address"):
        open_redis_store(own_redis_server.url)
    with pytest.raises(StoreError, match="put the right user and password") as caught:
        open_redis_store(own_redis_server.url.replace("//", "//:wr0ng@"))
    assert "wr0ng" not in str(caught.value)
    for url in (own_redis_server.url.replace("//", "//:s3cret@"), f"{own_redis_server.url}?password=s3cret"):
        with contextlib.closing(open_redis_store(url)) as store:
            assert store.url == own_redis_server.url
            assert store.runs() == []


def test_a_replica_is_refused_and_its_primary_named(own_redis_server: RedisServer) -> None:
    with contextlib.closing(redis.Redis.from_url(own_redis_server.url)) as client:
        client.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreError, match=r"this is a replica.*127\.0\.0\.1:1$"):
        open_redis_store(own_redis_server.url)


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(StoreError, match=r"cannot open the store: .*see that the server runs"):
        open_redis_store(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="see that the server runs"):
        open_redis_store("unix:///nowhere/redis.sock")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://:secret@127.0.0.1", "no address of a Redis server"),
        ("redis://:secret@127.0.0.1:99999", "no address of a Redis server"),
        ("redis://:secret@127.0.0.1:6379?db=x", "no address of a Redis server"),
        ("redis://:secret@[", "cannot be read"),
    ],
)
def test_what_is_no_address_is_told(url: str, told: str) -> None:
    with pytest.raises(DeclarationError, match=told) as caught:
        open_redis_store(url)
    assert "secret" not in str(caught.value)


def test_another_kind_of_server_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(StoreError, match="this is no Redis server"):
            open_redis_store(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_a_store_is_in_the_database_of_its_address(redis_url: str) -> None:
    with (
        contextlib.closing(open_redis_store(redis_url)) as store,
        contextlib.closing(open_redis_store(redis_url.replace("/0", "/3"))) as other,
    ):
        store.claim(row("run"), over=None)
        assert other.runs() == []
        assert other.claim(row("run"), over=None) is not None


def test_a_server_is_reached_by_a_socket_of_the_system(start_server, tmp_path) -> None:
    start_server(*SAFE, "--unixsocket", str(tmp_path / "s"))
    with contextlib.closing(open_redis_store(f"unix://{tmp_path}/s?db=2")) as store:
        assert store.url == f"unix://{tmp_path}/s?db=2"
        assert store.claim(row("run"), over=None) is not None


def test_without_redis_py_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis" or ".redis_store." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cascade-py\[redis\]'"):
        open_redis_store("redis://127.0.0.1")
