"""What a person sees of a run, on a real pseudo-terminal.

The programs wait for a line on stdin, which they get when the screen shows what the test waits for.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.needs_extra("terminal")

PREAMBLE = """
import fcntl, logging, sys, termios, threading
import cascade as cs

# So that Ctrl-C reaches it, and so that it is what the terminal listens to.
fcntl.ioctl(2, termios.TIOCSCTTY, 0)

def wait():
    sys.stdin.readline()

held = cs.task(lambda: wait(), name="held")
"""
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
DEADLINE = 60.0


class ScreenModel:
    """As much of a terminal as is used here; anything else that is asked of it is an error."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.row = 0
        self.column = 0
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        place = 0
        while place < len(text):
            character = text[place]
            if character == "\x1b":
                found = SEQUENCE.match(text, place)
                if found is None:
                    assert len(text) - place < 12, text[place : place + 20]
                    self._rest = text[place:]
                    return
                self._obey(found[1], found[2])
                place = found.end()
                continue
            place += 1
            if character == "\n":
                self.row += 1
                self.column = 0
                if self.row == len(self.lines):
                    self.lines.append("")
            elif character == "\r":
                self.column = 0
            else:
                assert character.isprintable(), repr(character)
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1
                assert self.column < self.columns or not line.startswith(tuple("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")), (
                    "a line of the view broke"
                )

    def _obey(self, given: str, command: str) -> None:
        if command == "m":
            return
        if command == "A":
            self.row = max(0, self.row - int(given or 1))
            return
        assert (given, command) == ("", "J"), f"unexpected {given}{command}"
        self.lines[self.row] = self.lines[self.row][: self.column]
        del self.lines[self.row + 1 :]

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


class Program:
    """A program on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, columns: int) -> None:
        self.process = process
        self.master = master
        self.screen = ScreenModel(columns)
        self.raw = ""
        self._bytes = b""
        self._deadline = time.monotonic() + DEADLINE

    def read(self) -> bool:
        left = self._deadline - time.monotonic()
        readable, _, _ = select.select([self.master], [], [], max(0.0, left))
        assert readable, f"the program goes on; the screen shows\n{self.screen.text}"
        assert left > 0.0, f"the program goes on; the screen shows\n{self.screen.text}"
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        if not data:
            return False
        self._bytes += data
        try:
            text = self._bytes.decode()
        except UnicodeDecodeError:
            return True
        self._bytes = b""
        self.raw += text
        self.screen.feed(text.replace("\r\n", "\n"))
        return True

    def until(self, *wanted: str) -> str:
        """Read until the screen shows all of this."""
        while not all(text in self.screen.text for text in wanted):
            assert self.read(), f"the program ended before {wanted}; the screen shows\n{self.screen.text}"
        return self.screen.text

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Let it come to its end; what the screen shows then."""
        while self.read():
            pass
        self.process.wait(DEADLINE)
        return self.screen.text


@contextmanager
def on_terminal(source, *, columns=100, rows=30, stdout_to=None, arguments=(), environment=None):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(source), *arguments],
        stdin=subprocess.PIPE,
        stdout=slave if stdout_to is None else stdout_to,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONUNBUFFERED": "", **(environment or {})},
        start_new_session=True,
    )
    try:
        os.set_inheritable(slave, False)
        state = termios.tcgetattr(slave)
        os.close(slave)
        program = Program(process, master, columns)
        yield program
        assert state == before
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        if process.stdout is not None:
            process.stdout.close()
        os.close(master)


def test_a_view_shows_what_goes_on_and_is_gone_at_the_end():  # S29
    source = """
    cs.run([held(), *[cs.task(lambda: 1, name="quick")() for _ in range(3)]])
    """
    with on_terminal(source) as program:
        shown = program.until("3/4 tasks")
        assert re.search(r"held .* 0/1  1 active", shown)
        assert re.search(r"quick .* 3/3", shown)
        program.go()
        final = program.end()
    lines = final.strip().split("\n")
    assert len(lines) == 1
    assert re.fullmatch(r"\[cascade 0:\d\d\] held, quick: finished in [\d.]+m?s, 4 tasks", lines[0])
    assert program.process.returncode == 0


