"""Graphs in the language of Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade.graph.model import EdgeType, NodeKind
from cascade.tools.picture_text import notes_on, shortened, title_of

if TYPE_CHECKING:
    from cascade.graph.model import Graph

_NODES: Final = {
    NodeKind.CALL: 'shape=box, style="rounded,filled", fillcolor="#dbeafe", color="#1d4ed8"',
    NodeKind.MAP: 'shape=box3d, style="filled", fillcolor="#c7d2fe", color="#3730a3"',
    NodeKind.DERIVED: 'shape=ellipse, style="filled", fillcolor="#f1f5f9", color="#64748b"',
    NodeKind.INPUT: 'shape=parallelogram, style="filled", fillcolor="#dcfce7", color="#15803d"',
    NodeKind.ROUTER: 'shape=diamond, style="filled", fillcolor="#fef9c3", color="#a16207"',
    NodeKind.SEQUENCE: 'shape=cds, style="filled", fillcolor="#ede9fe", color="#6d28d9"',
    NodeKind.PIPELINE: 'shape=rarrow, style="filled", fillcolor="#fae8ff", color="#a21caf"',
    NodeKind.CONTAINER: 'shape=folder, style="filled", fillcolor="#e2e8f0", color="#475569"',
    NodeKind.CONSTANT: 'shape=plain, style="filled", fillcolor="#ffffff", color="#94a3b8"',
}
_EDGES: Final = {
    EdgeType.DATA: 'style=solid, arrowhead=normal, color="#334155"',
    EdgeType.CONDITION: 'style=dashed, arrowhead=empty, color="#ca8a04"',
    EdgeType.CONSTRAINT: 'style=dashed, arrowhead=tee, color="#dc2626"',
    EdgeType.IMPLICIT: 'style=dotted, arrowhead=odot, color="#94a3b8"',
    EdgeType.SEQUENCE: 'style=bold, arrowhead=vee, color="#7c3aed"',
    EdgeType.ROUTER_ROUTE: 'style=solid, arrowhead=diamond, color="#0891b2"',
}


def write(graph: Graph) -> str:
    """The text of a directed graph."""
    lines = [
        "digraph workflow {",
        '  graph [rankdir=TB, charset="UTF-8"];',
        '  node [fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    for node in graph.nodes:
        label = "\\n".join(map(_escaped, [title_of(node), *notes_on(node.lazy)]))
        width = ", penwidth=3" if node.index == graph.target else ""
        lines.append(f'  n{node.index} [label="{label}", class="{node.kind.value}", {_NODES[node.kind]}{width}];')
    for edge in graph.edges:
        label = f'label="{_escaped(edge.label)}", ' if edge.label else ""
        kind = edge.edge_type.value.replace(" ", "-")
        look = f'class="{kind}", {_EDGES[edge.edge_type]}'
        lines.append(f"  n{edge.source.index} -> n{edge.target.index} [{label}{look}];")
    lines.append("}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Text for inside quotes; in labels Graphviz reads entities, and a backslash begins an escape."""
    harmless = shortened(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return harmless.replace("\\", "\\\\").replace('"', '\\"')
