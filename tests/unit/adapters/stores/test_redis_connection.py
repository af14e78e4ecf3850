"""What a store in Redis does when its connection, its server or its data go away (S27)."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import BinaryIO

import pytest
import redis

from cascade.adapters.stores.redis_store import open_redis_store
from cascade.adapters.stores.redis_store.store import RedisStore
from cascade.runtime import fault_points
from cascade.spec.exceptions import RunOwnedError, StoreError, StoreWarning
from cascade.testing import MockClock
from cascade.testing.contracts.store import OTHER_SCOPE, SCOPE, record, row
from cascade.testing.contracts.store_limits import free_slots
from cascade.testing.contracts.store_lines import numbered_lines
from tests.servers import RedisServer

pytestmark = pytest.mark.needs_extra("redis")

LINES = numbered_lines(1, 2, 3, 4, 5)
Act = Callable[[RedisStore], object]


class Proxy:
    """Stands between a store and its server, and loses what passes.

    Attributes:
        cut_at: at which of the commands that pass the connection is cut, counted from 0; -1 for none.
        cut_after: whether the server does the command before that.
        passed, cuts: how many commands passed, and how often the connection was cut.
        answers: what is answered in the server's place, by the first word of the command.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.cut_at, self.cut_after, self.passed, self.cuts = -1, False, 0, 0
        self.answers: dict[bytes, list[bytes]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        # A listener that is only closed does not wake who waits for it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.server_port)) as server,
            client.makefile("rb") as commands,
            server.makefile("rb") as replies,
        ):
            while command := read_message(commands):
                word = command.split(b"\r\n")[2]
                if answers := self.answers.get(word):
                    client.sendall(answers.pop(0))
                    continue
                # What redis-py sends by itself when it connects does not count.
                counts = word not in {b"CLIENT", b"SELECT"}
                cut = counts and self.passed == self.cut_at
                self.passed += counts
                self.cuts += cut
                if cut and not self.cut_after:
                    return
                server.sendall(command)
                reply = read_message(replies)
                if cut:
                    return
                client.sendall(reply)


def read_message(stream: BinaryIO) -> bytes:
    """One command or one answer, as its bytes; none at the end."""
    line = stream.readline()
    if line[:1] == b"*":
        return line + b"".join(read_message(stream) for _ in range(int(line[1:])))
    if line[:1] == b"$" and int(line[1:]) >= 0:
        return line + stream.read(int(line[1:]) + 2)
    return line


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str) -> Iterator[Proxy]:
    proxy = Proxy(redis_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: Proxy) -> Iterator[RedisStore]:
    with contextlib.closing(open_redis_store(proxy.url, clock=MockClock(autojump_threshold=math.inf))) as store:
        yield store


@pytest.fixture
def start_server(tmp_path) -> Iterator[Callable[..., RedisServer]]:
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            server = RedisServer(tmp_path, *options)
            server.start()
            stack.callback(server.kill)
            return server

        yield start


@contextlib.contextmanager
def at_fault_point(point: str, act: Callable[[], object]) -> Iterator[None]:
    reached: list[str] = []

    def reach(name: str) -> None:
        if name == point and not reached:
            reached.append(name)
            act()

    fault_points.on_reach = reach
    try:
        yield
    finally:
        fault_points.on_reach = None
    assert reached


def kill_connections(url: str) -> None:
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.client_kill_filter(_type="normal", skipme=True)


def begin(store: RedisStore) -> None:
    store.claim(row("run"), over=None)
    store.write("run", 1, [record(1), record(2, scope=SCOPE), record(3, kind="failed")], [], 100.0)
    store.note_lines("run", 1, LINES[:3], 4)
    store.send("run", "go", "1", 1.0)
    store.cache("key", b"value", 1.0, 10.0, 1000)
    store.put_setting("limit", "1", None)
    store.put_setting("short", "2", 10.0)
    store.take_slots("scope", "holder", 3, 5, 1.0, 100.0)
    store.take_slots("scope", "short", 1, 5, 1.0, 10.0)
    for _ in range(3):
        store.take_token("scope", 1.0, 5.0, 1.0)


def take_signal(store: RedisStore) -> None:
    (signal,) = store.signals("run")
    store.take_signal("run", 1, signal.number, record(4))


