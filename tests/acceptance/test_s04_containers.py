"""S4: lazy values inside containers are dependencies and arrive resolved, in containers of the same type."""

from __future__ import annotations

import collections
import dataclasses
import gc
from typing import Any, NamedTuple, Self

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import run

one, two = cs.task(lambda: 1, name="one"), cs.task(lambda: 2, name="two")
same = cs.task(lambda value: value, name="same")


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Box:
    content: Any
    label: str = "box"


@dataclasses.dataclass(frozen=True, slots=True)
class Sealed:
    content: Any


class Row(list):  # type: ignore[type-arg]
    pass


class Settings(dict):  # type: ignore[type-arg]
    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner


class Pair(tuple):  # type: ignore[type-arg]
    __slots__ = ()


class Strict(tuple):  # type: ignore[type-arg]
    __slots__ = ()

    def __new__(cls, first: Any, second: Any) -> Self:
        return super().__new__(cls, (first, second))


def filled(container: Any) -> Any:
    """What a container is for the task that it is given to."""
    return run(same(container))


CONTAINERS = {
    "list": (lambda a: [0, a], [0, 1]),
    "tuple": (lambda a: (0, a), (0, 1)),
    "set": (lambda a: {0, a}, {0, 1}),
    "frozenset": (lambda a: frozenset({0, a}), frozenset({0, 1})),
    "dict": (lambda a: {"k": a, "l": 0}, {"k": 1, "l": 0}),
    "named tuple": (lambda a: Point(a, 0), Point(1, 0)),
    "dataclass": (Box, Box(1)),
    "frozen dataclass": (Sealed, Sealed(1)),
    "OrderedDict": (lambda a: collections.OrderedDict(z=0, k=a), collections.OrderedDict(z=0, k=1)),
    "list subclass": (lambda a: Row([a]), Row([1])),
    "tuple subclass": (lambda a: Pair((a, 0)), Pair((1, 0))),
}
each_container = pytest.mark.parametrize("shape", CONTAINERS)


@each_container
@each_kind
def test_values_in_containers_arrive_resolved_in_the_same_type(shape: str, kind: str) -> None:  # S4
    make, expected = CONTAINERS[shape]
    number, keep = made(kind, lambda: 1, name="one"), made(kind, lambda value: value, name="same")
    found = run(keep(make(number())))
    assert found == expected
    assert type(found) is type(expected)


@each_container
def test_containers_may_be_the_target(shape: str) -> None:  # S4
    make, expected = CONTAINERS[shape]
    found = run(make(one()))
    assert found == expected
    assert type(found) is type(expected)


@each_container
def test_containers_may_be_routes_keyword_arguments_and_fixed_arguments(shape: str) -> None:  # S4
    make, expected = CONTAINERS[shape]
    assert run(cs.Router(one(), {1: make(one())})) == expected
    assert run(same(value=make(one()))) == expected
    assert run(same.partial(value=make(one()))()) == expected
    keep = cs.task(lambda item, value: value)
    assert run(keep.partial(value=make(one())).map(item=[1, 2])) == [expected, expected]


@each_container
@pytest.mark.parametrize("outer", CONTAINERS)
def test_containers_nest(shape: str, outer: str) -> None:  # S4
    make, expected = CONTAINERS[shape]
    wrap, _ = CONTAINERS[outer]
    try:
        hash(expected)
    except TypeError:
        if "set" in outer:
            return
    assert filled(wrap(make(one()))) == wrap(expected)


@each_container
def test_containers_without_lazy_values_arrive_as_the_same_object(shape: str) -> None:  # S4
    make, _ = CONTAINERS[shape]
    plain = make(5)
    assert filled(plain) is plain
    assert run(plain) is plain
    nested = [[plain], {"k": plain}]
    assert filled(nested) is nested


@each_container
def test_plain_parts_of_a_filled_container_stay_the_same_objects(shape: str) -> None:  # S4
    make, _ = CONTAINERS[shape]
    plain = make(5)
    found = filled([plain, one()])
    assert found[0] is plain


def test_defaultdict_keeps_its_factory_and_subclasses_their_attributes() -> None:  # S4
    default = collections.defaultdict(list, k=one())
    found = filled(default)
    assert found == {"k": 1}
    assert found["new"] == []
    settings = Settings("me")
    settings["k"] = one()
    found = filled(settings)
    assert type(found) is Settings
    assert (found, found.owner) == ({"k": 1}, "me")


