"""Limits and cancellations as they are kept in a store. (S20, S24)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.control.kept_cancels import SECONDS_KEPT, forget_cancel, keep_cancel, reason_to_cancel
from cascade.control.kept_limits import keep_limit, kept_limit, kept_limits, remove_limit
from cascade.spec.constraint import GlobalConstraint
from cascade.spec.exceptions import DeclarationError
from cascade.spec.protocols import Store
from cascade.stores import open_store

pytestmark = pytest.mark.needs_extra("sqlite")

ODD = "run:\x00\x1b[31m'; DROP TABLE runs; --\ud800"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "runs.db")
    yield store
    store.close()


@pytest.mark.parametrize(
    "constraint",
    [
        GlobalConstraint.pause(),
        GlobalConstraint.pause(ODD),
        GlobalConstraint.concurrency(3, "task:a*"),
        GlobalConstraint.rate_limit("10/m", 4, "tag:[ab]"),
    ],
)
def test_a_limit_comes_back_as_it_was(store: Store, constraint: GlobalConstraint) -> None:
    keep_limit(store, constraint, 100.0)
    ((kept, since, until),) = kept_limits(store, 100.0)
    assert (kept, since, until) == (constraint, 100.0, None)


def test_the_last_limit_for_a_scope_and_type_counts(store: Store) -> None:  # S24
    keep_limit(store, GlobalConstraint.concurrency(3, "task:a"), 100.0)
    keep_limit(store, GlobalConstraint.pause("task:a"), 100.0)
    keep_limit(store, GlobalConstraint.concurrency(1, "task:a", ttl=5.0), 101.0)
    assert [str(kept.constraint) for kept in kept_limits(store, 102.0)] == [
        "concurrency 1 on task:a",
        "pause on task:a",
    ]
    assert [kept.until for kept in kept_limits(store, 102.0)] == [106.0, None]


def test_a_limit_ends_when_its_time_is_over_or_it_is_removed(store: Store) -> None:  # S24
    keep_limit(store, GlobalConstraint.pause("task:a", ttl=5.0), 100.0)
    keep_limit(store, GlobalConstraint.pause("task:b"), 100.0)
    assert len(kept_limits(store, 104.9)) == 2
    assert [kept.constraint.scope for kept in kept_limits(store, 105.1)] == ["task:b"]
    assert remove_limit(store, "task:b", "pause")
    assert not remove_limit(store, "task:b", "pause")
    assert kept_limits(store, 105.1) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"scope": "global"}',
        '{"scope":"global","type":"other","limit":1,"rate":null,"burst":1,"since":0,"until":null}',
        '{"scope":"global","type":"concurrency","limit":"many","rate":null,"burst":1,"since":0,"until":null}',
        '{"scope":"global","type":"pause","limit":null,"rate":null,"burst":1,"since":"x","until":null}',
    ],
)  # fmt: skip
def test_what_is_no_limit_is_told_and_passed_over(store: Store, text: str) -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        kept_limit(text)
    store.put_setting("limit:pause:global", text, None)
    keep_limit(store, GlobalConstraint.pause("task:a"), 100.0)
    assert [kept.constraint.scope for kept in kept_limits(store, 105.1)] == ["task:a"]


def test_a_wish_to_cancel_waits_for_an_hour(store: Store) -> None:  # S20
    keep_cancel(store, ODD, "because \x00\ud800", 100.0)
    assert reason_to_cancel(store.settings(100.0), "other") is None
    assert reason_to_cancel(store.settings(99.0 + SECONDS_KEPT), ODD) == "because \x00\ud800"
    assert reason_to_cancel(store.settings(101.0 + SECONDS_KEPT), ODD) is None
    keep_cancel(store, ODD, "again", 100.0)
    forget_cancel(store, ODD)
    assert reason_to_cancel(store.settings(100.0), ODD) is None
