"""Random workflows without pytest: `python -m tests.property.fuzz COUNT SEED [MOST_NODES]`.

Workflow number k of a seed is the same everywhere. The first that breaks a rule is made small and printed.
"""

from __future__ import annotations

import sys

from tests.property.generation import random_workflow, seeded
from tests.property.workflows import examiner


def main(count: int, seed: int, most_nodes: int = 12) -> int:
    """Look at `count` workflows; return how many break a rule (at most one: it is the end)."""
    with examiner() as examined:
        for number in range(count):
            try:
                examined.check(random_workflow(seeded(seed * 1_000_003 + number), most_nodes))
            except AssertionError as error:
                print(f"seed {seed}, workflow {number}: {error}")
                return 1
    print(f"{count} workflows of seed {seed} keep the rules")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