ACTS: dict[str, Act] = {
    "claim": lambda store: store.claim(row("other"), over=None),
    "take over": lambda store: store.claim(row("run", owner="second"), over=1),
    "write": lambda store: store.write("run", 1, [record(3), record(5, scope=OTHER_SCOPE)], [SCOPE], 200.0),
    "finish": lambda store: store.finish("run", 1, "failed", "no", 50.0),
    "remove": lambda store: store.remove("run"),
    "send": lambda store: store.send("run", "go", "2", 2.0),
    "take a signal": take_signal,
    "cache": lambda store: store.cache("other", b"value", 2.0, None, 1000),
    "evict": lambda store: store.cache("other", b"value", 2.0, None, 6),
    "uncache": lambda store: store.uncache("key"),
    "put a setting": lambda store: store.put_setting("other", "2", None),
    "remove a setting": lambda store: store.remove_setting("limit"),
    "take slots": lambda store: store.take_slots("scope", "holder", 1, 5, 1.0, 100.0),
    "take the first slots": lambda store: store.take_slots("scope", "other", 1, 5, 1.0, 100.0),
    "take no slots": lambda store: store.take_slots("scope", "other", 3, 5, 1.0, 100.0),
    "give slots": lambda store: store.give_slots("scope", "holder", 1),
    "give the last slots": lambda store: store.give_slots("scope", "holder", 3),
    "renew slots": lambda store: store.renew_slots("holder", 200.0),
    "take a token": lambda store: store.take_token("scope", 1.0, 5.0, 2.0),
    "sweep": lambda store: store.sweep(50.0),
    "list": lambda store: store.runs(),
    "read": lambda store: store.records("run"),
    "read without payloads": lambda store: store.outline("run"),
    "note lines": lambda store: store.note_lines("run", 1, LINES[1:], 4),
    "read lines": lambda store: store.lines("run"),
}


def state(store: RedisStore, server: RedisServer) -> object:
    runs = store.runs()
    # The number of a signal may be lost with a connection.
    signals = [signal[1:] for signal in store.signals("run")]
    cached = [store.cached(key, 5.0) for key in ("key", "other")]
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        size = client.get("cascade:{cache}:bytes")
    free = [free_slots(store, "scope", 5, now=now) for now in (5.0, 150.0)]
    waits = [store.take_token("scope", 1.0, 5.0, 2.0) for _ in range(5)]
    return runs, store.records("run"), store.lines("run"), signals, cached, size, store.settings(5.0), free, waits


