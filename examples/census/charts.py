"""Small charts as SVG, to stand in a page; colours come from the page's style by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_ROW = 26
_BAR = 16
_CHARACTER = 7.2
_CELL = 40


def bars(rows: Sequence[tuple[str, float, str]], *, width: int = 520, largest: float | None = None) -> str:
    """Horizontal bars.

    Args:
        rows: name, value and what is written behind the bar, from the top.
        width: of the chart, in pixels.
        largest: the value of a full bar; the largest one by default.
    """
    left = 12 + _CHARACTER * min(24, max((len(name) for name, _, _ in rows), default=0))
    right = 16 + 1.1 * _CHARACTER * max((len(note) for _, _, note in rows), default=0)
    full = largest or max((value for _, value, _ in rows), default=0) or 1
    drawn: list[str] = []
    for place, (name, value, note) in enumerate(rows):
        top = place * _ROW
        length = max(1.0, (width - left - right) * value / full)
        middle = top + _ROW / 2
        drawn.append(
            f"<g><title>{escape(name)}: {escape(note)}</title>"
            f'<text class="name" x="{left - 8:.0f}" y="{middle:.0f}">{escape(_short(name))}</text>'
            + (
                f'<rect class="track" x="{left:.0f}" y="{top + 5}" width="{width - left - right:.0f}" '
                f'height="{_BAR}" rx="3"/>'
                if largest
                else ""
            )
            + f'<rect class="bar" x="{left:.0f}" y="{top + 5}" width="{length:.1f}" height="{_BAR}" rx="3"/>'
            f'<text class="note" x="{(width - right if largest else left + length) + 8:.0f}" '
            f'y="{middle:.0f}">{escape(note)}</text></g>'
        )
    return _svg(width, len(rows) * _ROW, drawn)


def columns(rows: Sequence[tuple[str, float, str]], *, width: int = 520, height: int = 260) -> str:
    """Vertical columns: name below, and what is written above, from the left."""
    step = width / max(1, len(rows))
    full = max((value for _, value, _ in rows), default=0) or 1
    room = height - 56
    drawn: list[str] = []
    for place, (name, value, note) in enumerate(rows):
        tall = max(1.0, room * value / full)
        middle = (place + 0.5) * step
        bottom = height - 30
        drawn.append(
            f"<g><title>{escape(name)}: {escape(note)}</title>"
            f'<rect class="bar" x="{middle - step * 0.36:.1f}" y="{bottom - tall:.1f}" '
            f'width="{step * 0.72:.1f}" height="{tall:.1f}" rx="3"/>'
            f'<text class="note middle" x="{middle:.1f}" y="{bottom - tall - 10:.1f}">{escape(note)}</text>'
            f'<text class="name middle" x="{middle:.1f}" y="{bottom + 16}">{escape(name)}</text></g>'
        )
    return _svg(width, height, drawn)


def matrix(rows: Sequence[str], across: Sequence[str], values: Mapping[tuple[str, str], int]) -> str:
    """A table of shades, darker for more; each cell that is not empty has its number.

    Args:
        rows: the names down the left side.
        across: the names along the top.
        values: by the names of row and column; what is missing is empty.
    """
    left = 12 + _CHARACTER * max((len(_short(name)) for name in rows), default=0)
    head = 16 + 0.72 * _CHARACTER * max((len(_short(name)) for name in across), default=0)
    shown = [values.get((row, column), 0) for row in rows for column in across]
    # By the root: one package that is imported everywhere would leave all others pale.
    full = max(shown, default=0) ** 0.5 or 1
    drawn: list[str] = []
    for place, name in enumerate(across):
        x = left + (place + 0.6) * _CELL
        drawn.append(
            f'<text class="slanted" transform="translate({x:.0f},{head - 8:.0f}) rotate(-45)">'
            f"{escape(_short(name))}</text>"
        )
    for down, row in enumerate(rows):
        y = head + down * _CELL
        drawn.append(f'<text class="name" x="{left - 8:.0f}" y="{y + _CELL / 2:.0f}">{escape(_short(row))}</text>')
        for place, column in enumerate(across):
            number = values.get((row, column), 0)
            shade = number**0.5 / full
            x = left + place * _CELL
            if row == column:
                drawn.append(
                    f'<rect class="self" x="{x + 1:.0f}" y="{y + 1:.0f}" '
                    f'width="{_CELL - 2}" height="{_CELL - 2}" rx="3"/>'
                )
                continue
            told = f"<title>{escape(row)} imports {escape(column)} in {number} files</title>"
            drawn.append(
                f'<g>{told}<rect class="track" x="{x + 1:.0f}" y="{y + 1:.0f}" '
                f'width="{_CELL - 2}" height="{_CELL - 2}" rx="3"/>'
            )
            if number:
                ink = "light" if shade > 0.55 else "dark"
                drawn.append(
                    f'<rect class="bar" fill-opacity="{0.15 + 0.85 * shade:.2f}" x="{x + 1:.0f}" '
                    f'y="{y + 1:.0f}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3"/>'
                    f'<text class="cell {ink}" x="{x + _CELL / 2:.0f}" y="{y + _CELL / 2:.0f}">{number}</text>'
                )
            drawn.append("</g>")
    overhang = 0.72 * _CHARACTER * max((len(_short(name)) for name in across[-3:]), default=0)
    return _svg(left + len(across) * _CELL + overhang, head + len(rows) * _CELL, drawn)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _svg(width: float, height: float, drawn: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img">{"".join(drawn)}</svg>'
