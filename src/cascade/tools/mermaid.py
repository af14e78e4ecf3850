"""Graphs as Mermaid flowcharts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cascade.graph.model import EdgeType, NodeKind
from cascade.tools.picture_text import notes_on, shortened, title_of

if TYPE_CHECKING:
    from cascade.graph.model import Graph

_SHAPES: Final = {
    NodeKind.CALL: ("[", "]"),
    NodeKind.MAP: ("[[", "]]"),
    NodeKind.DERIVED: ("([", "])"),
    NodeKind.INPUT: ("[/", "/]"),
    NodeKind.ROUTER: ("{", "}"),
    NodeKind.SEQUENCE: ("{{", "}}"),
    NodeKind.PIPELINE: (">", "]"),
    NodeKind.CONTAINER: ("[(", ")]"),
    NodeKind.CONSTANT: ("(", ")"),
}
_COLORS: Final = {
    NodeKind.CALL: ("#dbeafe", "#1d4ed8"),
    NodeKind.MAP: ("#c7d2fe", "#3730a3"),
    NodeKind.DERIVED: ("#f1f5f9", "#64748b"),
    NodeKind.INPUT: ("#dcfce7", "#15803d"),
    NodeKind.ROUTER: ("#fef9c3", "#a16207"),
    NodeKind.SEQUENCE: ("#ede9fe", "#6d28d9"),
    NodeKind.PIPELINE: ("#fae8ff", "#a21caf"),
    NodeKind.CONTAINER: ("#e2e8f0", "#475569"),
    NodeKind.CONSTANT: ("#ffffff", "#94a3b8"),
}
_LINES: Final = {
    EdgeType.DATA: ("-->", "#334155"),
    EdgeType.CONDITION: ("-.->", "#ca8a04"),
    EdgeType.CONSTRAINT: ("--o", "#dc2626"),
    EdgeType.IMPLICIT: ("-.-o", "#94a3b8"),
    EdgeType.SEQUENCE: ("==>", "#7c3aed"),
    EdgeType.ROUTER_ROUTE: ("--x", "#0891b2"),
}
_HARMFUL: Final = re.compile(r"(?<![^\W_])_|_(?![^\W_])|[^\w ,/'\[\]…]")
_WRITTEN: Final = {edge_type: line for edge_type, (line, _) in _LINES.items()}


def write(graph: Graph) -> str:
    """The text of a flowchart."""
    lines = ["flowchart TD"]
    for node in graph.nodes:
        opening, closing = _SHAPES[node.kind]
        label = "<br/>".join(map(_escaped, [title_of(node), *notes_on(node.lazy)]))
        lines.append(f'  n{node.index}{opening}"{label}"{closing}:::{_class_of(node.kind)}')
    styled: dict[EdgeType, list[str]] = {}
    for number, edge in enumerate(graph.edges):
        styled.setdefault(edge.edge_type, []).append(str(number))
        label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
        lines.append(f"  n{edge.source.index} {_WRITTEN[edge.edge_type]}{label} n{edge.target.index}")
    for kind in dict.fromkeys(node.kind for node in graph.nodes):
        fill, stroke = _COLORS[kind]
        lines.append(f"  classDef {_class_of(kind)} fill:{fill},stroke:{stroke},color:#0f172a")
    for edge_type, numbers in styled.items():
        lines.append(f"  linkStyle {','.join(numbers)} stroke:{_LINES[edge_type][1]}")
    lines.append(f"  style n{graph.target} stroke-width:4px")
    return "\n".join(lines)


def _class_of(kind: NodeKind) -> str:
    """The class of nodes of a kind; `call` alone is a word of Mermaid's own."""
    return f"kind_{kind.value}"


def _escaped(text: str) -> str:
    """Text for inside quotes.

    Mermaid looks into quotes for directives, markdown, entities and even styles, and browsers for HTML: so whatever
    is not known to be harmless stands there as its number.
    """
    return _HARMFUL.sub(lambda found: f"#{ord(found[0])};", shortened(text)) or " "
