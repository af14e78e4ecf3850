"""The results as a line on the terminal, and as a page."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import words
from benchmarks.environments import PEERS, requirements_of
from benchmarks.floors.commits import SQLITE
from benchmarks.harness import LONG_ROUND, PEER_ROUNDS, ROOT, Measured, Result

RESULTS = Path(__file__).parent / "RESULTS.md"
# What a person has to say about the numbers; it outlives the next run.
REMARKS = Path(__file__).parent / "remarks.md"


def line(result: Result) -> str:
    case = result.case
    parts = [f"{case.name:22} {_own(result):>10}"]
    parts += [f"{name} {_shown(result, measured)}" for name, measured in result.references.items()]
    parts += [f"{name} {_shown(result, measured)}" for name, measured in result.peers.items()]
    if case.goals:
        parts.append(f"goal {_goals(result)}: {_verdict(result)}")
    return "  |  ".join(parts)


def write(results: Sequence[Result], minutes: float) -> None:
    RESULTS.write_text(page(results, minutes), "utf-8")


def renew(results: Sequence[Result]) -> None:
    """Put the rows of some cases, measured again, in the places of those that the page has."""
    RESULTS.write_text(renewed(RESULTS.read_text("utf-8"), results), "utf-8")


def renewed(old: str, results: Sequence[Result]) -> str:
    """A page with the rows of some cases, the day on which they were measured, and the remarks as they are now."""
    lines = old.partition("## How it is measured")[0].splitlines()
    names = next((_cells(line)[2:] for line in lines if line.startswith("| case | Cascade |")), [])
    rows = [_floor_row(result) for result in results]
    rows += [_peer_row(result, names) for result in results if result.peers]
    by_place = {(len(row), row[0]): row for row in rows}
    again = f"- measured again on {datetime.now(UTC):%Y-%m-%d}: {', '.join(result.case.name for result in results)}"
    kept: list[str] = []
    for line in lines:
        cells = _cells(line)
        kept.append(_line(by_place.get((len(cells), cells[0]), cells)) if line.startswith("| ") else line)
        if line.startswith("- other tools: "):
            kept.append(again)
    return "\n\n".join(["\n".join(kept).strip(), *_explanations()]) + "\n"


def page(results: Sequence[Result], minutes: float) -> str:
    sections = [
        "# Results of the benchmarks",
        f"Written by `make bench`; {len(results)} cases in {minutes:.0f} minutes, {datetime.now(UTC):%Y-%m-%d}. {WHAT}",
        "\n".join(f"- {fact}" for fact in machine()),
        "## Cascade, its goals and its floors",
        FLOORS,
        _table(
            ["case", "of", "Cascade", "floors", "ratio", "goal", "reached"],
            map(_floor_row, results),
        ),
    ]
    compared = [result for result in results if result.peers]
    if compared:
        names = [name for name in PEERS if any(name in result.peers for result in compared)]
        sections += [
            "## Beside other tools",
            OTHERS,
            _table(
                ["case", "Cascade", *names],
                [_peer_row(result, names) for result in compared],
            ),
        ]
    return "\n\n".join([*sections, *_explanations()]) + "\n"


def _explanations() -> list[str]:
    remarks = [REMARKS.read_text("utf-8").strip()] if REMARKS.exists() else []
    return ["## How it is measured", HOW, *remarks]


def _floor_row(result: Result) -> list[str]:
    return [
        result.case.what,
        words.one(result.case.per),
        _own(result),
        _references(result),
        words.ratio(_ratio(result)),
        _goals(result) or "-",
        _verdict(result),
    ]


def _peer_row(result: Result, names: Iterable[str]) -> list[str]:
    measured = [_peer(result, result.peers[name]) if name in result.peers else "" for name in names]
    return [f"{result.case.what}, {words.one(result.case.per)}", _own(result), *measured]


def machine() -> list[str]:
    """What the numbers depend on."""
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    versions = ", ".join(f"{peer} {version}" for peer, version in peer_versions())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        f"Cascade {cascade_version()}, {python}, SQLite {SQLITE.sqlite_version}",
        f"{os.cpu_count()} cores, {_processor()}, {_memory()}, {platform.system()} on {platform.machine()}",
        f"load averages at the end of the run: {load}",
        f"other tools: {versions}",
    ]


def peer_versions() -> list[tuple[str, str]]:
    return [(peer, requirements_of(peer).read_text("ascii").split("==")[1].split()[0]) for peer in PEERS]


def cascade_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


WHAT = """\
Absolute times do not carry over to other machines; ratios do, roughly, since all that stands in one row was measured
in one and the same run, in turns."""

FLOORS = """\
A floor is the same work done by bare Python. The ratio is Cascade's number to that of the first floor, or to the ideal
where one is given."""

OTHERS = """\
Time of one unit, and how many times Cascade's that is. Where a tool was given fewer units than Cascade, to end in time,
`at` tells how many; several of them take longer for each the more there are. An empty cell was not tried."""

HOW = f"""\
Each number is the median of several rounds (5, or 3 of the largest cases; for other tools {PEER_ROUNDS}, or one where a
round takes longer than {LONG_ROUND:.0f} s). A round runs everybody once, each in a fresh process, starting with another
one each time. Imports and a small run of the same shape, to warm up, come first and do not count; from declaring to the
result everything does, the freeing of what was made included. Every result is compared with the right one, and the
settings of the garbage collector with those before; what is wrong gives no number. Memory is measured in runs of its
own.

