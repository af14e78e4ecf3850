"""What calls log and print, and where it goes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import cascade as cs
from cascade.adapters.telemetry import JsonLines
from cascade.adapters.telemetry.sentences import sentence
from cascade.runtime import events
from cascade.runtime.events import TaskLogged, TaskOutput
from cascade.runtime.output import PRINTS

LOG_LINES = Path(__file__).parents[3] / "docs" / "reference" / "log-lines.md"


class Collecting(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def handler():
    """A handler of the program's own, for all that is logged."""
    logger = logging.getLogger("cascade.task")
    found = Collecting()
    logger.addHandler(found)
    logger.setLevel("INFO")
    yield found
    logger.removeHandler(found)
    logger.setLevel("NOTSET")


@pytest.fixture
def unhandled():
    """As in a program that has not set up `logging`: pytest has."""
    logger = logging.getLogger("cascade.task")
    logger.propagate = False
    yield
    logger.propagate = True


def collected(*kinds):
    bus = cs.MessageBus()
    told = []
    for kind in kinds:
        bus.subscribe(kind, told.append)
    return bus, told


@cs.task
def on_thread(x: int) -> int:
    cs.log.info("row %d", x, extra={"table": "t"})
    return x


@cs.task(executor="process")
def in_process(x: int) -> int:
    try:
        raise ValueError("no row")
    except ValueError:
        cs.log.exception("row %d", x)
    return x


@cs.task
async def on_loop(x: int) -> int:
    await asyncio.sleep(0)
    cs.log.info("row %d", x)
    return x


@pytest.mark.parametrize("kind", [on_thread, in_process, on_loop])
def test_records_tell_which_call_logs(handler, kind):
    bus, told = collected(TaskLogged)
    cs.run(kind.map(x=[7]).with_retry(max_attempts=2), bus=bus, run_id="r")
    (record,) = handler.records
    assert (record.run_id, record.task_id, record.task_name, record.attempt) == (
        "r",
        f"{kind.name}#0[0]",
        kind.name,
        1,
    )
    assert record.name == "cascade.task"
    assert record.getMessage() == "row 7"
    assert record.filename == "test_task_log.py"
    assert record.funcName == kind.name
    (event,) = told
    assert (event.task_id, event.attempt, event.is_handled) == (record.task_id, 1, True)
    assert event.text.startswith("row 7")
    assert ("ValueError: no row" in event.text) is (kind is in_process)
    assert (getattr(record, "table", "") == "t") is (kind is on_thread)


def test_the_attempt_is_told():
    bus, told = collected(TaskLogged)

    @cs.task
    def flaky():
        cs.log.info("trying")
        if cs.attempt() < 3:
            raise ConnectionError("no")

    cs.run(flaky().with_retry(max_attempts=3), bus=bus, log_level="CRITICAL")
    assert [event.attempt for event in told] == [1, 2, 3]


def test_outside_a_task_it_is_a_plain_logger(handler):
    cs.log.warning("here", stacklevel=1)
    (record,) = handler.records
    assert (record.run_id, record.task_id, record.attempt) == ("", "", 0)
    assert record.funcName == "test_outside_a_task_it_is_a_plain_logger"
    cs.log.debug("not enabled")
    assert len(handler.records) == 1


def test_without_handlers_the_run_shows_it(capsys, unhandled):  # S29
    @cs.task
    def talk():
        cs.log.debug("too little")
        cs.log.info("half\nand half \x1b[31m")

    cs.run(talk())
    assert capsys.readouterr().err == "[cascade 0:00] INFO talk#0: half\n    and half \\x1b[31m\n"
    cs.run(talk(), log_level="WARNING")
    assert capsys.readouterr().err == ""


def test_with_handlers_it_is_not_shown_twice(capsys, handler):  # S29
    cs.run(on_thread(1))
    assert capsys.readouterr().err == ""
    assert len(handler.records) == 1


def test_warnings_that_nobody_shows_are_shown_by_logging(monkeypatch):
    # Here and not in a fixture: pytest gives a handler to each logger that does not propagate when a test begins.
    monkeypatch.setattr(logging.getLogger("cascade.task"), "propagate", False)
    monkeypatch.setattr(logging, "lastResort", last := Collecting())
    cs.log.warning("outside")
    cs.log.info("less")
    assert [record.getMessage() for record in last.records] == ["outside"]


