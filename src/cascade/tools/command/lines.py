"""What calls have logged and printed, as people and machines read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade.adapters.telemetry.wording import harmless
from cascade.tools.command.moments import iso, shown_moment

if TYPE_CHECKING:
    from cascade.spec.records import Line

_LONGEST = 20_000
"""Characters: more than a store keeps of a line."""


def shown_line(line: Line) -> str:
    """A line with its moment and its call, of which no terminal obeys anything; it may have several of its own."""
    first, *more = line.text.split("\n")
    attempt = f" (attempt {line.attempt})" if line.attempt > 1 else ""
    where = f"{harmless(line.place)}{attempt}  " if line.place else ""
    head = f"{shown_moment(line.at)}  {where}{harmless(line.source)}: {harmless(first, _LONGEST)}"
    return "\n".join([head, *(f"    {harmless(text, _LONGEST)}" for text in more)])


def told_line(line: Line) -> dict[str, Any]:
    """A line."""
    return {
        "number": line.number,
        "at": iso(line.at),
        "source": line.source,
        "id": line.place,
        "name": line.name,
        "attempt": line.attempt,
        "text": line.text,
    }
