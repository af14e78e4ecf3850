"""Runs the examples in Markdown documents; CONTRIBUTING.md tells their authors how to write them.

A document is one program: its examples run in order, in one `__main__` module and one temporary folder.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from unittest import SkipTest

from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import OutputChecker
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sybil.typing import Evaluator, Parser

FLAGS = doctest.ELLIPSIS
COMMAND_SECONDS = 120.0

_programs: dict[int, MarkdownProgram] = {}


class MarkdownProgram(Document):
    """A document with the module, the folder and the output of its examples."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, path)
        # Without a __file__, as in an interactive session: no worker process could import a document.
        self.module = ModuleType("__main__")
        self.namespace = self.module.__dict__
        self.printed = ""
        self.started: set[int] = set()
        self.restore = contextlib.ExitStack()
        _programs[id(self.namespace)] = self

    def enter(self) -> None:
        folder = tempfile.mkdtemp(prefix="cascade-document-")
        self.restore.callback(shutil.rmtree, folder)
        self.restore.enter_context(contextlib.chdir(folder))
        self.restore.callback(sys.modules.__setitem__, "__main__", sys.modules["__main__"])
        sys.modules["__main__"] = self.module

    def evaluate(self, example: Example, evaluator: Evaluator) -> None:
        """Run an example after all those before it, also where pytest chose it alone."""
        for earlier in self.examples():
            if earlier.start < example.start and earlier.start not in self.started:
                with contextlib.suppress(SkipTest):
                    self.run(earlier)
        self.run(example)

    def run(self, example: Example) -> None:
        self.started.add(example.start)
        assert example.region.evaluator is not None
        super().evaluate(example, example.region.evaluator)

    def leave(self) -> None:
        del _programs[id(self.namespace)]
        self.restore.close()


def program_of(example: Example) -> MarkdownProgram:
    assert isinstance(example.document, MarkdownProgram)
    return example.document


def fenced(info: str, evaluate: Callable[[Example], str | None]) -> Callable[[Document], Iterator[Region]]:
    """A parser for fenced blocks whose whole info line matches; the groups arrive in `example.parsed`."""
    lexer = RawFencedCodeBlockLexer(re.compile(rf"(?:{info})[ \t]*$\n", re.MULTILINE))

    def parse(document: Document) -> Iterator[Region]:
        for region in lexer(document):
            region.parsed = region.lexemes
            region.evaluator = evaluate
            yield region

    return parse


class RecordingPython(PythonEvaluator):
    """Runs a block, and keeps what it prints for the `output` block after it."""

    def __call__(self, example: Example) -> None:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                super().__call__(example)
        finally:
            print(printed.getvalue(), end="")
            program_of(example).printed += printed.getvalue()


class RecordedBlocks(CodeBlockParser):
    """Blocks of Python, evaluated by `RecordingPython` in the place of Sybil's own evaluator."""

    def __init__(self, language: str | None = None, evaluator: Evaluator | None = None) -> None:
        super().__init__(language, RecordingPython())


class PythonBlocks(PythonCodeBlockParser):
    """Blocks of plain code, and blocks of doctests."""

    codeblock_parser_class = RecordedBlocks


def compare(expected: str, came: str) -> str | None:
    checker = OutputChecker()
    if checker.check_output(expected, came, FLAGS):
        return None
    return checker.output_difference(doctest.Example("", expected), came, FLAGS)


def check_output(example: Example) -> str | None:
    """Hold an `output` block against all that was printed since the one before it."""
    program = program_of(example)
    printed, program.printed = program.printed, ""
    return compare(str(example.parsed["source"]), printed)


def write_file(example: Example) -> None:
    """Save a block with a title under that name in the document's folder, and do not run it."""
    path = Path(example.parsed["title"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.parsed["source"])


def run_session(example: Example) -> str | None:
    """Run each `$ command` of a `console` block; the lines after it, if any, are what it must write."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for session in re.split(r"^\$ ", str(example.parsed["source"]), flags=re.MULTILINE):
        command, _, expected = session.partition("\n")
        while command.endswith("\\") and expected:
            continued, _, expected = expected.partition("\n")
            command = f"{command}\n{continued}"
        if not command.strip():
            continue
        done = subprocess.run(
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            return f"$ {command}\nended with status {done.returncode} and wrote\n{done.stdout}"
        if expected.strip():
            difference = compare(f"{expected.rstrip()}\n", f"{done.stdout.rstrip()}\n")
            if difference:
                return f"$ {command}\n{difference}"
    return None


def refuse(example: Example) -> str:
    return f"nobody would run this block: write it as ```python, and not as ```{example.parsed['info']}"


PARSERS: list[Parser] = [
    PythonBlocks(doctest_optionflags=FLAGS),
    fenced('python title="(?P<title>[^"]+)"', write_file),
    fenced("output", check_output),
    fenced("console", run_session),
    fenced(r'(?P<info>(?!python$|python title="[^"]+"$)(?i:py|pycon|doctest)[^\n]*)', refuse),
    SkipParser(),
]

collect_document = Sybil(
    parsers=PARSERS,
    path=str(Path(__file__).parents[1]),
    pattern="*.md",
    document_types={".md": MarkdownProgram},
    setup=lambda namespace: _programs[id(namespace)].enter(),
    teardown=lambda namespace: _programs[id(namespace)].leave(),
).pytest()