def test_what_tasks_print_stands_above_the_view_in_one_piece():  # S29
    source = """
    logging.basicConfig(level="INFO")
    @cs.task
    def talk():
        wait()
        for i in range(300):
            print("out", i)
            print("err", i, file=sys.stderr)
        logging.info("logged")
        print("half ", end="", flush=True)
        print("of it")
        wait()
    cs.run(talk())
    """
    with on_terminal(source) as program:
        program.until("0/1 tasks")
        program.go()
        shown = program.until("half of it\n", "0/1 tasks")
        assert shown.index("half of it") < shown.index("0/1 tasks")
        program.go()
        final = program.end()
    printed = final.split("\n")[:-2]
    expected = [line for i in range(300) for line in (f"out {i}", f"err {i}")]
    assert printed == [*expected, "INFO:root:logged", "half of it"]


def test_what_worker_processes_print_stands_above_the_view_in_one_piece():  # S29
    source = """
    @cs.task(executor="process")
    def talk(number):
        for part in range(40):
            print(f"part {part} of {number}", flush=True)
        return number

    @cs.task
    def hold(before):
        wait()
        return before

    first = hold(None)
    cs.run(hold(talk.map(number=cs.task(lambda _: range(3))(first))))
    """
    with on_terminal(source) as program:
        program.until("1 active")
        program.go()
        program.until("part 39 of 0\n", "part 39 of 1\n", "part 39 of 2\n", "1 active")
        program.go()
        final = program.end()
    lines = final.split("\n")[:-2]
    for number in range(3):
        assert [line for line in lines if line.endswith(f" of {number}")] == [
            f"part {part} of {number}" for part in range(40)
        ]
    assert len(lines) == 120


def test_what_is_piped_elsewhere_is_not_touched():  # S29
    source = """
    @cs.task
    def talk():
        wait()
        for i in range(100):
            print("line", i)
    cs.run(talk())
    """
    with on_terminal(source, stdout_to=subprocess.PIPE) as program:
        program.until("0/1 tasks")
        program.go()
        final = program.end()
        assert program.process.stdout is not None
        assert program.process.stdout.read().decode() == "".join(f"line {i}\n" for i in range(100))
    assert "talk: finished" in final
    assert "line" not in final


def test_streams_are_given_back_as_they_were():  # S29
    source = """
    before = vars(sys.stdout).copy(), vars(sys.stderr).copy(), sys.stdout
    cs.run(held())
    assert (vars(sys.stdout), vars(sys.stderr), sys.stdout) == before
    assert [t.name for t in threading.enumerate() if "watch" in t.name] == []
    print("all well")
    """
    with on_terminal(source) as program:
        program.until("0/1 tasks")
        program.go()
        assert program.end().endswith("all well\n")


def test_control_c_leaves_a_clean_terminal():  # S20 S29
    source = """
    import asyncio
    @cs.task
    async def forever():
        await asyncio.Event().wait()
    try:
        cs.run(forever())
    except KeyboardInterrupt:
        print("stopped")
    """
    with on_terminal(source) as program:
        program.until("0/1 tasks")
        os.write(program.master, b"\x03")
        final = program.end()
    assert final.replace("^C", "").rstrip().split("\n")[-1] == "stopped"
    assert "active" not in final
    assert "?25" not in program.raw
    assert re.search(r"forever: cancelled after .*, 0 of 1 task done", final)


def test_names_are_no_commands_for_the_terminal():  # S29
    source = r"""
    evil = cs.task(lambda: wait(), name="\x1b[2J\x07\u202e[red]\n" + "x" * 300)
    cs.run(evil())
    """
    with on_terminal(source, columns=60) as program:
        program.until("0/1")
        program.go()
        final = program.end()
    assert "\\x1b[2J\\x07\\u202e[red] x" in final
    assert "\x1b[2J" not in program.raw
    assert "\x07" not in program.raw


