"""A picture as SVG inside a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cascade.tools.report_page.picture import Box, Picture

_WIDTH: Final = 152
_HEIGHT: Final = 46
_COLUMN: Final = _WIDTH + 48
_ROW: Final = _HEIGHT + 16
_MARGIN: Final = 12
_ARROW: Final = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z"/></marker></defs>'
)
_SIGNS: Final = {"done": "✓", "failed": "✗", "skipped": "○", "goes on": "↻", "not ended": "…", "no record": "·"}


def drawn(picture: Picture, number_of: Mapping[int, int]) -> str:
    """The picture; boxes whose places are listed can be chosen.

    Args:
        number_of: the numbers of listed places by their identities.
    """
    boxes = picture.boxes
    if not boxes:
        return '<p class="dim">Nothing has ended yet.</p>'
    top = min(box.row for box in boxes)
    width = max(box.layer for box in boxes) * _COLUMN + _WIDTH + 2 * _MARGIN
    height = round((max(box.row for box in boxes) - top) * _ROW) + _HEIGHT + 2 * _MARGIN
    at = [(_MARGIN + box.layer * _COLUMN, _MARGIN + round((box.row - top) * _ROW)) for box in boxes]
    head = (
        f'<svg class="graph" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="Graph of {len(boxes)} boxes and {len(picture.lines)} lines">'
    )
    drawn_boxes = (_box(box, *place, number_of) for box, place in zip(boxes, at, strict=True))
    return "".join((head, _ARROW, *_lines(picture, at), *drawn_boxes, "</svg>"))


def _lines(picture: Picture, at: list[tuple[int, int]]) -> Iterator[str]:
    for source, target, kind, label in picture.lines:
        (left, from_y), (right, to_y) = at[source], at[target]
        left, from_y, to_y = left + _WIDTH, from_y + _HEIGHT // 2, to_y + _HEIGHT // 2
        bend = max(24, (right - left) // 2)
        path = f"M{left} {from_y}C{left + bend} {from_y} {right - bend} {to_y} {right} {to_y}"
        title = f"{picture.boxes[source].title} → {picture.boxes[target].title}, {kind}{': ' if label else ''}{label}"
        yield f'<path class="line k-{kind}" d="{path}" marker-end="url(#arrow)"><title>{escape(title)}</title></path>'


def _box(box: Box, x: int, y: int, number_of: Mapping[int, int]) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in box.states.most_common())
    state = box.state.replace(" ", "-")
    told = states if box.count > 1 else box.state
    inside = sum(len(place.inside) for place in box.places)
    if inside:
        told += f", {inside:,} inside"
    shown = next((number_of[id(place)] for place in box.places if id(place) in number_of), None)
    choice = "" if shown is None else f' tabindex="0" role="button" data-place="{shown}"'
    title = escape(box.title)
    return (
        f'<g class="box s-{state} n-{box.kind}"{choice} aria-label="{title}, {escape(told)}">'
        f"<title>{title}\n{escape(told)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="{_rounding(box)}"/>'
        f'<text class="sign" x="{x + 10}" y="{y + 28}">{_SIGNS[box.state]}</text>'
        # HTML inside the SVG can end what is too long for the box with an ellipsis.
        f'<foreignObject x="{x + 28}" y="{y + 4}" width="{_WIDTH - 34}" height="{_HEIGHT - 8}">'
        f'<div class="title">{title}</div>'
        f'<div class="told">{escape(_counted(box, told))}</div></foreignObject></g>'
    )


def _counted(box: Box, told: str) -> str:
    return f"{box.count:,} calls: {told}" if box.count > 1 else told


def _rounding(box: Box) -> int:
    return 6 if box.kind in ("call", "map") else 22
