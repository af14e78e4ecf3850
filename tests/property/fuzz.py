"""Random workflows without pytest: `python -m tests.property.fuzz COUNT SEED [MOST_NODES]`.

Workflow number k of a seed is the same everywhere. The first that breaks a rule is made small and printed.
"""

from __future__ import annotations

import sys

from tests.property.generation import random_workflow, seeded
from tests.property.reduction import reduced
from tests.property.reference import TooMuch, predict
from tests.property.workflows import examiner


def main(count: int, seed: int, most_nodes: int = 12) -> int:
    """Look at `count` workflows; return how many break a rule (at most one: it is the end)."""
    with examiner() as examined:
        for variant in examined.engines:
            variant.hangs_after = 3.0
        for number in range(count):
            workflow = random_workflow(seeded(seed * 1_000_003 + number), most_nodes)
            try:
                problems = examined.problems(workflow, predict(workflow))
            except TooMuch:
                continue
            if problems:
                print(f"seed {seed}, workflow {number}:", *problems, sep="\n  ")
                small = reduced(workflow, lambda other: bool(examined.problems(other)))
                print("\nmade small:", *examined.problems(small), sep="\n  ")
                print(f"\n{small}\n\n{small!r}")
                return 1
    print(f"{count} workflows of seed {seed} keep the rules")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
