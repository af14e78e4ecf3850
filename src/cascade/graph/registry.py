"""One node for one structure, across builds."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from cascade.graph.model import Node


class NodeRegistry:
    """Keeps one node for each structure, for as long as some graph has it."""

    def __init__(self) -> None:
        self._nodes: WeakValueDictionary[str, Node] = WeakValueDictionary()

    def shared(self, node: Node) -> Node:
        """The node that stands for this one's structure: itself, if it is the first of its kind."""
        return self._nodes.setdefault(node.structural_id, node)

    def __len__(self) -> int:
        return len(self._nodes)
