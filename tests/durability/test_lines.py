"""What calls of a durable run log and print is kept with the run, and goes where it went before (S27, S29)."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.durability.kept_lines import MOST
from cascade.runtime.output import PRINTS
from cascade.spec.exceptions import StoreError
from cascade.spec.records import Line
from cascade.stores import open_store

pytestmark = pytest.mark.needs_extra("sqlite")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/flows.db"


def run(target: Any, url: Any, **options: Any) -> Any:
    return cs.run(target, run_id="run", store=url, **{"log_level": "CRITICAL", **options})


def kept(url: str, run_id: str = "run") -> list[Line]:
    store = open_store(url)
    try:
        return store.lines(run_id)
    finally:
        store.close()


def told(url: str) -> list[tuple[str, str, str, int, str]]:
    return [line[2:] for line in kept(url)]


def talk(x: int) -> int:
    print("out", x)
    print("err", x, file=sys.stderr)
    cs.log.debug("row %d", x)
    return x


async def talk_async(x: int) -> int:
    return talk(x)


@pytest.mark.needs_extra("postgresql", "redis")
def test_lines_are_kept_in_every_store_and_go_where_they_went(store_url: str, capsys: Any) -> None:
    run(cs.task(talk)(1), store_url)
    assert capsys.readouterr() == ("out 1\n", "err 1\n")
    assert told(store_url) == [
        ("stdout", "talk#0", "talk", 1, "out 1"),
        ("stderr", "talk#0", "talk", 1, "err 1"),
        ("DEBUG", "talk#0", "talk", 1, "row 1"),
    ]
    before = kept(store_url)
    assert run(cs.task(talk)(1), store_url) == 1
    assert kept(store_url) == before


@pytest.mark.parametrize("function", [talk, talk_async])
@pytest.mark.parametrize("executor", [None, "inline"])
@pytest.mark.parametrize("policy", ["none", "retry"])
def test_lines_tell_which_call_it_was(url: str, capsys: Any, function: Any, executor: Any, policy: str) -> None:
    task = cs.task(function) if executor is None else cs.task(function, executor=executor)
    mapped = task.map(x=[7, 8])
    run(mapped if policy == "none" else mapped.with_retry(max_attempts=2), url)
    name = function.__name__
    for own, x in enumerate((7, 8)):
        mine = [line for line in told(url) if line[1] == f"{name}#0[{own}]"]
        assert [line[4] for line in mine] == [f"out {x}", f"err {x}", f"row {x}"]
        assert {line[2:4] for line in mine} == {(name, 1)}


def test_lines_of_worker_processes_are_kept(url: str, capfd: Any) -> None:
    @cs.task(executor="process")
    def far(x: int) -> int:
        print("out", x)
        cs.log.info("row %d", x)
        print("err", x, file=sys.stderr)
        print("\ud800 half".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), end="")
        if cs.attempt() < 2:
            raise ConnectionError("no")
        return x

    # With processes of its own: those of other tests print to where these had them print. One at a time: nobody keeps
    # apart what several processes print to one file.
    calls = far.map(x=[1, 2]).with_retry(max_attempts=2).with_constraints(turn=1)
    assert run(calls, url, max_workers=2, system_resources={"turn": 1}) == [1, 2]
    for own, x in enumerate((1, 2)):
        for attempt in (1, 2):
            mine = [line for line in told(url) if line[1:4] == (f"far#0[{own}]", "far", attempt)]
            assert [(line[0], line[4]) for line in mine[:3]] == [
                ("stdout", f"out {x}"),
                ("INFO", f"row {x}"),
                ("stderr", f"err {x}"),
            ]
            assert mine[3][4].endswith(" half")
    captured = capfd.readouterr()
    assert captured.out.count("out 1\n") == 2
    assert captured.err.count("err 2\n") == 2


def test_attempts_are_counted_over_sessions(url: str, capsys: Any) -> None:
    @cs.task
    def flaky() -> None:
        print("trying")
        if cs.attempt() < 3:
            raise ConnectionError("no")

    for _ in range(2):
        with pytest.raises(ConnectionError):
            run(flaky(), url)
    run(flaky(), url)
    assert [line[3:] for line in told(url)] == [(1, "trying"), (2, "trying"), (3, "trying")]
    numbers = [line.number for line in kept(url)]
    assert numbers == sorted(set(numbers))


def test_lines_of_a_run_inside_a_call_belong_to_that(url: str, capsys: Any) -> None:  # S21
    @cs.task
    def outer(x: int) -> int:
        print("before")
        return int(cs.run(cs.task(talk)(x), log_level="CRITICAL"))

    run(outer(1), url)
    assert [(line[1], line[4]) for line in told(url)] == [
        ("outer#0", "before"),
        ("outer#0/talk#0", "out 1"),
        ("outer#0/talk#0", "err 1"),
        ("outer#0/talk#0", "row 1"),
    ]


def test_a_log_that_a_handler_prints_is_kept_once(url: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Here and not in a fixture: pytest gives a handler to each logger that does not propagate when a test begins.
    logger = logging.getLogger("cascade.task")
    monkeypatch.setattr(logger, "propagate", False)

    @cs.task
    def warn() -> None:
        cs.log.warning("careful")
        logging.getLogger("of.others").handlers[0].stream.write("theirs\n")  # type: ignore[attr-defined]

    others = logging.getLogger("of.others")
    others.addHandler(logging.StreamHandler())
    # Nobody shows it, so `logging` does, as without a store.
    run(warn(), url)
    assert capsys.readouterr().err == "careful\ntheirs\n"
    assert [(line[0], line[4]) for line in told(url)] == [("WARNING", "careful"), ("stderr", "theirs")]
    others.handlers.clear()


def test_the_run_still_shows_what_nobody_else_does(url: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("cascade.task"), "propagate", False)

    @cs.task
    def tell() -> None:
        cs.log.info("half\nand half")

    run(tell(), url, log_level="INFO")
    assert capsys.readouterr().err == "[cascade 0:00] INFO tell#0: half\n    and half\n"
    assert [line[4] for line in told(url)] == ["half\nand half"]


def test_lines_have_no_secrets(url: str, capsys: Any) -> None:
    secret = cs.Secret("correct-horse-1")

    @cs.task
    def leak() -> None:
        print("it is", secret.reveal())
        try:
            raise ValueError(secret.reveal())
        except ValueError:
            cs.log.exception("it is %s", secret.reveal())

    run(leak(), url)
    texts = [line.text for line in kept(url)]
    assert texts[0] == "it is ***"
    assert texts[1].startswith("it is ***\nTraceback")
    assert "horse" not in "".join(texts)


def test_odd_texts_are_kept(url: str, capsys: Any) -> None:
    @cs.task
    def say() -> None:
        print("\x1b[31mred\0")
        cs.log.info("%s", "\ud800 and \x1a0000")
        print("x" * 20_000)
        print("\n".join("abc"))
        print("half", end="")

    run(say(), url)
    texts = [line.text for line in kept(url)]
    assert texts[:2] == ["\x1b[31mred\0", "\ud800 and \x1a0000"]
    assert (len(texts[2]), texts[2][-4:]) == (10_000, "x...")
    assert texts[3:] == ["a", "b", "c", "half"]


def test_beginnings_of_lines_are_remembered_for_so_many_calls_and_no_more(url: str, capsys: Any) -> None:
    most = 0

    @cs.task
    def dot(x: int) -> None:
        nonlocal most
        print(x, end="")
        most = max(most, *(len(halves) for halves in PRINTS._runs.values()))

    run(dot.map(x=range(1_500)), url, max_workers=1)
    assert sorted(int(line.text) for line in kept(url)) == list(range(1_500))
    assert most == 1_000
    assert not PRINTS._runs


def test_the_last_lines_of_many_are_kept(url: str, capsys: Any) -> None:
    @cs.task
    def chatter() -> None:
        for number in range(MOST + 2_000):
            print(number)

    run(chatter(), url)
    lines = kept(url)
    assert len(lines) == MOST
    texts = [line.text for line in lines if line.source == "stdout"]
    assert texts == [str(number) for number in range(MOST + 2_000 - len(texts), MOST + 2_000)]


class WithoutLines:
    """A store that fails at lines alone."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def note_lines(self, *_: Any) -> None:
        raise StoreError("sqlite:///here", "cannot keep lines: the table is damaged")


def test_a_store_that_fails_at_lines_fails_no_run(url: str, capsys: Any, caplog: Any) -> None:
    assert run(cs.task(sum)(cs.task(talk).map(x=[1, 2, 3])), WithoutLines(url)) == 6
    assert [record.name for record in caplog.records if record.levelno == logging.ERROR] == ["cascade.store"]
    assert kept(url) == []


def test_streams_are_themselves_again_after_a_durable_run(url: str, capsys: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        run(cs.task(lambda: 1 / 0, name="fails")(), url)
    assert "write" not in vars(sys.stdout)
    assert "write" not in vars(sys.stderr)
    assert not PRINTS._runs
