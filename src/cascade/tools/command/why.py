"""`cascade why`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from cascade.adapters.telemetry.wording import counted, harmless, lasting
from cascade.tools.command.arguments import RunArgument, StoreOption
from cascade.tools.command.caching import cache_reasons
from cascade.tools.command.endings import CommandError
from cascade.tools.command.journal_tree import Place, all_places, places_called, tree_of
from cascade.tools.command.moments import shown_moment
from cascade.tools.command.stores import existing_store, run_in
from cascade.tools.command.suggestions import did_you_mean
from cascade.tools.command.tables import stdout, write_line
from cascade.tools.command.undecided import AFTER_FAILURE

if TYPE_CHECKING:
    from cascade.spec.records import Record, RunRow

_MOST_NAMED: Final = 8
_REASONS: Final = {
    "ConditionFalse": "its condition (run_if) was false",
    "ConditionMissing": "its condition (run_if) failed, so that nobody knows whether it was to run",
    "UpstreamSkipped_Condition": "its condition (run_if) was skipped",
    "UpstreamSkipped_Sequence": "what it comes after was skipped",
    "UpstreamSkipped_Route": "the route that its router took was skipped",
    "UpstreamSkipped_Data": "one of its inputs was skipped",
    "UpstreamFailed": "one of its inputs failed",
    "Pruned": "nothing wanted it: the routers took other routes, or none",
    "RunStopped": "the run stopped before it could start",
    "CacheHit": "its value was in the cache",
}


def why(
    run_id: RunArgument,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODE",
            help="As `cascade show` and events call it: fetch#3, pages#1[17]; the name of its task where no other node "
            "has it; or the start of its structural id.",
            show_default=False,
        ),
    ],
    store: StoreOption = None,
) -> None:
    """Tell why a node of a run has run, was skipped or failed, and what a resumed run does with it."""
    with existing_store(store) as opened:
        row = run_in(opened, run_id)
        roots = tree_of(opened.outline(run_id))
        found = places_called(roots, node)
        if len(found) != 1:
            raise CommandError(_not_one(found, roots, row, node))
        record = found[0].record
        cache = [] if record is None else list(cache_reasons(row, record, opened))
    console = stdout()
    for line in (*told_of(found[0], row), *map(Text, cache)):
        write_line(console, line, wraps=True)


def told_of(place: Place, row: RunRow) -> Iterator[Text]:
    """How a place came to stand as it does, in sentences."""
    record = place.record
    assert record is not None
    yield Text.assemble((harmless(place.path, 1_000), "bold"), f"  {_KINDS[record.kind]}")
    yield from map(Text, _reasons(place, record))
    yield Text(f"structural id  {record.node.hex()}")
    if row.status == "succeeded":
        yield Text("the run has finished: resumed, it gives its value and runs nothing")
    else:
        decided_again = record.kind == "skipped" and record.detail in AFTER_FAILURE
        yield Text(f"resumed, {_DECIDED_AGAIN if decided_again else _RESUMED[record.kind]}")


_KINDS: Final = {
    "value": "has run",
    "mapped": "has run",
    "volatile": "has run",
    "failed": "failed",
    "skipped": "was skipped",
    "continues": "goes on",
}
_RESUMED: Final = {
    "value": "the run reuses its value as long as the code has this structural id",
    "mapped": "the run reuses the values of its items as long as the code has this structural id",
    "volatile": "the run calls it again: its value could not be kept",
    "failed": "the run calls it again: a failure is not final",
    "skipped": "the run skips it again, unless that depends on what has failed",
    "continues": "the run does not call it again and goes on with what it returned",
}
_DECIDED_AGAIN: Final = "the run tries again what has failed, and then decides about it anew"


def _reasons(place: Place, record: Record) -> Iterator[str]:
    when = f"{shown_moment(record.ended)}, after {lasting(record.ended - record.began)}"
    attempt = "" if record.attempt == 1 else f" of attempt {record.attempt}"
    if record.kind == "skipped":
        reason = record.detail or ""
        yield f"{_REASONS.get(reason, 'a reason that this Cascade does not know')} ({harmless(reason)})"
        yield f"told at {shown_moment(record.ended)}"
    elif record.kind == "failed":
        yield f"{harmless(record.detail or 'an error', 1_000)}"
        yield f"that was the end{attempt} at {when}"
    elif record.kind == "continues":
        yield f"it returned {harmless(record.name)} in turn {counted(record.turn)}, which is computed in its place"
    else:
        if record.kind == "mapped":
            # Its items may have been journaled by earlier processes, and its own call is nobody's.
            yield f"its items had all ended at {shown_moment(record.ended)}"
        elif record.ended > record.began:
            yield f"nothing was journaled under its structural id, so it was called; the end{attempt} was at {when}"
        else:
            yield f"its value came from its cache, or from what its call had returned, at {shown_moment(record.ended)}"
        if record.preview is not None:
            yield f"value  {harmless(record.preview)}"
    failed = [inner for inner in place.inside if inner.state == "failed"]
    if place.inside:
        yield f"inside: {counted(len(place.inside), 'place')}" + (f", {counted(len(failed))} failed" if failed else "")


def _not_one(found: list[Place], roots: list[Place], row: RunRow, node: str) -> str:
    shown = f"'{harmless(node)}' in run '{harmless(row.run_id)}'"
    if found:
        some = ", ".join(harmless(place.path) for place in found[:_MOST_NAMED])
        more = "" if len(found) <= _MOST_NAMED else f" and {counted(len(found) - _MOST_NAMED)} more"
        return f"{len(found)} places are called {shown}: {some}{more}"
    hint = did_you_mean(node, (place.path for place in all_places(roots) if place.record is not None))
    return f"nothing that has ended is called {shown}; {hint or '`cascade show` lists what has'}"