def test_several_runs_at_once_share_the_terminal():  # S21 S29
    source = """
    def one(name):
        cs.run(cs.task(lambda: event.wait(), name=name)())
    event = threading.Event()
    threads = [threading.Thread(target=one, args=(name,)) for name in ("first", "second")]
    for thread in threads: thread.start()
    wait()
    event.set()
    for thread in threads: thread.join()
    """
    with on_terminal(source) as program:
        program.until("first  0/1", "second  0/1")
        program.go()
        final = program.end()
    lines = final.strip().split("\n")
    assert len(lines) == 2
    assert sorted(re.sub(r"\[.*?\] | in .*", "", line) for line in lines) == [
        "first: finished",
        "second: finished",
    ]


def test_without_rich_there_are_lines():  # S29
    source = """
    sys.modules["rich"] = None
    @cs.task
    def flaky(tries=[]):
        tries.append(1)
        if len(tries) < 2: raise ConnectionError("refused")
        threading.Event().wait(0.7)
    cs.run(flaky().with_retry(max_attempts=3))
    """
    with on_terminal(source) as program:
        final = program.end()
    assert program.process.returncode == 0
    assert "retrying flaky#0: attempt 1 of 3 failed with ConnectionError: refused" in final
    assert "flaky: finished in" in final
    assert "\x1b[J" not in program.raw


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ("log_level='CRITICAL'", {}),
        ("log_level='error'", {}),
        ("", {"TERM": "dumb"}),
        ("log_format='json'", {}),
    ],
)
def test_no_view_where_none_is_wanted(options, environment):  # S29
    source = f"""
    cs.run(cs.task(lambda: threading.Event().wait(0.7), name="slow")(), {options})
    """
    with on_terminal(source, environment=environment) as program:
        final = program.end()
    assert "\x1b" not in program.raw
    if "CRITICAL" in options or "error" in options:
        assert final == ""
    elif "json" in options:
        assert [line.split(",")[0] for line in final.strip().split("\n")] == [
            '{"event": "RunStarted"',
            '{"event": "RunFinished"',
        ]
    else:
        assert "slow: finished" in final


def test_a_small_terminal_is_not_overrun():  # S29
    source = """
    over = threading.Event()
    tasks = [cs.task(lambda: over.wait(), name=f"task{i}")() for i in range(40)]
    cs.run([cs.task(lambda: wait() or over.set(), name="held")(), *tasks])
    """
    with on_terminal(source, columns=30, rows=8) as program:
        shown = program.until("more")
        assert len(shown.strip().split("\n")) < 8
        program.go()
        final = program.end()
    assert len(final.strip().split("\n")) == 1


def test_a_terminal_that_becomes_narrower_is_not_littered():  # S29
    # The model does not break lines again, so this only asks that the program survives it and ends well.
    source = """
    cs.run(held())
    """
    with on_terminal(source) as program:
        program.until("0/1 tasks")
        fcntl.ioctl(program.master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
        program.read()
        program.go()
        assert "held: finished" in program.end()


def test_what_waits_for_capacity_is_a_part_of_the_view():  # S23 S29
    source = """
    over = threading.Event()
    tasks = [cs.task(lambda: over.wait(), name=f"task{i}")().with_constraints(gpu=1) for i in range(5)]
    cs.run([cs.task(lambda: wait() or over.set(), name="held")(), *tasks], system_resources={"gpu": 1})
    """
    with on_terminal(source) as program:
        shown = program.until("4 blocked: waiting for gpu")
        assert "[cascade" not in shown
        program.go()
        final = program.end()
    assert len(final.strip().split("\n")) == 1


def test_what_calls_log_stands_above_the_view():  # S29
    source = """
    @cs.task
    def talk():
        wait()
        for i in range(3):
            cs.log.info("row %d", i)
        wait()
    cs.run(talk())
    """
    with on_terminal(source) as program:
        program.until("0/1 tasks")
        program.go()
        shown = program.until("row 2", "0/1 tasks")
        assert shown.index("INFO talk#0: row 2") < shown.index("0/1 tasks")
        program.go()
        final = program.end()
    assert [line.partition("] ")[2] for line in final.split("\n")[:3]] == [f"INFO talk#0: row {i}" for i in range(3)]