def test_dataclasses_are_copied_without_init() -> None:  # S4
    made_by_init: list[Any] = []

    @dataclasses.dataclass
    class Counted:
        value: Any
        doubled: Any = dataclasses.field(init=False)
        late: Any = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            made_by_init.append(self.value)
            self.doubled = "set by init"

    original = Counted(one())
    original.extra = "kept"  # type: ignore[attr-defined]
    found = filled(original)
    assert (found.value, found.doubled, found.extra) == (1, "set by init", "kept")
    assert len(made_by_init) == 1
    assert not hasattr(found, "late")
    assert original.value is not found.value
    assert found is not original


def test_tuple_subclasses_with_a_constructor_of_their_own_are_built_without_it() -> None:  # S4
    found = filled([Strict(one(), 0)])
    assert found == [Strict(1, 0)]
    assert type(found[0]) is Strict


def test_dataclass_types_and_other_classes_are_plain_values() -> None:  # S4
    assert filled([Box, one()]) == [Box, 1]
    assert filled(Box) is Box


def test_aliases_are_kept() -> None:  # S4
    shared = [one()]
    found = filled([shared, shared, {"k": shared}])
    assert found[0] is found[1] is found[2]["k"]
    assert found[0] == [1]


def test_aliases_are_kept_between_arguments() -> None:  # S4
    shared = [one()]
    alike = cs.task(lambda a, b, *, c: a is b is c[0], name="alike")
    assert run(alike(shared, shared, c=[shared])) is True


def test_equal_containers_that_are_two_stay_two() -> None:  # S4
    found = filled([[one()], [one()]])
    assert found == [[1], [1]]
    assert found[0] is not found[1]


def test_each_consumer_gets_a_container_of_its_own() -> None:  # S4
    shared = [one()]

    @cs.task
    def spoil(values: list[int]) -> list[int]:
        values.append(99)
        return values

    value = cs.task(lambda a, b: (a, b))(spoil(shared), spoil(shared))
    assert run(value) == ([1, 99], [1, 99])
    assert run(value) == ([1, 99], [1, 99])
    assert len(shared) == 1


def test_containers_with_lazy_values_are_taken_as_they_are_at_the_call() -> None:  # S4
    values: list[Any] = [one()]
    named: dict[str, Any] = {"k": one()}
    inner: list[Any] = [two()]
    call = same([values, named, inner])
    values.append(one())
    named["l"] = 3
    inner.clear()
    assert run(call) == [[1], {"k": 1}, [2]]


def test_a_target_is_taken_as_it_is_at_the_run() -> None:  # S4
    values: list[Any] = [one()]
    route = cs.Router(one(), {1: values})
    values.append(5)
    assert run(values) == [1, 5]
    assert run(route) == [1]


def test_a_lazy_dict_key_is_an_error_at_the_call() -> None:  # S4
    key = one()
    for container in ({key: 1}, {"a": [{key: one()}]}, [({key: 1},)]):
        for take in (
            same,
            lambda c: same(value=c),
            lambda c: same.partial(c)(),
            lambda c: cs.Router(one(), {1: c}),
            run,
        ):
            with pytest.raises(TypeError, match="key"):
                take(container)


def test_a_lazy_value_inside_a_tuple_as_dict_key_is_an_error_at_the_call() -> None:  # S4
    with pytest.raises(TypeError, match="key"):
        same({("a", one()): 1})


@pytest.mark.parametrize("with_lazy", [False, True])
@pytest.mark.parametrize("kind", ["list", "dict", "dataclass", "through a tuple"])
def test_a_container_that_contains_itself_is_an_error_at_the_call(kind: str, with_lazy: bool) -> None:  # S4
    content: Any = [one()] if with_lazy else [1]
    if kind == "list":
        circle: Any = [content]
        circle.append(circle)
    elif kind == "dict":
        circle = {"content": content}
        circle["self"] = [circle]
    elif kind == "dataclass":
        circle = Box(content)
        circle.content = [content, circle]
    else:
        circle = [content]
        circle.append((circle,))
    with pytest.raises(cs.DeclarationError, match="contains itself"):
        same(circle)
    with pytest.raises(cs.DeclarationError, match="contains itself"):
        same([1, {"deep": circle}])


