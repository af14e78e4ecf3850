"""The census: the main example, run as people run it, on real files and on files that are not meant well."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

CENSUS = Path(__file__).parents[2] / "examples" / "census"
# The root user may read and write everything, except without its capabilities.
BOUND = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

pytestmark = pytest.mark.needs_extra("cli", "templates")

Finished = subprocess.CompletedProcess[str]


class Census:
    """Takes a census of a tree, into a folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        self.out = folder / "out"
        self.root.mkdir()

    def write(self, files: dict[str | bytes, str | bytes]) -> None:
        for name, content in files.items():
            path = os.path.join(os.fsencode(self.root), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)

    def command(self, *options: str) -> list[str]:
        program = [sys.executable, "-W", "error", str(CENSUS / "census.py")]
        return [*program, "--root", str(self.root), "--out", str(self.out), *options]

    def take(self, *options: str, code: int = 0, prefix: list[str] | None = None) -> Finished:
        finished = subprocess.run(
            [*(prefix or []), *self.command(*options)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            errors="surrogateescape",
        )
        assert finished.returncode == code, finished.stdout + finished.stderr
        return finished

    def rows(self, query: str) -> list[Any]:
        connection = sqlite3.connect(self.out / "census.sqlite")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    @property
    def page(self) -> str:
        return (self.out / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def census(tmp_path: Path) -> Census:
    return Census(tmp_path)


SAMPLE = '''\
"""A module."""
import os.path, sys
from email.mime import text
from . import sibling


class Public:
    """Documented."""

    def method(self):
        def inner():
            """Nobody else can reach it."""

    def _own(self):
        """Nor this."""


class _Private:
    def method(self):
        """Nor this."""


async def wait(x):
    """Documented."""
    if x:
        import json
        for _ in range(3):
            try:
                pass
            except ValueError:
                def late(): pass
            finally:
                match x:
                    case 1:
                        class Deep: pass
'''


def test_functions_classes_docstrings_and_imports_are_counted(census: Census) -> None:
    census.write({"pkg/sample.py": SAMPLE, "email/__init__.py": "", "json.py": "x = 1", "tests/test_a.py": SAMPLE})
    census.take()
    (row,) = census.rows(
        "SELECT package, role, kind, lines, functions, classes, public, documented FROM file "
        "WHERE path = 'pkg/sample.py'"
    )
    assert row == ("pkg", "module", "light", SAMPLE.count("\n"), 6, 3, 3, 2)
    longest = census.rows(
        "SELECT name, line, function.lines FROM function JOIN file ON id = file WHERE package = 'pkg'"
    )
    assert longest[0] == ("wait", 23, 13)
    assert {name for name, *_ in longest} == {
        "wait", "wait.late", "Public.method", "Public.method.inner", "Public._own", "_Private.method"
    }  # fmt: skip
    imports = census.rows("SELECT module FROM import JOIN file ON id = file WHERE package = 'pkg'")
    assert sorted(imports) == [("email",), ("json",), ("os",), ("sys",)]
    roles = census.rows("SELECT path, role, kind FROM file WHERE package <> 'pkg' ORDER BY path")
    assert roles == [
        ("email/__init__.py", "package", "empty"), ("json.py", "module", "light"), ("tests/test_a.py", "test", "light")
    ]  # fmt: skip


def test_a_part_of_the_standard_library_is_parsed_once(tmp_path: Path) -> None:
    def take() -> str:
        finished = subprocess.run(
            [sys.executable, "-W", "error", str(CENSUS / "census.py"), "--root", os.path.dirname(asyncio.__file__)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert re.search(r"^took +[\d.]+ s$", finished.stdout, re.MULTILINE)
        return finished.stdout

    assert re.search(r"reused 0 of [\d,]+ surveys from an earlier census", take())
    told = take()
    match = re.search(r"reused ([\d,]+) of ([\d,]+) surveys from an earlier census; that saved", told)
    assert match is not None, told
    assert match[1] == match[2]
    assert list(tmp_path.iterdir()) == [tmp_path / "census-report"]
    out = tmp_path / "census-report"
    connection = sqlite3.connect(out / "census.sqlite")
    ((files, functions),) = connection.execute("SELECT count(*), sum(functions) FROM file")
    kinds = dict(connection.execute("SELECT kind, count(*) FROM file GROUP BY kind"))
    connection.close()
    assert files > 25
    assert functions > 500
    assert kinds["heavy"] > 10
    assert kinds["light"] > 5
    page = (out / "index.html").read_text()
    assert f"<b>{files:,}</b>" in page
    assert "0 new, 0 changed, 0 gone" in page


def test_only_what_changed_is_parsed_again(census: Census) -> None:
    census.write({f"module_{number}.py": f"def f{number}(): pass\n" for number in range(10)})
    assert "reused 0 of 10 surveys" in census.take().stdout
    census.write({"module_3.py": "def changed(): pass\n", "new.py": "x = 1\n"})
    (census.root / "module_4.py").rename(census.root / "renamed.py")
    (census.root / "module_5.py").unlink()
    assert "reused 8 of 10 surveys" in census.take().stdout
    assert "2 new, 1 changed, 2 gone" in census.page
    assert census.rows("SELECT path FROM file JOIN function ON id = file WHERE name = 'changed'") == [("module_3.py",)]
    assert "reused 0 of 10 surveys" in census.take("--no-reuse").stdout


def test_equal_files_are_parsed_once(census: Census) -> None:
    census.write({f"module_{number}.py": "def same(): pass\n" for number in range(10)})
    assert "reused 0 of 10 surveys from an earlier census, and 9 of equal files in this one" in census.take().stdout
    assert census.rows("SELECT count(*), sum(functions) FROM file") == [(10, 10)]


def test_processes_and_threads_count_the_same(census: Census, tmp_path: Path) -> None:
    for source in (CENSUS, Path(sysconfig.get_path("stdlib")) / "json"):
        for path in source.glob("*.py"):
            shutil.copy(path, census.root)
    everything = [
        "SELECT path, lines, functions, classes, public, documented, problem FROM file ORDER BY path",
        "SELECT path, name, line, function.lines FROM function JOIN file ON id = file ORDER BY 1, 2, 3",
        "SELECT path, module FROM import JOIN file ON id = file ORDER BY 1, 2",
    ]
    census.take("--heavy", "0", "--cache", str(tmp_path / "one"))
    assert census.rows("SELECT DISTINCT kind FROM file WHERE bytes > 0") == [("heavy",)]
    in_processes = [census.rows(query) for query in everything]
    assert len(in_processes[0]) > 8
    census.take("--heavy", "100000", "--cache", str(tmp_path / "two"))
    assert census.rows("SELECT DISTINCT kind FROM file WHERE bytes > 0") == [("light",)]
    assert [census.rows(query) for query in everything] == in_processes


UNPARSABLE: dict[str | bytes, str | bytes] = {
    "syntax<b>.py": "def <b>(:\n",
    "nul.py": b"x = 1\0\n",
    "latin.py": b"s = '\xe9'\n",
    "coding.py": "# coding: nonsense\n",
    "parentheses.py": f"x = {'(' * 5000}1{')' * 5000}\n",
    "minus.py": f"x = {'-' * 100_000}1\n",
}


def test_files_that_do_not_parse_are_listed_and_break_nothing(census: Census) -> None:
    census.write({**UNPARSABLE, "good.py": "def f(): pass\n", "warns.py": "x = '\\d' is 'y'\n"})
    finished = census.take()
    assert finished.stderr == "" or "Warning" not in finished.stderr
    assert "6 do not parse: coding.py, latin.py and 4 more" in finished.stdout
    problems = dict(census.rows("SELECT path, problem FROM file WHERE problem <> ''"))
    assert problems.keys() == UNPARSABLE.keys()
    assert all(problems.values())
    told = Text.of(census.page)
    assert all(path in told for path in problems)


class Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data

    @classmethod
    def of(cls, page: str) -> str:
        return cls.read(page).text

    @classmethod
    def read(cls, page: str) -> Text:
        parser = cls()
        parser.feed(page)
        parser.close()
        return parser


def test_names_cannot_harm_the_page_or_the_terminal(census: Census) -> None:
    function = "import <p>\n"
    source = "def f():\n    pass\n"
    census.write(
        {
            "<script>alert(1)<!--.py": source,
            "quotes'\"&amp;.py": source,
            "{{ 7 * 7 }}.py": source,
            "lines\nand\x1b[31m colours.py": source,
            b"no text \xff\xfe.py": source,
            "<b>folder/<img src=x onerror=alert(2)>.py": function,
        }
    )
    finished = census.take()
    assert not [each for each in finished.stdout if not each.isprintable() and each != "\n"]
    page = Text.read(census.page)
    assert not page.tags & {"script", "img", "b>folder"}
    for shown in (
        "<script>alert(1)<!--.py",
        "quotes'\"&amp;.py",
        "{{ 7 * 7 }}.py",
        r"lines\nand\x1b[31m colours.py",
        r"no text \udcff\udcfe.py",
        "<b>folder/<img src=x onerror=alert(2)>.py",
    ):
        assert shown in page.text
    assert census.rows("SELECT count(*) FROM file") == [(6,)]


def test_what_is_no_file_of_the_tree_is_left_out(census: Census) -> None:
    census.write(
        {
            "good.py": "x = 1\n",
            "notes.txt": "",
            "site-packages/other.py": "",
            ".hidden/other.py": "",
            "environment/pyvenv.cfg": "",
            "environment/lib/other.py": "",
            "__pycache__/other.py": "",
            "folder.py/inside.py": "x = 1\n",
        }
    )
    os.mkfifo(census.root / "fifo.py")
    (census.root / "broken.py").symlink_to("nowhere")
    (census.root / "loop").symlink_to(".")
    census.take()
    assert census.rows("SELECT path FROM file ORDER BY path") == [("folder.py/inside.py",), ("good.py",)]


@pytest.mark.parametrize("plot", [True, False])
def test_the_pictures_are_drawn_on_a_condition(census: Census, plot: bool) -> None:
    census.write({"one/a.py": "import two\ndef f(): pass\n", "two.py": "def g(): pass\n"})
    census.take("--plot" if plot else "--no-plot")
    pictures = re.findall(r"<svg.*?</svg>", census.page, re.DOTALL)
    assert len(pictures) == (4 if plot else 0)
    for picture in pictures:
        assert ET.fromstring(picture).findall(".//text")
    assert "<h2>Packages</h2>" in census.page


# The census opens a file between two looks at it. What changes it there is steered by that very event.
MEDDLER = """
import collections, os, runpy, sys, threading
root = sys.argv[1]
deeds = [os.path.join(root, deed) for deed in ("changes.py", "is_replaced.py", "keeps_changing.py", "goes.py")]
opened = collections.Counter()
meddling = threading.local()

def meddle(event, arguments):
    if event != "open" or arguments[0] not in deeds or getattr(meddling, "now", False):
        return
    path = arguments[0]
    deed = os.path.basename(path)
    meddling.now = True
    opened[path] += 1
    if deed == "goes.py":
        if os.path.exists(path):
            os.unlink(path)
    elif deed == "is_replaced.py" and opened[path] == 1:
        with open(path + ".new", "w") as file:
            file.write("def new(): pass\\n")
        os.replace(path + ".new", path)
    elif deed == "keeps_changing.py" or (deed == "changes.py" and opened[path] == 1):
        with open(path, "a") as file:
            file.write("def new(): pass\\n")
    meddling.now = False

sys.addaudithook(meddle)
sys.path.insert(0, os.path.dirname(sys.argv[2]))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_files_that_change_meanwhile_are_read_again(census: Census, tmp_path: Path) -> None:
    moving = ("changes", "is_replaced", "keeps_changing", "goes")
    census.write({**{f"{deed}.py": f"def old_{deed}(): pass\n" for deed in moving}, "still.py": "x = 1\n"})
    meddler = tmp_path / "meddler.py"
    meddler.write_text(MEDDLER)
    python, *_, program = census.command()[:4]
    options = census.command()[4:]
    finished = subprocess.run(
        [python, str(meddler), str(census.root), program, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = census.rows("SELECT path, name FROM function JOIN file ON id = file ORDER BY path, name")
    assert found == [("changes.py", "new"), ("changes.py", "old_changes"), ("is_replaced.py", "new")]
    assert census.rows("SELECT path, problem FROM file ORDER BY path") == [
        ("changes.py", ""),
        ("goes.py", "it went away, 4 times"),
        ("is_replaced.py", ""),
        ("keeps_changing.py", "it changed while it was read, 4 times"),
        ("still.py", ""),
    ]
    assert "Files that could not be read" in census.page
    assert "2 could not be read: goes.py, keeps_changing.py" in finished.stdout


def _nothing(census: Census) -> None:
    census.root.rmdir()


def _a_file(census: Census) -> None:
    census.root.rmdir()
    census.root.write_text("")


def _no_python(census: Census) -> None:
    census.write({"notes.txt": "", ".hidden/a.py": ""})


def _closed(census: Census) -> None:
    census.write({"a.py": ""})
    census.root.chmod(0)


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (_nothing, "--root: expected a folder with Python files, found nothing at "),
        (_a_file, "--root: expected a folder with Python files, found a file at "),
        (_no_python, "--root: there are no Python files (*.py) in "),
        (_closed, "Permission denied"),
    ],
)
def test_a_root_that_will_not_do_is_told_and_nothing_is_made(
    census: Census, prepare: Callable[[Census], None], told: str
) -> None:
    prepare(census)
    finished = census.take(code=2, prefix=BOUND)
    assert "error: bad input:" in finished.stderr
    assert told in finished.stderr
    assert str(census.root) in finished.stderr
    assert finished.stdout == ""
    assert not census.out.exists()


@pytest.mark.parametrize(("option", "hindrance"), [("--out", "a file"), ("--cache", "closed")])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    census: Census, tmp_path: Path, option: str, hindrance: str
) -> None:
    census.write({"a.py": "x = 1\n"})
    folder = tmp_path / "folder"
    if hindrance == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir(mode=0o500)
    finished = census.take(option, str(folder), code=2, prefix=BOUND)
    assert f"{option}: cannot write to {folder}: " in finished.stderr
    assert finished.stdout == ""
    if hindrance == "a file":
        assert folder.read_text() == "mine"
    else:
        assert list(folder.iterdir()) == []
    assert not (census.out / "index.html").exists()


def test_closed_files_and_folders_are_listed(census: Census) -> None:
    census.write({"open.py": "x = 1\n", "secret.py": "x = 1\n", "vault/inside.py": "x = 1\n"})
    (census.root / "secret.py").chmod(0)
    (census.root / "vault").chmod(0)
    finished = census.take(prefix=BOUND)
    assert "1 could not be read: secret.py" in finished.stdout
    assert "1 folder is closed: vault" in finished.stdout
    assert census.rows("SELECT path, problem FROM file ORDER BY path") == [
        ("open.py", ""), ("secret.py", "Permission denied")
    ]  # fmt: skip
    assert "Folders that could not be listed" in census.page


def test_a_failure_at_the_end_leaves_the_census_before(census: Census) -> None:
    census.write({"a.py": "def f(): pass\n"})
    census.take()
    before = census.rows("SELECT * FROM file")
    (census.out / "index.html").unlink()
    (census.out / "index.html").mkdir()
    census.write({"b.py": "def g(): pass\n"})
    finished = census.take(code=1)
    assert "IsADirectoryError" in finished.stderr
    assert census.rows("SELECT * FROM file") == before
    assert census.rows("SELECT count(*) FROM census") == [(1,)]
    (census.out / "index.html").rmdir()
    assert "reused 2 of 2" in census.take().stdout


@pytest.mark.parametrize("content", ["text", "other tables"])
def test_a_file_of_somebody_else_is_not_touched(census: Census, content: str) -> None:
    census.write({"a.py": "x = 1\n"})
    census.out.mkdir()
    database = census.out / "census.sqlite"
    if content == "text":
        database.write_text("dear diary\n" * 1000)
    else:
        connection = sqlite3.connect(database)
        connection.execute("CREATE TABLE file (mine)")
        connection.close()
    before = database.read_bytes()
    finished = census.take(code=2)
    assert f"--out: {database}" in finished.stderr
    assert database.read_bytes() == before
    assert not (census.out / "index.html").exists()


def test_ctrl_c_leaves_nothing_half_written(census: Census) -> None:
    command = census.command("--root", sysconfig.get_path("stdlib"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        # The first survey that was kept says that the work has begun; it has far to go.
        while not list(census.out.glob("cache/??/*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert sorted(path.name for path in census.out.iterdir()) == ["cache", "census.sqlite"]
    assert census.rows("SELECT name FROM sqlite_master") == []
    census.write({"a.py": "x = 1\n"})
    census.take()
    assert census.rows("SELECT path FROM file") == [("a.py",)]


def test_bad_options_are_told_all_at_once(census: Census) -> None:
    finished = census.take("--rooot", "x", "--heavy", "many", code=2)
    assert "--rooot: no such option; did you mean --root?" in finished.stderr
    assert "--heavy: expected int, got 'many'" in finished.stderr
    assert not census.out.exists()


def test_help_tells_the_options(census: Census) -> None:
    told = census.take("--help").stdout
    for option in (
        "--root",
        "--out",
        "--cache",
        "--reuse",
        "--no-reuse",
        "--heavy",
        "--plot",
        "--no-plot",
        "--log-level",
    ):
        assert option in told
    assert not census.out.exists()
