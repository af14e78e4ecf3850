"""Equal inputs have equal digests in every process, and what cannot be digested surely is refused (S25)."""

from __future__ import annotations

import abc
import asyncio
import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import http
import io
import math
import os
import pathlib
import pickle
import queue
import re
import socket
import struct
import subprocess
import sys
import threading
import types
import typing
import uuid
import weakref
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade.graph.cycles
import cascade.graph.digest
from cascade.graph.digest import UndigestibleError, combine, digest


class Colour(enum.Enum):
    RED = 1
    CRIMSON = RED
    BLUE = 2


class Marker(enum.Enum):
    MISSING = object()
    UNSET = frozenset({threading})


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int


class Pair(typing.NamedTuple):
    first: int
    second: int


class Record(dict):
    pass


class Tags(set):
    pass


class Node:
    def __init__(self, value=0, next=None):
        self.value = value
        self.next = next


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left):
        self.left = left


class Parser:
    def parse(self):
        return None


class Version(int):
    pass


VALUES = [
    None, True, False, 0, 1, -1, 255, 2**63, -(2**63), 2**200, 0.0, -0.0, 1.0, math.inf, 1j, 0j, -0j, "", "1",
    "a", "\udcff", "a" * 5000, "b" * 5000, b"", b"1", b"a" * 5000, bytearray(b"1"), memoryview(b"1"),
    Ellipsis, NotImplemented, range(3), range(0, 3, 2), slice(3), slice(None, None, 3), (), [], {}, set(),
    frozenset(), (1,), [1], {1}, frozenset({1}), [[1]], [1, 1], [[], [1]], [[[]], 1], {1: 1}, {1: True}, {"a":
    1, "b": 2}, {"b": 2, "a": 1}, ["ab", "c"], ["a", "bc"], [("a", 1), ("b", 2)], {1, (2, 3)},
    {frozenset({1}), frozenset({2})}, types.MappingProxyType({}), collections.OrderedDict(a=1), {"a": 1},
    collections.Counter("a"), collections.defaultdict(list), collections.defaultdict(set),
    collections.deque(), collections.deque(maxlen=2), collections.deque([1]), Record(), Record(a=1), Tags(),
    Tags({1}), Version(1), dt.date(2024, 1, 2), dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 2, fold=1),
    dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
    dt.time(1), dt.time(1, tzinfo=dt.UTC), dt.timedelta(1), dt.UTC, dt.timezone(dt.timedelta(hours=1)),
    zoneinfo.ZoneInfo("UTC"), decimal.Decimal("1.0"), decimal.Decimal("1.00"), decimal.Decimal("sNaN"),
    fractions.Fraction(1), uuid.UUID(int=1), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"),
    pathlib.Path("a"), pathlib.Path("b"), re.compile("a"), re.compile("a", re.IGNORECASE), re.compile(b"a"),
    Colour.RED, Colour.BLUE, Colour, Marker.MISSING, Marker.UNSET, Mode.READ, Mode.READ | Mode.WRITE,
    Point(1), Point(2), Point(1, tags=["a"]), Point, Frozen(1), Frozen(2), Pair(1, 2), (1, 2), Pair, Node(1),
    Node(2), Slotted(1), Slotted(2), Parser(), Parser, int, str, len, sum, str.upper, str.lower, [1].append,
    {}.get, int.__add__, math, os, functools.partial(len), functools.partial(len, [1]), functools.partial(sum,
    start=1), Parser().parse, list[int], list[str], int | str, typing.Any, ValueError("a"), ValueError("b"),
    KeyError("a"), io.BytesIO(b"a"), types.SimpleNamespace(a=1), lambda: 1, lambda: 2, lambda x: x,
]  # fmt: skip


def test_values_of_other_type_or_content_have_other_digests():
    digests: dict[bytes, object] = {}
    for value in VALUES:
        other = digests.setdefault(digest(value), value)
        assert other is value, f"{other!r} and {value!r} have one digest"
        assert len(digest(value)) == 16


@pytest.mark.parametrize("value", VALUES, ids=[f"{place} {type(value).__name__}" for place, value in enumerate(VALUES)])
def test_a_value_keeps_its_digest_inside_another_and_when_rebuilt(value):
    assert digest(value) == digest(value)
    assert digest([value]) == digest([value])
    assert digest([value]) != digest(value)
    assert digest({"k": (value,)}) != digest({"k": [value]})


