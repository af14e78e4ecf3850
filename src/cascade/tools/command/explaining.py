"""`cascade resume --explain`: what a run would reuse, what it would run again, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rich.text import Text

from cascade.adapters.telemetry.wording import counted, harmless
from cascade.graph.build import build_graph
from cascade.graph.hashing import identities_of
from cascade.runtime.durability.keys import ROOT_GRAPH, TARGET, run_key, scope_of_items, signed_for
from cascade.spec.exceptions import CorruptedValueError
from cascade.spec.records import ROOT
from cascade.tools.command.moments import shown_moment
from cascade.tools.command.tables import stdout, write_line
from cascade.tools.command.undecided import AFTER_FAILURE, CALLS, undecided_nodes
from cascade.tools.picture_text import shortened

if TYPE_CHECKING:
    from cascade.graph.model import Graph
    from cascade.spec.protocols import Serializer, Store
    from cascade.spec.records import Record, RunRow
    from cascade.tools.command.programs import Program

Fate = Literal["reused", "goes on", "runs", "fails", "gone"]
_STYLES: Final = {"reused": "green", "goes on": "cyan", "runs": "yellow", "fails": "red", "gone": "dim"}
_MOST: Final = 200


class Prospect(NamedTuple):
    """What becomes of a place when its run goes on.

    Attributes:
        place: the place.
        fate: what becomes of it.
        why: the reason, in words.
    """

    place: str
    fate: Fate
    why: str


def explain(row: RunRow, program: Program, store: Store, serializer: Serializer) -> None:
    """Tell what becomes of each call of a run when it goes on; nothing is run, and no value of a call is loaded.

    What calls have returned to go on with is: it may need code that is not there any more.
    """
    console = stdout()
    shown = harmless(row.run_id)
    if row.status == "succeeded":
        write_line(console, Text(f"run {shown} has finished: resume gives its value and runs nothing"))
        return
    located = program.load()
    records = store.records(row.run_id)
    graph, _ = build_graph(located.target)
    run = run_key(row.run_id)

    def obstacle(record: Record) -> str | None:
        try:
            assert record.payload is not None
            serializer.loads(record.payload, context=signed_for(run, record.scope, record.node, record.turn))
        except CorruptedValueError as error:
            return str(error)
        return None

    told = list(prospects(graph, records, obstacle))
    width = max((len(harmless(one.place)) for one in told), default=0)
    for one in told[:_MOST]:
        line = Text.assemble(
            harmless(one.place).ljust(width), "  ", (one.fate.ljust(7), _STYLES[one.fate]), f"  {one.why}"
        )
        write_line(console, line, wraps=True)
    if len(told) > _MOST:
        write_line(console, Text(f"and {counted(len(told) - _MOST)} more"))
    counts = {fate: sum(1 for one in told if one.fate == fate) for fate in _STYLES}
    said = ", ".join(f"{counted(count)} {_SAID[fate]}" for fate, count in counts.items() if count)
    write_line(console, Text(f"\n{said}; nothing was run" if said else "nothing to run"))


_SAID: Final = {
    "reused": "reused",
    "goes on": "to go on",
    "runs": "to run",
    "fails": "to fail",
    "gone": "no longer in the code",
}


def prospects(
    graph: Graph, records: list[Record], obstacle: Callable[[Record], str | None] = lambda record: None
) -> Iterator[Prospect]:
    """What becomes of the calls of a run's first graph, as it is declared now.

    Args:
        graph: the graph, built from the code as it is now.
        records: what the store knows of the run.
        obstacle: what keeps a place from going on with what its call returned, if anything does.
    """
    tail = next((record for record in records if record.scope == ROOT and record.node == TARGET), None)
    known = {record.node: record for record in records if record.scope == ROOT_GRAPH}
    inside = Counter(record.scope for record in records if record.kind in ("value", "mapped"))
    failed = Counter(record.scope for record in records if record.kind == "failed")
    keys = identities_of(graph).keys
    leftover = {key: record for key, record in known.items() if key not in set(keys)}
    by_name: dict[str, list[Record]] = {}
    for unused in leftover.values():
        by_name.setdefault(unused.name, []).append(unused)
    undecided = undecided_nodes(graph, [known.get(key) for key in keys])
    for index, (node, key) in enumerate(zip(graph.nodes, keys, strict=True)):
        record = known.get(key)
        if node.kind not in CALLS:
            continue
        if tail is not None:
            if record is not None:
                yield Prospect(node.id, "reused", "the run has left its first graph behind")
            continue
        if record is None or (record.is_of_map and record.kind == "failed"):
            items = scope_of_items(ROOT_GRAPH, key)
            if inside[items] or failed[items]:
                fate: Fate = "goes on" if inside[items] else "runs"
                yield Prospect(node.id, fate, _of_items(inside[items], failed[items]))
            elif former := by_name.get(node.name):
                same = [record for record in former if record.label == node.id]
                at = (same or former)[0]
                former.remove(at)
                leftover.pop(at.node, None)
                yield Prospect(
                    node.id,
                    "runs",
                    f"changed: what is journaled of {harmless(at.label)} has another structural id "
                    f"({at.node.hex()[:8]}, now {key.hex()[:8]})",
                )
            else:
                yield Prospect(node.id, "runs", "new: it had not ended, or was not there")
        elif record.kind == "skipped" and index in undecided:
            source = undecided[index]
            cause = (
                "because something had failed"
                if record.detail in AFTER_FAILURE or source is None
                else f"and depends on {harmless(graph.node_id(source))}"
            )
            yield Prospect(node.id, "runs", f"it was skipped {cause} ({record.detail or ''}): that is decided again")
        elif record.kind == "continues" and (problem := obstacle(record)) is not None:
            yield Prospect(shortened(node.id), "fails", f"it cannot go on with {harmless(record.name)}: {problem}")
        else:
            yield _of_record(shortened(node.id), record, inside)
    if tail is not None:
        place = f"target, turn {counted(tail.turn)}"
        if (problem := obstacle(tail)) is not None:
            yield Prospect(place, "fails", f"the run cannot go on with {harmless(tail.name)}: {problem}")
            return
        ended = inside[tail.inner or b""]
        yield Prospect(
            place,
            "goes on",
            f"the run goes on with {harmless(tail.name)}; {counted(ended, 'place')} of this turn ended before and "
            "are reused as far as the code still has them",
        )
        return
    for unused in leftover.values():
        yield Prospect(harmless(unused.label), "gone", "it is journaled, and no call of the code as it is now is that")


def _of_items(ended: int, failed: int) -> str:
    said = f"{counted(ended, 'item')} ended before and are reused"
    return f"{said}; {counted(failed)} of it failed before" if failed else said


def _of_record(place: str, record: Record, inside: Counter[bytes]) -> Prospect:
    when = f"ended {shown_moment(record.ended)}"
    if record.kind == "value":
        return Prospect(place, "reused", f"its value is journaled, {when}")
    if record.kind == "mapped":
        items = inside[record.inner or b""]
        return Prospect(place, "reused", f"its {counted(items, 'item')} are journaled, {when}")
    if record.kind == "skipped":
        return Prospect(place, "reused", f"it was skipped: {record.detail or ''}")
    if record.kind == "continues":
        ended = inside[record.inner or b""]
        return Prospect(
            place,
            "goes on",
            f"it returned {harmless(record.name)}, of which {counted(ended, 'place')} ended before "
            f"(turn {counted(record.turn)})",
        )
    if record.kind == "volatile":
        return Prospect(place, "runs", f"its value could not be kept, so it is made again ({when})")
    return Prospect(place, "runs", f"it failed before: {harmless(record.detail or '')}")
