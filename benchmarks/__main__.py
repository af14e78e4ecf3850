"""The command line of the benchmarks; needs nothing but the Python that runs it, and finds Cascade in `src/`."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from time import perf_counter

from benchmarks import guard, report
from benchmarks.case import Case
from benchmarks.catalog import CASES
from benchmarks.environments import PEERS, make_environments
from benchmarks.harness import Result, measure


def main() -> int:
    options = _options()
    cases = [case for case in CASES if any(fnmatch(case.name, pattern) for pattern in options.case)]
    if options.quick:
        cases = [case for case in cases if case.quick]
    if not cases:
        print(f"no case is called {' or '.join(options.case)}; there are: {', '.join(case.name for case in CASES)}")
        return 2
    if options.list:
        for case in cases:
            print(f"{case.name:24} {case.what}")
        return 0
    if options.quick:
        return guard.check(cases, rounds=options.rounds or guard.ROUNDS, write=options.write)
    return _everything(cases, options)


def _everything(cases: list[Case], options: argparse.Namespace) -> int:
    began = perf_counter()
    pythons = make_environments(_peers(cases, options), print) if options.peers else {}
    results: list[Result] = []
    for case in cases:
        result = measure(case, rounds=options.rounds, pythons=pythons, tell=_warn)
        print(report.line(result), flush=True)
        results.append(result)
    minutes = (perf_counter() - began) / 60
    print(f"\n{len(results)} cases in {minutes:.1f} minutes")
    if options.write and options.case == ["*"]:
        report.write(results, minutes)
    elif options.write:
        report.renew(results)
    broken = [result.case.name for result in results if result.cascade and result.cascade.problem]
    if broken:
        print(f"without a number of Cascade: {', '.join(broken)}")
    return 1 if broken else 0


def _peers(cases: list[Case], options: argparse.Namespace) -> list[str]:
    taking_part = {name for case in cases for name in case.peers}
    return [name for name in PEERS if name in taking_part and (not options.peer or name in options.peer)]


def _warn(line: str) -> None:
    print(f"  ! {line}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", action="append", metavar="GLOB", help="only cases of this name; may be repeated")
    parser.add_argument("--rounds", type=int, metavar="N", help="measure everything N times, not as often as is usual")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="run other tools too")
    parser.add_argument("--peer", action="append", metavar="NAME", help="only this one of them; may be repeated")
    parser.add_argument(
        "--write", action="store_true", help="write RESULTS.md or some rows of it, or with --quick ratios.json"
    )
    parser.add_argument("--quick", action="store_true", help="a few cases, compared with the ratios of ratios.json")
    parser.add_argument("--list", action="store_true", help="list the cases and measure nothing")
    options = parser.parse_args()
    options.case = options.case or ["*"]
    if options.write and options.case != ["*"] and (options.quick or not report.RESULTS.exists()):
        parser.error("--write is for all cases the first time, and always with --quick")
    return options


if __name__ == "__main__":
    sys.exit(main())
