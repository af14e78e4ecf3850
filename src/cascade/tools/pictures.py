"""Pictures of graphs, as text that Mermaid or Graphviz draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.graph.build import build_graph
from cascade.spec.exceptions import DeclarationError
from cascade.tools import dot, mermaid

if TYPE_CHECKING:
    from typing import Literal

_WRITERS: Final = {"mermaid": mermaid.write, "dot": dot.write}


def visualize(target: Any, format: Literal["mermaid", "dot"] = "mermaid") -> str:
    """Draw what a target needs, as text; nothing is run.

    Each kind of node has its own shape and color, each kind of edge its own line, and what was asked for has a
    thick border. Edges are labeled with the argument, the route's key or the resource that they are for. The same
    workflow gives the same text.

    Args:
        target: a lazy value, a container of them, or a plain value.
        format: `"mermaid"`, which notebooks and GitHub draw, or `"dot"` for Graphviz. Mermaid refuses large
            pictures (by default beyond 500 edges or 50,000 characters); Graphviz does not.

    Raises:
        DeclarationError: the format is another one.

    >>> import cascade as cs
    >>> double = cs.task(lambda x: 2 * x, name="double")
    >>> print(visualize(double(double(1)), format="dot"))  # doctest: +ELLIPSIS
    digraph workflow {
      ...
      n0 [label="double", class="call", ...];
      n1 [label="double", class="call", ...];
      n0 -> n1 [label="x", class="data", ...];
    }
    """
    writer = _WRITERS.get(format)
    if writer is None:
        raise DeclarationError(f"the format of a picture is 'mermaid' or 'dot', got {format!r}")
    graph, _ = build_graph(target)
    return writer(graph)
