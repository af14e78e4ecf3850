"""Examples in documents are really run: a wrong one fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sybil.example import SybilFailure

from tests.documents import PARSERS, MarkdownProgram


def run(folder: Path, text: str) -> None:
    document = folder / "document.md"
    document.write_text(text)
    program = MarkdownProgram.parse(str(document), *PARSERS)
    assert isinstance(program, MarkdownProgram)
    program.enter()
    try:
        for example in program.examples():
            example.evaluate()
    finally:
        program.leave()


def test_what_a_block_prints_is_held_against_the_output_block_after_it(tmp_path: Path) -> None:
    run(tmp_path, "```python\nprint('a', 1)\n```\n\n```output\na ...\n```\n")
    with pytest.raises(SybilFailure, match="Expected"):
        run(tmp_path, "```python\nprint('a', 1)\n```\n\n```output\na 2\n```\n")


def test_an_output_block_sees_only_what_was_printed_since_the_one_before_it(tmp_path: Path) -> None:
    block = "```python\nprint({0})\n```\n\n```output\n{0}\n```\n\n"
    run(tmp_path, block.format(1) + block.format(2))


def test_a_block_that_raises_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "```python\n1 / 0\n```\n")


def test_a_doctest_with_another_result_fails(tmp_path: Path) -> None:
    run(tmp_path, "```python\n>>> 1 + 1\n2\n```\n")
    with pytest.raises(SybilFailure, match="Got"):
        run(tmp_path, "```python\n>>> 1 + 1\n3\n```\n")


def test_a_titled_block_is_a_file_that_later_blocks_find(tmp_path: Path) -> None:
    titled = '```python title="hello.py"\nprint("hello")\n```\n\n'
    run(tmp_path, titled + "```console\n$ python hello.py\nhello\n$ ls\nhello.py\n```\n")
    with pytest.raises(SybilFailure, match="hello"):
        run(tmp_path, titled + "```console\n$ python hello.py\ngoodbye\n```\n")


def test_a_command_that_fails_fails_the_document(tmp_path: Path) -> None:
    with pytest.raises(SybilFailure, match="status 3"):
        run(tmp_path, "```console\n$ exit 3\n```\n")


@pytest.mark.parametrize("info", ["py", "Python", "python3", "pycon", "python copy", 'python title=""'])
def test_a_fence_that_nothing_would_run_is_refused(tmp_path: Path, info: str) -> None:
    with pytest.raises(SybilFailure, match="nobody would run"):
        run(tmp_path, f"```{info}\nprint(1)\n```\n")


def test_a_document_is_a_main_module_in_a_folder_of_its_own(tmp_path: Path) -> None:
    main, folder = sys.modules["__main__"], Path.cwd()
    run(
        tmp_path,
        "```python\nimport os, sys\n\ndef f():\n    return 1\n\nassert sys.modules[f.__module__].f is f\n"
        "assert os.listdir() == []\nopen('left', 'w').close()\n```\n",
    )
    assert sys.modules["__main__"] is main
    assert Path.cwd() == folder
    assert not (folder / "left").exists()


def test_an_example_that_is_chosen_alone_has_those_before_it_run_first(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("```python\nx = 1\n```\n\n```python\nx += 1\n```\n\n```python\nassert x == 2\n```\n")
    program = MarkdownProgram.parse(str(document), *PARSERS)
    assert isinstance(program, MarkdownProgram)
    program.enter()
    try:
        *_, last = program.examples()
        last.evaluate()
    finally:
        program.leave()
