"""What every `Store` must do, as tests for whoever writes one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.spec.exceptions import RunOwnedError
from cascade.spec.records import ROOT, Record, RunRow
from cascade.testing.contracts.opened_stores import ODD_TEXTS, run_threads
from cascade.testing.contracts.store_limits import StoreLimitsContract
from cascade.testing.contracts.store_lines import StoreLinesContract

if TYPE_CHECKING:
    from cascade.spec.protocols import Store
    from cascade.spec.records import RecordKind

SCOPE = bytes(range(16))
OTHER_SCOPE = bytes(range(16, 32))

_texts = st.text(st.characters(), max_size=20) | st.sampled_from(ODD_TEXTS)
_numbers = st.integers(0, 2**40)
_moments = st.floats(0, 1e11)
_records = st.builds(
    Record,
    scope=st.just(ROOT) | st.binary(min_size=16, max_size=16),
    node=st.binary(max_size=16),
    kind=st.sampled_from(["value", "skipped", "failed", "continues", "mapped", "volatile"]),
    turn=_numbers,
    label=_texts,
    name=_texts,
    attempt=_numbers,
    began=_moments,
    ended=_moments,
    detail=st.none() | _texts,
    preview=st.none() | _texts,
    payload=st.none() | st.binary(max_size=50),
    inner=st.none() | st.binary(min_size=16, max_size=16),
)

_CLAIM = """
import sys
from importlib import import_module
from cascade.spec.records import RunRow

