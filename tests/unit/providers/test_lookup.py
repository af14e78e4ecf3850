"""A path leads to one value, or the error tells where it stopped and what was there."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from cascade.providers.lookup import LookupPathError, lookup
from cascade.spec.exceptions import DeclarationError


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Server:
    ports: list[int]


DATA: dict[Any, Any] = {"server": {"ports": [80, 443], "a.b": {1: "one"}}, "none": None, "point": Point(1, 2)}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("server.ports[0]", 80),
        ("server.ports[-1]", 443),
        ("server.ports.1", 443),
        ('server["a.b"][1]', "one"),
        (["server", "a.b", 1], "one"),
        ("none", None),
        ("point.y", 2),
        ("point[0]", 1),
    ],
)
def test_a_path_leads_to_a_value(path: Any, expected: object) -> None:
    assert lookup.function(DATA, path) == expected
    assert lookup.function(DATA, path, default="unused") == expected


def test_sequences_and_objects_with_fields() -> None:
    assert lookup.function([[5]], "[0][0]") == 5
    assert lookup.function([[5]], 0) == [5]
    assert lookup.function(Server([80]), "ports[0]") == 80


@pytest.mark.parametrize(
    ("path", "depth", "expected"),
    [
        (
            "server.prots[0]",
            1,
            "no 'prots' at server, a dict whose keys are 'ports', 'a.b'; did you mean 'ports'?",
        ),
        ("sever", 0, "no 'sever' at the top, a dict .*did you mean 'server'?"),
        ("server.ports[2]", 2, "no 2 at server.ports, a list which has 2 items"),
        ("server.ports.first", 2, "no 'first' at server.ports, a list"),
        ("none.x", 1, "at none is a NoneType, which has no 'x'"),
        ("point.z", 1, "keys are 'x', 'y'"),
        ([["unhashable"]], 0, "a dict whose keys"),
    ],
)
def test_a_missing_key_tells_where_it_stopped(path: Any, depth: int, expected: str) -> None:
    with pytest.raises(LookupPathError, match=expected) as caught:
        lookup.function(DATA, path)
    assert isinstance(caught.value, LookupError)
    assert pickle.loads(pickle.dumps(caught.value)).depth == depth
    assert lookup.function(DATA, path, default=None) is None


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a.", "a[", "a[x]", "a]b", "[0]a", [], None, True])
def test_a_path_that_cannot_be_read_is_reported_at_the_call(path: Any) -> None:
    with pytest.raises(DeclarationError, match="path"):
        lookup(DATA, path)
    with pytest.raises(DeclarationError, match="path"):
        lookup(DATA, path=path)