def test_a_log_has_no_secrets(handler):
    secret = cs.Secret("correct-horse-1")

    @cs.task
    def leak():
        try:
            raise ValueError(secret.reveal())
        except ValueError:
            cs.log.exception("it is %s", secret.reveal(), stack_info=True)

    bus, told = collected(TaskLogged)
    cs.run(leak(), bus=bus)
    text = logging.Formatter().format(handler.records[0]) + repr(told)
    assert "horse" not in text
    assert "it is ***" in text
    assert "ValueError: ***" in text


def test_a_handler_that_logs_does_not_hear_itself(handler):
    bus, told = collected()

    def answer(event):
        told.append(event)
        cs.log.warning("heard %s", event.text)
        print("printed")

    bus.subscribe(TaskLogged, answer)
    bus.subscribe(TaskOutput, answer)
    cs.run(on_thread(1), bus=bus)
    assert [event.text for event in told] == ["row 1"]


# Prints.


def test_prints_are_told_line_by_line_and_go_where_they_went(capsys):  # S28
    @cs.task
    def talk(x):
        print("a", x)
        print("b", x, file=sys.stderr)
        print("half", x, end="")

    bus, told = collected(TaskOutput)
    cs.run(talk.map(x=[1, 2]), bus=bus, max_workers=1)
    captured = capsys.readouterr()
    assert captured.out == "a 1\nhalf 1a 2\nhalf 2"
    assert captured.err == "b 1\nb 2\n"
    assert [(event.task_id, event.channel, event.text) for event in told] == [
        ("talk#0[0]", "stdout", "a 1"),
        ("talk#0[0]", "stderr", "b 1"),
        ("talk#0[1]", "stdout", "a 2"),
        ("talk#0[1]", "stderr", "b 2"),
        ("talk#0[0]", "stdout", "half 1"),
        ("talk#0[1]", "stdout", "half 2"),
    ]


def test_prints_of_worker_processes_are_told_to_who_listens(capfd):  # S28
    @cs.task(executor="process")
    def far(x):
        class Printing:
            def __del__(self):
                print("collected")

        for number in range(200):
            print(f"{x}:{number}")
            cycle = Printing()
            cycle.itself = cycle
        return x

    bus, told = collected(TaskOutput)
    # Processes of its own: others have the streams of earlier tests.
    cs.run(far.map(x=[1, 2]), bus=bus, max_workers=2)
    for x in (1, 2):
        lines = [line for event in told if event.task_id == f"far#0[{x - 1}]" for line in event.text.split("\n")]
        assert [line for line in lines if line != "collected"] == [f"{x}:{number}" for number in range(200)]
    assert capfd.readouterr().out.count("1:") == 200
    cs.run(far(3), max_workers=1)
    assert capfd.readouterr().out.count("3:") == 200


def test_a_process_that_is_terminated_while_it_prints_still_cleans_up(capfd, tmp_path):  # S20
    left = tmp_path / "left"

    @cs.task(executor="process")
    def chatter():
        try:
            while True:
                print("again")
        finally:
            print("cleaning")
            print("up")
            left.touch()

    bus, told = collected(TaskOutput)

    async def main():
        async with cs.create_engine(bus=bus, grace=0.1) as engine:
            with pytest.raises(cs.TaskTimeoutError):
                await engine.run(chatter().with_timeout(0.5))

    asyncio.run(main())
    assert left.exists()
    # It may be terminated between a text and the end of its line.
    lines = {line.removesuffix("cleaning") for event in told for line in event.text.split("\n")}
    assert lines <= {"again", "up", ""}
    assert len(told) > 100


def test_a_line_too_long_to_wait_for_its_end_is_told_before(capsys):
    @cs.task
    def talk():
        print("x" * 10_001)
        print("y" * 10_001, end="")
        print("z")
        print()
        print("w" * 10_001, end="")

    bus, told = collected(TaskOutput)
    cs.run(talk(), bus=bus)
    long = [f"{letter * 9_997}..." for letter in "xyw"]
    assert [event.text for event in told] == [long[0], long[1], "z", "", long[2]]


def test_prints_of_many_threads_keep_their_calls(capsys):
    barrier = threading.Barrier(4)

    @cs.task
    def talk(x):
        barrier.wait(30)
        for number in range(200):
            print(f"{x}:{number}")

    bus, told = collected(TaskOutput)
    cs.run(talk.map(x=range(4)), bus=bus)
    for x in range(4):
        lines = [line for event in told if event.task_id == f"talk#0[{x}]" for line in event.text.split("\n")]
        assert lines == [f"{x}:{number}" for number in range(200)]
    assert capsys.readouterr().out.count("\n") == 800


