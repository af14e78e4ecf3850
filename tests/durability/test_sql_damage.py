"""A SQLite store that was cut, altered or killed holds a prefix of what was written, or says what is wrong (S27).

`CASCADE_BIT_FLIPS=10000` flips that many bits of the file, and as many of its log.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys

import pytest

from cascade.adapters.stores.sql import open_sql_store
from cascade.runtime import fault_points
from cascade.spec.exceptions import StoreError
from cascade.testing.contracts.store import record, row

pytestmark = pytest.mark.needs_extra("sqlite")

FLIPS = int(os.environ.get("CASCADE_BIT_FLIPS", "400"))
LARGE = bytes(range(256)) * 1200


def start(path, run_id="run"):
    store = open_sql_store(f"sqlite:///{path}")
    assert store.claim(row(run_id), over=None) is not None
    return store


def test_a_log_cut_anywhere_holds_whole_writes_up_to_some_point(tmp_path):
    path = tmp_path / "flows.db"
    store = start(path)
    states = [[]]
    for number in range(12):
        store.write("run", 1, [record(number), record(100, kind="continues", attempt=number + 1)], [], 100.0)
        states.append(store.records("run"))
    log = (tmp_path / "flows.db-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    boundaries = range(32, len(log) + 1, page + 24)
    assert len(boundaries) > 24
    found_states = []
    for number, boundary in enumerate(boundaries):
        for cut in (boundary, boundary + 500):
            copy = tmp_path / f"cut{number}" / str(cut) / "flows.db"
            copy.parent.mkdir(parents=True)
            shutil.copy(path, copy)
            (copy.parent / "flows.db-wal").write_bytes(log[:cut])
            cut_store = open_sql_store(f"sqlite:///{copy}")
            found = cut_store.find("run")
            records = cut_store.records("run")
            cut_store.close()
            assert records in states
            assert found is not None or not records
            found_states.append(states.index(records))
    assert found_states == sorted(found_states)
    assert found_states[-1] == 12
    store.close()


@pytest.mark.parametrize("log", [False, True])
def test_a_flipped_bit_never_gives_other_records(tmp_path, log):
    path = tmp_path / "flows.db"
    store = start(path)
    for number in range(0, 60, 5):
        store.write("run", 1, [record(number + offset) for offset in range(5)], [], 100.0)
    store.claim(row("other"), over=None)
    store.write("other", 1, [record(7)], [], 100.0)
    states = [[record(number) for number in range(end)] for end in range(0, 61, 5)]
    before = store.find("run")
    if log:
        shutil.copy(path, tmp_path / "copy.db")
        shutil.copy(tmp_path / "flows.db-wal", tmp_path / "copy.db-wal")
    store.close()
    if not log:
        shutil.copy(path, tmp_path / "copy.db")
    whole = (tmp_path / ("copy.db-wal" if log else "copy.db")).read_bytes()
    base = (tmp_path / "copy.db").read_bytes()
    chance = random.Random(7)
    noticed = 0
    for number in range(FLIPS):
        copy = tmp_path / f"flip{number}" / "flows.db"
        copy.parent.mkdir()
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        copy.write_bytes(base)
        copy.with_name("flows.db-wal" if log else "flows.db").write_bytes(damaged)
        flipped = None
        try:
            flipped = open_sql_store(f"sqlite:///{copy}")
            found = flipped.find("run")
            records = flipped.records("run")
            if found is None and not log:
                with pytest.raises(StoreError):
                    flipped.claim(row("run"), over=None)
                noticed += 1
            elif log:
                assert records in states
            else:
                assert records == states[-1]
                # How long the lease lasts is guarded by the epoch, and not by a checksum.
                assert found._replace(lease_until=0.0, updated=0.0) == before._replace(lease_until=0.0, updated=0.0)
        except StoreError:
            noticed += 1
        finally:
            if flipped is not None:
                flipped.close()
        shutil.rmtree(copy.parent)
    assert log or noticed > FLIPS // 20


POINTS = [
    "store.write.begin",
    "store.blob.written",
    "store.blob.renamed",
    "store.write.before-commit",
    "store.write.after-commit",
]

_DIE = """
import os, sys
from cascade.adapters.stores.sql import open_sql_store
from cascade.runtime import fault_points
from cascade.testing.contracts.store import record

