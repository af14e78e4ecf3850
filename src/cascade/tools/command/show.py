"""`cascade show`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from cascade.adapters.telemetry.wording import counted, harmless, lasting
from cascade.control.kept_progress import kept_progress
from cascade.runtime.clock import SystemClock
from cascade.tools.command.arguments import JsonOption, RunArgument, StoreOption
from cascade.tools.command.journal_tree import Place, all_places, result_of, tree_of
from cascade.tools.command.lines import shown_line, told_line
from cascade.tools.command.machine_output import told_record, told_run, write_json
from cascade.tools.command.moments import shown_moment
from cascade.tools.command.programs import program_shown
from cascade.tools.command.runs import took
from cascade.tools.command.standing import Standing, standing_of
from cascade.tools.command.stores import existing_store, run_in, way_on
from cascade.tools.command.tables import state_text, stdout, write_line

if TYPE_CHECKING:
    from cascade.control.kept_progress import KeptProgress
    from cascade.runtime.held_back import HeldBack
    from cascade.spec.records import Line, Record, RunRow

_MOST_INSIDE: Final = 20
_MOST_FAILED: Final = 10
_DEEPEST: Final = 8
_MOST_LINES: Final = 500


def show(
    run_id: RunArgument,
    log: Annotated[bool, typer.Option("--log", help="What its calls have logged and printed, instead.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Show what has ended in a run and what is under way: states, times, errors, and values in a few characters."""
    with existing_store(store) as opened:
        row = run_in(opened, run_id)
        if log:
            _write_lines(row, opened.lines(run_id), as_json=as_json)
            return
        records = opened.outline(run_id)
        standing = standing_of(row, opened.url)
        settings = opened.settings(SystemClock().now()) if standing is Standing.RUNNING else {}
        url = opened.url
    kept = kept_progress(settings, run_id)
    roots = tree_of(records)
    if as_json:
        places = [place for place in all_places(roots) if place.record is not None]
        told = [told_record(place.record, place.path) for place in places if place.record is not None]
        result = result_of(records)
        write_json(
            {
                **told_run(row, standing),
                "result": None if result is None else result.preview,
                "active": [] if kept is None else [call.task_id for call in kept.calls],
                "blocked": [held._asdict() for held in _held_back(kept)],
                "places": told,
            }
        )
        return
    console = stdout()
    for line in (*_head(row, records, standing), *_under_way(kept)):
        write_line(console, line, wraps=True)
    if roots:
        write_line(console, Text(""))
    is_ascii, has_finished = console.options.ascii_only, standing is Standing.SUCCEEDED
    for number, line in enumerate(_tree(roots, is_ascii=is_ascii, has_finished=has_finished)):
        if number == _MOST_LINES:
            write_line(console, Text("... the rest is in --json", style="dim"))
            break
        write_line(console, line)
    if standing.can_be_resumed:
        write_line(console, Text(""))
        write_line(console, Text(f"go on {way_on(run_id, store, url)}"), wraps=True)


def _write_lines(row: RunRow, lines: Sequence[Line], *, as_json: bool) -> None:
    """What was logged and printed goes to stdout, and nothing else does."""
    if as_json:
        write_json([told_line(line) for line in lines])
    elif lines:
        typer.echo("\n".join(map(shown_line, lines)))
    else:
        typer.echo(f"nothing was logged or printed in run {harmless(row.run_id)}", err=True)


def _head(row: RunRow, records: Sequence[Record], standing: Standing) -> Iterator[Text]:
    """What there is to say of the run as a whole."""
    program = program_shown(row)
    now = SystemClock().now()
    yield Text.assemble(
        (harmless(row.run_id, 10_000), "bold"), "  ", state_text(standing.value), f"  {took(row, standing, now)}"
    )
    if program is None:
        yield Text(f"target   {harmless(row.target)}, started from code")
    else:
        yield Text(f"target   {harmless(program.shown)} in {harmless(program.folder, 1_000)}")
        for name, texts in program.params.items():
            yield Text(f"param    {harmless(name)}={harmless(', '.join(texts))}")
    yield Text(f"began    {shown_moment(row.created)}")
    if standing is Standing.RUNNING:
        yield Text(f"owner    {harmless(row.owner)}")
    if row.epoch > 1 and row.status == "succeeded":
        # Whoever asks for the value of a finished run is an owner for that time, and the store counts owners.
        yield Text(f"owners   {counted(row.epoch)}, those that only asked for its value included")
    elif row.epoch > 1:
        yield Text(f"resumed  {counted(row.epoch - 1, 'time')}")
    if row.error:
        yield Text(f"error    {harmless(row.error, 1_000)}", style="red" if standing is Standing.FAILED else "")
    result = result_of(records)
    if result is not None and standing is Standing.SUCCEEDED:
        yield Text(f"result   {harmless(result.preview or '')}")


