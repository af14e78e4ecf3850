"""What a run did, held against what the reference says it must do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.property.construction import Built, Observation, error_of, same
from tests.property.prediction import Error, Ledger, Prediction, Skipped, Value

CALLED = ("n", "t", "p")
"""How the names begin that the rules speak of: calls and maps, not connectors, parts or the items of maps."""


@dataclass(frozen=True)
class Difference:
    """One way in which a run broke the rules.

    Attributes:
        kind: what broke, without names and numbers: small workflows are sought that break the same.
        detail: what was expected and what came.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


def differences(built: Built, prediction: Prediction, seen: Observation) -> list[Difference]:
    """Each way in which a run broke the rules."""
    if seen.hangs:
        return [Difference("the run hangs", "it was cancelled")]
    return list(_differences(built, prediction, seen))


def _differences(built: Built, prediction: Prediction, seen: Observation) -> Iterator[Difference]:
    ledger = prediction.ledger
    if seen.late:
        yield Difference("called after the run had ended (S15)", f"functions {seen.late}")
    if seen.ended_twice:
        yield Difference("more than one terminal event (S28)", f"nodes {seen.ended_twice}")
    told = seen.ends or {}
    ends = Counter({end: times for end, times in told.items() if end[0].startswith(CALLED)})
    if not ledger.failures and not ledger.vague:
        yield from _outcome(prediction, seen)
        yield from _calls(seen.calls, ledger.calls, Counter())
        if seen.ends is not None:
            yield from _ends(ends, ledger.ends, Counter())
    elif built.workflow.on_failure == "stop":
        yield from _stopped(ledger, seen, ends)
    else:
        yield from _failures(ledger, seen)
        yield from _calls(seen.calls, ledger.calls, ledger.spare_calls)
        if seen.ends is not None:
            yield from _ends(ends, ledger.ends, ledger.spare_ends)
        yield from _results(built, prediction, seen)


def _outcome(prediction: Prediction, seen: Observation) -> Iterator[Difference]:
    outcome = prediction.outcome
    if isinstance(outcome, Value):
        if seen.error is not None:
            kind = f"{type(seen.error).__name__} and not a value"
            yield Difference(kind, f"expected {outcome.value!r}, got {seen.error}")
        elif not same(outcome.value, seen.value):
            yield Difference("a wrong value", f"expected {outcome.value!r}, got {seen.value!r}")
        return
    assert isinstance(outcome, Skipped)
    if type(seen.error).__name__ != "DependencyMissingError":
        yield Difference("no DependencyMissingError (S14)", f"expected {outcome.reason}, got {_shown(seen)}")
    elif prediction.reasons and (reason := getattr(seen.error, "reason", None)) not in prediction.reasons:
        wanted = sorted(prediction.reasons)
        yield Difference("DependencyMissingError with another reason", f"expected {wanted}, got {reason}")


def _stopped(ledger: Ledger, seen: Observation, ends: Counter[tuple[str, str]]) -> Iterator[Difference]:
    """A run that stops raises one of the failures, and does nothing that a run that goes on would not do."""
    possible = {error for slot in ledger.failures for error in slot}
    if seen.error is None or not (ledger.vague or error_of(seen.error) in possible):
        yield Difference("none of the failures is raised (S15)", f"expected {possible}, got {_shown(seen)}")
    most = ledger.calls + ledger.spare_calls
    for function, times in seen.calls.items():
        if times > most[function]:
            yield Difference("called too often", f"function {function}: {times}, at most {most[function]}")
    most_ends = ledger.ends + ledger.spare_ends
    most_of: Counter[str] = Counter()
    for (name, _), times in most_ends.items():
        most_of[name] += times
    for (name, end), times in ends.items():
        if end in ("UpstreamFailed", "ConditionMissing"):
            yield Difference(f"{end} in a run that stops (S12)", name)
        # What would have succeeded at a later attempt may end as `Failed` where the run stops before that.
        limit = most_ends[name, end] if end == "Succeeded" else most_of[name]
        if times > limit:
            yield Difference(f"ended too often with {end}", f"{name}: {times}, at most {limit}")


def _failures(ledger: Ledger, seen: Observation) -> Iterator[Difference]:
    """All failures, each once; of a map that failed, those of some of its items."""
    if type(seen.error).__name__ != "RunFailedGroup":
        yield Difference("no RunFailedGroup (S15)", f"expected {ledger.failures}, got {_shown(seen)}")
        return
    errors = [error_of(error) for error in getattr(seen.error, "exceptions", ())]
    if not ledger.vague and not _matches(ledger.failures, errors):
        yield Difference("other failures (S15)", f"expected {ledger.failures}, got {errors}")


def _matches(slots: list[tuple[Error, ...]], errors: list[Error]) -> bool:
    """Whether the errors can be dealt out so that each slot gets some of its own, and at least one."""
    if not slots:
        return not errors
    first, *rest = slots
    most = Counter(first) & Counter(errors)
    for taken in itertools.product(*(range(times + 1) for times in most.values())):
        share = Counter(dict(zip(most, taken, strict=True)))
        if share.total() and _matches(rest, list((Counter(errors) - share).elements())):
            return True
    return False


def _results(built: Built, prediction: Prediction, seen: Observation) -> Iterator[Difference]:
    results: Any = getattr(seen.error, "results", None)
    if results is None:
        return
    for place, value in prediction.values.items():
        lazy = built.lazies[place]
        if lazy not in results:
            yield Difference("a result is not among the results (S15)", f"n{place} = {value!r}")
        elif not same(results[lazy], value):
            yield Difference("a wrong result (S15)", f"n{place} is {value!r}, got {results[lazy]!r}")
    for place in prediction.idle:
        if built.lazies[place] in results:
            yield Difference("a result of what has none (S15)", f"n{place}: {results[built.lazies[place]]!r}")


def _calls(seen: Counter[int], expected: Counter[int], spare: Counter[int]) -> Iterator[Difference]:
    for key in {**seen, **expected}:
        if times := _outside(seen[key], expected[key], spare[key]):
            yield Difference("called more or less often", f"function {key}: {times}")


def _ends(
    seen: Counter[tuple[str, str]], expected: Counter[tuple[str, str]], spare: Counter[tuple[str, str]]
) -> Iterator[Difference]:
    for name, end in {**seen, **expected}:
        key = name, end
        if times := _outside(seen[key], expected[key], spare[key]):
            yield Difference(f"ended more or less often with {end}", f"{name}: {times}")


def _outside(seen: int, expected: int, spare: int) -> str | None:
    if expected <= seen <= expected + spare:
        return None
    return f"{seen}, expected {expected}" + (f" to {expected + spare}" if spare else "")


def _shown(seen: Observation) -> str:
    return f"the value {seen.value!r}" if seen.error is None else f"{type(seen.error).__name__}: {seen.error}"