module, _, name = sys.argv[1].partition(":")
store = getattr(import_module(module), name)(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
row = RunRow("run", "running", 0, "host", sys.argv[3], 99.0, 1.0, 1.0, "t", b"", None, None)
claimed = store.claim(row, over=1)
print("lost" if claimed is None else f"{claimed.owner} {claimed.epoch}", flush=True)
store.close()
"""


class StoreContract(StoreLimitsContract, StoreLinesContract):
    """Tests of a store; inherit from it in a test module, as a class whose name begins with `Test`.

    Attributes:
        opener: what opens a store by its URL, as `package.module:function`.
        url: the URL of a store with nothing in it, for a fixture of the class to set before each test.
        largest: the size of the largest payload that is tried, in bytes.
    """

    largest: ClassVar[int] = 5_000_000

    def start(self, run_id: str = "run") -> Store:
        """A store with a run in its first epoch."""
        store = self.open()
        claimed = store.claim(row(run_id), over=None)
        assert claimed is not None
        assert claimed.epoch == 1
        return store

    # claim, find, runs

    def test_a_new_run_is_as_it_was_given_in_its_first_epoch(self) -> None:
        store = self.open()
        given_row = row("run")._replace(target="a, b", params=b"\x00\xff", program='{"file": "x.py"}')
        claimed = store.claim(given_row, over=None)
        assert claimed == given_row._replace(epoch=1)
        assert store.find("run") == claimed
        assert self.open().find("run") == claimed

    def test_a_run_that_exists_is_not_created_again(self) -> None:
        store = self.start()
        before = store.find("run")
        assert self.open().claim(row("run", owner="other")._replace(params=b"other"), over=None) is None
        assert store.find("run") == before

    def test_an_unknown_run_is_none_and_cannot_be_taken(self) -> None:
        store = self.open()
        assert store.find("absent") is None
        assert store.claim(row("absent"), over=1) is None
        assert store.find("absent") is None
        assert store.records("absent") == []

    def test_who_takes_a_run_is_its_owner_in_the_next_epoch_and_changes_nothing_else(self) -> None:
        store = self.start()
        before = store.find("run")
        assert before is not None
        taken = self.open().claim(
            row("run", owner="second")._replace(
                host="elsewhere", lease_until=500.0, created=7.0, target="x", params=b"x", program="x"
            ),
            over=1,
        )
        assert taken is not None
        assert taken == before._replace(
            epoch=2, host="elsewhere", owner="second", lease_until=500.0, updated=taken.updated
        )
        assert store.find("run") == taken

    def test_a_run_is_taken_only_from_the_owner_that_was_named(self) -> None:
        store = self.start()
        assert store.claim(row("run", owner="second"), over=2) is None
        assert store.claim(row("run", owner="second"), over=0) is None
        assert store.claim(row("run", owner="second"), over=1) is not None
        assert store.claim(row("run", owner="third"), over=1) is None
        found = store.find("run")
        assert found is not None
        assert (found.owner, found.epoch) == ("second", 2)

    @pytest.mark.parametrize(
        ("status", "then"), [("failed", "running"), ("cancelled", "running"), ("succeeded", "succeeded")]
    )
    def test_a_run_that_is_taken_up_runs_again_unless_it_has_succeeded(self, status: Any, then: str) -> None:
        store = self.start()
        store.finish("run", 1, status, None, 50.0)
        taken = store.claim(row("run"), over=1)
        assert taken is not None
        assert (taken.status, taken.epoch) == (then, 2)

    def test_runs_are_listed_the_newest_first(self) -> None:
        store = self.open()
        for run_id, created in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
            store.claim(row(run_id)._replace(created=created), over=None)
        assert [found.run_id for found in store.runs()] == ["c", "b", "a"]
        assert store.runs()[0] == store.find("c")

    def test_of_threads_that_race_for_a_run_one_has_it(self) -> None:
        self.start()
        stores = [self.open() for _ in range(6)]
        together = threading.Barrier(len(stores))
        won: list[RunRow] = []
        errors: list[BaseException] = []

        def race(own: int) -> None:
            try:
                together.wait(60)
                for epoch in range(1, 6):
                    taken = stores[own].claim(row("run", owner=f"thread {own}"), over=epoch)
                    if taken is not None:
                        won.append(taken)
                    together.wait(60)
            except BaseException as error:
                errors.append(error)
                together.abort()

        run_threads(race, len(stores))
        assert not errors
        assert [taken.epoch for taken in won] == [2, 3, 4, 5, 6]
        assert self.open().find("run") == won[-1]

    def test_of_threads_that_race_to_create_a_run_one_does(self) -> None:
        stores = [self.open() for _ in range(6)]
        together = threading.Barrier(len(stores))
        won: list[RunRow] = []
        errors: list[BaseException] = []

        def race(own: int) -> None:
            try:
                together.wait(60)
                created = stores[own].claim(row("run", owner=f"thread {own}"), over=None)
                if created is not None:
                    won.append(created)
            except BaseException as error:
                errors.append(error)

        run_threads(race, len(stores))
        assert not errors
        assert len(won) == 1
        assert stores[0].find("run") == won[0]

    def test_of_processes_that_race_for_a_run_one_has_it(self) -> None:
        store = self.start()
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", _CLAIM, self.opener, self.url, f"process-{own}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for own in range(3)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
        winners = [words for words in said if words != "lost"]
        found = store.find("run")
        assert found is not None
        assert winners == [f"{found.owner} 2"]
        assert found.epoch == 2

    # write, records

    def test_records_come_back_as_they_were_in_the_order_of_writing(self) -> None:
        store = self.start()
        first = [record(number) for number in range(5)]
        second = [record(number, scope=SCOPE, kind="skipped", detail="Pruned") for number in range(5)]
        store.write("run", 1, first, [], 100.0)
        store.write("run", 1, second, [], 100.0)
        assert store.records("run") == first + second
        assert self.open().records("run") == first + second

    def test_records_belong_to_their_run(self) -> None:
        store = self.start("run")
        store.claim(row("other"), over=None)
        store.write("run", 1, [record(1)], [], 100.0)
        store.write("other", 1, [record(2)], [], 100.0)
        store.write("run", 1, [record(3)], [], 100.0)
        assert store.records("run") == [record(1), record(3)]
        assert store.records("other") == [record(2)]

    def test_a_write_renews_the_lease_and_nothing_else(self) -> None:
        store = self.start()
        before = store.find("run")
        assert before is not None
        store.write("run", 1, [], [], 12345.5)
        found = store.find("run")
        assert found is not None
        assert found.lease_until == 12345.5
        assert found == before._replace(lease_until=12345.5, updated=found.updated)

    @pytest.mark.parametrize("kind", ["value", "skipped", "failed", "continues", "mapped", "volatile"])
    def test_a_record_takes_the_place_of_what_was_known(self, kind: RecordKind) -> None:
        store = self.start()
        store.write("run", 1, [record(1, kind=kind), record(2)], [], 100.0)
        store.write("run", 1, [record(3), record(1, kind="failed", attempt=2)], [], 100.0)
        store.write("run", 1, [record(1, kind="value", attempt=3)], [], 100.0)
        assert store.records("run") == [record(1, attempt=3), record(2), record(3)]
        fresh = self.open()
        fresh.claim(row("run", owner="second"), over=1)
        fresh.write("run", 2, [record(1, kind="value", attempt=4)], [], 100.0)
        assert fresh.records("run") == [record(1, attempt=4), record(2), record(3)]

    def test_the_last_record_for_a_place_in_one_write_counts(self) -> None:
        store = self.start()
        group = [record(1, attempt=1), record(2), record(1, kind="failed", attempt=2), record(1, attempt=3)]
        store.write("run", 1, group, [], 100.0)
        assert store.records("run") == [record(1, attempt=3), record(2)]

    def test_the_same_node_in_another_scope_is_another_place(self) -> None:
        store = self.start()
        group = [record(1, scope=ROOT), record(1, scope=SCOPE), record(1, scope=OTHER_SCOPE)]
        store.write("run", 1, group, [], 100.0)
        assert store.records("run") == group

    def test_dropped_scopes_are_gone_before_records_are_kept(self) -> None:
        store = self.start()
        store.write("run", 1, [record(1), record(2, scope=SCOPE), record(3, scope=OTHER_SCOPE)], [], 100.0)
        store.write("run", 1, [record(4, scope=SCOPE)], [SCOPE, bytes(16 * [9])], 100.0)
        assert store.records("run") == [record(1), record(3, scope=OTHER_SCOPE), record(4, scope=SCOPE)]
        store.write("run", 1, [record(4, scope=SCOPE, attempt=2)], [OTHER_SCOPE, ROOT], 100.0)
        assert store.records("run") == [record(4, scope=SCOPE, attempt=2)]

    def test_a_scope_of_an_earlier_owner_is_dropped(self) -> None:
        self.start().write("run", 1, [record(1, scope=SCOPE), record(2)], [], 100.0)
        later = self.open()
        later.claim(row("run", owner="second"), over=1)
        later.write("run", 2, [record(3)], [SCOPE], 100.0)
        assert later.records("run") == [record(2), record(3)]

    def test_a_loop_of_many_turns_leaves_its_last_turn(self) -> None:
        store = self.start()
        for turn in range(200):
            inside = turn.to_bytes(16, "big")
            before = [(turn - 1).to_bytes(16, "big")] if turn else []
            at = record(1, kind="continues")._replace(turn=turn, inner=inside)
            store.write("run", 1, [at, record(2, scope=inside)], before, 100.0)
        last = (199).to_bytes(16, "big")
        kept = [record(1, kind="continues")._replace(turn=199, inner=last), record(2, scope=last)]
        assert store.records("run") == kept

    def test_a_write_done_twice_is_done_once(self) -> None:
        store = self.start()
        store.write("run", 1, [record(1, scope=SCOPE)], [], 100.0)
        group = [record(2), record(3, scope=SCOPE), record(4, kind="failed")]
        for _ in range(2):
            store.write("run", 1, group, [SCOPE], 100.0)
        assert sorted(store.records("run")) == sorted(group)

    def test_who_has_lost_the_run_writes_nothing(self) -> None:
        store = self.start()
        store.write("run", 1, [record(1)], [], 100.0)
        self.open().claim(row("run", owner="second"), over=1)
        before = store.find("run")
        with pytest.raises(RunOwnedError) as caught:
            store.write("run", 1, [record(2)], [ROOT], 900.0)
        assert caught.value.run_id == "run"
        assert caught.value.owner == "second"
        assert store.records("run") == [record(1)]
        assert store.find("run") == before

    def test_who_has_not_the_epoch_yet_writes_nothing(self) -> None:
        store = self.start()
        with pytest.raises(RunOwnedError):
            store.write("run", 2, [record(1)], [], 100.0)
        with pytest.raises(RunOwnedError):
            store.write("absent", 1, [record(1)], [], 100.0)
        assert store.records("run") == []
        assert store.find("absent") is None

    def test_an_absent_payload_is_not_an_empty_one(self) -> None:
        store = self.start()
        group = [
            record(1)._replace(payload=None, detail=None, preview=None, inner=None),
            record(2)._replace(payload=b"", detail="", preview="", node=b""),
        ]
        store.write("run", 1, group, [], 100.0)
        assert store.records("run") == group

    def test_large_payloads_come_back_as_they_were(self) -> None:
        store = self.start()
        sizes = (256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, self.largest)
        group = [record(size)._replace(payload=(bytes(range(256)) * (size // 256 + 1))[:size]) for size in sizes]
        store.write("run", 1, group, [], 100.0)
        # The same content once more, and one that takes the place of another.
        store.write("run", 1, [group[3]._replace(node=b"same"), group[2]._replace(payload=b"small")], [], 100.0)
        expected = [group[0], group[1], group[2]._replace(payload=b"small"), group[3], group[3]._replace(node=b"same")]
        assert self.open().records("run") == expected
        store.write("run", 1, [], [ROOT], 100.0)
        assert store.records("run") == []

    def test_an_outline_has_all_but_the_payloads(self) -> None:
        store = self.start()
        assert store.outline("run") == store.outline("absent") == []
        group = [
            record(1)._replace(payload=bytes(300_000)),
            record(2, scope=SCOPE, kind="continues")._replace(inner=OTHER_SCOPE, detail="why", turn=2**40),
            record(3, kind="skipped", detail="Pruned")._replace(payload=None, preview=None),
            record(4)._replace(payload=b"", node=b"", label="\0\ud800"),
        ]
        store.write("run", 1, group, [], 100.0)
        store.write("run", 1, [record(1, kind="failed", attempt=2), record(5)], [SCOPE], 100.0)
        kept = store.records("run")
        assert store.outline("run") == [found._replace(payload=None) for found in kept]
        assert self.open().outline("run") == store.outline("run")

    def test_ten_thousand_records_come_back(self) -> None:
        store = self.start()
        group = [record(number) for number in range(10_000)]
        for start in range(0, len(group), 1000):
            store.write("run", 1, group[start : start + 1000], [], 100.0)
        assert store.records("run") == group

    def test_anything_comes_back_as_it_was(self) -> None:
        @given(group=st.lists(_records, max_size=8, unique_by=lambda found: (found.scope, found.node)), run_id=_texts)
        @settings(max_examples=25, deadline=None)
        def comes_back(group: list[Record], run_id: str) -> None:
            store = self.open()
            store.remove(run_id)
            wanted = row(run_id, owner=run_id)._replace(host=run_id, target=run_id, program=run_id)
            assert store.claim(wanted, over=None) == wanted._replace(epoch=1)
            store.write(run_id, 1, group, [], 100.0)
            assert store.records(run_id) == group
            store.close()

        comes_back()

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_odd_text_comes_back_as_it_was(self, text: str) -> None:
        store = self.start(text)
        odd = record(1, kind="failed")._replace(label=text, name=text, detail=text, preview=text)
        store.write(text, 1, [odd], [], 100.0)
        assert store.records(text) == [odd]
        store.send(text, text, text, 1.0)
        (signal,) = store.signals(text)
        assert signal[1:] == (text, text)
        store.finish(text, 1, "failed", text, 2.0)
        found = store.find(text)
        assert found is not None
        assert (found.run_id, found.error) == (text, text)
        store.cache(text, b"value", 1.0, None, 1000)
        assert store.cached(text, 2.0) == b"value"
        assert store.cached(text + "x", 2.0) is None
        assert store.remove(text)
        assert store.find(text) is None

    # finish, remove

    def test_a_run_that_has_ended_belongs_to_nobody(self) -> None:
        store = self.start()
        store.write("run", 1, [record(1)], [], 100.0)
        before = store.find("run")
        assert before is not None
        for _ in range(2):
            store.finish("run", 1, "failed", "ValueError: no", 77.5)
            found = store.find("run")
            assert found is not None
            assert found == before._replace(
                status="failed", error="ValueError: no", host="", owner=found.owner, lease_until=0.0, updated=77.5
            )
        assert store.records("run") == [record(1)]

    def test_who_has_lost_the_run_cannot_end_it(self) -> None:
        store = self.start()
        self.open().claim(row("run", owner="second"), over=1)
        before = store.find("run")
        with pytest.raises(RunOwnedError):
            store.finish("run", 1, "succeeded", None, 50.0)
        assert store.find("run") == before

    def test_a_removed_run_is_gone_with_all_that_belongs_to_it(self) -> None:
        store = self.start("run")
        store.claim(row("other"), over=None)
        for run_id in ("run", "other"):
            store.write(run_id, 1, [record(1), record(2)._replace(payload=bytes(300_000))], [], 100.0)
            store.send(run_id, "go", "1", 1.0)
        assert store.remove("run")
        assert not store.remove("run")
        assert store.find("run") is None
        assert store.records("run") == []
        assert store.signals("run") == []
        with pytest.raises(RunOwnedError):
            store.write("run", 1, [record(1)], [], 100.0)
        assert store.records("other") == [record(1), record(2)._replace(payload=bytes(300_000))]
        assert len(store.signals("other")) == 1
        again = store.claim(row("run"), over=None)
        assert again is not None
        assert again.epoch == 1
        assert store.records("run") == []

    def test_the_owner_of_a_run_that_was_removed_and_made_again_writes_nothing(self) -> None:
        store = self.start()
        store.write("run", 1, [record(1)], [], 100.0)
        other = self.open()
        other.remove("run")
        assert other.claim(row("run", owner="second"), over=None) is not None
        other.write("run", 1, [record(2)], [], 100.0)
        with contextlib.suppress(RunOwnedError):
            # A store may tell it from the epoch alone, which is the same.
            store.write("run", 1, [], [], 100.0)
        assert other.records("run") == [record(2)]

    # signals

    def test_signals_wait_for_their_run_in_the_order_of_sending(self) -> None:
        store = self.open()
        store.send("run", "go", '{"a": 1}', 1.0)
        store.send("other", "go", "0", 2.0)
        self.open().send("run", "stop", "2", 3.0)
        store.send("run", "go", '{"a": 1}', 1.0)
        found = store.signals("run")
        assert [(signal.name, signal.payload) for signal in found] == [
            ("go", '{"a": 1}'),
            ("stop", "2"),
            ("go", '{"a": 1}'),
        ]
        assert sorted({signal.number for signal in found}) == [signal.number for signal in found]
        store.claim(row("run"), over=None)
        assert store.signals("run") == found

    def test_a_signal_is_taken_together_with_the_record_of_who_took_it(self) -> None:
        store = self.start()
        store.send("run", "go", "1", 1.0)
        store.send("run", "go", "2", 2.0)
        first, second = store.signals("run")
        for _ in range(2):
            store.take_signal("run", 1, first.number, record(1))
        assert store.signals("run") == [second]
        assert store.records("run") == [record(1)]
        store.send("run", "go", "3", 3.0)
        store.take_signal("run", 1, first.number, record(1))
        assert [signal.payload for signal in store.signals("run")] == ["2", "3"]

    def test_who_has_lost_the_run_takes_no_signal(self) -> None:
        store = self.start()
        store.send("run", "go", "1", 1.0)
        (signal,) = store.signals("run")
        self.open().claim(row("run", owner="second"), over=1)
        with pytest.raises(RunOwnedError):
            store.take_signal("run", 1, signal.number, record(1))
        assert store.signals("run") == [signal]
        assert store.records("run") == []

    # the cache

    def test_a_cached_payload_is_there_until_it_expires(self) -> None:
        store = self.open()
        assert store.cached("absent", 1.0) is None
        store.cache("ever", b"", 1.0, None, 1000)
        store.cache("short", b"short", 1.0, 10.0, 1000)
        assert store.cached("short", 9.9) == b"short"
        assert store.cached("short", 10.1) is None
        assert self.open().cached("ever", 1e9) == b""

    def test_the_last_payload_under_a_key_counts(self) -> None:
        store = self.open()
        store.cache("key", b"first", 1.0, 10.0, 1000)
        for _ in range(2):
            store.cache("key", b"second", 2.0, None, 1000)
        assert store.cached("key", 99.0) == b"second"
        store.uncache("key")
        store.uncache("key")
        assert store.cached("key", 99.0) is None

    def test_beyond_a_size_the_least_recently_used_go(self) -> None:
        store = self.open()
        for moment, key in enumerate("abc"):
            store.cache(key, bytes(100), float(moment), None, 1000)
        assert store.cached("a", 10.0) is not None
        store.cache("d", bytes(100), 11.0, None, 350)
        assert [key for key in "abcd" if store.cached(key, 12.0) is not None] == ["a", "c", "d"]
        store.cache("d", bytes(120), 13.0, None, 350)
        assert [key for key in "abcd" if store.cached(key, 14.0) is not None] == ["a", "c", "d"]
        store.cache("e", bytes(350), 15.0, None, 350)
        assert [key for key in "abcde" if store.cached(key, 16.0) is not None] == ["e"]

    def test_a_payload_larger_than_all_that_may_be_kept_is_not_kept(self) -> None:
        store = self.open()
        store.cache("small", bytes(10), 1.0, None, 100)
        store.cache("large", bytes(50), 1.0, None, 100)
        store.cache("large", bytes(101), 2.0, None, 100)
        assert store.cached("large", 3.0) is None
        assert store.cached("small", 3.0) == bytes(10)

    def test_a_large_cached_payload_comes_back(self) -> None:
        store = self.open()
        payload = bytes(range(256)) * 4096
        store.cache("key", payload, 1.0, None, 10**9)
        assert self.open().cached("key", 2.0) == payload

    # sweep, close

    def test_a_sweep_removes_what_has_expired_and_nothing_else(self) -> None:
        store = self.start()
        group = [record(1), record(2, scope=SCOPE)._replace(payload=bytes(300_000))]
        store.write("run", 1, group, [], 100.0)
        store.send("unborn", "go", "1", 1.0)
        store.cache("ever", bytes(300_000), 1.0, None, 10**9)
        store.cache("short", bytes(300_001), 1.0, 10.0, 10**9)
        store.cache("long", b"long", 1.0, 100.0, 10**9)
        store.sweep(50.0)
        assert store.sweep(50.0) == 0
        assert store.cached("short", 9.0) is None
        assert store.cached("long", 60.0) == b"long"
        assert store.cached("ever", 60.0) == bytes(300_000)
        assert store.records("run") == group
        assert len(store.signals("unborn")) == 1

    def test_a_store_may_be_closed_twice(self) -> None:
        store = self.start()
        store.close()
        store.close()

    def test_the_url_is_told_without_a_password(self) -> None:
        store = self.open()
        assert store.url.partition(":")[0] == self.url.partition(":")[0]

    def test_one_store_serves_one_thread_after_another(self) -> None:
        store = self.start()
        errors: list[BaseException] = []

        def work(own: int) -> None:
            try:
                store.write("run", 1, [record(own)], [], 100.0)
            except BaseException as error:
                errors.append(error)

        for own in range(3):
            thread = threading.Thread(target=work, args=(own,))
            thread.start()
            thread.join()
        assert not errors
        assert store.records("run") == [record(own) for own in range(3)]


def row(run_id: str, *, owner: str = "first") -> RunRow:
    """A run to be claimed."""
    return RunRow(run_id, "running", 0, "host", owner, 100.0, 1.5, 1.5, "target", b"params", None, None)


def record(
    number: int, *, scope: bytes = ROOT, kind: RecordKind = "value", attempt: int = 1, detail: str | None = None
) -> Record:
    """A record of a node with a number."""
    node = number.to_bytes(16, "big")
    label, payload = f"task#{number}", b"payload %d" % number
    return Record(scope, node, kind, 0, label, "task", attempt, 1.25, 2.5, detail, str(number), payload, None)