@pytest.mark.parametrize("cut_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
def test_a_connection_cut_before_or_after_any_command_changes_nothing(
    store: RedisStore, proxy: Proxy, redis_server: RedisServer, act: Act, cut_after: bool
) -> None:
    # The second time the server knows the scripts.
    for _ in range(2):
        redis_server.flush()
        begin(store)
        proxy.passed = 0
        expected_answer = act(store)
        commands = proxy.passed
        expected = state(store, redis_server)
    assert commands
    for cut_at in range(commands):
        redis_server.flush()
        begin(store)
        proxy.passed, proxy.cut_at, proxy.cut_after = 0, cut_at, cut_after
        answer = act(store)
        proxy.cut_at = -1
        assert proxy.cuts == cut_at + 1
        assert answer == expected_answer or act is ACTS["sweep"]
        assert state(store, redis_server) == expected


def test_a_connection_that_the_server_kills_is_made_again(redis_url: str) -> None:
    with contextlib.closing(open_redis_store(redis_url)) as store:
        store.claim(row("run"), over=None)
        for point in ("store.write.begin", "store.write.before-commit", "store.write.after-commit"):
            with at_fault_point(point, partial(kill_connections, redis_url)):
                store.write("run", 1, [record(len(point))], [], 100.0)
        assert len(store.records("run")) == 3


def test_a_signal_that_was_taken_does_not_come_back_when_its_sender_repeats(
    store: RedisStore, proxy: Proxy, redis_url: str
) -> None:
    """The sender loses its connection after the server kept the signal, and the run takes it before he repeats."""
    store.claim(row("run"), over=None)
    with contextlib.closing(open_redis_store(redis_url)) as sender:
        sender.send("run", "go", "1", 1.0)
        taken = store.signals("run")[0].number
        take_signal(store)
        with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
            client.set("cascade:signals", taken - 1)
        sender.send("run", "go", "1", 1.0)
    assert store.signals("run") == []


def test_scripts_that_the_server_forgot_are_learned_again(redis_url: str) -> None:
    with contextlib.closing(open_redis_store(redis_url)) as store:
        begin(store)
        with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
            client.script_flush()
        store.write("run", 1, [record(9)], [], 100.0)
        assert store.records("run")[-1] == record(9)


@pytest.mark.parametrize("end", [RedisServer.kill, RedisServer.stop])
def test_a_server_that_is_started_again_in_mid_run_has_lost_nothing(own_redis_server: RedisServer, end) -> None:
    with contextlib.closing(open_redis_store(own_redis_server.url)) as store:
        store.claim(row("run"), over=None)
        written = []
        for turn in range(3):
            group = [record(10 * turn + number) for number in range(5)]
            store.write("run", 1, group, [], 100.0)
            written += group
            end(own_redis_server)
            starting = threading.Thread(target=own_redis_server.start)
            starting.start()
            # The server may be down, reading its data, or ready.
            store.write("run", 1, [record(10 * turn + 9)], [], 100.0)
            written.append(record(10 * turn + 9))
            starting.join()
            assert store.records("run") == written


def test_a_journal_cut_anywhere_holds_the_first_writes_whole(start_server, tmp_path) -> None:
    server = start_server()
    groups = [[record(10 * turn + number, scope=bytes([turn]) * 16) for number in range(3)] for turn in range(3)]
    with contextlib.closing(open_redis_store(server.url)) as store:
        store.claim(row("run"), over=None)
        begun = (tmp_path / "appendonly.aof").stat().st_size
        for group in groups:
            store.write("run", 1, group, [], 100.0)
    server.kill()
    whole = (tmp_path / "appendonly.aof").read_bytes()
    seen = set()
    for end in range(begun, len(whole), 150):
        (tmp_path / "appendonly.aof").write_bytes(whole[:end])
        server.start()
        with contextlib.closing(open_redis_store(server.url)) as store:
            found = store.records("run")
        server.kill()
        assert found in [[kept for group in groups[:count] for kept in group] for count in range(4)]
        seen.add(len(found))
    assert seen == {0, 3, 6}


def test_a_server_that_stays_away_is_an_error_that_says_so(own_redis_server: RedisServer) -> None:
    with contextlib.closing(open_redis_store(own_redis_server.url, patience=0.1)) as store:
        store.claim(row("run"), over=None)
        own_redis_server.kill()
        with pytest.raises(
            StoreError, match=r"cannot write to run 'run' \(tried for 0.1 s\): .*see that the server runs"
        ):
            store.write("run", 1, [record(1)], [], 100.0)
        own_redis_server.start()
        store.write("run", 1, [record(2)], [], 100.0)
        assert store.records("run") == [record(2)]


def test_a_run_whose_server_lost_everything_is_not_made_anew_by_half(redis_server: RedisServer, redis_url: str) -> None:
    with contextlib.closing(open_redis_store(redis_url)) as store:
        begin(store)
        redis_server.flush()
        with pytest.raises(RunOwnedError, match="it was removed, or the server lost its data"):
            store.write("run", 1, [record(5)], [], 100.0)
        with pytest.raises(RunOwnedError):
            store.finish("run", 1, "succeeded", None, 50.0)
        with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
            assert client.keys("*") == []


def test_the_owner_of_a_run_that_was_begun_anew_writes_nothing_into_it(
    redis_server: RedisServer, redis_url: str
) -> None:
    with (
        contextlib.closing(open_redis_store(redis_url)) as store,
        contextlib.closing(open_redis_store(redis_url)) as other,
    ):
        begin(store)
        redis_server.flush()
        other.claim(row("run", owner="second"), over=None)
        with pytest.raises(RunOwnedError, match=r"owned by second.*was begun"):
            store.write("run", 1, [record(5)], [], 100.0)
        assert other.records("run") == []


def test_a_server_that_comes_back_without_its_newest_data_is_noticed(start_server) -> None:
    server = start_server("--save", "", "--appendonly", "no")
    with pytest.warns(StoreWarning):
        store = open_redis_store(server.url)
    with contextlib.closing(store):
        store.claim(row("run"), over=None)
        store.write("run", 1, [record(1)], [], 100.0)
        with contextlib.closing(redis.Redis.from_url(server.url)) as client:
            client.save()
        store.write("run", 1, [record(2)], [], 100.0)
        server.kill()
        server.start()
        with pytest.raises(StoreError, match=r"has lost records of run 'run'.*resume the run"):
            store.write("run", 1, [record(3)], [], 100.0)
        assert store.records("run") == [record(1)]
        # Who resumes it starts from what there is.
        assert store.claim(row("run"), over=1) is not None
        store.write("run", 2, [record(2)], [], 100.0)
        assert store.records("run") == [record(1), record(2)]


def test_records_of_a_run_that_was_evicted_do_not_come_back_with_a_new_one(redis_url: str) -> None:
    with contextlib.closing(open_redis_store(redis_url)) as store:
        begin(store)
        with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
            client.delete("cascade:{run:run}")
        assert store.find("run") is None
        assert store.runs() == []
        store.claim(row("run"), over=None)
        assert store.records("run") == []
        # Signals may be there before their run.
        assert len(store.signals("run")) == 1


def test_a_full_server_takes_nothing_and_says_what_to_do(own_redis_server: RedisServer) -> None:
    with (
        contextlib.closing(open_redis_store(own_redis_server.url)) as store,
        contextlib.closing(redis.Redis.from_url(own_redis_server.url)) as client,
    ):
        begin(store)
        before = store.records("run")
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match="has reached its maxmemory"):
            store.write("run", 1, [record(5)], [], 100.0)
        assert store.records("run") == before
        client.config_set("maxmemory", 0)
        store.write("run", 1, [record(5)], [SCOPE], 100.0)
        assert store.records("run")[-1] == record(5)


