"""Texts that mean something to databases and terminals mean nothing here: they come back as they were (S27)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

import cascade as cs
from cascade.stores import open_store

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql", "redis")

ODD = {
    "SQL": "'; DROP TABLE runs; --\"%s ? :x $1 \\' {}",
    "terminal": "\x1b[31mred\x1b]0;title\x07\x9b2J\r\n\t\x7f",
    "NUL": "a\0b\0",
    "lone surrogates": "\ud800 and \udfff\udc80",
    "directions": "\u202egnp.exe\u2066\u200b\ufeff\u2028",
    "path": "../../etc/passwd/\\con:*",
    "long": "\u00e9" * 3_000 + "\U0001f9f5" * 500,
    "glob": "run:* [a-z]?{hash}tag",
    "escapes": "\\x00 \\u0000 %00 &#0; \\ud800",
}


def text(name: str) -> str:
    return ODD[name]


class State:
    broken = True
    calls: ClassVar[list[str]] = []


@cs.task
def echo(said: str) -> str:
    State.calls.append(said)
    return said


@cs.task
def join(said: str, given: Any, signalled: str) -> list[Any]:
    if State.broken:
        raise ConnectionError(said)
    return [said, given, signalled]


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_come_back_as_they_were(name: str, store_url: str) -> None:
    odd = ODD[name]
    State.broken = True
    State.calls.clear()
    run_id, other = f"run {odd}", f"run {odd} "
    store = open_store(store_url)
    for sent in (run_id, other):
        store.send(sent, odd, f'"{sent == run_id}"', 1.0)
    store.close()

    def target() -> Any:
        param = cs.Param(odd, type=str)
        said = echo.with_retry(max_attempts=1)(odd).named(odd)
        return join(said, param, cs.wait_for_signal(odd, str)).named(f"joined {odd}")

    def run(**options: Any) -> Any:
        return cs.run(target(), options or None, run_id=run_id, store=store_url, log_level="CRITICAL")

    with pytest.raises(ConnectionError):
        run(**{odd: odd})
    store = open_store(store_url)
    row = store.find(run_id)
    assert row is not None
    assert (row.run_id, row.status, row.target) == (run_id, "failed", f"joined {odd}")
    assert store.find(other) is None
    records = {record.name: record for record in store.records(run_id)}
    assert records[odd].kind == "value"
    assert records[f"joined {odd}"].detail is not None
    assert [found.run_id for found in store.runs()] == [run_id]
    assert [signal.name for signal in store.signals(other)] == [odd]
    store.close()

    with pytest.raises(cs.ResumeError):
        run(**{odd: odd + "!"})
    State.broken = False
    assert run() == [odd, odd, "True"]
    assert run(**{odd: odd}) == [odd, odd, "True"]
    assert State.calls == [odd]
    store = open_store(store_url)
    assert store.remove(run_id)
    assert not store.remove(run_id)
    store.close()


@pytest.mark.parametrize("name", ODD)
def test_previews_are_bounded_and_can_be_printed_anywhere(name: str, tmp_path: Path) -> None:
    State.calls.clear()
    store_url = f"sqlite:///{tmp_path}/flows.db"
    assert cs.run(echo(ODD[name]), run_id="run", store=store_url, log_level="CRITICAL") == ODD[name]
    store = open_store(store_url)
    for record in store.records("run"):
        assert record.preview is not None
        assert record.preview.isprintable()
        assert len(record.preview) <= 300
        record.preview.encode()
    store.close()
