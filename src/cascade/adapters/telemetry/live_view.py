"""What is drawn of a run on a terminal, with Rich: a line for the whole, and one for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cascade.adapters.telemetry.wording import clocked, counted, harmless, per_second, roughly

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import OverflowMethod

    from cascade.adapters.telemetry.standing import Standing
    from cascade.runtime.progress import TaskProgress

_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER: Final = "|/-\\"
_TURNS_A_SECOND: Final = 5
_MOST_ROWS: Final = 12
_WIDEST_BAR: Final = 30
_NARROWEST_WITH_BAR: Final = 50
_LONGEST_NAME: Final = 32
_SHORTEST_NAME: Final = 8
_SHORTEST_STATE: Final = 8
_GAP: Final = 2


class LiveView:
    """Draws where a run stands.

    Args:
        stream: leads to the terminal; its encoding and the environment (`NO_COLOR`, `TERM`) decide on the
            looks.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._fancy = self._console.encoding.startswith("utf")

    def lines(self, standing: Standing, now: float, columns: int, rows: int) -> tuple[list[str], list[int]]:
        """The lines to draw, and how many columns each takes.

        Args:
            standing: where the run stands.
            now: the time, on the engine's monotonic clock.
            columns: how wide the terminal is.
            rows: how high it is.
        """
        # The last column stays free: terminals differ in where the cursor is behind it.
        width = max(10, columns - 1)
        parts = [self._head(standing, now)]
        room = min(_MOST_ROWS, rows - 4)
        if standing.rows and (room > 1 or room == len(standing.rows)):
            parts.append(self._table(standing, width, room))
        trouble = self._trouble(standing)
        if trouble is not None:
            parts.append(trouble)
        with self._console.capture() as captured:
            for part in parts:
                if isinstance(part, Text):
                    part.truncate(width, overflow="ellipsis" if self._fancy else "crop")
                self._console.print(part, width=width, no_wrap=True, overflow="crop", crop=True)
        lines = captured.get().rstrip("\n").split("\n")
        return lines, [cell_len(Text.from_ansi(line).plain) for line in lines]

    def _head(self, standing: Standing, now: float) -> Text | Table:
        progress = standing.progress
        elapsed = now - standing.began
        spinner = _SPINNER if self._fancy else _PLAIN_SPINNER
        text = Text(spinner[int(elapsed * _TURNS_A_SECOND) % len(spinner)], style="cyan")
        text.append(f" {standing.name}", style="bold")
        if progress is None:
            return text
        stopping = "  stopping" if progress.is_stopping else ""
        text.append(stopping, style="yellow")
        more = "" if progress.is_complete else "+"
        text.append(f"  {counted(progress.done)}/{counted(progress.total)}{more} tasks")
        facts = [clocked(elapsed)]
        if standing.rate is not None:
            facts.append(per_second(standing.rate))
        if standing.active:
            facts.append(f"{counted(standing.active)} active")
        if standing.seconds_left is not None:
            facts.append(f"about {roughly(standing.seconds_left)} left")
        text.append(f"  {'  '.join(facts)}", style="dim")
        return text

    def _table(self, standing: Standing, width: int, room: int) -> Table:
        rows = list(standing.rows.values())
        shown, left = _chosen(rows, room)
        numbers = [Text(f"{counted(row.done)}/{counted(row.total)}{'' if row.is_complete else '+'}") for row in shown]
        states = [_state(row, standing.retrying[row.name], standing.blocked[row.name]) for row in shown]
        bar = min(_WIDEST_BAR, width // 4) if width >= _NARROWEST_WITH_BAR else 0
        # Rather a name is cut than what is told of it, but people must know whom it is told of.
        free = width - sum(part + _GAP for part in (bar, _widest(numbers)) if part) - _GAP
        state = min(_widest(states), free - _SHORTEST_NAME)
        if state < _SHORTEST_STATE:
            state = 0
        name = max(_SHORTEST_NAME, min(_LONGEST_NAME, free - state))
        table = Table.grid(padding=(0, _GAP, 0, 0))
        overflow: OverflowMethod = "ellipsis" if self._fancy else "crop"
        table.add_column(no_wrap=True, overflow=overflow, max_width=name)
        if bar:
            table.add_column(width=bar)
        table.add_column(justify="right", no_wrap=True)
        if state:
            table.add_column(no_wrap=True, overflow=overflow, max_width=state)
        for row, number, told in zip(shown, numbers, states, strict=True):
            cells: list[Text | ProgressBar] = [Text(f"  {harmless(row.name, _LONGEST_NAME)}")]
            if bar:
                ended = row.done + row.skipped + row.failed
                cells.append(ProgressBar(total=max(1, row.total), completed=ended, width=bar))
            table.add_row(*cells, number, *([told] if state else ()))
        if left:
            table.add_row(Text(f"  and {counted(left)} more", style="dim"))
        return table

    def _trouble(self, standing: Standing) -> Text | None:
        found = [*standing.waits(), *standing.troubles()]
        return Text(f"  {'; '.join(found)}", style="yellow") if found else None


def _widest(texts: list[Text]) -> int:
    return max(text.cell_len for text in texts)


def _state(row: TaskProgress, retrying: int, blocked: int) -> Text:
    """How the calls of a task stand that have no value; those that wait are none of the active ones."""
    states = (
        (row.active - retrying - blocked, "active", "cyan"),
        (retrying, "retrying", "yellow"),
        (blocked, "blocked", "yellow"),
        (row.failed, "failed", "red"),
        (row.skipped, "skipped", "dim"),
    )
    told = [Text(f"{counted(calls)} {state}", style=style) for calls, state, style in states if calls > 0]
    return Text(" ").join(told)


def _chosen(rows: list[TaskProgress], room: int) -> tuple[list[TaskProgress], int]:
    """The rows that tell most, in their order, and how many are left out.

    What goes on comes before what is to come, and that before what is over.
    """
    if len(rows) <= room:
        return rows, 0

    def weight(index: int) -> tuple[int, int]:
        row = rows[index]
        ended = row.done + row.skipped + row.failed
        if row.active or 0 < ended < row.total:
            return 0, index
        return (1, index) if ended < row.total or not row.is_complete else (2, -index)

    best = sorted(sorted(range(len(rows)), key=weight)[: max(0, room - 1)])
    return [rows[index] for index in best], len(rows) - len(best)
