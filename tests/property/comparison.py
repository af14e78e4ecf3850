"""What a run did, held against what the reference says it must do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.property.construction import Built, Observation, error_of, same
from tests.property.prediction import Error, Ledger, Prediction, Skipped, Value

CALLED = ("n", "t", "p")
"""How the names begin that the rules speak of: calls and maps, not connectors, parts or the items of maps."""


def differences(built: Built, prediction: Prediction, seen: Observation) -> list[str]:
    """Each way in which a run broke the rules, in a line."""
    return list(_differences(built, prediction, seen))


def _differences(built: Built, prediction: Prediction, seen: Observation) -> Iterator[str]:
    ledger = prediction.ledger
    if seen.late:
        yield f"functions {seen.late} were called after the run had ended (S15)"
    if seen.ended_twice:
        yield f"more than one terminal event for {seen.ended_twice} (S28)"
    # Where the ends are not known, those expected stand for them.
    told = ledger.ends if seen.ends is None else seen.ends
    ends = Counter({end: times for end, times in told.items() if end[0].startswith(CALLED)})
    if not ledger.failures and not ledger.vague:
        yield from _outcome(prediction, seen)
        yield from _exactly("calls of function", seen.calls, ledger.calls, Counter())
        yield from _exactly("ends of", ends, ledger.ends, Counter())
    elif built.workflow.on_failure == "stop":
        yield from _stopped(ledger, seen, ends)
    else:
        yield from _failures(ledger, seen)
        yield from _exactly("calls of function", seen.calls, ledger.calls, ledger.spare_calls)
        yield from _exactly("ends of", ends, ledger.ends, ledger.spare_ends)
        yield from _results(built, prediction, seen)


def _outcome(prediction: Prediction, seen: Observation) -> Iterator[str]:
    outcome = prediction.outcome
    if isinstance(outcome, Value):
        if seen.error is not None:
            yield f"expected the value {outcome.value!r}, got {_shown(seen.error)}"
        elif not same(outcome.value, seen.value):
            yield f"expected the value {outcome.value!r}, got {seen.value!r}"
        return
    assert isinstance(outcome, Skipped)
    if seen.error is None or type(seen.error).__name__ != "DependencyMissingError":
        got = repr(seen.value) if seen.error is None else _shown(seen.error)
        yield f"expected DependencyMissingError ({outcome.reason}), got {got} (S14)"
    elif prediction.reasons and (reason := getattr(seen.error, "reason", None)) not in prediction.reasons:
        yield f"expected DependencyMissingError for {sorted(prediction.reasons)}, got {reason} (S14)"


def _stopped(ledger: Ledger, seen: Observation, ends: Counter[tuple[str, str]]) -> Iterator[str]:
    """A run that stops raises one of the failures, and does nothing that a run that goes on would not do."""
    possible = {error for slot in ledger.failures for error in slot}
    if seen.error is None:
        yield f"expected one of {sorted(map(str, possible))}, got the value {seen.value!r} (S15)"
    elif not ledger.vague and error_of(seen.error) not in possible:
        yield f"expected one of {sorted(map(str, possible))}, got {_shown(seen.error)} (S15)"
    most = ledger.calls + ledger.spare_calls
    for function, times in seen.calls.items():
        if times > most[function]:
            yield f"function {function} was called {times} times, at most {most[function]} expected"
    most_ends = ledger.ends + ledger.spare_ends
    most_of: Counter[str] = Counter()
    for (name, _), times in most_ends.items():
        most_of[name] += times
    for (name, end), times in ends.items():
        if end in ("UpstreamFailed", "ConditionMissing"):
            yield f"{name} ended with {end} in a run that stops (S12)"
        # What would have succeeded at a later attempt may end as `Failed` where the run stops before that.
        most = most_ends[name, end] if end == "Succeeded" else most_of[name]
        if times > most:
            yield f"{name} ended {times} times with {end}, at most {most} expected"


def _failures(ledger: Ledger, seen: Observation) -> Iterator[str]:
    """All failures, each once; of a map that failed, those of some of its items."""
    if seen.error is None or type(seen.error).__name__ != "RunFailedGroup":
        got = repr(seen.value) if seen.error is None else _shown(seen.error)
        yield f"expected a RunFailedGroup of {ledger.failures}, got {got} (S15)"
        return
    errors = [error_of(error) for error in getattr(seen.error, "exceptions", ())]
    if ledger.vague:
        return
    if not _matches(ledger.failures, errors):
        yield f"expected the failures {ledger.failures}, got {errors} (S15)"


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


def _results(built: Built, prediction: Prediction, seen: Observation) -> Iterator[str]:
    results: Any = getattr(seen.error, "results", None)
    if results is None:
        return
    for place, value in prediction.values.items():
        lazy = built.lazies[place]
        if lazy not in results:
            yield f"results lack n{place} = {value!r} (S15)"
        elif not same(results[lazy], value):
            yield f"results[n{place}] should be {value!r}, is {results[lazy]!r} (S15)"
    for place in prediction.idle:
        if built.lazies[place] in results:
            yield f"results have n{place}, which has no value: {results[built.lazies[place]]!r} (S15)"


def _exactly(what: str, seen: Counter[Any], expected: Counter[Any], spare: Counter[Any]) -> Iterator[str]:
    for key in {**seen, **expected}:
        least, most = expected[key], expected[key] + spare[key]
        if not least <= seen[key] <= most:
            times = str(least) if least == most else f"{least} to {most}"
            yield f"{what} {key}: {seen[key]}, expected {times}"


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
