"""The names of places in a store: the same in every process that runs the same workflow (S26).

A place is named by the scope that it is in and by a key within that. The nodes of a graph go by their structural ids,
the items of a map by their number. What a call returned is a scope of its own, named after the call's place and the
turn; so is a map, named after its node.
"""

from __future__ import annotations

from typing import Final

from cascade.graph.digest import combine
from cascade.spec.records import ROOT

TARGET: Final = b"target"
"""The place of a run's target, where graphs in tail position of the whole run go on."""
RESULT: Final = b"result"
"""The place of what a finished run gave."""
PARAMS: Final = b"params"
"""What a run's parameters are signed for."""
ROOT_GRAPH: Final = combine("graph", ROOT)
"""The scope of the graph that a run begins with."""


def scope_of_turn(scope: bytes, node: bytes, turn: int) -> bytes:
    """The scope of the graph that goes on in a place.

    Args:
        turn: how many graphs have come there with it, from 1 on.
    """
    return combine("turn", scope, node, turn.to_bytes(8, "big"))


def scope_of_items(scope: bytes, node: bytes) -> bytes:
    """The scope of the items of a map."""
    return combine("items", scope, node)


def run_key(run_id: str) -> bytes:
    """A run's name in as many bytes as a scope's."""
    return combine("run", run_id.encode(errors="surrogatepass"))


def signed_for(run: bytes, scope: bytes, node: bytes, turn: int) -> bytes:
    """What a payload is signed for: it counts for this turn of this place of this run alone."""
    return b"%b%b%b%b" % (run, turn.to_bytes(8, "big"), scope, node)
