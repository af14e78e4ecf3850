"""Tables and lines on a terminal of any width, and as plain text where nobody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLES: Final = {
    "running": "cyan",
    "interrupted": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "done": "green",
    "skipped": "dim",
    "goes on": "cyan",
}
"""The color of each state."""
_GAP: Final = 2


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its head.
        least: how narrow it may get by leaving out the ends of texts; 0 for never.
        weight: a narrow terminal loses the columns of the least weight first.
    """

    title: str
    least: int = 0
    weight: int = 100


def stdout() -> Console:
    """The console of results. What is printed on it is no markup."""
    return Console(highlight=False, markup=False, emoji=False)


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
    """Write a table, within the width of a terminal or as wide as it gets elsewhere."""
    console = stdout()
    if not console.is_terminal:
        widths = _widths(columns, rows)
        for row in ([Text(column.title) for column in columns], *rows):
            padded = [cell.plain + " " * (widths[place] - cell.cell_len) for place, cell in enumerate(row)]
            console.print((" " * _GAP).join(padded).rstrip(), soft_wrap=True)
        return
    console.print(table_of(columns, rows, console.width))


def table_of(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> Table:
    """A table that is no wider than a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    fitting = _fitting(columns, _widths(columns, rows), width)
    for place, wide in fitting.items():
        # Of the first column, which has the ids, nothing is ever left out.
        table.add_column(columns[place].title, width=wide, no_wrap=place > 0, overflow="ellipsis" if place else "fold")
    for row in rows:
        table.add_row(*(row[place] for place in fitting))
    return table


def write_line(console: Console, line: Text, *, wraps: bool = False) -> None:
    """Write a line: cut at the edge of a terminal unless it wraps there, and whole elsewhere."""
    if not console.is_terminal:
        console.print(line.plain.rstrip(), soft_wrap=True)
    elif wraps:
        console.print(line)
    else:
        console.print(line, no_wrap=True, overflow="ellipsis")


def state_text(state: str, told: str | None = None) -> Text:
    """A state in its color."""
    return Text(state if told is None else told, style=STYLES.get(state, ""))


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> list[int]:
    return [
        max([cell_len(column.title), *(row[place].cell_len for row in rows)]) for place, column in enumerate(columns)
    ]


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> dict[int, int]:
    """The columns that a terminal has room for, and how wide they are."""
    shown = list(range(len(columns)))
    while len(shown) > 2:
        needed = sum(min(widths[place], columns[place].least or widths[place]) + _GAP for place in shown) - _GAP
        if needed <= width:
            break
        shown.remove(min(shown[1:], key=lambda place: (columns[place].weight, -place)))
    fitting = {place: widths[place] for place in shown}
    excess = sum(fitting.values()) + _GAP * (len(shown) - 1) - width
    for place in sorted(shown, key=lambda place: columns[place].weight):
        least = columns[place].least or (widths[place] if place else 1)
        saved = max(0, min(excess, fitting[place] - least))
        fitting[place] -= saved
        excess -= saved
    return fitting