Functions do next to nothing (`x + 1`), so that what is left is the tool's own cost; with real work the ratios shrink
accordingly. Other tools do more, or other things, for that time: Prefect and redun keep a record of every call, Dask's
scheduler is made for clusters too. Each is used as its documentation recommends for work on one machine, with threads
or in this process; `benchmarks/peers/` has the code. Hamilton's and pipefunc's graphs are fixed before they run: the
functions of Hamilton are there before, building its driver or pipefunc's pipeline counts, except for one task. A word
instead of a number is the exception, or the limit of time, that ended the tool.

Durable cases write to the folder for temporary files. Cascade and the floor use the same SQLite with a write-ahead log
and `synchronous=FULL`; DBOS and redun use Python's SQLite as they set it up themselves, Prefect writes files. What is
resumed failed at its last task in another process, and goes on in a new one; no task that ended before is called again.
Prefect and redun find results by what they were computed from, DBOS forks the workflow from the step that failed."""


def _own(result: Result) -> str:
    return _text(result, result.cascade) if result.cascade else "-"


def _text(result: Result, measured: Measured) -> str:
    return measured.problem or words.amount(measured.value, result.case.unit)


def _shown(result: Result, measured: Measured) -> str:
    return " ".join(filter(None, [_text(result, measured), measured.call.note and f"({measured.call.note})"]))


def _references(result: Result) -> str:
    ideal = [f"ideal {words.amount(result.case.ideal, result.case.unit)}"] if result.case.ideal is not None else []
    floors = [f"{name} {_text(result, measured)}" for name, measured in result.references.items()]
    return ", ".join(ideal + floors) or "-"


def _ratio(result: Result) -> float | None:
    if result.cascade is None or result.cascade.value is None or not result.reference:
        return None
    return result.cascade.value / result.reference


def _peer(result: Result, measured: Measured) -> str:
    own = result.cascade.value if result.cascade else None
    parts = [_text(result, measured)]
    if measured.value is not None and own:
        parts.append(words.ratio(measured.value / own))
    return ", ".join(filter(None, [*parts, measured.call.note]))


def _goals(result: Result) -> str:
    return ", ".join(words.goal(goal, result.case) for goal in result.case.goals)


def _verdict(result: Result) -> str:
    return "-" if not result.case.goals else {True: "yes", False: "**no**", None: "**no number**"}[result.reached]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(map(_line, [head, ["---"] * len(head), *rows]))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1024**3:.0f} GB of memory"
