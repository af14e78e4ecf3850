"""Numbers for people."""

from __future__ import annotations

from benchmarks.case import Case, Goal, Unit


def amount(value: float | None, unit: Unit) -> str:
    """A number with its unit, to three digits."""
    if value is None:
        return "-"
    if unit == "frames":
        return f"{value:.0f} frames"
    scale = _TIMES if unit == "seconds" else _BYTES
    for least, name in scale:
        if abs(value) >= least:
            return f"{_three(value / least)} {name}"
    least, name = scale[-1]
    return f"{_three(value / least)} {name}"


def ratio(value: float | None) -> str:
    """A ratio to three digits."""
    return "-" if value is None else f"{_three(value)} x"


def one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def goal(goal: Goal, case: Case) -> str:
    """What is to be reached, as in a table."""
    if goal.relation == "ratio":
        of = "ideal" if case.ideal is not None else next(iter(case.references))
        return f"<= {goal.most:g} x {of}"
    most = amount(goal.most, case.unit).replace(".00 ", " ").replace(".0 ", " ")
    if goal.relation == "difference":
        return f"<= {most} more than {next(iter(case.references))}"
    return f"<= {most}"


_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_BYTES = ((1024**2, "MB"), (1024, "KB"), (1, "B"))


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:,.2f}" if size < 10 else f"{value:,.1f}" if size < 100 else f"{value:,.0f}"