def test_a_server_that_became_a_replica_is_waited_for_and_then_an_error(own_redis_server: RedisServer) -> None:
    with (
        contextlib.closing(open_redis_store(own_redis_server.url, patience=0.1)) as store,
        contextlib.closing(redis.Redis.from_url(own_redis_server.url)) as client,
    ):
        store.claim(row("run"), over=None)
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreError, match="it is a replica"):
            store.write("run", 1, [record(1)], [], 100.0)
        client.replicaof("no", "one")
        store.write("run", 1, [record(1)], [], 100.0)
        assert store.records("run") == [record(1)]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "free space there"),
        (b"-MOVED 866 127.0.0.1:7001\r\n", "one node of a cluster"),
        (b"-NOAUTH Authentication required.\r\n", "put the right user and password into the address"),
        (b"-NOPERM this user has no permissions\r\n", "allow it every command on keys that match"),
        (b"-WRONGTYPE Operation against a key\r\n", "written by something else"),
        (b"HTTP/1.1 400 Bad Request\r\n", "this is no Redis server"),
    ],
)
def test_what_does_not_pass_is_told_at_once_with_what_to_do(
    store: RedisStore, proxy: Proxy, answer: bytes, told: str
) -> None:
    store.claim(row("run"), over=None)
    proxy.answers[b"EVALSHA"] = [answer]
    with pytest.raises(StoreError, match=told):
        store.write("run", 1, [record(1)], [], 100.0)
    store.write("run", 1, [record(1)], [], 100.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
    ],
)
def test_what_passes_is_waited_for(store: RedisStore, proxy: Proxy, answer: bytes) -> None:
    store.claim(row("run"), over=None)
    proxy.answers[b"EVALSHA"] = [answer, answer]
    store.write("run", 1, [record(1)], [], 100.0)
    assert proxy.answers == {b"EVALSHA": []}
    assert store.records("run") == [record(1)]


def test_a_flipped_bit_in_a_record_is_an_error_and_never_another_record(redis_url: str) -> None:
    with (
        contextlib.closing(open_redis_store(redis_url)) as store,
        contextlib.closing(redis.Redis.from_url(redis_url)) as client,
    ):
        store.claim(row("run"), over=None)
        store.write("run", 1, [record(1)], [], 100.0)
        (key,) = client.keys("*:scope:*")
        ((node, stored),) = client.hgetall(key).items()
        for at in range(6, len(stored)):
            client.hset(key, node, stored[:at] + bytes([stored[at] ^ 4]) + stored[at + 1 :])
            with pytest.raises(StoreError, match="damaged"):
                store.records("run")
        client.hset(key, node, stored[:8])
        with pytest.raises(StoreError, match="damaged"):
            store.records("run")


def test_a_group_larger_than_redis_takes_is_refused_before_it_is_sent(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cascade.adapters.stores.redis_store.packing.MOST_BYTES", 1000)
    with contextlib.closing(open_redis_store(redis_url)) as store:
        store.claim(row("run"), over=None)
        with pytest.raises(StoreError, match="are more than the 1,000 that Redis takes"):
            store.write("run", 1, [record(1)._replace(payload=bytes(1001))], [], 100.0)
        with pytest.raises(StoreError, match="are more than"):
            store.cache("key", bytes(1001), 1.0, None, 10_000)
        store.write("run", 1, [record(1)], [], 100.0)


def test_places_keep_their_order_over_many_scopes_and_large_groups(redis_url: str) -> None:
    with contextlib.closing(open_redis_store(redis_url)) as store:
        store.claim(row("run"), over=None)
        scopes = [bytes([number]) * 16 for number in range(3)]
        group = [record(number, scope=scopes[number % 3]) for number in range(7000)]
        store.write("run", 1, group, [], 100.0)
        again = [found._replace(attempt=2) for found in group[::-2]]
        more = [record(8000 + number, scope=scopes[number % 3]) for number in range(10)]
        store.write("run", 1, [*again, *more], [], 100.0)
        found = store.records("run")
        assert [(r.scope, r.node) for r in found] == [(r.scope, r.node) for r in [*group, *more]]
        assert sum(r.attempt == 2 for r in found) == len(again)
        assert all(first != second for first, second in pairwise(found))


def test_a_sweep_forgets_ids_of_runs_that_are_gone(redis_url: str) -> None:
    with (
        contextlib.closing(open_redis_store(redis_url)) as store,
        contextlib.closing(redis.Redis.from_url(redis_url)) as client,
    ):
        begin(store)
        # What is left when a claim or a removal was killed half way.
        client.sadd("cascade:runs", "gone")
        assert [found.run_id for found in store.runs()] == ["run"]
        store.sweep(1.0)
        assert client.smembers("cascade:runs") == {b"run"}