def die(point):
    if point == sys.argv[2]:
        os._exit(9)

store = open_sql_store(sys.argv[1])
fault_points.on_reach = die
group = [record(number) for number in range(5, 10)]
store.write("run", 1, [*group, record(10)._replace(payload=bytes(range(256)) * 1200)], [], 100.0)
"""


@pytest.mark.parametrize("point", POINTS)
def test_a_write_that_was_killed_is_there_or_not(tmp_path, point):
    store = start(tmp_path / "flows.db")
    first = [record(number) for number in range(5)]
    store.write("run", 1, first, [], 100.0)
    ended = subprocess.run([sys.executable, "-c", _DIE, store.url, point], check=False)
    assert ended.returncode == 9
    group = [*(record(number) for number in range(5, 10)), record(10)._replace(payload=LARGE)]
    assert store.records("run") == (first + group if point == "store.write.after-commit" else first)
    store.claim(row("run", owner="second"), over=1)
    store.write("run", 2, group, [], 100.0)
    assert store.records("run") == first + group
    store.sweep(1e9)
    assert store.records("run") == first + group
    assert store.sweep(1e9) == 0
    assert len(files_of(tmp_path)) == 1
    store.close()


def files_of(folder):
    return [found for found in (folder / "flows.db.files").rglob("*") if found.is_file()]


def test_a_large_payload_whose_file_is_missing_or_altered_is_an_error_that_names_it(tmp_path):
    store = start(tmp_path / "flows.db")
    store.write("run", 1, [record(1)._replace(payload=LARGE)], [], 100.0)
    (file,) = files_of(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"\x00", b""):
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match=file.name):
            store.records("run")
    file.unlink()
    with pytest.raises(StoreError, match=file.name):
        store.records("run")
    # Written once more, it is whole again.
    store.write("run", 1, [record(2)._replace(payload=LARGE)], [], 100.0)
    assert [found.payload for found in store.records("run")] == [LARGE, LARGE]
    store.close()


def test_large_payloads_that_were_replaced_or_dropped_or_removed_leave_no_files(tmp_path):
    store = start(tmp_path / "flows.db")
    for turn in range(10):
        payload = LARGE + bytes([turn])
        inside = bytes(15) + bytes([turn + 1])
        at = record(1, kind="continues")._replace(payload=payload, turn=turn)
        within = record(2, scope=inside)._replace(payload=payload + b"x")
        store.write("run", 1, [at, within], [bytes(15) + bytes([turn])] if turn else [], 100.0)
        assert len(files_of(tmp_path)) == 2
    store.cache("key", payload, 1.0, None, 10**9)
    store.remove("run")
    assert len(files_of(tmp_path)) == 1
    assert store.cached("key", 2.0) == payload
    store.uncache("key")
    assert files_of(tmp_path) == []
    store.close()


@pytest.mark.parametrize("moment", ["store.blob.written", "store.blob.renamed"])
def test_a_sweep_between_a_file_and_its_row_does_no_harm(tmp_path, monkeypatch, moment):
    store = start(tmp_path / "flows.db")
    other = open_sql_store(store.url)
    moments = [moment]
    swept = []

    def sweep(point):
        if point in moments:
            moments.remove(point)
            swept.append(other.sweep(1e9))

    monkeypatch.setattr(fault_points, "on_reach", sweep)
    store.write("run", 1, [record(1)._replace(payload=LARGE)], [], 100.0)
    assert swept == [1]
    assert [found.payload for found in store.records("run")] == [LARGE]
    other.close()
    store.close()
