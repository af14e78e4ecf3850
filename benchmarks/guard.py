"""A guard against gross losses: the ratio of each quick case to its floor may not be twice what it was."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import words
from benchmarks.case import Case
from benchmarks.harness import Result, measure

ROUNDS = 5
# Ratios carry over between machines, but not exactly, and machines are noisy.
WORST = 2.0
RATIOS = Path(__file__).parent / "ratios.json"


def check(cases: list[Case], *, rounds: int, write: bool) -> int:
    """Print the ratios; with `write` keep them, otherwise give 1 if one is much worse than the one that is kept."""
    kept: dict[str, float] = json.loads(RATIOS.read_text("utf-8")) if RATIOS.exists() else {}
    ratios: dict[str, float] = {}
    lost: list[str] = []
    print(f"{'case':22} {'Cascade':>10} {'floor':>10} {'ratio':>10} {'kept':>10}")
    for case in cases:
        result = _measured(case, rounds)
        before = kept.get(case.name)
        if not write and before and _is_loss(result, before):
            print(f"{case.name:22} {words.ratio(result.ratio):>32}: once more, with more rounds")
            result = _measured(case, 3 * rounds)
        verdict = ""
        if result.ratio is None:
            verdict = "NO RESULT"
        elif not write and before and _is_loss(result, before):
            verdict = f"LOST: more than {WORST:g} times the ratio that is kept"
        if verdict:
            lost.append(case.name)
        else:
            ratios[case.name] = round(result.ratio or 0, 2)
        print(
            f"{case.name:22} {words.amount(result.cascade.value if result.cascade else None, case.unit):>10} "
            f"{words.amount(result.floor, case.unit):>10} {words.ratio(result.ratio):>10} "
            f"{words.ratio(before):>10}  {verdict}".rstrip(),
            flush=True,
        )
    if write and not lost:
        RATIOS.write_text(json.dumps(kept | ratios, indent=2) + "\n", "utf-8")
    if lost:
        print(f"failed: {', '.join(lost)}")
    return 1 if lost else 0


def _measured(case: Case, rounds: int) -> Result:
    return measure(case, rounds=rounds, first_reference_only=True, tell=print)


def _is_loss(result: Result, before: float) -> bool:
    return result.ratio is not None and result.ratio > WORST * before
