"""The cache in the store of durable runs, and why calls hit or miss it (S25)."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import os
import sys
import textwrap
import threading

import pytest

from cascade.adapters.cache.explain import explain
from cascade.adapters.cache.inputs import InputsCache
from cascade.adapters.cache.memory import InMemoryCacheBackend
from cascade.adapters.cache.store import StoreCacheBackend, store_cache
from cascade.runtime.durability.session import DurableStore
from cascade.spec.exceptions import DeclarationError, StoreError, UnserializableValueError
from cascade.stores import open_durable
from cascade.testing import MockClock
from cascade.testing.caches import FakeCachePolicy

pytestmark = pytest.mark.needs_extra("sqlite")

KEY = {"CASCADE_KEY": "ab" * 32}


@pytest.fixture
def clock():
    return MockClock(autojump_threshold=math.inf)


@pytest.fixture
def durable(tmp_path):
    durable = open_durable(tmp_path / "store.db", environment=KEY)
    yield durable
    durable.close()


@pytest.fixture
def backend(durable, clock):
    return store_cache(durable, clock)


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


def asked(backend, policy, function, **arguments):
    return asyncio.run(explain(policy, function, arguments, backend))


def computed(backend, policy, function, **arguments):
    put(backend, policy.key(function, arguments), "value", ttl=policy.ttl)


def work(x, y=1):
    return x


def test_another_process_finds_what_was_kept(durable, backend, tmp_path):
    put(backend, "key", [1, {"a": None}])
    durable.close()
    other = open_durable(tmp_path / "store.db", environment=KEY)
    try:
        assert get(StoreCacheBackend(other), "key") == [1, {"a": None}]
    finally:
        other.close()


def test_what_another_key_signed_is_forgotten_and_not_loaded(durable, backend, tmp_path, caplog):
    put(backend, "key", 1)
    durable.close()
    other = open_durable(tmp_path / "store.db", environment={"CASCADE_KEY": "cd" * 32})
    try:
        with caplog.at_level(logging.WARNING, logger="cascade.cache"):
            assert not has(StoreCacheBackend(other), "key")
        assert "signed with another key" in caplog.text
    finally:
        other.close()
    again = open_durable(tmp_path / "store.db", environment=KEY)
    try:
        assert not has(StoreCacheBackend(again), "key")
    finally:
        again.close()


def test_a_value_put_under_another_key_is_not_loaded(durable, backend, caplog):
    put(backend, "key", "secret")
    put(backend, "other", "public")
    store = durable.store

    def swap():
        payload = store.cached("value:key", 0.0)
        store.cache("value:other", payload, 1.0, None, 1 << 30)

    asyncio.run(durable.writer(backend.clock).call(swap))
    with caplog.at_level(logging.WARNING, logger="cascade.cache"):
        assert not has(backend, "other")
    assert get(backend, "key") == "secret"


class Gone:
    pass


def test_a_value_whose_class_is_gone_is_a_miss_and_forgotten(backend, monkeypatch, caplog):
    put(backend, "key", Gone())
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    with caplog.at_level(logging.WARNING, logger="cascade.cache"):
        assert not has(backend, "key")
    assert caplog.text == ""
    monkeypatch.undo()
    assert not has(backend, "key")


def test_a_value_that_cannot_be_serialized_is_refused_once_for_each_task_and_not_kept(backend):
    policy = InputsCache()
    told = []
    for x in range(3):
        for function in (work, len):
            try:
                put(backend, policy.key(function, {"x": x}), threading.Lock())
            except UnserializableValueError as error:
                told.append(str(error))
    assert len(told) == 2
    assert f"{__name__}:work" in told[0]
    assert "lock" in told[0]
    assert not has(backend, policy.key(work, {"x": 1}))


def test_a_full_cache_lets_go_of_what_was_not_asked_for_the_longest(durable, clock):
    backend = StoreCacheBackend(durable, max_bytes=10_000, clock=clock)
    for name in "abcde":
        clock.advance(1)
        put(backend, name, b"x" * 1800)
    clock.advance(1)
    assert get(backend, "a")
    clock.advance(1)
    put(backend, "f", b"x" * 1800)
    assert [has(backend, name) for name in "abcdef"] == [True, False, True, True, True, True]


def test_a_bound_that_keeps_nothing_is_refused(durable):
    with pytest.raises(DeclarationError, match="at least 1"):
        StoreCacheBackend(durable, max_bytes=0)


def test_a_failing_store_is_an_error_for_the_engine_to_contain(durable, backend):
    class Failing:
        url = "sqlite:///gone"

        def cached(self, key, now):
            raise StoreError(self.url, "cannot read a cached value: the disk is gone")

        def close(self):
            pass

    failing = DurableStore(Failing(), durable.serializer)
    try:
        with pytest.raises(StoreError):
            get(StoreCacheBackend(failing), "key")
    finally:
        failing.close()


# Why


def test_what_was_never_computed(backend):
    told = asked(backend, InputsCache(), work, x=1)
    assert not told.hit
    assert str(told) == "miss: never computed"


def test_a_hit_tells_its_age_and_how_long_it_is_good(backend, clock):
    policy = InputsCache(ttl=3600)
    computed(backend, policy, work, x=1)
    clock.advance(180)
    told = asked(backend, policy, work, x=1)
    assert told.hit
    assert told.key == policy.key(work, {"x": 1})
    assert str(told) == "hit: computed 3 min ago, good for another 57 min"
    computed(backend, InputsCache(), work, x=2)
    clock.advance(3 * 86_400)
    assert str(asked(backend, InputsCache(), work, x=2)) == "hit: computed 3 days ago"


def test_what_has_expired(backend, clock):
    policy = InputsCache(ttl=60)
    computed(backend, policy, work, x=1)
    clock.advance(60 + 180)
    assert str(asked(backend, policy, work, x=1)) == "miss: expired 3 min ago"


def test_what_was_let_go(backend):
    policy = InputsCache()
    computed(backend, policy, work, x=1)
    asyncio.run(backend.discard(policy.key(work, {"x": 1})))
    assert "let go since" in str(asked(backend, policy, work, x=1))


def test_an_argument_that_differs_is_named_by_the_nearest_call(backend, clock):
    policy = InputsCache()
    for x in range(3):
        clock.advance(1)
        computed(backend, policy, work, x=x, y=1)
    assert asked(backend, policy, work, x=1, y=2).reasons == (
        "argument 'y' differs from the nearest call that is known",
    )
    assert asked(backend, policy, work, x=0).reasons == ("argument 'y' is gone",)
    assert asked(backend, policy, work, x=0, y=1, z=1).reasons == ("argument 'z' is new",)


def test_a_version_that_changed_is_told(backend):
    computed(backend, InputsCache(version=1), work, x=1)
    told = asked(backend, InputsCache(version=2), work, x=1)
    assert told.reasons == ("the version of the cache policy changed",)


SOURCE = """
    LIMIT = 1

    class Model:
        def predict(self):
            return 1

    def clean(x):
        return x

    def work(x, model=None):
        return clean(x) + LIMIT
