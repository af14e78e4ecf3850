"""S25 with a store: cached values are beside the runs, and editing a helper invalidates."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskSkipped
from cascade.spec.exceptions import VolatileValueWarning
from tests.acceptance.observed import Trace, promptly, run

pytestmark = pytest.mark.needs_extra("sqlite")

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls(tmp_path, monkeypatch) -> None:
    calls.clear()
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path / "settings"))


def helper(x: int) -> int:
    return x + 1


@cs.task(cache=cs.InputsCache())
def record(x: int) -> int:
    calls.append(x)
    return helper(x)


# S25
def test_with_a_store_values_are_kept_in_it(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'flows.db'}"
    trace = Trace()
    assert promptly(lambda: [run(record(1), store=url), run(record(1), store=url, bus=trace.bus)]) == [2, 2]
    assert calls == [1]
    assert [event.reason for event in trace.of(TaskSkipped)] == ["CacheHit"]
    # Another store, and the memory of the process, know nothing of it.
    assert run(record(1), store=tmp_path / "other.db") == 2
    assert calls == [1, 1]


# S25
def test_a_cache_that_is_given_comes_before_the_store(tmp_path) -> None:
    backend = cs.InMemoryCacheBackend()
    assert run(record(1), store=tmp_path / "flows.db", cache=backend) == 2
    assert len(backend) == 1
    assert run(record(1), store=tmp_path / "flows.db") == 2
    assert calls == [1, 1]


# S25, S17
def test_items_of_a_map_are_kept_each(tmp_path) -> None:
    store = tmp_path / "flows.db"
    assert run(record.map(x=range(20)), store=store) == list(range(1, 21))
    assert run(record.map(x=range(25)), store=store) == list(range(1, 26))
    assert sorted(calls) == list(range(25))


# S25
def test_a_value_that_cannot_be_kept_never_fails_the_task_and_is_told_once(tmp_path, caplog) -> None:
    made = cs.task(make_lock, cache=cs.InputsCache())
    with pytest.warns(VolatileValueWarning):
        assert run([made() for _ in range(3)], store=tmp_path / "flows.db")
    assert caplog.text.count("failed to keep the value of 'make_lock'") == 1


def make_lock() -> Any:
    import threading

    return threading.Lock()


FLOW = """
    import sys
    import cascade as cs

    LIMIT = 1

    def helper(x):
        # A comment.
        return x * LIMIT

    @cs.task(cache=cs.InputsCache())
    def work(x):
        print("working")
        return helper(x)

    print(cs.run(work(2), store="flows.db", log_level="CRITICAL"))
"""


# S25
def test_editing_a_helper_or_a_constant_between_processes_invalidates(tmp_path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def printed(source: str) -> list[str]:
        (tmp_path / "flow.py").write_text(textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, "flow.py"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.split()

    assert printed(FLOW) == ["working", "2"]
    assert printed(FLOW) == ["2"]
    assert printed(FLOW.replace("# A comment.", "# Another one.\n")) == ["2"]
    assert printed(FLOW.replace("x * LIMIT", "x + LIMIT")) == ["working", "3"]
    assert printed(FLOW.replace("LIMIT = 1", "LIMIT = 3")) == ["working", "6"]
    assert printed(FLOW) == ["2"]


# S25
def test_a_helper_that_is_bound_anew_invalidates_in_the_same_process(monkeypatch) -> None:
    cached = record.with_cache(cs.InputsCache(cs.InMemoryCacheBackend()))
    assert [run(cached(1)), run(cached(1))] == [2, 2]
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda x: x + 10)
    assert run(cached(1)) == 11
    monkeypatch.undo()
    assert run(cached(1)) == 2
    assert calls == [1, 1]
