"""What every `Store` must do with settings and with limits that are shared, as tests for whoever writes one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from cascade.testing.contracts.opened_stores import ODD_TEXTS, OpenedStores, run_threads

if TYPE_CHECKING:
    from cascade.spec.protocols import Store

LATER = 1000.0

_TRIES = 20_000
"""More than anybody needs who waits for slots that were not lost."""

# What a process says is in the order in which it happened: it says + when it has slots, and - before it gives them.
_TAKE_AND_GIVE = """
import os
import sys
from importlib import import_module

module, _, name = sys.argv[1].partition(":")
store = getattr(import_module(module), name)(sys.argv[2])
for turn in range(int(sys.argv[4])):
    count = 1 + turn % 2
    if not any(store.take_slots("scope", sys.argv[3], count, 3, 1.0, 1000.0) for _ in range(int(sys.argv[5]))):
        sys.exit("slots were lost")
    os.write(1, b"+%d\\n" % count)
    os.write(1, b"-%d\\n" % count)
    store.give_slots("scope", sys.argv[3], count)
store.close()
"""

_TAKE_AND_HANG = """
import sys
from importlib import import_module

module, _, name = sys.argv[1].partition(":")
store = getattr(import_module(module), name)(sys.argv[2])
print(store.take_slots("scope", "killed", 2, 3, 1.0, 10.0), flush=True)
sys.stdin.readline()
"""


class StoreLimitsContract(OpenedStores):
    """Tests of what a store keeps for limits: a part of `StoreContract`."""

    # settings

    def test_a_setting_is_there_until_it_expires_or_is_removed(self) -> None:
        store = self.open()
        assert store.settings(1.0) == {}
        store.put_setting("ever", "a text", None)
        store.put_setting("short", "another", 10.0)
        assert self.open().settings(9.9) == {"ever": "a text", "short": "another"}
        assert store.settings(10.1) == {"ever": "a text"}
        assert store.remove_setting("ever")
        assert not store.remove_setting("ever")
        assert self.open().settings(1.0) == {"short": "another"}

    def test_the_last_text_under_a_key_counts(self) -> None:
        store = self.open()
        store.put_setting("key", "first", 10.0)
        for _ in range(2):
            self.open().put_setting("key", "second", None)
        assert store.settings(LATER) == {"key": "second"}
        store.put_setting("key", "third", 5.0)
        assert store.settings(LATER) == {}

    def test_settings_of_any_text_come_back_as_they_were(self) -> None:
        store = self.open()
        wanted = {text: text for text in ODD_TEXTS}
        for text in ODD_TEXTS:
            store.put_setting(text, text, None)
        assert self.open().settings(1.0) == wanted
        for text in ODD_TEXTS:
            assert store.remove_setting(text)
        assert store.settings(1.0) == {}

    def test_of_threads_that_put_one_setting_one_is_the_last(self) -> None:
        stores = [self.open() for _ in range(4)]
        errors: list[BaseException] = []

        def put(own: int) -> None:
            try:
                for turn in range(10):
                    stores[own].put_setting("key", f"{own} {turn}", None)
            except BaseException as error:
                errors.append(error)

        run_threads(put, len(stores))
        assert not errors
        assert stores[0].settings(1.0)["key"] in {f"{own} 9" for own in range(4)}

    # slots

    def test_slots_are_taken_up_to_the_limit_all_or_none(self) -> None:
        first, second = self.open(), self.open()
        assert first.take_slots("scope", "first", 3, 5, 1.0, LATER)
        assert not second.take_slots("scope", "second", 3, 5, 1.0, LATER)
        assert second.take_slots("scope", "second", 2, 5, 1.0, LATER)
        assert not first.take_slots("scope", "first", 1, 5, 1.0, LATER)
        assert first.take_slots("other", "first", 5, 5, 1.0, LATER)
        assert not first.take_slots("larger than the limit", "first", 6, 5, 1.0, LATER)

    def test_what_a_holder_has_already_counts(self) -> None:
        store = self.open()
        for _ in range(3):
            assert store.take_slots("scope", "first", 1, 3, 1.0, LATER)
        assert not store.take_slots("scope", "first", 1, 3, 1.0, LATER)
        assert store.take_slots("scope", "first", 1, 4, 1.0, LATER)
        assert not store.take_slots("scope", "second", 1, 2, 1.0, LATER)

    def test_slots_that_were_given_back_are_free(self) -> None:
        store = self.open()
        store.take_slots("scope", "first", 3, 5, 1.0, LATER)
        store.take_slots("scope", "second", 2, 5, 1.0, LATER)
        store.take_slots("other", "first", 5, 5, 1.0, LATER)
        store.give_slots("scope", "first", 1)
        assert free_slots(self.open(), "scope", 5) == 1
        store.give_slots("scope", "first", 99)
        store.give_slots("scope", "first", 1)
        store.give_slots("scope", "unknown", 1)
        store.give_slots("unknown", "first", 1)
        assert free_slots(store, "scope", 5) == 3
        assert free_slots(store, "other", 5) == 0

    def test_slots_whose_time_is_over_are_free(self) -> None:
        store = self.open()
        assert store.take_slots("scope", "first", 3, 3, 1.0, 10.0)
        assert not store.take_slots("scope", "second", 1, 3, 9.9, 20.0)
        assert store.take_slots("scope", "second", 2, 3, 10.1, 20.0)
        assert not store.take_slots("scope", "first", 2, 3, 10.2, 20.0)
        assert store.take_slots("scope", "first", 1, 3, 10.2, 20.0)

    def test_who_takes_more_keeps_all_that_it_has_of_this_limit_as_long(self) -> None:
        store = self.open()
        store.take_slots("scope", "first", 1, 3, 1.0, 10.0)
        store.take_slots("other", "first", 1, 3, 1.0, 10.0)
        store.take_slots("scope", "first", 1, 3, 5.0, 20.0)
        assert not store.take_slots("scope", "second", 2, 3, 15.0, 30.0)
        assert store.take_slots("other", "second", 3, 3, 15.0, 30.0)

    def test_a_holder_renews_all_that_it_has_and_nothing_else(self) -> None:
        store = self.open()
        for scope in ("scope", "other"):
            store.take_slots(scope, "first", 2, 3, 1.0, 10.0)
            store.take_slots(scope, "second", 1, 3, 1.0, 10.0)
        for _ in range(2):
            self.open().renew_slots("first", 20.0)
        store.renew_slots("unknown", 20.0)
        for scope in ("scope", "other"):
            assert free_slots(store, scope, 3, now=15.0) == 1
            assert free_slots(store, scope, 3, now=20.1) == 3

    def test_slots_that_another_has_taken_do_not_come_back_when_they_are_renewed_late(self) -> None:
        store = self.open()
        store.take_slots("scope", "first", 3, 3, 1.0, 10.0)
        assert store.take_slots("scope", "second", 1, 3, 11.0, 50.0)
        store.renew_slots("first", 50.0)
        assert free_slots(store, "scope", 3, now=12.0) == 2
        store.give_slots("scope", "first", 3)
        assert free_slots(store, "scope", 3, now=12.0) == 2

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_scopes_and_holders_may_be_any_text(self, text: str) -> None:
        store = self.open()
        assert store.take_slots(text, text, 2, 3, 1.0, 10.0)
        assert store.take_slots(text, text + "x", 1, 3, 1.0, 10.0)
        assert store.take_slots(text + "x", text, 3, 3, 1.0, 10.0)
        store.renew_slots(text, 20.0)
        assert not store.take_slots(text, "other", 2, 3, 15.0, 30.0)
        assert store.take_slots(text, "other", 1, 3, 15.0, 30.0)
        store.give_slots(text, text, 2)
        assert store.take_slots(text, "other", 2, 3, 15.0, 30.0)
        assert store.take_token(text, 1.0, 1.0, 1.0) == 0
        assert store.take_token(text, 1.0, 1.0, 1.0) == 1.0
        assert store.take_token(text + "x", 1.0, 1.0, 1.0) == 0

    @pytest.mark.parametrize("holders", ["one", "several"])
    def test_threads_never_have_more_slots_than_there_are_and_lose_none(self, holders: str) -> None:
        stores = [self.open() for _ in range(5)]
        together = threading.Barrier(len(stores))
        lock = threading.Lock()
        errors: list[BaseException] = []
        held, most = 0, 0

        def work(own: int) -> None:
            nonlocal held, most
            holder = "all" if holders == "one" else f"thread {own}"
            try:
                together.wait(60)
                for turn in range(8):
                    count = 1 + (own + turn) % 3
                    assert any(stores[own].take_slots("scope", holder, count, 4, 1.0, LATER) for _ in range(_TRIES))
                    with lock:
                        held += count
                        most = max(most, held)
                    with lock:
                        held -= count
                    stores[own].give_slots("scope", holder, count)
            except BaseException as error:
                errors.append(error)

        run_threads(work, len(stores))
        assert not errors
        assert most <= 4
        assert free_slots(stores[0], "scope", 4) == 4

    def test_processes_never_have_more_slots_than_there_are_and_lose_none(self) -> None:
        said, say = os.pipe()
        arguments = [sys.executable, "-c", _TAKE_AND_GIVE, self.opener, self.url]
        takers = [subprocess.Popen([*arguments, f"process {own}", "20", str(_TRIES)], stdout=say) for own in range(3)]
        os.close(say)
        with open(said) as lines:
            changes = [int(line) for line in lines]
        assert [taker.wait(60) for taker in takers] == [0, 0, 0]
        assert len(changes) == 2 * 3 * 20
        assert max(sum(changes[:end]) for end in range(len(changes))) <= 3
        assert free_slots(self.open(), "scope", 3) == 3

    def test_the_slots_of_a_process_that_was_killed_are_free_when_their_time_is_over(self) -> None:
        killed = subprocess.Popen(
            [sys.executable, "-c", _TAKE_AND_HANG, self.opener, self.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert killed.stdout is not None
        assert killed.stdout.readline() == "True\n"
        killed.kill()
        killed.communicate()
        store = self.open()
        assert free_slots(store, "scope", 3, now=9.9) == 1
        assert free_slots(store, "scope", 3, now=10.1) == 3

    # tokens

    def test_a_bucket_begins_full_and_fills_by_its_rate(self) -> None:
        store = self.open()
        assert [store.take_token("scope", 0.5, 2.0, 100.0) for _ in range(3)] == [0, 0, 2.0]
        assert store.take_token("scope", 0.5, 2.0, 101.0) == 1.0
        assert self.open().take_token("scope", 0.5, 2.0, 102.0) == 0
        assert store.take_token("other", 0.5, 2.0, 102.0) == 0
        # However long nobody came, it holds no more than it holds.
        assert [store.take_token("scope", 0.5, 2.0, 900.0) for _ in range(3)] == [0, 0, 2.0]

    def test_tokens_come_as_a_model_says(self) -> None:
        store = self.open()
        number = iter(range(10**6))

        # Numbers that binary fractions hold exactly, so that the model need not allow for any rounding.
        @given(
            rate=st.sampled_from([0.125, 0.5, 1.0, 4.0, 64.0]),
            burst=st.integers(1, 5),
            pauses=st.lists(st.integers(0, 64).map(lambda eighths: eighths / 8), max_size=25),
        )
        @trying(max_examples=25, deadline=None)
        def comes(rate: float, burst: int, pauses: list[float]) -> None:
            scope = f"scope {next(number)}"
            now, interval = 1000.0, Fraction(1) / Fraction(rate)
            full = Fraction(now)
            for pause in [0.0, *pauses]:
                now += pause
                due = full - (burst - 1) * interval
                wait = store.take_token(scope, rate, float(burst), now)
                if due <= now:
                    assert wait == 0
                    full = max(full, Fraction(now)) + interval
                else:
                    assert wait == float(due - Fraction(now))

        comes()

    def test_who_waits_as_told_has_its_token_and_the_rate_is_kept(self) -> None:
        store = self.open()
        began = now = 1.7e9 + 0.3
        for taken in range(100):
            refused = 0
            while wait := store.take_token("scope", 3.0, 2.0, now):
                assert wait <= 0.34
                now += wait
                refused += 1
            assert refused <= 2
            assert now - began == pytest.approx(max(0, taken - 1) / 3.0, abs=1e-3)

    def test_a_refusal_costs_no_token(self) -> None:
        store = self.open()
        assert store.take_token("scope", 1.0, 1.0, 100.0) == 0
        for eighth in range(1, 8):
            assert store.take_token("scope", 1.0, 1.0, 100.0 + eighth / 8) == 1.0 - eighth / 8
        assert store.take_token("scope", 1.0, 1.0, 101.0) == 0

    def test_tokens_that_are_left_stay_when_the_rate_changes(self) -> None:
        store = self.open()
        assert store.take_token("scope", 1.0, 5.0, 100.0) == 0
        assert [store.take_token("scope", 2.0, 2.0, 100.0) for _ in range(3)] == [0, 0, 0.5]
        assert store.take_token("scope", 2.0, 50.0, 100.5) == 0
        assert store.take_token("scope", 2.0, 50.0, 100.5) == 0.5

    def test_clocks_that_differ_a_little_give_no_more_than_the_rate(self) -> None:
        stores = [self.open(), self.open()]
        taken = 0
        for eighth in range(160):
            for store, behind in zip(stores, (0.0, 0.75), strict=True):
                taken += store.take_token("scope", 2.0, 3.0, 1000.0 + eighth / 8 - behind) == 0
        assert taken == 3 + int(2.0 * 159 / 8)

    def test_a_clock_that_was_set_back_gives_no_token_too_many_and_stops_none(self) -> None:
        store = self.open()
        assert store.take_token("scope", 1.0, 3.0, 100_000.0) == 0
        assert [store.take_token("scope", 1.0, 3.0, 5000.0) for _ in range(3)] == [0, 0, 1.0]
        assert store.take_token("scope", 1.0, 3.0, 1000.0) == 1.0
        assert store.take_token("scope", 1.0, 3.0, 1000.5) == 0.5
        assert store.take_token("scope", 1.0, 3.0, 1001.0) == 0
        assert store.take_token("scope", 1.0, 3.0, 1001.0) == 1.0

    def test_threads_that_race_take_each_slot_and_each_token_once(self) -> None:
        stores = [self.open() for _ in range(4)]
        together = threading.Barrier(len(stores))
        errors: list[BaseException] = []
        slots: list[str] = []
        tokens: list[str] = []

        def work(own: int) -> None:
            try:
                for turn in range(10):
                    scope = f"scope {turn}"
                    together.wait(60)
                    if stores[own].take_slots(scope, f"thread {own}", 1, 2, 1.0, LATER):
                        slots.append(scope)
                    together.wait(60)
                    if stores[own].take_token(scope, 1.0, 2.0, 100.0) == 0:
                        tokens.append(scope)
            except BaseException as error:
                errors.append(error)
                together.abort()

        run_threads(work, len(stores))
        assert not errors
        for turn in range(10):
            assert slots.count(f"scope {turn}") == 2
            assert tokens.count(f"scope {turn}") == 2

    # sweep

    def test_a_sweep_changes_nothing_about_limits_but_forgets_what_is_over(self) -> None:
        store = self.open()
        store.put_setting("ever", "1", None)
        store.put_setting("short", "2", 10.0)
        store.take_slots("scope", "short", 1, 3, 1.0, 10.0)
        store.take_slots("scope", "long", 1, 3, 1.0, 100.0)
        assert store.take_token("full", 1.0, 2.0, 1.0) == 0
        assert store.take_token("scope", 0.015625, 2.0, 1.0) == 0
        assert store.sweep(50.0) == 3
        assert store.sweep(50.0) == 0
        assert store.settings(1.0) == {"ever": "1"}
        assert free_slots(store, "scope", 3, now=1.0) == 2
        assert [store.take_token("scope", 0.015625, 2.0, 1.0) for _ in range(2)] == [0, 64.0]


def free_slots(store: Store, scope: str, limit: int, *, now: float = 1.0) -> int:
    """How many slots of a limit somebody could take; those are free again at once."""
    free = 0
    while store.take_slots(scope, "probe", 1, limit, now, LATER):
        free += 1
    store.give_slots(scope, "probe", free)
    return free
