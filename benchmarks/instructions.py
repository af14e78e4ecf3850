"""A steadier guard than time: instructions, counted by `valgrind --tool=callgrind`.

The load of the machine does not change them: equal runs differ little. The build of Python does, so counts are kept for
each version of Python, and one for which none is kept is told and lets pass. `python -m benchmarks.instructions`
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.harness import environment

KEPT = Path(__file__).parent / "instructions.json"
SIZE = 4_000
SMALL = 10
# Builds of one version of Python differ by more than runs do.
WORST = 1.15
_COUNT = re.compile(rb"Collected : (\d+)")


def workload(size: int) -> None:
    """What is counted: a chain and a fan-out of as many tasks each; how threads share a map is another each time."""
    import cascade as cs
    from benchmarks import work
    from benchmarks.cases.graphs import double, increment, quietly, total
    from benchmarks.measuring import check

    for tasks in (SMALL, size):
        value: cs.LazyResult[int] | int = 0
        for _ in range(tasks):
            value = increment(value)
        check(quietly(value), tasks)
        check(quietly(total([double(index) for index in range(tasks)])), work.sum_of_doubles(tasks))


def per_task() -> float:
    """The instructions of one more task, start and imports not counted."""
    _run([], SMALL)  # So that all bytecode is there, and both counts have the same to load.
    with ThreadPoolExecutor(2) as threads:
        small, large = threads.map(_count, (SMALL, SIZE))
    return (large - small) / (2 * (SIZE - SMALL))


def _count(size: int) -> int:
    errors = _run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"], size)
    counted = _COUNT.search(errors)
    if not counted:
        raise RuntimeError(f"valgrind counted nothing: {errors.decode(errors='replace')[-2_000:]}")
    return int(counted[1])


def _run(under: list[str], size: int) -> bytes:
    command = [*under, sys.executable, "-m", "benchmarks.instructions", "--workload", str(size)]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{command[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2_000:]}"
        )
    return done.stderr


def check(*, write: bool) -> int:
    """Print the count; with `write` keep it, otherwise give 1 if it is much more than the one that is kept."""
    if shutil.which("valgrind") is None:
        print("NOT COUNTED: valgrind is not installed")
        return 0
    python = f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])} {platform.machine()}"
    kept: dict[str, int] = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    count, before = per_task(), kept.get(python)
    print(f"{count:,.0f} instructions a task on {python}")
    if write:
        KEPT.write_text(json.dumps(kept | {python: round(count)}, indent=2, sort_keys=True) + "\n", "utf-8")
        return 0
    if before is None:
        print(f"NOT COMPARED: no count is kept for {python}; `python -m benchmarks.instructions --write` keeps one")
        return 0
    print(f"{count / before:.3f} times the {before:,} that are kept")
    if count > WORST * before:
        print(f"LOST: more than {WORST:g} times as many")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the count for this Python")
    parser.add_argument("--workload", type=int, metavar="SIZE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workload is not None:
        workload(options.workload)
        return 0
    return check(write=options.write)


if __name__ == "__main__":
    sys.exit(main())