def test_digests_are_the_same_on_every_version_and_platform():  # S26
    # Written down once: whoever changes these makes every cache and every journal of every user worthless.
    values = [
        None,
        True,
        1,
        -(2**70),
        1.5,
        -0.0,
        math.nan,
        1j,
        "naïve",
        b"\x00",
        (1, [2, {"a": {3, 4}}]),
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        collections.deque([1], maxlen=2),
        dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
        dt.timedelta(hours=1),
        decimal.Decimal("1.50"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=1),
        pathlib.PurePosixPath("a/b"),
        re.compile("a+", re.IGNORECASE),
        http.HTTPStatus.OK,
        types.SimpleNamespace(a=1, b=[2]),
        functools.partial(len, [1]),
        ValueError("a"),
    ]
    assert digest(values).hex() == "61571f7c6de934ca1f6b6f89ba2fc7dc"


def test_all_nans_are_one_value_and_both_zeros_are_two():
    strange = struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]
    assert digest(math.nan) == digest(-math.nan) == digest(strange)
    assert digest([math.nan]) == digest([strange])
    assert digest(complex(math.nan, 0)) == digest(complex(strange, 0))
    assert digest(0.0) != digest(-0.0)


def test_sets_have_no_order_and_dicts_have_that_of_insertion():
    # 0 and 8 share a slot of a small table, so that these two sets are iterated in different orders.
    assert list({0, 8}) != list({8, 0})
    assert digest({0, 8}) == digest({8, 0})
    assert digest({(0,), (8,)}) == digest({(8,), (0,)})
    assert digest({"a": 1, "b": 2}) != digest({"b": 2, "a": 1})


def test_a_subclass_of_set_has_no_order_either():
    assert digest(Tags([0, 8])) == digest(Tags([8, 0]))
    assert digest(Tags([0, 8])) != digest({0, 8})
    named = Tags([0, 8])
    named.name = "n"
    assert digest(named) != digest(Tags([0, 8]))


def test_attributes_have_no_order():
    one, other = Node(1, None), Node.__new__(Node)
    other.next, other.value = None, 1
    assert list(vars(one)) != list(vars(other))
    assert digest(one) == digest(other)


def test_what_cached_property_remembers_does_not_count():
    class Lazy:
        @functools.cached_property
        def doubled(self):
            return 2

    value = Lazy()
    value.x = 1
    before = digest(value)
    assert value.doubled == 2
    assert digest(value) == before


def test_members_of_a_subclass_of_a_dataclass_count_though_they_are_no_fields():
    class Wider(Point):
        def __init__(self, x, extra):
            super().__init__(x)
            self.extra = extra

    assert digest(Wider(1, 1)) != digest(Wider(1, 2))


def test_the_state_that_a_class_declares_is_its_content():
    class WithLock:
        def __init__(self, x):
            self.x = x
            self.lock = threading.Lock()

        def __getstate__(self):
            return {"x": self.x}

    assert digest(WithLock(1)) == digest(WithLock(1)) != digest(WithLock(2))


def test_an_alias_of_an_enum_member_is_that_member():
    assert digest(Colour.CRIMSON) == digest(Colour.RED)


def test_two_local_classes_of_one_name_are_two_types():
    def make(size):
        class Local:
            def area(self):
                return size

        return Local()

    assert digest(make(1)) == digest(make(1)) != digest(make(2))


def local_kinds(n):
    class Plain:
        def __init__(self):
            super().__init__()
            self.x = n

    @dataclasses.dataclass
    class Data:
        x: int = n
        tags: list = dataclasses.field(default_factory=list)

    @dataclasses.dataclass(frozen=True, slots=True, order=True)
    class Slots:
        x: int = n

    class Kind(enum.Enum):
        ONE = n

    class Row(typing.NamedTuple):
        x: int = n

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def run(self):
            return n

    class Concrete(Abstract, typing.Generic[typing.TypeVar("T")]):
        def run(self):
            return super().run()

    return {
        "plain": Plain(),
        "dataclass": Data(),
        "slots": Slots(),
        "enum": Kind.ONE,
        "namedtuple": Row(),
        "concrete": Concrete(),
        "classes": (Plain, Data, Slots, Kind, Row),
        "abstract class": Abstract,
    }


