"""What is in one Python file: counted from its bytes alone, so that equal files have equal surveys."""

from __future__ import annotations

import ast
import time
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

LENGTHS = (5, 10, 20, 40, 80, 160)
"""Upper bounds of the classes of function lengths, in lines; one more class is open at its end."""

LONGEST_KEPT = 20
"""How many of a file's longest functions are kept: enough to find the longest ones of all files."""

_NAME = "<census>"
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")
# What a file's author should hear about the file is not what the census is asked for. The filter is set once
# and for this one name, because `warnings.catch_warnings` would change it for all threads.
warnings.filterwarnings("ignore", module=_NAME)

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Function(NamedTuple):
    """A function or method: its dotted name within the file, where it starts and how long it is."""

    name: str
    line: int
    lines: int


class Survey(NamedTuple):
    """The counts of one file; thousands of them are read from the cache, and tuples are read the fastest.

    Attributes:
        lines: all lines, empty ones too.
        functions: functions and methods, wherever they stand.
        classes: likewise.
        public: functions and classes that others can use: no part of their name starts with `_`.
        documented: how many of these have a docstring.
        lengths: how many functions fall in each class of `LENGTHS`.
        longest: the longest functions, the longest first.
        imports: the modules that are imported by their full name.
        seconds: the processor time that the survey took.
        problem: why the file does not parse, or nothing.
    """

    lines: int = 0
    functions: int = 0
    classes: int = 0
    public: int = 0
    documented: int = 0
    lengths: tuple[int, ...] = (0,) * (len(LENGTHS) + 1)
    longest: tuple[Function, ...] = ()
    imports: frozenset[str] = frozenset()
    seconds: float = 0.0
    problem: str = ""


EMPTY = Survey()


def survey(content: bytes) -> Survey:
    """Parse a file and count; a file that does not parse has a survey too, which says why."""
    started = time.thread_time()
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    try:
        tree = ast.parse(content, filename=_NAME)
    except SyntaxError as error:
        place = f"line {error.lineno}: " if error.lineno else ""
        counted = Survey(lines=lines, problem=f"{place}{error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        counted = Survey(lines=lines, problem=f"{type(error).__name__}: {error}".removesuffix(": "))
    else:
        counted = _count(tree, lines)
    return counted._replace(seconds=time.thread_time() - started)


def _count(tree: ast.Module, lines: int) -> Survey:
    functions: list[Function] = []
    lengths = [0] * (len(LENGTHS) + 1)
    classes = public = documented = 0
    imports: set[str] = set()
    for statement, scope, is_reachable in _statements(tree):
        match statement:
            case ast.Import(names=names):
                imports.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                imports.add(module)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if isinstance(statement, ast.ClassDef):
                    classes += 1
                else:
                    function = _function(statement, scope)
                    functions.append(function)
                    lengths[bisect_left(LENGTHS, function.lines)] += 1
                if is_reachable and not statement.name.startswith("_"):
                    public += 1
                    documented += ast.get_docstring(statement, clean=False) is not None
            case _:
                pass
    functions.sort(key=lambda function: (-function.lines, function.line))
    return Survey(
        lines=lines,
        functions=len(functions),
        classes=classes,
        public=public,
        documented=documented,
        lengths=tuple(lengths),
        longest=tuple(functions[:LONGEST_KEPT]),
        imports=frozenset(imports),
    )


def _function(definition: ast.FunctionDef | ast.AsyncFunctionDef, scope: str) -> Function:
    last = definition.end_lineno or definition.lineno
    return Function(scope + definition.name, definition.lineno, last - definition.lineno + 1)


def _statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, str, bool]]:
    """All statements, with the dotted name of their scope and whether others can reach into it.

    Expressions are not entered, which is most of the work saved, and nothing recurses: generated code may be
    nested deeper than Python's own stack goes.
    """
    waiting: list[tuple[Sequence[ast.AST], str, bool]] = [(tree.body, "", True)]
    while waiting:
        nodes, scope, is_reachable = waiting.pop()
        for node in nodes:
            if isinstance(node, ast.stmt):
                yield node, scope, is_reachable
            inner, reachable = scope, is_reachable
            if isinstance(node, Definition):
                inner = f"{scope}{node.name}."
                reachable = reachable and isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            blocks = (getattr(node, field, None) for field in _BLOCKS)
            waiting += [(cast(list[ast.AST], block), inner, reachable) for block in blocks if isinstance(block, list)]