"""


@pytest.fixture
def flow(tmp_path):
    """A module made anew from its source each time, as another process would have it."""
    made = []

    def make(source):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        (folder / "flow_asked.py").write_text(textwrap.dedent(source))
        sys.path.insert(0, os.fspath(folder))
        importlib.invalidate_caches()
        sys.modules.pop("flow_asked", None)
        made.append(sys.path[0])
        return importlib.import_module("flow_asked")

    yield make
    sys.modules.pop("flow_asked", None)
    for folder in made:
        sys.path.remove(folder)


@pytest.mark.parametrize(("old", "new", "reason"), [
    ("return x\n", "return -x\n", "function 'clean' in flow_asked changed"),
    ("LIMIT = 1", "LIMIT = 2", "constant 'LIMIT' in flow_asked changed"),
    ("return clean(x) + LIMIT", "return clean(x) - LIMIT", "the code of the task changed"),
    ("return 1", "return 2", "function 'Model.predict' in flow_asked changed"),
], ids=["helper", "constant", "task", "class of an argument"])  # fmt: skip
def test_what_was_edited_since_is_named(backend, flow, old, new, reason):  # S25
    policy = InputsCache()
    before = flow(SOURCE)
    computed(backend, policy, before.work, x=1, model=before.Model())
    assert asked(backend, policy, before.work, x=1, model=before.Model()).hit
    after = flow(SOURCE.replace(old, new))
    told = asked(backend, policy, after.work, x=1, model=after.Model())
    assert not told.hit
    assert told.reasons == (reason,)


def test_what_is_used_now_and_what_is_not_any_more_are_told(backend, flow):
    policy = InputsCache()
    computed(backend, policy, flow(SOURCE).work, x=1)
    told = asked(backend, policy, flow(SOURCE.replace("clean(x) + LIMIT", "clean(x) + len(str(Model))")).work, x=1)
    assert "constant 'LIMIT' in flow_asked is not used any more" in told.reasons
    assert "class 'Model' in flow_asked is used now" in told.reasons


def test_a_lambda_is_compared_with_what_it_was(backend):
    policy = InputsCache()
    computed(backend, policy, lambda x: x + 1, x=1)
    assert asked(backend, policy, lambda x: x + 2, x=1).reasons == ("the code of the task changed",)


def test_what_counts_by_its_type_alone_is_told(backend, flow):
    source = "import threading\nLOCK = threading.Lock()\ndef work(x):\n    with LOCK:\n        return x\n"
    told = asked(backend, InputsCache(), flow(source).work, x=1)
    assert len(told.loosely) == 1
    assert told.loosely[0].startswith("constant 'LOCK' in flow_asked: it counts by its type")


def test_other_backends_and_policies_tell_at_least_hit_or_miss(backend):
    memory = InMemoryCacheBackend()
    policy = InputsCache(memory)
    assert str(asked(backend, policy, work, x=1)) == "miss: it is not kept"
    computed(memory, policy, work, x=1)
    assert str(asked(backend, policy, work, x=1)) == "hit: it is kept"
    fake = FakeCachePolicy("chosen")
    assert not asked(backend, fake, work, x=1).hit
    put(backend, "chosen", 1)
    assert asked(backend, fake, work, x=1).hit


def test_a_damaged_note_explains_nothing_and_harms_nobody(durable, backend, clock):
    policy = InputsCache()
    computed(backend, policy, work, x=1)
    key = policy.key(work, {"x": 1})
    from cascade.adapters.cache.notes import slot_of_call, slot_of_task

    def damage():
        for place in (slot_of_call(key), slot_of_task(key)):
            durable.store.cache(place, b"damaged", 1.0, None, 1 << 30)

    asyncio.run(durable.writer(clock).call(damage))
    assert str(asked(backend, policy, work, x=1)) == "hit: it is kept"
    assert str(asked(backend, policy, work, x=2)) == "miss: never computed"
    computed(StoreCacheBackend(durable, clock=clock), policy, work, x=2)
    assert "computed" in str(asked(backend, policy, work, x=2))


def test_notes_go_on_where_another_process_left_them(durable, backend, clock):
    policy = InputsCache()
    for x in range(4):
        computed(backend, policy, work, x=x, y=x)
    computed(StoreCacheBackend(durable, clock=clock), policy, work, x=9, y=9)
    assert len(asked(backend, policy, work, x=1, y=9).reasons) == 1
    assert len(asked(backend, policy, work, x=9, y=3).reasons) == 1
