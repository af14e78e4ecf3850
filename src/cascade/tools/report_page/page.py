"""One HTML file that shows a run, and asks no network for anything."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from cascade.adapters.telemetry.wording import counted, lasting
from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import CascadeError
from cascade.tools.command.moments import iso, shown_moment
from cascade.tools.command.standing import standing_of
from cascade.tools.report_page.drawing import drawn
from cascade.tools.report_page.model import MOST_FAILURES, MOST_TASKS, Report, TaskRow, named, told
from cascade.tools.report_page.picture import picture_by_time, picture_of
from cascade.tools.report_page.whereabouts import whereabouts_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from cascade.graph.model import Graph
    from cascade.spec.protocols import Clock, Store
    from cascade.tools.command.journal_tree import Place


def write_report(
    store: Store,
    run_id: str,
    path: str | os.PathLike[str],
    *,
    target: Any = None,
    clock: Clock | None = None,
) -> None:
    """Write a page about a run, as one file that needs no network. No value that the store keeps is unpickled.

    Args:
        store: the store that has the run.
        run_id: the run.
        path: the file to write; one that exists is replaced.
        target: what the run was asked for, if it is at hand: then the picture of its graph shows what needs what.
        clock: what the time of writing is taken from.

    Raises:
        CascadeError: there is no such run.
        OSError: the file cannot be written.
    """
    row = store.find(run_id)
    if row is None:
        raise CascadeError(f"the store has no run {named(run_id)!r}; expected the id of a run that it keeps")
    graph: Graph | None = None
    whereabouts: dict[str, str] = {}
    if target is not None:
        from cascade.graph.build import build_graph

        graph, _ = build_graph(target)
        whereabouts = whereabouts_of(graph)
    report = Report(row, store.records(run_id), whereabouts=whereabouts)
    standing = standing_of(row, store.url).value
    now = (clock or SystemClock()).now()
    Path(path).write_text(page_of(report, standing, graph, now), encoding="utf-8", newline="\n")


def page_of(report: Report, standing: str, graph: Graph | None, now: float) -> str:
    """The text of the page.

    Args:
        standing: how the run stands, in a word.
        graph: the graph that the run began with, if it is known.
        now: when the page is made, in seconds since the epoch.
    """
    style, script = _asset("style.css"), _asset("script.js")
    picture = picture_by_time(_first_graph(report)) if graph is None else picture_of(graph, report.roots)
    name = named(report.row.run_id)
    return Template(_asset("page.html")).substitute(
        policy=_policy(style, script),
        title=escape(f"{name}: {standing}"),
        run=escape(name),
        standing=escape(standing),
        facts="".join(_facts(report, now)),
        counts="".join(_counts(report)),
        graph=drawn(picture, report.number_of),
        graph_note=escape(_graph_note(picture.by_time, picture.left_out)),
        lanes_note=escape(_lanes_note(report)),
        timeline_note=escape(_listed_note(report)),
        tasks="".join(map(_task_row, report.tasks[:MOST_TASKS])),
        tasks_note=escape(_left_out(len(report.tasks), MOST_TASKS, "name")),
        failures_hidden="" if report.failures else "hidden",
        failures="".join(_failure(place, report) for place in report.failures[:MOST_FAILURES]),
        failures_note=escape(_left_out(len(report.failures), MOST_FAILURES, "error")),
        written=escape(shown_moment(now)),
        data=_embedded(report.columns()),
        style=style,
        script=script,
    )


def _asset(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What the page may do: nothing but this style and this script, and no network."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: object) -> str:
    """JSON for inside a script element, where no text can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _facts(report: Report, now: float) -> Iterator[str]:
    row = report.row
    program = report.program
    is_open = row.status == "running"
    if program is not None:
        yield _fact("Workflow", _code(f"{program.shown}"), f" in {_code(program.folder)}")
    yield _fact("Target", _code(row.target))
    yield _fact("Began", _time(row.created))
    yield _fact("Last written" if is_open else "Ended", _time(row.updated))
    yield _fact("Took", escape(lasting((now if is_open else row.updated) - row.created)))
    if row.epoch > 1:
        yield _fact("Resumed", counted(row.epoch - 1, "time"))
    if row.owner:
        yield _fact("Owner", _code(row.owner))
    for name, value in report.params:
        yield _fact(f"Parameter {_code(name)}", _code(value))
    if report.result is not None and report.result.preview is not None:
        yield _fact("Result", _code(report.result.preview))
    if row.error:
        yield _fact("Error", _code(row.error), kind="bad")


