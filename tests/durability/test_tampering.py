"""What was altered or swapped in a store is refused before it is loaded (S27)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import cascade as cs
from cascade.adapters.serializers import SignedSerializer
from cascade.adapters.stores.sql import sqlite
from cascade.runtime.durability.keys import PARAMS, RESULT, TARGET, run_key, signed_for
from cascade.spec.exceptions import CorruptedValueError, StoreError
from cascade.spec.protocols import Store
from cascade.spec.records import ROOT, Record
from cascade.stores import open_store

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql", "redis")


@dataclass
class Parcel:
    """Something that only a pickle can hold."""

    number: int


LOADED: list[str] = []


class Trap:
    """Does something when it is loaded."""

    def __reduce__(self) -> Any:
        return LOADED.append, ("the trap",)


class State:
    broken = True
    opened: ClassVar[list[int]] = []


@cs.task
def pack(number: int) -> Parcel:
    return Parcel(number)


@cs.task
def unpack(parcel: Parcel, other: Parcel) -> int:
    if State.broken:
        raise ConnectionError("not yet")
    State.opened.append(parcel.number)
    return parcel.number * 10 + other.number


@cs.task
def turn(number: int) -> Any:
    if number == 4 and State.broken:
        raise ConnectionError("not yet")
    return turn(number + 1) if number < 6 else number


def parcels() -> Any:
    return unpack(pack(1), pack(2))


@pytest.fixture(autouse=True)
def _at_first_all_is_broken() -> None:
    State.broken = True
    State.opened.clear()
    LOADED.clear()


def begin(target: Any, url: str, run_id: str = "run", **params: Any) -> None:
    """A run that fails before its end."""
    with pytest.raises(ConnectionError):
        cs.run(target, params, run_id=run_id, store=url, log_level="CRITICAL")


def resume(target: Any, url: str, run_id: str = "run") -> Any:
    State.broken = False
    return cs.run(target, run_id=run_id, store=url, log_level="CRITICAL")


def alter(url: str, change: Callable[[Store, list[Record]], list[Record]], run_id: str = "run") -> None:
    """Put other records into a store, as somebody can who may write there and knows how rows look."""
    store = open_store(url)
    row = store.find(run_id)
    assert row is not None
    store.write(run_id, row.epoch, change(store, store.records(run_id)), [], 0.0)
    store.close()


def values(records: list[Record]) -> list[Record]:
    return [record for record in records if record.kind == "value"]


def assert_refused(target: Any, url: str) -> None:
    with pytest.raises(CorruptedValueError):
        resume(target, url)
    assert LOADED == []
    assert State.opened == []


def test_a_pickle_of_somebody_else_is_never_loaded(store_url: str) -> None:
    begin(parcels(), store_url)
    context = signed_for(run_key("run"), *values(records_of(store_url))[0][:2], 0)
    bait = SignedSerializer(b"x" * 32).dumps(Trap(), context=context)

    genuine = values(records_of(store_url))[0].payload
    assert genuine is not None
    for payload in (bait, pickle.dumps(Trap(), 5), genuine[:-20] + bait[-20:], genuine[:2] + bait[2:], b"", b"\0"):
        alter(store_url, lambda _, records, payload=payload: [values(records)[0]._replace(payload=payload)])
        assert_refused(parcels(), store_url)


def records_of(url: str, run_id: str = "run") -> list[Record]:
    store = open_store(url)
    try:
        return store.records(run_id)
    finally:
        store.close()


def test_values_swapped_between_nodes_are_refused(store_url: str) -> None:
    begin(parcels(), store_url)

    def swap(_: Store, records: list[Record]) -> list[Record]:
        first, second = values(records)
        return [first._replace(payload=second.payload), second._replace(payload=first.payload)]

    alter(store_url, swap)
    assert_refused(parcels(), store_url)


def test_a_value_of_another_run_is_refused(store_url: str) -> None:
    begin(parcels(), store_url)
    begin(parcels(), store_url, "other")

    def swap(store: Store, records: list[Record]) -> list[Record]:
        others = {(record.scope, record.node): record for record in store.records("other")}
        return [record._replace(payload=others[record[:2]].payload) for record in values(records)]

    alter(store_url, swap)
    assert_refused(parcels(), store_url)


def test_a_turn_of_a_loop_that_is_over_is_refused(store_url: str) -> None:
    older: list[Record] = []
    begin(turn(0), store_url)
    (at_four,) = [record for record in records_of(store_url) if record.kind == "continues"]
    # Another loop that is two turns behind has left a record for the same place.
    begin(turn(2), store_url, "other")
    older += [record for record in records_of(store_url, "other") if record.kind == "continues"]
    assert (at_four.scope, at_four.node, at_four.turn) == (ROOT, TARGET, 4)
    for changed in (at_four._replace(turn=3), at_four._replace(turn=5), at_four._replace(payload=older[0].payload)):
        alter(store_url, lambda _, __, changed=changed: [changed])
        with pytest.raises(CorruptedValueError):
            resume(turn(0), store_url)
    alter(store_url, lambda _, __: [at_four])
    assert resume(turn(0), store_url) == 6


def test_a_value_that_goes_on_is_not_taken_for_one_that_has_ended(store_url: str) -> None:
    begin(turn(0), store_url)
    (at_four,) = [record for record in records_of(store_url) if record.kind == "continues"]
    payload = at_four.payload
    alter(store_url, lambda _, __: [at_four._replace(node=RESULT, kind="value", turn=0, payload=payload)])
    store = open_store(store_url)
    row = store.find("run")
    assert row is not None
    store.finish("run", row.epoch, "succeeded", None, 1.0)
    store.close()
    with pytest.raises(CorruptedValueError):
        resume(turn(0), store_url)


def test_each_flipped_bit_of_a_value_is_noticed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/flows.db"
    begin(parcels(), url)
    payload = values(records_of(url))[0].payload
    assert payload is not None
    for position in range(0, len(payload), max(1, len(payload) // 15)):
        altered = bytearray(payload)
        altered[position] ^= 1 << position % 8
        alter(url, lambda _, records, altered=altered: [values(records)[0]._replace(payload=bytes(altered))])
        assert_refused(parcels(), url)


def test_altered_parameters_are_refused(store_url: str) -> None:
    target = cs.task(divmod)(cs.Param("number", type=int), unpack(pack(1), pack(2)))
    begin(target, store_url, number=7)
    context = signed_for(run_key("run"), ROOT, PARAMS, 0)
    store = open_store(store_url)
    row = store.find("run")
    assert row is not None
    assert store.remove("run")
    bait = SignedSerializer(b"x" * 32).dumps({"number": Trap()}, context=context)
    store.claim(row._replace(params=bait), over=None)
    store.finish("run", 1, "failed", None, 1.0)
    store.close()
    assert_refused(target, store_url)


def test_the_value_of_a_finished_run_is_refused_when_it_was_altered(store_url: str) -> None:
    State.broken = False
    assert cs.run(parcels(), run_id="run", store=store_url, log_level="CRITICAL") == 12
    State.opened.clear()

    def change(_: Store, records: list[Record]) -> list[Record]:
        (result,) = [record for record in records if record.node == RESULT]
        return [result._replace(payload=values(records)[0].payload)]

    alter(store_url, change)
    assert_refused(parcels(), store_url)


def test_a_row_that_was_changed_by_hand_is_refused_by_the_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/flows.db"
    begin(parcels(), url)
    connection = sqlite.newest_driver().connect(tmp_path / "flows.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    changed = 0
    for table in tables:
        columns = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
        for column in columns:
            found = connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (b"forged", b"never"))
            assert found.rowcount == 0
            if "payload" in column:
                found = connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} IS NOT NULL", (b"x" * 80,))
                changed += found.rowcount
    connection.commit()
    connection.close()
    assert changed
    with pytest.raises((StoreError, CorruptedValueError)):
        resume(parcels(), url)
    assert State.opened == []


@pytest.mark.parametrize("spoiled", ["value", "continues"])
def test_what_was_refused_stays_and_is_used_when_it_is_put_right(spoiled: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/flows.db"
    target = parcels() if spoiled == "value" else turn(0)
    begin(target, url)
    (genuine, *_) = [record for record in records_of(url) if record.kind == spoiled]
    alter(url, lambda _, __: [genuine._replace(payload=b"spoiled")])
    assert_refused(target, url)
    State.broken = True
    (kept,) = [record for record in records_of(url) if record[:2] == genuine[:2]]
    assert kept == genuine._replace(payload=b"spoiled")
    alter(url, lambda _, __: [genuine])
    assert resume(target, url) in (12, 6)
