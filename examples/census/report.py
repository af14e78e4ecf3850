"""What the census tells: the values of the page, its pictures, and the table for the terminal."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from pathlib import Path

import charts
from sources import Listing, shown
from store import Counts, Summary
from survey import LENGTHS

_PACKAGES_IN_TABLE = 10


@dataclass(frozen=True, slots=True)
class Reuse:
    """How many surveys were not made, because an equal file had been surveyed before.

    Attributes:
        surveyed: the surveys made.
        earlier: those known from an earlier census.
        twins: those known from another file of this census.
        saved: the processor time that making these would have taken, in seconds.
    """

    surveyed: int
    earlier: int
    twins: int
    saved: float

    def __str__(self) -> str:
        asked = self.surveyed + self.earlier + self.twins
        told = f"reused {self.earlier:,} of {asked:,} surveys from an earlier census"
        if self.twins:
            told += f", and {self.twins:,} of equal files in this one"
        return f"{told}; that saved {self.saved:.1f} s of parsing" if self.saved >= 0.05 else told


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows.

    Attributes:
        title: what was surveyed, in short.
        root: the whole path of it.
        python: the version that parsed.
        taken_at: date and time.
        seconds: how long the census took.
        closed: folders that could not be listed, with the reasons.
        pictures: SVG by name; none if they were not wanted.
    """

    title: str
    root: str
    python: str
    taken_at: str
    seconds: float
    summary: Summary
    reuse: Reuse
    closed: list[tuple[str, str]]
    pictures: dict[str, str] = field(default_factory=dict[str, str])


def make_page(listing: Listing, summary: Summary, reuse: Reuse, taken_at: str, seconds: float) -> Page:
    parts = listing.root.parts[-2:]
    return Page(
        title=shown("/".join(part.strip("/") for part in parts)) or "/",
        root=shown(listing.root),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        taken_at=taken_at,
        seconds=seconds,
        summary=summary,
        reuse=reuse,
        closed=[(shown(folder), reason) for folder, reason in listing.closed],
    )


def with_pictures(page: Page) -> Page:
    """The page with its charts."""
    summary = page.summary
    documented = sorted(
        (counts for counts in summary.packages if counts.coverage is not None),
        key=lambda counts: (-(counts.coverage or 0), counts.name),
    )
    pictures = {
        "size": charts.bars([(each.name, each.lines, f"{each.lines:,}") for each in summary.packages]),
        "coverage": charts.bars(
            [(each.name, each.coverage or 0, f"{each.coverage or 0:.0%}") for each in documented], largest=1
        ),
        "lengths": charts.columns(
            [(name, number, f"{number:,}") for name, number in zip(length_names(), summary.lengths, strict=True)],
            width=1060,
            height=240,
        ),
        "imports": charts.matrix(summary.importers, [name for name, _, _ in summary.imported], summary.edges),
    }
    return replace(page, pictures=pictures)


def length_names() -> list[str]:
    """How the classes of function lengths are called.

    >>> length_names()[:2], length_names()[-1]
    (['1-5', '6-10'], 'over 160')
    """
    starts = [1, *(bound + 1 for bound in LENGTHS)]
    closed = [f"{start}-{end}" for start, end in zip(starts, LENGTHS, strict=False)]
    return [*closed, f"over {LENGTHS[-1]}"]


def terminal_table(page: Page, report: Path, database: Path) -> str:
    """The largest packages and the sums, for people who look at a terminal."""
    summary = page.summary
    rows: list[tuple[str, ...]] = [("package", "files", "lines", "functions", "classes", "documented")]
    rows += [_row(counts.name, counts) for counts in summary.packages[:_PACKAGES_IN_TABLE]]
    rows.append(_row("all tests", summary.tests))
    rows.append(_row("everything", summary.total))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join([f"{row[0]:<{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    rule = "-" * len(lines[0])
    lines[1:1] = [rule]
    lines[-2:-2] = [rule]
    notes = [
        _problems("does not parse", "do not parse", summary.unparsed),
        _problems("could not be read", "could not be read", summary.unread),
        _problems("folder is closed", "folders are closed", page.closed),
        f"{page.reuse}",
    ]
    return "\n".join(
        [
            f"Census of {page.root} ({page.python})",
            "",
            *lines,
            "",
            *(note for note in notes if note),
            "",
            f"report  {shown(report)}",
            f"rows    {shown(database)}",
        ]
    )


def _row(name: str, counts: Counts) -> tuple[str, ...]:
    numbers = (counts.files, counts.lines, counts.functions, counts.classes)
    coverage = "" if counts.coverage is None else f"{counts.coverage:.0%}"
    return (name, *(f"{number:,}" for number in numbers), coverage)


def _problems(one: str, many: str, found: list[tuple[str, str]]) -> str:
    if not found:
        return ""
    listed = ", ".join(path for path, _ in found[:2])
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return f"{len(found)} {one if len(found) == 1 else many}: {listed}{more}"