@pytest.mark.parametrize("name", local_kinds(1))
def test_values_of_every_kind_of_local_class_have_digests(name):
    assert digest(local_kinds(1)[name]) == digest(local_kinds(1)[name]) != digest(local_kinds(2)[name])


def test_sharing_says_nothing():
    shared = [1]
    assert digest([shared, shared]) == digest([[1], [1]])
    assert digest({"a": shared, "b": shared}) == digest({"a": [1], "b": [1]})


def test_a_diamond_of_a_thousand_layers_is_linear():
    layered: list = []
    for _ in range(1000):
        layered = [layered, layered]
    assert digest(layered) == digest(layered)


def test_states_made_while_digesting_are_not_mistaken_for_one_another():
    # Each state lives only as long as it is looked at, so the next one may get its id.
    class Fresh:
        def __init__(self, x):
            self.x = x

        def __reduce__(self):
            return (Fresh, ([self.x],))

    assert digest([Fresh(i) for i in range(500)]) != digest([Fresh(i // 2) for i in range(500)])
    assert len({digest([Fresh(0), Fresh(i)]) for i in range(200)}) == 200


@pytest.mark.parametrize("wrap", [
    lambda inner: [inner],
    lambda inner: (inner,),
    lambda inner: {"k": inner},
    lambda inner: {Node(1, inner)},
    lambda inner: Node(1, inner),
    lambda inner: functools.partial(len, inner),
], ids=["list", "tuple", "dict", "set", "object", "partial"])  # fmt: skip
def test_depth_has_no_limit(wrap):
    value = ()
    for _ in range(100_000 if wrap(()) == [()] else 10_000):
        value = wrap(value)
    assert digest(value) != digest(wrap(value))


def test_values_that_contain_themselves_have_digests():
    a: list = [1]
    a.append(a)
    b: list = [1]
    b.append(b)
    c: list = [2]
    c.append(c)
    assert digest(a) == digest(b) != digest(c)
    assert digest({"x": a}) == digest({"x": b}) != digest({"x": c})


def test_cycles_of_another_shape_have_other_digests():
    def ring(*values):
        nodes = [Node(value) for value in values]
        for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
            node.next = following
        return nodes[0]

    assert digest(ring(1, 2, 3)) == digest(ring(1, 2, 3))
    assert digest(ring(1, 2, 3)) != digest(ring(1, 3, 2))
    assert digest(ring(1, 2, 3)) != digest(ring(2, 3, 1))
    assert digest(ring(1, 1, 2)) != digest(ring(1, 2))
    assert digest(ring(1, 1, 2, 1, 1, 3)) != digest(ring(1, 1, 2, 1, 1, 2))
    # No walk through them can tell a ring of one from a ring of two alike.
    assert digest(ring(1)) == digest(ring(1, 1))
    assert digest(Node(1, ring(1))) == digest(Node(1, ring(1)))


def test_sets_within_cycles_have_no_order():
    def tree(order):
        root = Node("root")
        root.children = set()
        for value in order:
            child = Node(value)
            child.parent = root
            root.children.add(child)
        return root

    assert digest(tree(range(20))) == digest(tree(reversed(range(20))))
    assert digest(tree(range(20))) != digest(tree(range(21)))


def test_a_long_ring_and_a_large_tree_with_parents_are_digested_in_time():
    nodes = [Node(i) for i in range(5_000)]
    for i, node in enumerate(nodes):
        node.next = nodes[(i + 1) % len(nodes)]
        node.parent = nodes[i // 2]
    assert digest(nodes) == digest(copy.copy(nodes))


def test_a_cycle_too_uniform_to_tell_apart_is_refused(monkeypatch):
    monkeypatch.setattr(cascade.graph.cycles, "_MOST_STEPS", 10_000)
    nodes = [Node(0) for _ in range(500)]
    nodes[0].value = 1
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.next = following
    with pytest.raises(UndigestibleError, match="too alike"):
        digest(nodes)


def test_a_recursive_local_function_has_a_digest():
    def make(base):
        def count(n):
            return base if n == 0 else count(n - 1)

        return count

    assert digest(make(1)) == digest(make(1)) != digest(make(2))


def generate():
    yield 1


async def coroutine():
    """Never awaited: closed by the test."""


def closing_over(value):
    return lambda: value


REFUSED = {
    "lock": threading.Lock(),
    "event": threading.Event(),
    "thread": threading.current_thread(),
    "generator": generate(),
    "iterator": iter([1]),
    "map": map(len, []),
    "file": sys.__stdin__,
    "socket": socket.socket(),
    "object": object(),
    "stateless": type("Sentinel", (), {"__repr__": lambda self: "MISSING"})(),
    "queue": queue.Queue(),
    "asyncio queue": asyncio.Queue(),
    "weak reference": weakref.ref(Node),
    "keys": {}.keys(),
    "closure": closing_over(threading.Lock()),
    "method of one": threading.Lock().acquire,
    "partial of one": functools.partial(len, threading.Lock()),
}
REFUSED["socket"].close()


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_sure_content_is_refused(name):
    with pytest.raises(UndigestibleError, match="cannot be digested"):
        digest(REFUSED[name])
    with pytest.raises(TypeError):
        digest({"deep": [(REFUSED[name],)]})


def test_a_coroutine_is_refused():
    waiting = coroutine()
    try:
        with pytest.raises(UndigestibleError):
            digest(waiting)
    finally:
        waiting.close()


@pytest.mark.parametrize(("value", "path"), [
    ({"lock": None}, "argument 'options'['lock']"),
    ([1, [2, None]], "argument 'options'[1][1]"),
    (Point(1, tags=None), "argument 'options'.tags"),
    (closing_over(None), "argument 'options' (closes over 'value')"),
    (functools.partial(len, None), "argument 'options'"),
    (collections.OrderedDict(a=None), "argument 'options'['a']"),
    ({(1, None): 2}, "argument 'options' (key (1, <"),
])  # fmt: skip
def test_the_error_names_the_path_the_thing_and_what_to_do(value, path):
    lock = threading.Lock()
    value = replaced(value, lock)
    with pytest.raises(UndigestibleError) as caught:
        digest(value, "argument 'options'")
    assert caught.value.path.startswith(path)
    assert caught.value.value is lock
    assert "inject it as a resource" in str(caught.value)


def replaced(value, lock):
    if isinstance(value, Point):
        value.tags = lock
        return value
    if isinstance(value, types.FunctionType):
        return closing_over(lock)
    if isinstance(value, functools.partial):
        return functools.partial(len, lock)
    if isinstance(value, dict):
        return type(value)(((key[0], lock), item) if type(key) is tuple else (key, lock) for key, item in value.items())
    return [value[0], [2, lock]]


def test_the_path_is_told_inside_cycles_too():
    value: dict = {"self": None, "deep": [threading.Lock()]}
    value["self"] = value
    with pytest.raises(UndigestibleError) as caught:
        digest(value)
    assert caught.value.path == "value['deep'][0]"


def test_a_class_whose_methods_raise_is_refused_and_not_fatal():
    class Hostile:
        def __getstate__(self):
            raise ZeroDivisionError("no state")

        def __repr__(self):
            raise ZeroDivisionError("no repr")

    with pytest.raises(UndigestibleError, match="no state") as caught:
        digest({Hostile(): 1})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_object_that_makes_itself_anew_for_ever_is_refused(monkeypatch):
    class Endless:
        def __getstate__(self):
            return {"again": Endless()}

    monkeypatch.setattr(cascade.graph.digest, "DEEPEST", 1000)
    monkeypatch.setattr(cascade.graph.cycles, "DEEPEST", 1000)
    with pytest.raises(UndigestibleError, match="for ever"):
        digest(Endless())
    cycle: list = [Endless()]
    cycle.insert(0, cycle)
    with pytest.raises(UndigestibleError, match="for ever"):
        digest(cycle)


def test_an_object_with_behaviour_and_no_state_is_its_class():
    assert digest(Parser()) == digest(Parser())


def test_combining_is_told_apart_by_label_number_and_split():
    rows = [
        ("a", b"b", b"c"),
        ("a", b"bc"),
        ("ab", b"c"),
        ("a", b"b", b"c", b""),
        ("a", b"", b"bc"),
        ("a",),
        ("",),
    ]
    assert len({combine(label, *parts) for label, *parts in rows}) == len(rows)
    assert len(combine("a")) == 16


def test_numpy_arrays_are_their_type_shape_and_elements():
    numpy = pytest.importorskip("numpy", reason="NOT TESTED: NumPy is not installed")
    grid = numpy.arange(6).reshape(2, 3)
    assert digest(grid) == digest(grid.copy()) == digest(numpy.asfortranarray(grid)) == digest(grid.T.copy().T)
    others = [
        grid.T,
        grid.reshape(3, 2),
        grid.astype("i4"),
        grid.astype("f8"),
        grid.astype(object),
        grid + 1,
        grid[:0],
        grid.tolist(),
        numpy.array(1),
        numpy.int64(1),
        numpy.float64(1),
        1,
        1.0,
        numpy.add,
        numpy.dtype("i4"),
        numpy.array(["2020"], dtype="M8[D]"),
        numpy.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    ]
    assert len({digest(other) for other in [grid, *others]}) == len(others) + 1
    assert digest(numpy.arange(100_000)) != digest(numpy.arange(100_000) * 2)


def test_pandas_frames_are_their_types_labels_and_elements():
    pandas = pytest.importorskip("pandas", reason="NOT TESTED: pandas is not installed")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": pandas.to_datetime(["2020", "2021"])})
    frame["d"] = frame["b"].astype("category")
    frame["e"] = frame["c"].dt.tz_localize("UTC")
    before = digest(frame)
    assert repr(frame)
    assert before == digest(frame) == digest(frame.copy()) == digest(pickle.loads(pickle.dumps(frame)))
    others = [
        frame[["a", "b"]],
        frame.set_index("a"),
        frame.rename(columns={"a": "z"}),
        frame.assign(a=[1, 3]),
        frame.assign(a=[1.0, 2.0]),
        frame.assign(c=frame["c"] + pandas.Timedelta("1h")),
        frame.assign(e=frame["c"].dt.tz_localize("CET")),
        frame["a"],
        frame["c"],
        frame.index,
        pandas.Timestamp("2020"),
    ]
    assert len({digest(other) for other in [frame, *others]}) == len(others) + 1


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(max_size=2), max_size=3)
    ),
    max_leaves=12,
)


def spelled(value) -> str:
    """What a value is, written so that equal text means equal types and content."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({','.join(map(spelled, value))})"
    if isinstance(value, dict):
        return f"dict({','.join(f'{spelled(k)}:{spelled(v)}' for k, v in value.items())})"
    if isinstance(value, frozenset):
        return f"frozenset({','.join(sorted(map(spelled, value)))})"
    return f"{type(value).__name__}={value!r}"


@given(plain, plain)
def test_digests_are_equal_exactly_if_types_and_content_are(one, other):
    assert digest(one) == digest(copy.deepcopy(one))
    assert (digest(one) == digest(other)) == (spelled(one) == spelled(other))


SCRIPT = """
import enum, sys, pathlib, uuid, datetime, re, collections, functools, dataclasses
from cascade.graph.digest import digest

class Mode(enum.Flag):
    READ = 1
    WRITE = 2

@dataclasses.dataclass
class Point:
    x: int
    names: set

class Tags(set):
    pass

def local(n):
    def inner(x):
        return x in {"a", "b", "c", n}
    return inner

values = [
    {"a", "b", "c", ("d", 1), None}, frozenset("xyz"), Point(1, {"p", "q", "r"}),
    Mode.READ | Mode.WRITE, Mode, Point,
    collections.Counter("abca"), pathlib.Path("a/b"), uuid.UUID(int=7), re.compile("a"), local(1), len,
    functools.partial(len, {"a", "b"}), lambda x: x in ("a", {"b", "c"}), Tags({"a", "b", "c"}),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
]
for value in values:
    print(digest(value).hex())
"""


def test_digests_are_the_same_in_every_process_whatever_the_hash_seed(tmp_path):  # S26
    script = tmp_path / "flow.py"
    script.write_text(SCRIPT)
    seen = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        seen.add(subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True).stdout)
    assert len(seen) == 1