def test_an_unhashable_result_for_a_set_fails_naming_it() -> None:  # S4
    unhashable = cs.task(lambda: [1], name="makes_a_list")
    with pytest.raises(TypeError, match="makes_a_list"):
        run(same({unhashable(), one()}))
    with pytest.raises(TypeError, match="makes_a_list"):
        run({unhashable()})


def test_equal_results_in_a_set_are_one_member() -> None:  # S4
    assert filled({one(), one(), two()}) == {1, 2}


def test_targets_may_be_containers_or_plain_values() -> None:  # S4
    first, second = one(), two()
    assert run([first, second]) == [1, 2]
    assert run({"x": first, "y": [second, first]}) == {"x": 1, "y": [2, 1]}
    assert run((first, 5)) == (1, 5)
    for plain in (None, 5, "text", [], {}, (), object(), [1, {"k": 2}]):
        assert run(plain) is plain


@each_kind
def test_the_order_of_a_container_target_is_that_of_its_members(kind: str) -> None:  # S4
    log = Log()
    note = log.task(kind)
    last, first = note("declared first"), note("declared second")
    assert run([first, last]) == ["declared second", "declared first"]


def test_lazy_values_at_any_depth_of_ten_thousand() -> None:  # S4
    deep: Any = one()
    for level in range(10_000):
        deep = {"k": deep} if level % 3 == 0 else (0, deep) if level % 3 == 1 else [deep]
    found = filled(deep)
    depth = 0
    while found != 1:
        found = found["k"] if isinstance(found, dict) else found[-1]
        depth += 1
    assert depth == 10_000


def test_plain_containers_may_be_just_as_deep() -> None:  # S4
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    assert filled(deep) is deep
    assert run(cs.task(lambda: deep)()) is deep


def test_a_returned_container_may_be_just_as_deep() -> None:  # S4, S18
    def deepen() -> Any:
        deep: Any = one()
        for _ in range(10_000):
            deep = [deep]
        return deep

    found = run(cs.task(deepen)())
    for _ in range(10_000):
        (found,) = found
    assert found == 1


def test_containers_shared_in_layers_are_not_unfolded() -> None:  # S4
    shared: Any = [one()]
    for _ in range(100):
        shared = [shared, shared]
    found = filled(shared)
    for _ in range(100):
        assert found[0] is found[1]
        found = found[0]
    assert found == [1]


def test_sets_are_traversed_in_order_of_creation() -> None:  # S4, S26
    pool: list[Any] = []
    seen = set()
    for _ in range(40):
        pool.append([object() for _ in range(len(pool) % 7)])
        members = [cs.task(abs)(number) for number in range(8)]
        value = same(set(members))
        seen.add(build_graph(value)[1][value].structural_id)
        assert value.packed is not None  # type: ignore[attr-defined]
        assert list(value.packed.lazies) == members  # type: ignore[attr-defined]
    assert len(seen) == 1


def test_sets_of_tuples_are_traversed_in_order_of_creation_too() -> None:  # S4, S26
    pool: list[Any] = []
    for _ in range(40):
        pool.append([object() for _ in range(len(pool) % 7)])
        gc.collect(0)
        members = [cs.task(abs)(number) for number in range(8)]
        value = same({(member, "tag") for member in members})
        assert value.packed is not None  # type: ignore[attr-defined]
        assert list(value.packed.lazies) == members  # type: ignore[attr-defined]


def test_a_result_that_is_a_container_is_a_value_and_not_looked_into_again() -> None:  # S4, S18
    values = [1, {"k": 2}]
    give = cs.task(lambda: values, name="give")
    assert run(give()) is values
    assert filled([give()])[0] is values


def test_empty_and_mixed_containers() -> None:  # S4
    assert filled([]) == []
    assert filled([[], {}, (), set(), one()]) == [[], {}, (), set(), 1]
    assert filled([None, one(), None]) == [None, 1, None]


def test_results_that_are_none_fill_containers() -> None:  # S4
    nothing = cs.task(lambda: None, name="nothing")
    assert filled([nothing(), {"k": nothing()}]) == [None, {"k": None}]


def test_varargs_with_containers_and_lazy_values_side_by_side() -> None:  # S4
    show = cs.task(lambda *args, **named: (args, named), name="show")
    found = run(show(one(), [two()], 3, key=two(), more={"k": one()}, plain="p"))
    assert found == ((1, [2], 3), {"key": 2, "more": {"k": 1}, "plain": "p"})
