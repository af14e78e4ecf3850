"""What a store says of a run that nobody has: which of the calls that were made must never be made again."""

from __future__ import annotations

from collections.abc import Iterable

from cascade.graph.digest import combine
from cascade.runtime.durability.keys import RESULT, TARGET, run_key
from cascade.spec.records import ROOT, Record
from tests.durability.ledger import Effect

_FINAL = {"value", "continues", "skipped"}


def key_of_call(run_id: str, scope: bytes, node: bytes) -> str:
    """The idempotency key of the call at a place."""
    return combine("call of", run_key(run_id), scope, node).hex()


def committed(run_id: str, records: Iterable[Record], effects: Iterable[Effect]) -> set[str]:
    """The keys of those calls whose endings, or what followed from these, were committed."""
    effects = list(effects)
    records = list(records)
    # What was skipped because something failed is wanted again when that has healed.
    final = {"value", "continues"} if any(record.kind == "failed" for record in records) else _FINAL
    ended = {
        (record.scope, record.node): record
        for record in records
        if record.kind in final and record.detail != "UpstreamFailed"
    }
    if (ROOT, RESULT) in ended:
        return {effect.key for effect in effects}
    by_key = {key_of_call(run_id, *place): record for place, record in ended.items()}
    # Where a place goes on with turn 5, the turns before that are gone from the store; where it has its value, all are.
    over = []
    for effect in effects:
        record = by_key.get(effect.key)
        if record is not None:
            over.append((f"{effect.place}@", record.turn if record.kind == "continues" else None))
    target = ended.get((ROOT, TARGET))
    if target is not None:
        over.append((f"{target.label}@", target.turn))
    found = set(by_key)
    for effect in effects:
        for prefix, turn in over:
            if effect.place.startswith(prefix):
                own = int(effect.place[len(prefix) :].partition("/")[0])
                if turn is None or own < turn:
                    found.add(effect.key)
        if target is not None and not effect.place.startswith(f"{target.label}@"):
            found.add(effect.key)
    return found
