"""Cache policies and what each backend does beyond the contract that all of them keep (S25)."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import os
import pathlib
import pickle
import stat
import subprocess
import sys
import threading

import pytest

from cascade.adapters.cache.directory import DirectoryCacheBackend
from cascade.adapters.cache.file_existence import FileExistenceCache, FileNotProducedError
from cascade.adapters.cache.inputs import InputsCache
from cascade.adapters.cache.memory import InMemoryCacheBackend
from cascade.graph.digest import UndigestibleError
from cascade.runtime.signing_key import SigningKeyError
from cascade.spec.exceptions import CascadeError, DeclarationError
from cascade.spec.protocols import CacheBackend, CachePolicy
from cascade.testing import MockClock

NOT_GIVEN = object()


def work(x, y=1):
    return x


def optional(x, y=NOT_GIVEN):
    return x


def put(backend, key, value, ttl=None):
    asyncio.run(backend.put(key, value, ttl=ttl))


def get(backend, key):
    return asyncio.run(backend.get(key))


def has(backend, key):
    try:
        get(backend, key)
    except KeyError:
        return False
    return True


def entries(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))


@pytest.mark.parametrize("policy", [InputsCache(), FileExistenceCache("x")])
def test_policies_fit_their_port(policy):
    assert isinstance(policy, CachePolicy)
    assert policy.backend is None or isinstance(policy.backend, CacheBackend)
    assert policy.ttl is None


def test_the_key_covers_task_code_version_and_every_input_by_name():
    def compiled(source):
        namespace = {"__name__": "flow"}
        exec(source, namespace)
        return namespace["task"]

    key = InputsCache().key
    keys = [
        key(work, {"x": 1, "y": 1}),
        key(work, {"x": 1, "y": 2}),
        key(work, {"x": 1, "y": True}),
        key(work, {"x": 2, "y": 1}),
        key(work, {"x": [1], "y": 1}),
        key(work, {"x": None, "y": 1}),
        key(work, {"x": 1}),
        key(work, {"y": 1, "z": 1}),
        key(work, {}),
        key(optional, {"x": 1, "y": 1}),
        key(lambda x, y: x, {"x": 1, "y": 1}),
        key(compiled("def task(x): return 1"), {"x": 1}),
        key(compiled("def task(x): return 2"), {"x": 1}),
        InputsCache(version=1).key(work, {"x": 1, "y": 1}),
        InputsCache(version="1").key(work, {"x": 1, "y": 1}),
    ]
    assert len(set(keys)) == len(keys)
    assert key(work, {"y": 1, "x": 1}) == keys[0]
    assert InputsCache(ttl=5, backend=InMemoryCacheBackend()).key(work, {"x": 1, "y": 1}) == keys[0]


def test_an_input_that_cannot_be_digested_is_refused_by_name():
    with pytest.raises(UndigestibleError, match=r"argument 'y'\['lock'\]") as caught:
        InputsCache().key(work, {"x": 1, "y": {"lock": threading.Lock()}})
    assert isinstance(caught.value, CascadeError)


def test_a_default_that_marks_an_argument_as_not_given_is_an_input_like_others():
    key = InputsCache().key
    assert key(optional, {"x": 1, "y": NOT_GIVEN}) == key(optional, {"x": 1, "y": NOT_GIVEN})
    assert key(optional, {"x": 1, "y": NOT_GIVEN}) != key(optional, {"x": 1, "y": 1})
    with pytest.raises(UndigestibleError, match="argument 'y'"):
        key(optional, {"x": 1, "y": object()})


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_time_to_live_that_cannot_be_is_refused(ttl):
    with pytest.raises(DeclarationError, match="above 0"):
        InputsCache(ttl=ttl)


def test_the_product_of_a_computed_value_is_that_value():
    value = [1]
    assert InputsCache().product("key", value) is value


@pytest.mark.parametrize("path", [
    "{folder}/{name}.csv",
    pathlib.Path("{folder}") / "{name}.csv",
    lambda name, folder: pathlib.Path(folder) / f"{name}.csv",
    lambda name, **rest: f"{rest['folder']}/{name}.csv",
], ids=["text", "path", "function", "function of all"])  # fmt: skip
def test_the_file_of_a_call_hits_if_it_exists_and_is_the_value_on_hit_and_miss(tmp_path, path):
    policy = FileExistenceCache(path)
    key = policy.key(work, {"folder": str(tmp_path), "name": "a"})
    wanted = tmp_path / "a.csv"
    assert not has(policy.backend, key)
    wanted.write_text("1")
    put(policy.backend, key, "whatever the task returned")
    assert policy.product(key, "whatever the task returned") == wanted
    assert get(policy.backend, key) == wanted
    assert not has(policy.backend, policy.key(work, {"folder": str(tmp_path), "name": "b"}))


def test_a_directory_is_no_file(tmp_path):
    policy = FileExistenceCache(tmp_path)
    key = policy.key(work, {})
    assert not has(policy.backend, key)
    with pytest.raises(FileNotProducedError, match="a directory is there"):
        policy.product(key, None)


def test_a_task_that_did_not_write_its_file_is_told_where_it_was_expected(tmp_path):
    policy = FileExistenceCache(tmp_path / "{name}.csv")
    with pytest.raises(FileNotFoundError) as caught:
        policy.product(policy.key(work, {"name": "a"}), "done")
    assert isinstance(caught.value, CascadeError)
    assert caught.value.path == tmp_path / "a.csv"
    assert str(tmp_path / "a.csv") in str(caught.value)


def test_forgetting_leaves_the_file_of_the_user(tmp_path):
    policy = FileExistenceCache(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("1")
    asyncio.run(policy.backend.discard(policy.key(work, {})))
    assert (tmp_path / "a.csv").read_text() == "1"


@pytest.mark.parametrize("path", ["{nmae}.csv", lambda nmae: nmae, "{", "{}.csv"])
def test_a_path_that_asks_for_no_parameter_of_the_task_is_refused(path):
    with pytest.raises(DeclarationError, match="parameters of 'work': name, size"):
        FileExistenceCache(path).key(work, {"name": "a", "size": 1})


def test_memory_lets_go_of_what_was_not_asked_for_the_longest():
    backend = InMemoryCacheBackend(max_entries=2)
    put(backend, "a", 1)
    put(backend, "b", 2)
    get(backend, "a")
    put(backend, "c", 3)
    assert [has(backend, key) for key in "abc"] == [True, False, True]
    assert len(backend) == 2


def test_memory_without_a_bound_keeps_everything():
    backend = InMemoryCacheBackend(max_entries=None)
    for number in range(5000):
        put(backend, str(number), number)
    assert len(backend) == 5000


@pytest.mark.parametrize("make", [
    lambda: InMemoryCacheBackend(max_entries=0), lambda: DirectoryCacheBackend("x", max_bytes=0),
])  # fmt: skip
def test_a_bound_that_keeps_nothing_is_refused(make):
    with pytest.raises(DeclarationError, match="at least 1"):
        make()


@pytest.mark.needs_extra("process")
def test_values_without_an_importable_name_are_kept_with_cloudpickle(tmp_path):
    for backend in (InMemoryCacheBackend(), DirectoryCacheBackend(tmp_path)):
        put(backend, "key", lambda x: x + 1)
        assert get(backend, "key")(1) == 2


def test_without_cloudpickle_the_error_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
        put(InMemoryCacheBackend(), "key", lambda x: x)
    assert "pip install 'cascade-py[process]'" in caught.value.__notes__[0]


def test_a_directory_is_shared_by_backends_and_processes(tmp_path):
    script = (
        "import asyncio, sys\n"
        "from cascade.adapters.cache.directory import DirectoryCacheBackend\n"
        "asyncio.run(DirectoryCacheBackend(sys.argv[1]).put('key', {'from': 'another'}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, tmp_path / "cache"], env=environment, check=True)
    assert get(DirectoryCacheBackend(tmp_path / "cache"), "key") == {"from": "another"}


def test_processes_that_begin_a_cache_together_end_up_with_one_key(tmp_path):
    script = (
        "import asyncio, sys\n"
        "from cascade.adapters.cache.directory import DirectoryCacheBackend\n"
        "sys.stdin.readline()\n"
        "for i in range(50):\n"
        "    asyncio.run(DirectoryCacheBackend(sys.argv[1]).put(f'{i}', list(range(1000))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, tmp_path / "cache"]
    writers = [subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) for _ in range(3)]
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    backend = DirectoryCacheBackend(tmp_path / "cache")
    assert all(get(backend, str(i)) == list(range(1000)) for i in range(50))
    assert [path.name for path in (tmp_path / "cache").rglob(".*")] == [".key"]


def test_the_key_and_the_values_can_be_read_by_nobody_else(tmp_path):
    backend = DirectoryCacheBackend(tmp_path / "cache")
    put(backend, "key", 1)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [
    lambda content: b"",
    lambda content: content[:20],
    lambda content: content[:-1],
    lambda content: content + b"x",
    lambda content: b"XXXX" + content[4:],
], ids=["empty", "header cut", "end cut", "longer", "another magic"])  # fmt: skip
def test_a_damaged_file_is_a_miss_and_is_deleted(tmp_path, damage):
    backend = DirectoryCacheBackend(tmp_path)
    put(backend, "key", [1, 2, 3])
    (path,) = entries(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert not has(backend, "key")
    assert not path.exists()
    put(backend, "key", 4)
    assert get(backend, "key") == 4


class Exploit:
    loaded = False

    def __reduce__(self):
        return (setattr, (Exploit, "loaded", True))


def test_a_file_that_was_tampered_with_is_never_loaded(tmp_path, caplog):
    backend = DirectoryCacheBackend(tmp_path)
    put(backend, "key", b"0" * len(pickle.dumps(Exploit(), protocol=5)))
    (path,) = entries(tmp_path)
    content = path.read_bytes()
    evil = pickle.dumps(Exploit(), protocol=5)
    path.write_bytes(content[: -len(evil)] + evil)
    with caplog.at_level(logging.WARNING, logger="cascade"):
        assert not has(backend, "key")
    assert not Exploit.loaded
    assert str(path) in caplog.text
    assert "not signed" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize("position", [4, 40, 50, -1])
def test_every_byte_is_signed(tmp_path, position, caplog):
    backend = DirectoryCacheBackend(tmp_path)
    put(backend, "key", "value", ttl=1000)
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert not has(backend, "key")


def test_a_file_put_in_the_place_of_another_is_noticed(tmp_path, caplog):
    backend = DirectoryCacheBackend(tmp_path)
    put(backend, "key", "secret")
    (secret,) = entries(tmp_path)
    put(backend, "kez", "public")
    (public,) = set(entries(tmp_path)) - {secret}
    os.replace(secret, public)
    assert not has(backend, "kez")


def test_what_another_key_signed_is_not_loaded(tmp_path, caplog):
    put(DirectoryCacheBackend(tmp_path), "key", 1)
    (tmp_path / ".key").unlink()
    assert not has(DirectoryCacheBackend(tmp_path), "key")


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")
def test_a_key_that_others_can_read_is_refused(tmp_path):
    put(DirectoryCacheBackend(tmp_path), "key", 1)
    (tmp_path / ".key").chmod(0o644)
    with pytest.raises(SigningKeyError, match="mode 644") as caught:
        get(DirectoryCacheBackend(tmp_path), "key")
    assert caught.value.source == tmp_path / ".key"
    assert isinstance(caught.value, PermissionError)


@pytest.mark.parametrize(("text", "problem"), [("short", "hexadecimal digits"), ("ab" * 5, "5 bytes")])
def test_what_is_no_key_is_refused(tmp_path, text, problem):
    (tmp_path / ".key").write_text(text)
    (tmp_path / ".key").chmod(0o600)
    with pytest.raises(SigningKeyError, match=problem):
        put(DirectoryCacheBackend(tmp_path), "key", 1)


def test_a_directory_has_a_key_of_its_own_whatever_the_environment_says(tmp_path, monkeypatch):
    put(DirectoryCacheBackend(tmp_path), "key", 1)
    monkeypatch.setenv("CASCADE_KEY", "ab" * 32)
    assert get(DirectoryCacheBackend(tmp_path), "key") == 1


def test_a_directory_deleted_under_a_running_process_is_made_anew(tmp_path):
    backend = DirectoryCacheBackend(tmp_path / "cache")
    put(backend, "key", 1)
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "cache").rmdir()
    assert not has(backend, "key")
    put(backend, "key", 2)
    assert get(backend, "key") == 2
    assert get(DirectoryCacheBackend(tmp_path / "cache"), "key") == 2


def test_expired_files_are_deleted_when_asked_for(tmp_path):
    clock = MockClock(autojump_threshold=math.inf)
    backend = DirectoryCacheBackend(tmp_path, clock=clock)
    put(backend, "key", 1, ttl=10)
    clock.advance(11)
    assert not has(backend, "key")
    assert entries(tmp_path) == []


def test_a_full_directory_lets_go_of_what_was_not_asked_for_the_longest(tmp_path):
    clock = MockClock(autojump_threshold=math.inf)
    backend = DirectoryCacheBackend(tmp_path, max_bytes=10_000, clock=clock)
    for name in "abcde":
        clock.advance(1)
        put(backend, name, b"x" * 1800)
    clock.advance(1)
    assert get(backend, "a")
    clock.advance(1)
    put(backend, "f", b"x" * 1800)
    assert [has(backend, name) for name in "abcdef"] == [True, False, False, True, True, True]
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 10_000


def test_a_value_larger_than_the_bound_is_not_kept_and_displaces_nothing_else(tmp_path):
    backend = DirectoryCacheBackend(tmp_path, max_bytes=1000)
    put(backend, "small", 1)
    put(backend, "large", 1)
    put(backend, "large", b"x" * 2000)
    assert has(backend, "small")
    assert not has(backend, "large")


def test_what_killed_writers_left_over_is_cleared_away_in_time(tmp_path):
    clock = MockClock(autojump_threshold=math.inf)
    backend = DirectoryCacheBackend(tmp_path, max_bytes=1000, clock=clock)
    put(backend, "a", 1)
    left, recent = entries(tmp_path)[0].parent / ".left", entries(tmp_path)[0].parent / ".recent"
    for path, age in ((left, 4000), (recent, 10)):
        path.write_bytes(b"half")
        os.utime(path, (clock.now() - age, clock.now() - age))
    put(backend, "b", b"x" * 600)
    put(backend, "c", b"x" * 600)
    assert not left.exists()
    assert recent.exists()


def test_a_failing_disk_is_an_error_for_the_engine_to_contain(tmp_path):
    (tmp_path / "file").write_text("in the way")
    backend = DirectoryCacheBackend(tmp_path / "file")
    with pytest.raises(FileExistsError):
        put(backend, "key", 1)
    with pytest.raises(NotADirectoryError):
        get(backend, "key")


def test_a_failed_write_leaves_the_old_value_and_no_scraps(tmp_path, monkeypatch):
    backend = DirectoryCacheBackend(tmp_path)
    put(backend, "key", "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        put(backend, "key", "new")
    monkeypatch.undo()
    assert get(backend, "key") == "old"
    assert [path.name for path in tmp_path.rglob(".*")] == [".key"]


def test_values_keep_their_types(tmp_path):
    backend = DirectoryCacheBackend(tmp_path)
    value = {
        "when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "where": pathlib.Path("a"),
        "error": ValueError("x"),
    }
    put(backend, "key", value)
    found = get(backend, "key")
    assert found["when"] == value["when"]
    assert found["where"] == value["where"]
    assert repr(found["error"]) == "ValueError('x')"