def _under_way(kept: KeptProgress | None) -> Iterator[Text]:
    """What its process tells of calls that have not ended."""
    if kept is None:
        return
    for call in kept.calls:
        at = (
            ""
            if call.declared_at is None
            else f", called at {harmless(f'{call.declared_at[0]}:{call.declared_at[1]}', 1_000)}"
        )
        yield Text(f"active   {harmless(call.task_id)}{at}")
    for held in _held_back(kept):
        yield Text(f"blocked  {counted(held.calls)} {harmless(held.name)}: {harmless(held.reason)}")


def _held_back(kept: KeptProgress | None) -> Sequence[HeldBack]:
    return () if kept is None else kept.progress.held_back or ()


def _tree(roots: Sequence[Place], *, is_ascii: bool, has_finished: bool) -> Iterator[Text]:
    """A line for each place; of many the failed ones and the first."""
    branch, last, through = ("|- ", "`- ", "|  ") if is_ascii else ("├─ ", "└─ ", "│  ")
    stack: list[tuple[Place | str, str, str]] = [(item, "", "") for item in reversed(_chosen(roots))]
    while stack:
        item, lead, below = stack.pop()
        if isinstance(item, str):
            yield Text(f"{lead}{item}", style="dim")
            continue
        yield _line(item, lead, has_finished=has_finished)
        inside = _chosen(item.inside)
        if inside and len(below) >= 3 * _DEEPEST:
            inside = [f"{counted(sum(1 for _ in all_places(item.inside)), 'place')} deeper, in --json"]
        for number, child in enumerate(reversed(inside)):
            ends = number == 0
            stack.append((child, below + (last if ends else branch), below + ("   " if ends else through)))


def _chosen(places: Sequence[Place]) -> list[Place | str]:
    """Places that are shown, and a line about the others."""
    if len(places) <= _MOST_INSIDE:
        return list(places)
    failed = [number for number, place in enumerate(places) if place.state == "failed"][:_MOST_FAILED]
    kept = set(failed)
    kept.update(number for number in range(_MOST_INSIDE) if len(kept) < _MOST_INSIDE or number in kept)
    shown: list[Place | str] = [place for number, place in enumerate(places) if number in kept]
    states = Counter(place.state for number, place in enumerate(places) if number not in kept)
    told = ", ".join(f"{counted(count)} {state}" for state, count in states.items())
    return [*shown, f"and {counted(len(places) - len(kept))} more: {told}"]


def _line(place: Place, lead: str, *, has_finished: bool) -> Text:
    record = place.record
    # What the whole run goes on with has ended with the run.
    state = "done" if has_finished and place.state == "goes on" else place.state
    line = Text.assemble((lead, "dim"), harmless(place.title), "  ", state_text(state))
    if record is None:
        return line.append(f", {counted(len(place.inside), 'place')} in it")
    if record.kind == "continues":
        line.append(f" with {harmless(record.name)}, turn {counted(record.turn)}")
    if record.kind == "skipped":
        line.append(f": {harmless(record.detail or '')}", style="dim")
    if record.attempt > 1:
        line.append(f", attempt {record.attempt}")
    if record.ended > record.began:
        line.append(f"  {lasting(record.ended - record.began)}", style="dim")
    if record.kind == "failed":
        line.append(f"  {harmless(record.detail or '')}", style="red")
    elif record.preview is not None:
        line.append(f"  {harmless(record.preview)}")
    if record.kind == "volatile":
        line.append("  (not kept: is made again on resume)", style="yellow")
    return line
