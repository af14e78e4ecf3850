"""The commands that tell runs what to do, and those that watch them: what they say, and how they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.runtime.durability.keys import ROOT_GRAPH
from cascade.spec.protocols import Store
from cascade.spec.records import Record, RunRow, RunStatus
from cascade.stores import open_store

pytestmark = pytest.mark.needs_extra("cli", "sqlite")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("CASCADE_STORE", str(tmp_path / "runs.db"))
    monkeypatch.setenv("COLUMNS", "200")
    store = open_store(tmp_path / "runs.db")
    yield store
    store.close()


def cascade(*arguments: str) -> tuple[int, str, str]:
    from typer.testing import CliRunner

    from cascade.tools.command.app import app

    result: Any = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def add(store: Store, run_id: str, status: RunStatus = "running", error: str | None = None) -> None:
    """A run, which nobody has any more unless its lease goes on."""
    row = RunRow(run_id, "running", 0, "elsewhere", "process 7 on moon", 4e9, 100.0, 100.0, "work", b"", None, None)
    assert store.claim(row, over=None) is not None
    failed = Record(
        b"s" * 16, b"1", "failed", 0, "[1]", "work", 2, 100.5, 101.0, "ValueError: \x1b[31m", None, None, None
    )
    done = failed._replace(node=b"2", kind="value", label="[2]", attempt=1, detail=None, preview="7", payload=b"7")
    store.write(run_id, 1, [failed, done], [], 4e9)
    if status != "running":
        store.finish(run_id, 1, status, error, 103.0)


def test_limits_are_set_listed_and_removed(store: Store) -> None:  # S24
    assert cascade("limits") == (0, f"no limits in {store.url}\n", "")
    assert cascade("limit", "task:a*", "--concurrency", "2", "--rate", "10/m", "--burst", "3", "--ttl", "30m") == (
        0,
        "concurrency 2 on task:a*\nrate 10/m burst 3 on task:a*\n",
        "",
    )
    assert cascade("pause", "tag:\x1b[31m")[:2] == (0, "pause on tag:\\x1b[31m\n")
    head, *lines = cascade("limits")[1].splitlines()
    assert head.split() == ["SCOPE", "LIMIT", "SINCE", "ENDS"]
    assert [line.split("  ")[0] for line in lines] == ["tag:\\x1b[31m", "task:a*", "task:a*"]
    assert "in 30m 0s" in lines[1] or "in 29m 59s" in lines[1]
    pause, concurrency, rate = json.loads(cascade("limits", "--json")[1])
    assert (pause["scope"], pause["type"], pause["until"]) == ("tag:\x1b[31m", "pause", None)
    assert (concurrency["limit"], concurrency["rate"], concurrency["burst"]) == (2, None, None)
    assert (rate["limit"], rate["rate"], rate["burst"]) == (None, pytest.approx(1 / 6), 3)
    assert cascade("limit", "task:a*", "--remove") == (0, "no limit on task:a* any more\n", "")
    assert cascade("unpause", "tag:\x1b[31m") == (0, "no pause on tag:\\x1b[31m any more\n", "")
    assert json.loads(cascade("limits", "--json")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pause", "tasks"], "error: a scope must be 'global', 'task:<glob>', 'run:<id>' or 'tag:<glob>', got 'tasks'"),
        (["pause", "global", "--ttl", "soon"], "error: --ttl: expected an age"),
        (["unpause", "global"], "error: there is no pause on global; there are pauses on task:a"),
        (["limit", "global"], "error: expected --concurrency N or --rate RATE, or both; or --remove"),
        (["limit", "global", "--rate", "fast"], "error: a rate must be"),
        (["limit", "global", "--concurrency", "1", "--burst", "2"], "error: --burst:"),
        (["limit", "global", "--remove", "--ttl", "1h"], "error: --remove:"),
        (["limit", "global", "--remove"], "error: there is no limit on global"),
        (["cancel", "c"], "error: there is no run 'c' in the store"),
        (["cancel", "good"], "error: run 'good' is not running: it has succeeded"),
        (["signal", "c", "name"], "error: there is no run 'c' in the store"),
        (["signal", "good", "name"], "error: run 'good' has succeeded"),
        (["watch", "c"], "error: there is no run 'c' in the store"),
    ],
)
def test_wrong_use_changes_nothing_and_ends_with_2(store: Store, arguments: list[str], told: str) -> None:
    add(store, "good", "succeeded")
    assert cascade("pause", "task:a")[0] == 0
    before = store.settings(0.0)
    status, output, errors = cascade(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith(told)
    assert store.settings(0.0) == before


def test_a_value_that_is_no_json_is_text(store: Store) -> None:
    add(store, "r")
    for value in ('{"n": 1}', "yes", "NaN", "[1"):
        assert cascade("signal", "r", "data", value)[0] == 0
    assert cascade("signal", "r", "data")[0] == 0
    assert [json.loads(sent.payload) for sent in store.signals("r")] == [{"n": 1}, "yes", "NaN", "[1", None]


@pytest.mark.parametrize(
    ("status", "error", "wanted", "told"),
    [
        ("succeeded", None, 0, "work: finished in 3.0s, 1 task, 1 failed, 1 retry\n"),
        (
            "failed",
            "ValueError: no",
            1,
            "work: failed after 3.0s, 1 of 2 tasks done, 1 failed, 1 retry: ValueError: no\n",
        ),
        (
            "cancelled",
            "RunCancelledError: wrong data",
            1,
            "work: cancelled after 3.0s, 1 of 2 tasks done, 1 failed, 1 retry: RunCancelledError: wrong data\n",
        ),
        (
            "cancelled",
            "CancelledError",
            130,
            "work: cancelled after 3.0s, 1 of 2 tasks done, 1 failed, 1 retry: CancelledError\n",
        ),
    ],
)
def test_watch_ends_with_the_run_and_as_it_did(
    store: Store, status: RunStatus, error: str | None, wanted: int, told: str
) -> None:
    add(store, "r", status, error)
    ended, output, errors = cascade("watch", "r")
    assert output == f"work[1] failed: ValueError: \\x1b[31m\n{told}"
    assert ended == wanted
    assert ("cascade resume r" in errors) == (status != "succeeded")


def test_watch_ends_with_the_slowest_calls_of_a_run_that_took_its_time(store: Store) -> None:  # S29
    row = RunRow("r", "running", 0, "elsewhere", "process 7 on moon", 4e9, 100.0, 100.0, "work", b"", None, None)
    assert store.claim(row, over=None) is not None
    inner = b"i" * 16
    call = Record(ROOT_GRAPH, b"", "value", 0, "", "work", 1, 100.0, 0.0, None, "1", b"1", None)
    calls = [
        call._replace(node=bytes([number]), label=f"work#{number}", ended=100.0 + seconds)
        for number, seconds in enumerate((1.0, 40.0, 2.5, 60.0))
    ]
    items = [
        calls[0]._replace(scope=inner, node=bytes(7) + bytes([number]), label=f"[{number}]", ended=100.0 + 10 * number)
        for number in range(6)
    ]
    mapped = calls[0]._replace(node=b"m", kind="mapped", label="pages#4", inner=inner, ended=195.0, payload=None)
    store.write("r", 1, [*calls, *items, mapped], [], 4e9)
    store.finish("r", 1, "succeeded", None, 200.0)
    assert cascade("watch", "r")[1].splitlines() == [
        "work: finished in 1m 40s, 10 tasks",
        "    work#3 took 1m 0s",
        "    pages#4[5] took 50.0s",
        "    work#1 took 40.0s",
    ]


def test_watch_tells_the_limits_that_hold_for_the_run_and_first_what_holds_back_all_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:  # S24 S29
    from cascade.tools.command import watch

    add(store, "r")
    for scope in ("task:work", "run:other", "run:r"):
        assert cascade("pause", scope)[0] == 0
    assert cascade("limit", "global", "--concurrency", "0")[0] == 0
    assert cascade("limit", "tag:a", "--rate", "5/s")[0] == 0
    # After one look the run ends.
    real, looked = watch.run_in, []

    def run_in(opened: Store, run_id: str) -> RunRow:
        if len(looked) == 2:
            opened.finish(run_id, 1, "succeeded", None, 103.0)
        looked.append(run_id)
        return real(opened, run_id)

    monkeypatch.setattr(watch, "run_in", run_in)
    output = cascade("watch", "r")[1]
    (line,) = [line for line in output.splitlines() if "nothing new starts" in line]
    _, *told = line.split("; ")
    assert sorted(told[:2]) == ["nothing new starts: concurrency 0 on global", "nothing new starts: pause on run:r"]
    assert sorted(told[2:]) == ["limit: pause on task:work", "limit: rate 5/s on tag:a"]


def test_watch_tells_of_a_run_whose_process_is_gone(store: Store) -> None:
    add(store, "r")
    store.write("r", 1, [], [], 1.0)
    status, output, errors = cascade("watch", "r")
    assert status == 130
    assert output.endswith("interrupted: its process is gone\n")
    assert errors == "go on with:  cascade resume r\n"


def test_top_shows_what_is_running_and_nothing_else(store: Store) -> None:
    assert cascade("top") == (0, f"nothing is running in {store.url}\n", "")
    add(store, "gone")
    store.write("gone", 1, [], [], 1.0)
    add(store, "over", "succeeded")
    add(store, "r")
    head, line = cascade("top")[1].splitlines()
    assert head.split()[:7] == ["RUN", "WORKFLOW", "TIME", "DONE", "ACTIVE", "RETRYING", "BLOCKED"]
    assert line.split()[0] == "r"
    assert "process 7 on moon" in line
    assert line.endswith("work: ValueError: \\x1b[31m")
    (told,) = json.loads(cascade("top", "--json")[1])
    assert (told["run_id"], told["status"], told["done"], told["failed"], told["retries"]) == ("r", "running", 1, 1, 1)
    assert told["tasks"] == [{"name": "work", "done": 1, "failed": 1, "skipped": 0}]
    assert (told["total"], told["active"]) == (None, 0)