def _fact(title: str, *content: str, kind: str = "") -> str:
    """One fact; title and content are HTML."""
    return f'<div class="fact {kind}"><dt>{title}</dt><dd>{"".join(content)}</dd></div>'


def _code(text: str) -> str:
    # Names written from right to left stay where they are, and reorder nothing around them.
    return f"<bdi><code>{escape(told(text))}</code></bdi>"


def _time(moment: float) -> str:
    at = iso(moment)
    return (
        escape(shown_moment(moment)) if at is None else f'<time datetime="{at}">{escape(shown_moment(moment))}</time>'
    )


def _counts(report: Report) -> Iterator[str]:
    for state in ("done", "failed", "skipped", "goes on"):
        count = report.states[state]
        if count or state == "done":
            yield f'<li class="s-{state.replace(" ", "-")}"><b>{count:,}</b> {state}</li>'


def _task_row(task: TaskRow) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in task.reasons.most_common(8))
    cells = (
        (task.count, f"{task.count:,}"),
        (task.done, f"{task.done:,}"),
        (task.failed, f"{task.failed:,}"),
        (task.skipped, f"{task.skipped:,}" + (f"<small>{escape(reasons)}</small>" if reasons else "")),
        (task.attempts, f"{task.attempts:,}"),
        (task.total, _lasting(task.total)),
        (task.mean, _lasting(task.mean)),
        (task.longest, _lasting(task.longest)),
    )
    numbers = "".join(f'<td data-value="{value}">{shown}</td>' for value, shown in cells)
    return f'<tr{" class=bad" if task.failed else ""}><th scope="row"><bdi>{escape(task.name)}</bdi></th>{numbers}</tr>'


def _lasting(seconds: float) -> str:
    return escape(lasting(seconds)) if seconds else "-"


def _failure(place: Place, report: Report) -> str:
    record = place.record
    assert record is not None
    number = report.number_of.get(id(place))
    link = f'<button type="button" class="link" data-place="{number}">show place</button>' if number is not None else ""
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return (
        f"<li><p><bdi><b>{escape(named(record.name or place.title))}</b></bdi> "
        f'<span class="dim"><bdi>{escape(named(place.path))}</bdi>{attempt}</span> {link}</p>'
        f"<pre>{escape(told(record.detail or 'no description'))}</pre></li>"
    )


def _first_graph(report: Report) -> list[Place]:
    return [place for place in report.roots if place.record is not None]


def _graph_note(by_time: bool, left_out: int) -> str:
    note = (
        "Columns tell time: a box stands to the right of all that had ended when it began. "
        "What needs what is not in the store; --graph draws it from the workflow."
        if by_time
        else "A line leads from a value to what needs it. A dashed box has no record: it is kept nowhere, or not yet."
    )
    return f"{note} Boxes left out: {left_out:,}." if left_out else note


def _lanes_note(report: Report) -> str:
    """What the rows of the timeline mean, and what they do not."""
    rows = "A row is no thread: it is the first that was free when a call began, so rows tell how many went on at once."
    if not report.whereabouts:
        return f"{rows} On what calls ran is not in the store; --graph tells it from the workflow."
    return (
        f"{rows} Rows stand under what their calls ran on, as the tasks in the workflow say it; which of the threads "
        "or processes that was is not known."
    )


def _listed_note(report: Report) -> str:
    listed = len(report.places)
    if listed == report.total:
        return ""
    return (
        f"Timeline and places show {listed:,} of {report.total:,} places, the first that failed among them; "
        "counts and tasks are of all."
    )


def _left_out(count: int, most: int, noun: str) -> str:
    return f"and {counted(count - most, noun)} more" if count > most else ""