def test_streams_are_themselves_again_and_untouched_where_nobody_listens(capsys):
    def is_wrapped():
        return "write" in vars(sys.stdout) or "write" in vars(sys.stderr)

    seen = []
    look = cs.task(lambda: seen.append(is_wrapped()), name="look")
    cs.run(look())
    bus, _ = collected(TaskOutput)
    cs.run(look(), bus=bus)
    assert seen == [False, True]
    assert not is_wrapped()
    assert not PRINTS._runs


def test_who_wraps_a_stream_stays_whoever_else_comes_and_goes(capsys):
    said = []
    before = sys.stdout.write

    def passing(text):
        said.append(text)
        return before(text)

    bus, told = collected(TaskOutput)
    sys.stdout.write = passing
    try:
        cs.run(cs.task(print, name="talk")("a"), bus=bus)
        print("b")
    finally:
        del sys.stdout.write
    assert "".join(said) == "a\nb\n"
    assert [event.text for event in told] == ["a"]


def test_what_logging_prints_of_a_log_is_not_told_twice(capsys):
    logger = logging.getLogger("cascade.task")
    logger.addHandler(shown := logging.StreamHandler(sys.stderr))
    bus, told = collected(TaskLogged, TaskOutput)
    try:
        cs.run(cs.task(lambda: cs.log.warning("once"), name="talk")(), bus=bus)
    finally:
        logger.removeHandler(shown)
    assert capsys.readouterr().err == "once\n"
    assert [(type(event), event.text) for event in told] == [(TaskLogged, "once")]


# The schema of log lines.


def schema():
    (block,) = re.findall(r"```json\n(.*?)```", LOG_LINES.read_text(), re.DOTALL)
    return json.loads(block)


def validator():
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


def test_every_line_of_a_run_is_as_documented(monkeypatch):  # S29
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)

    @cs.resource
    def db():
        yield object()

    @cs.task
    def talk(x=cs.inject(db)):
        cs.log.critical("odd")
        print("out")
        return float("nan")

    @cs.task
    def flaky():
        if cs.attempt() == 1:
            raise ConnectionError("é")

    async def main():
        async with cs.create_engine(system_resources={"gpu": 1}) as engine:
            lines = JsonLines(stream, "DEBUG")
            lines.attach(engine.bus)
            never = talk().named("never").run_if(cs.Param("never", default=False))
            target = [
                cs.sequence([never]),
                talk(),
                flaky().with_retry(max_attempts=2),
                on_thread.map(x=[1, 2]).with_constraints(gpu=1),
                cs.task(lambda: on_thread(1), name="grows")(),
            ]
            await engine.run(target, {"never": "no"})
            with pytest.raises(ZeroDivisionError):
                await engine.run(cs.task(lambda: 1 / 0, name="fails")())

    asyncio.run(main())
    check = validator()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in lines:
        check.validate(line)
    assert {"RunStarted", "TaskLogged", "TaskOutput", "TaskSkipped", "TaskRetrying", "ResourceAcquired"} <= {
        line["event"] for line in lines
    }


def test_every_event_is_in_the_schema_with_all_its_fields():
    check = validator()
    stream = io.StringIO()
    lines = JsonLines(stream, "DEBUG")
    some = {"str": "x", "float": 1.5, "int": 2, "bool": True, "tuple[str, ...]": ("x",), "Mapping[str, Any]": {"a": 1}}
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    for kind in kinds:
        if kind in (events.Event, events.TaskEvent):
            continue
        values = {
            each.name: {"status": "Failed", "channel": "stdout", "level": "INFO"}.get(
                each.name, some.get(str(each.type).removesuffix(" | None"))
            )
            for each in fields(kind)
        }
        event = kind(**values)
        lines.take(event)
        assert sentence(event).isprintable()
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(written) == len(kinds) - 2
    for line in written:
        check.validate(line)
        for name in [name for name in line if name not in ("event", "level", "run_id", "timestamp")]:
            with pytest.raises(Exception, match=r"not valid|Unevaluated"):
                check.validate({key: value for key, value in line.items() if key != name})
