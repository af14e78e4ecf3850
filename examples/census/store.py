"""The rows of a census, in a SQLite file: one transaction a census, so there is the old one or the new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sources import Listing, package_of, role_of, shown
from survey import LENGTHS, Survey

import cascade as cs

_VERSION = 1
_SCHEMA = """
CREATE TABLE census (taken_at TEXT NOT NULL, root TEXT NOT NULL);
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, package TEXT NOT NULL, role TEXT NOT NULL, kind TEXT NOT NULL,
    bytes INTEGER NOT NULL, digest BLOB NOT NULL, lines INTEGER NOT NULL, functions INTEGER NOT NULL,
    classes INTEGER NOT NULL, public INTEGER NOT NULL, documented INTEGER NOT NULL, problem TEXT NOT NULL
);
CREATE TABLE function (file INTEGER NOT NULL, name TEXT NOT NULL, line INTEGER NOT NULL, lines INTEGER NOT NULL);
CREATE TABLE length (file INTEGER NOT NULL, class INTEGER NOT NULL, functions INTEGER NOT NULL);
CREATE TABLE import (file INTEGER NOT NULL, module TEXT NOT NULL);
"""
_TABLES = ("file", "function", "length", "import")

_PACKAGES_SHOWN = 18
_FUNCTIONS_SHOWN = 12
_IMPORTERS_SHOWN = 16
_IMPORTED_SHOWN = 20
_MOST_LISTED = 200


@dataclass(frozen=True, slots=True)
class Counts:
    """The sums over some files."""

    name: str
    files: int
    lines: int
    functions: int
    classes: int
    public: int
    documented: int

    @property
    def coverage(self) -> float | None:
        """The share of public functions and classes with a docstring; nothing where there are none."""
        return self.documented / self.public if self.public else None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different from the census before."""

    since: str
    new: int
    changed: int
    gone: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a report tells about all files.

    Attributes:
        total: over all files.
        tests: over the tests, which the rest leaves out: there are many, and they document nothing.
        packages: the largest packages first.
        lengths: how many functions fall in each class of `survey.LENGTHS`.
        longest: path, line, name and length of the longest functions.
        edges: for an importing package and an imported one: how many files of the one import the other.
        importers: the packages that import the most others, as far as shown.
        imported: the packages that the most others import: name, number of these, number of their files.
        unparsed: path and problem of the files that do not parse.
        unread: likewise of those that could not be read.
        changes: against the census before, if there was one of this tree.
    """

    total: Counts
    tests: Counts
    packages: list[Counts]
    lengths: list[int]
    longest: list[tuple[str, int, str, int]]
    edges: dict[tuple[str, str], int]
    importers: list[str]
    imported: list[tuple[str, int, int]]
    unparsed: list[tuple[str, str]]
    unread: list[tuple[str, str]]
    changes: Changes | None


class Store:
    """One connection, for the thread that opened it."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._name = ""

    def begin(self, path: Path, listing: Listing, taken_at: str) -> None:
        """Open the file and start its new census; nobody else sees it before `end`.

        Raises:
            ParameterError: the file is none of ours, or somebody writes to it.
        """
        try:
            self._connection = connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise cs.ParameterError(f"--out: {shown(path)} cannot be written: {error}") from None
        if tables and version != _VERSION:
            raise cs.ParameterError(
                f"--out: {shown(path)} is a database, but not of a census of this version; "
                "delete it, or choose another folder"
            )
        if not tables:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        root = shown(listing.root)
        connection.execute(
            "CREATE TEMP TABLE before AS SELECT path, digest FROM file "
            "WHERE ? = (SELECT root FROM census ORDER BY rowid DESC LIMIT 1)",
            (root,),
        )
        for table in _TABLES:
            connection.execute(f"DELETE FROM {table}")
        connection.execute("INSERT INTO census VALUES (?, ?)", (taken_at, root))
        self._name = listing.name

    def add(self, path: str, kind: str, content: bytes, counted: Survey) -> None:
        """Keep what is known of one file."""
        cursor = self._run(
            "INSERT INTO file (path, package, role, kind, bytes, digest, lines, functions, classes, public, "
            "documented, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            shown(path), shown(package_of(path)), role_of(path), kind, len(content),
            blake2b(content, digest_size=16).digest(), counted.lines, counted.functions, counted.classes,
            counted.public, counted.documented, counted.problem,
        )  # fmt: skip
        file = cursor.lastrowid
        for table, rows in (
            ("function", [(file, shown(each.name), each.line, each.lines) for each in counted.longest]),
            ("length", [(file, place, number) for place, number in enumerate(counted.lengths) if number]),
            ("import", [(file, module) for module in {self._package(each) for each in counted.imports}]),
        ):
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                self._opened.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def _package(self, module: str) -> str:
        """The package or module of this tree that an import asks for."""
        first, _, rest = module.partition(".")
        return rest.partition(".")[0] if rest and first == self._name else first

    def summary(self) -> Summary:
        """Sum up; the rows of all files must be there."""
        total, tests = self._counts("1"), self._counts("role = 'test'")
        # Where all files are tests, they are what the census is about.
        chosen = "1" if tests.files == total.files else "role <> 'test'"
        lengths = dict(
            self._run(
                f"SELECT class, sum(length.functions) FROM length JOIN file ON id = file WHERE {chosen} GROUP BY class"
            )
        )
        edges = {
            (importer, imported): files
            for importer, imported, files in self._run(
                "SELECT package, module, count(*) FROM import JOIN file ON id = file "
                f"WHERE {chosen} AND module <> package AND module IN (SELECT package FROM file WHERE {chosen}) "
                "GROUP BY package, module"
            )
        }
        return Summary(
            total=total,
            tests=tests,
            packages=self._packages(chosen),
            lengths=[lengths.get(place, 0) for place in range(len(LENGTHS) + 1)],
            longest=self._run(
                "SELECT path, line, name, function.lines FROM function JOIN file ON id = file "
                f"WHERE {chosen} ORDER BY function.lines DESC, path, line LIMIT {_FUNCTIONS_SHOWN}"
            ).fetchall(),
            edges=edges,
            importers=[name for name, _, _ in _largest(edges, 0)[:_IMPORTERS_SHOWN]],
            imported=_largest(edges, 1)[:_IMPORTED_SHOWN],
            unparsed=self._problems("kind <> 'unread'"),
            unread=self._problems("kind = 'unread'"),
            changes=self._changes(),
        )

    def _counts(self, chosen: str) -> Counts:
        (row,) = self._run(f"SELECT 'all', {_SUMS} FROM file WHERE {chosen}")
        return Counts(*row)

    def _packages(self, chosen: str) -> list[Counts]:
        rows = self._run(
            f"SELECT package, {_SUMS} FROM file WHERE {chosen} GROUP BY package "
            f"ORDER BY sum(lines) DESC, package LIMIT {_PACKAGES_SHOWN}"
        )
        return [Counts(*row) for row in rows]

    def _problems(self, chosen: str) -> list[tuple[str, str]]:
        return self._run(
            f"SELECT path, problem FROM file WHERE problem <> '' AND {chosen} ORDER BY path LIMIT {_MOST_LISTED}"
        ).fetchall()

    def _changes(self) -> Changes | None:
        earlier = self._run("SELECT taken_at FROM census ORDER BY rowid DESC LIMIT 1 OFFSET 1").fetchone()
        (known,) = self._run("SELECT count(*) FROM temp.before").fetchone()
        if earlier is None or not known:
            return None
        joined = "SELECT count(*) FROM {} LEFT JOIN {} USING (path) WHERE {}"
        (new,) = self._run(joined.format("file", "temp.before AS b", "b.path IS NULL")).fetchone()
        (gone,) = self._run(joined.format("temp.before AS b", "file AS f", "f.path IS NULL")).fetchone()
        (changed,) = self._run(joined.format("file", "temp.before AS b", "b.digest <> file.digest")).fetchone()
        return Changes(earlier[0], new, changed, gone)

    def end(self, *, keep: bool) -> None:
        """Close; keep the new census, or go back to the one before."""
        if self._connection is not None:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT" if keep else "ROLLBACK")
            self._connection.close()

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "begin comes first"
        return self._connection

    def _run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._opened.execute(statement, values)


_SUMS = (
    "count(*), ifnull(sum(lines), 0), ifnull(sum(functions), 0), ifnull(sum(classes), 0), "
    "ifnull(sum(public), 0), ifnull(sum(documented), 0)"
)


def _largest(edges: dict[tuple[str, str], int], end: int) -> list[tuple[str, int, int]]:
    """The packages at one end, with the number of their edges and the sum of the files behind these."""
    weights: dict[str, tuple[int, int]] = {}
    for edge, files in edges.items():
        number, total = weights.get(edge[end], (0, 0))
        weights[edge[end]] = (number + 1, total + files)
    found = [(name, number, total) for name, (number, total) in weights.items()]
    return sorted(found, key=lambda row: (-row[1], -row[2], row[0]))


@cs.resource(thread_affine=True)
def store() -> Generator[Store, cs.Outcome, None]:
    """The store of a run: a SQLite connection belongs to one thread, so all who use it run there."""
    opened = Store()
    outcome = yield opened
    opened.end(keep=outcome.error is None)
