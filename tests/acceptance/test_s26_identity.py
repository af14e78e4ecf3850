"""S26: computations have names that are the same in every process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from tests.acceptance.observed import Trace, run

PROGRAM = """
import sys
import cascade as cs
from cascade.graph.build import build_graph

@cs.task
def load(path, n=VALUE):
    return BODY

@cs.task(version=VERSION)
def join(*parts, **more):
    return parts

factor = FACTOR

def workflow():
    a, b = load("x"), load("x")
    scale = cs.task(lambda x: x * LAMBDA, name="scale")
    choice = cs.Router(scale(a), {"one": b, None: cs.Param("p", default=1)})
    return join(a, [b, {"k": choice}], {load("y"), load("z")}, m=scale.map(x=[1, 2, 3]), s=cs.sequence([a, b])POLICY)

graph, _ = build_graph(workflow())
for node in graph.nodes:
    print(node.structural_id, node.template_id)
"""

DEFAULTS = {
    "VALUE": "1", "BODY": "path", "VERSION": "'1'", "FACTOR": "2", "LAMBDA": "2", "POLICY": "",
}  # fmt: skip


def ids(folder: Path, seed: str = "0", name: str = "program.py", **changes: str) -> tuple[list[str], list[str]]:
    text = PROGRAM
    for key, value in {**DEFAULTS, **changes}.items():
        text = text.replace(key, value)
    path = folder / name
    path.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env=environment, check=False, timeout=30
    )
    assert ran.returncode == 0, ran.stderr
    pairs = [line.split() for line in ran.stdout.splitlines()]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    folder = tmp_path_factory.mktemp("identity")
    return (folder, *ids(folder))


Base = tuple[Path, list[str], list[str]]


# S26
def test_ids_are_the_same_in_every_process(base: Base) -> None:
    folder, structural, template = base
    assert ids(folder, seed="12345") == (structural, template)
    assert len(set(structural)) == len(structural)


# S26
def test_the_code_of_named_functions_is_no_part_of_them(base: Base) -> None:
    folder, structural, template = base
    assert ids(folder, BODY="path + str(n)") == (structural, template)
    assert ids(folder, FACTOR="3") == (structural, template)


# S26
def test_the_code_of_lambdas_is_a_part_of_them(base: Base) -> None:
    folder, structural, _ = base
    assert ids(folder, LAMBDA="3")[0] != structural


# S26
def test_a_declared_version_is_a_part_of_them(base: Base) -> None:
    folder, structural, template = base
    changed = ids(folder, VERSION="'2'")
    assert changed[0][-1] != structural[-1]
    assert changed[1][-1] != template[-1]
    assert changed[0][:-1] == structural[:-1]


# S26
def test_policies_that_do_not_change_the_value_are_no_part_of_them(base: Base) -> None:
    folder, structural, template = base
    policy = ").with_retry(5).with_timeout(3600).with_constraints(gpu=1).named('other').with_cache(cs.InputsCache()"
    assert ids(folder, POLICY=policy) == (structural, template)


# S26
def test_the_file_of_main_is_a_part_of_them(base: Base) -> None:
    folder, structural, _ = base
    assert ids(folder, name="other.py")[0] != structural


def structural(target: Any) -> list[str]:
    graph, _ = build_graph(target)
    return [node.structural_id for node in graph.nodes]


def template(target: Any) -> list[str]:
    graph, _ = build_graph(target)
    return [node.template_id for node in graph.nodes]


@cs.task
def one(x: Any, y: Any = 0) -> Any:
    return x


@cs.task
def two(x: Any, y: Any = 0) -> Any:
    return x


# S26
def test_literals_and_inputs_are_a_part_of_the_structural_id() -> None:
    targets = [one(1), one(2), one(True), one(1.0), one("1"), one(1, 2), two(1), one(one(1)), one([1]), one((1,))]
    found = [structural(target)[-1] for target in targets]
    assert len(set(found)) == len(found)
    assert structural(one(1)) == structural(one(1))


# S26
def test_conditions_and_what_comes_before_are_a_part_of_the_structural_id() -> None:
    condition = one(True)
    found = {structural(target)[-1] for target in (one(1), one(1).run_if(condition), one(1).after(condition))}
    assert len(found) == 3


# S26
def test_template_ids_leave_literals_out() -> None:
    assert template(one(1)) == template(one(2)) == template(one("text"))
    assert template(one(1)) != template(two(1))
    assert template(one(one(1))) != template(one(1))
    assert template(one(1)) != template(one(1).run_if(one(2)))


# S26
def test_repeated_impure_calls_are_told_apart_by_their_order() -> None:
    found = structural([one(1), one(1), one(1)])
    assert len(set(found)) == len(found)
    assert found == structural([one(1), one(1), one(1)])


# S26, S18
def test_what_a_task_returns_is_named_under_its_parent_and_never_by_the_order_of_completion() -> None:
    @cs.task
    def parent(x: int) -> Any:
        return one([one(x), two(x)])

    def names() -> set[str]:
        trace = Trace()
        run([parent(1), parent(2)], bus=trace.bus, max_workers=8)
        return set(trace.terminal())

    first = names()
    assert all(names() == first for _ in range(10))
    assert sum(name.startswith("parent#0") for name in first) == sum(name.startswith("parent#1") for name in first) == 4


# S26
def test_what_is_kept_across_runs_is_bounded() -> None:
    import asyncio

    def workflow(n: int) -> Any:
        value: Any = one(n)
        for bit in f"{n:b}":
            value = one(value) if bit == "1" else two(value)
        return value

    async def main() -> tuple[int, int]:
        async with cs.create_engine() as engine:
            counts = []
            for n in range(3000):
                await engine.run(workflow(n))
                if n in (1500, 2999):
                    gc.collect()
                    counts.append(len(gc.get_objects()))
            return counts[0], counts[1]

    middle, end = asyncio.run(main())
    assert end - middle < 15_000


# S26
def test_keys_whose_text_differs_between_processes_do_not_differ_in_identity() -> None:
    program = """
import cascade as cs
from cascade.graph.build import build_graph

class Key:
    def __init__(self, n): self.n = n
    def __hash__(self): return hash(self.n)
    def __eq__(self, other): return isinstance(other, Key) and self.n == other.n

@cs.task
def choose(): return 1

@cs.task
def use(x): return x

several = frozenset({"a", "b", "c"})
for target in (
    cs.Router(choose(), {several: use(1), frozenset({"d", "e"}): use(2)}),
    use({several: use(1)}),
    cs.Router(choose(), {Key(1): use(1)}),
):
    graph, _ = build_graph(target)
    print(graph.nodes[graph.target].structural_id)
"""

    def identities(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60).stdout

    assert identities("1") == identities("2") == identities("3")


# S26
def test_what_is_fixed_and_what_is_mapped_over_are_told_apart() -> None:
    @cs.task
    def both(a: Any, b: Any) -> Any:
        return a, b

    fixed, _ = build_graph(both.partial(a=[1, 2]).map(b=[3, 4]))
    mapped, _ = build_graph(both.map(a=[1, 2], b=[3, 4]))
    assert fixed.nodes[0].structural_id != mapped.nodes[0].structural_id


# S26, S2
def test_arguments_by_name_and_by_position_are_the_same_call() -> None:
    assert identity_of(one(x=1)) == identity_of(one(1))
    assert identity_of(one(x=two(2))) == identity_of(one(two(x=2)))


def identity_of(target: Any) -> str:
    graph, _ = build_graph(target)
    return graph.nodes[graph.target].structural_id
