"""What a function does covers the first-party code and constants that it uses, and nothing else (S25)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import types
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.graph import uses as remembered_uses
from cascade.graph.digest import UndigestibleError
from cascade.graph.first_party import is_first_party, is_first_party_name
from cascade.graph.uses import uses_of, uses_within

numbers = itertools.count()


@contextlib.contextmanager
def project(files):
    """Modules on disk, in a folder of their own, importable until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        for name, source in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        sys.path.insert(0, folder)
        writes = sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        try:
            yield folder
        finally:
            sys.dont_write_bytecode = writes
            sys.path.remove(folder)
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None) or "").startswith(folder):
                    del sys.modules[name]


def parts_of(files, name="work"):
    with project(files):
        uses = uses_of(getattr(importlib.import_module("flow_of_tests"), name))
        return {"identity": uses.identity, **uses.parts}, uses.loosely


FLOW = '''
    import dataclasses
    import enum
    import functools
    import json
    import logging
    import random
    import re
    import threading
    import cascade as cs
    import flow_parts
    import flow_package.inner
    from flow_parts import scale as stretch

    log = logging.getLogger("flow")
    LIMIT = 3
    UNUSED = 1
    SETTINGS = {"depth": [1, 2]}
    PATTERN = re.compile("a+")
    lock = threading.Lock()
    dice = random.Random()
    seen = []
    memo = {}
    count = 0


    class Color(enum.Enum):
        RED = 1


    class Base:
        def run(self):
            return self.value()


    class Model(Base):
        rate = 2

        def value(self):
            return self.rate * LIMIT

        @property
        def doubled(self):
            return 2 * self.rate

        @classmethod
        def make(cls):
            return cls()

        @staticmethod
        def fixed():
            return 1


    @dataclasses.dataclass
    class Point:
        x: int = 1

        def norm(self):
            return abs(self.x)


    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)
        return wrapper


    @logged
    def clean(text):
        """Cleans."""
        return text.strip()  # a comment


    @functools.lru_cache
    def remembered(x):
        return x + 1


    def even(n):
        return n == 0 or odd(n - 1)


    def odd(n):
        return n != 0 and even(n - 1)


    def first():
        return 1


    def second():
        return 2


    chosen = first
    STEPS = {"one": first, "more": [lambda x: x + 10]}
    triple = functools.partial(stretch, 3)


    @cs.task(version="1")
    def follow_up(x):
        return x - 1


    def unused():
        return 1


    def work(x, model=None):
        """Works."""
        global count
        count += 1
        seen.append(x)
        memo[x] = x
        log.info("x")
        with lock:
            dice.random()
        from flow_late import late
        return (
            clean(x), SETTINGS["depth"], PATTERN.match(x), Color.RED, Model().run(), Point(1).norm(), remembered(1),
            even(2), chosen(), STEPS["one"](), triple(2), follow_up(1), flow_parts.deep(x), late(),
            flow_package.inner.give(), json.dumps(x), [flow_parts.SIZE for _ in x], not_there_yet,
        )
'''
PARTS = """
    from flow_deeper import deepest
    SIZE = 5
    OTHER = 6

    def scale(by, x):
        return by * x

    def deep(x):
        return lambda: deepest(x)

    def other():
        return OTHER
"""
FILES = {
    "flow_of_tests.py": FLOW,
    "flow_parts.py": PARTS,
    "flow_deeper.py": "def deepest(x):\n    return x\n",
    "flow_late.py": "FACTOR = 1\ndef late():\n    return FACTOR\n",
    "flow_package/__init__.py": "",
    "flow_package/inner.py": "def give():\n    from . import sibling\n    return sibling.help()\n",
    "flow_package/sibling.py": "def help():\n    return 1\n",
}

COUNT = {
    "a helper": ("flow_of_tests.py", "text.strip()", "text.rstrip()", {"function flow_of_tests:clean"}),
    "a decorator": ("flow_of_tests.py", "return function(*args)", "return function(*args) or 1",
                    {"function flow_of_tests:clean"}),
    "a constant": ("flow_of_tests.py", "LIMIT = 3", "LIMIT = 4", {"constant flow_of_tests:LIMIT"}),
    "inside a constant": ("flow_of_tests.py", "[1, 2]", "[1, 3]", {"constant flow_of_tests:SETTINGS"}),
    "the type of a constant": ("flow_of_tests.py", "LIMIT = 3", "LIMIT = 3.0", {"constant flow_of_tests:LIMIT"}),
    "a pattern": ("flow_of_tests.py", "a+", "b+", {"constant flow_of_tests:PATTERN"}),
    "a member of an enum": ("flow_of_tests.py", "RED = 1", "RED = 2", {"constant flow_of_tests:Color.RED"}),
    "an attribute of a class": ("flow_of_tests.py", "rate = 2", "rate = 5", {"constant flow_of_tests:Model.rate"}),
    "a method": ("flow_of_tests.py", "self.rate * LIMIT", "self.rate + LIMIT",
                 {"function flow_of_tests:Model.value"}),
    "a method of a base": ("flow_of_tests.py", "return self.value()", "return -self.value()",
                           {"function flow_of_tests:Base.run"}),
    "a property": ("flow_of_tests.py", "2 * self.rate", "3 * self.rate",
                   {"class flow_of_tests:Model", "function flow_of_tests:Model.doubled"}),
    "a class method": ("flow_of_tests.py", "return cls()", "return cls() or 1",
                       {"class flow_of_tests:Model", "function flow_of_tests:Model.make"}),
    "a dataclass's method": ("flow_of_tests.py", "abs(self.x)", "self.x",
                             {"function flow_of_tests:Point.norm"}),
    "what lru_cache wraps": ("flow_of_tests.py", "return x + 1", "return x + 2",
                             {"function flow_of_tests:remembered"}),
    "in a cycle": ("flow_of_tests.py", "n != 0 and", "n > 0 and", {"function flow_of_tests:odd"}),
    "another name's function": ("flow_of_tests.py", "chosen = first", "chosen = second",
                                {"function flow_of_tests:chosen", "function flow_of_tests:second"}),
    "a function in a container": ("flow_of_tests.py", "x + 10", "x + 11",
                                  {"constant flow_of_tests:STEPS", "function flow_of_tests:<lambda>"}),
    "what a partial is given": ("flow_of_tests.py", "partial(stretch, 3)", "partial(stretch, 4)",
                                {"function flow_of_tests:triple"}),
    "what a partial calls": ("flow_parts.py", "by * x", "by + x",
                             {"function flow_of_tests:triple", "function flow_parts:scale"}),
    "another task": ("flow_of_tests.py", "return x - 1", "return x - 2", {"function flow_of_tests:follow_up"}),
    "another task's version": ("flow_of_tests.py", 'version="1"', 'version="2"',
                               {"function flow_of_tests:follow_up"}),
    "a module's function": ("flow_parts.py", "return lambda: deepest(x)", "return lambda: deepest(-x)",
                            {"function flow_parts:deep"}),
    "a module's constant": ("flow_parts.py", "SIZE = 5", "SIZE = 6", {"constant flow_parts:SIZE"}),
    "what a helper's helper uses": ("flow_deeper.py", "return x", "return -x", {"function flow_deeper:deepest"}),
    "what is imported inside": ("flow_late.py", "FACTOR = 1", "FACTOR = 2", {"constant flow_late:FACTOR"}),
    "a relative import inside": ("flow_package/sibling.py", "return 1", "return 2",
                                 {"function flow_package.sibling:help"}),
    "its own code": ("flow_of_tests.py", "even(2)", "even(3)", {"code"}),
    "a name that gets bound": ("flow_of_tests.py", "count = 0", "count = 0\n    not_there_yet = 1",
                               {"name flow_of_tests:not_there_yet", "constant flow_of_tests:not_there_yet"}),
}  # fmt: skip

COUNT_NOT = {
    "a comment": ("flow_of_tests.py", "# a comment", "# another"),
    "a docstring": ("flow_of_tests.py", "Cleans.", "Strips."),
    "lines": ("flow_of_tests.py", "def unused", "\n\n\n    def unused"),
    "an unused function": ("flow_of_tests.py", "def unused():\n        return 1", "def unused():\n        return 2"),
    "an unused constant": ("flow_of_tests.py", "UNUSED = 1", "UNUSED = 2"),
    "what nobody uses of a module": ("flow_parts.py", "OTHER = 6", "OTHER = 7"),
    "a function of a module that nobody uses": ("flow_parts.py", "return OTHER", "return -OTHER"),
    "what the code changes": ("flow_of_tests.py", "seen = []", "seen = [1]"),
    "what the code fills": ("flow_of_tests.py", "memo = {}", "memo = {1: 1}"),
    "what the code counts": ("flow_of_tests.py", "count = 0", "count = 7"),
    "a generator of random numbers": ("flow_of_tests.py", "random.Random()", "random.Random(7)"),
    "a logger": ("flow_of_tests.py", 'getLogger("flow")', 'getLogger("other")'),
}


@pytest.fixture(scope="module")
def original():
    return parts_of(FILES)[0]


@pytest.mark.parametrize("name", COUNT)
def test_a_change_of_what_is_used_counts_and_is_named(name, original):  # S25
    file, old, new, expected = COUNT[name]
    assert FILES[file].count(old) >= 1
    changed, _ = parts_of({**FILES, file: FILES[file].replace(old, new, 1)})
    different = {label for label in changed.keys() | original.keys() if changed.get(label) != original.get(label)}
    assert different == expected


@pytest.mark.parametrize("name", COUNT_NOT)
def test_what_changes_nothing_does_not_count(name, original):  # S25
    file, old, new = COUNT_NOT[name]
    assert FILES[file].count(old) >= 1
    assert parts_of({**FILES, file: FILES[file].replace(old, new, 1)})[0] == original


def test_what_counts_by_its_type_alone_is_told_with_the_reason():
    _, loosely = parts_of(FILES)
    found = {label.partition(":")[2]: reason for label, reason in loosely.items()}
    assert found.keys() == {"lock", "dice", "seen", "memo", "count", "log"}
    assert "_thread:lock" in found["lock"]
    assert "changes it" in found["seen"]
    assert "every use" in found["dice"]


def test_every_process_comes_to_the_same(original):  # S26
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import flow_of_tests\n"
        "from cascade.graph.uses import uses_of\n"
        "print(uses_of(flow_of_tests.work).digest.hex())\n"
        "import json; flow_of_tests.work('aa') if len(sys.argv) > 2 else None\n"
        "print(uses_of(flow_of_tests.work).digest.hex())\n"
    )
    runnable = FILES["flow_of_tests.py"].replace(", not_there_yet,", ",").replace("json.dumps(x)", "json.dumps(1)")
    with project({**FILES, "flow_of_tests.py": runnable}) as folder:
        printed = set()
        for seed, *more in (("1",), ("2",), ("3", "called")):
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
            done = subprocess.run(
                [sys.executable, "-c", script, folder, *more],
                env=environment, check=True, capture_output=True, text=True,
            )  # fmt: skip
            printed.update(done.stdout.split())
    # Called or not, and whether what it imports inside was imported before or not.
    assert len(printed) == 1


@st.composite
def programs(draw):
    """A program of functions and constants that refer to each other in any way, cycles included, in two modules."""
    size = draw(st.integers(2, 7))
    names = range(size)
    kinds = [draw(st.sampled_from(["function", "constant", "class", "table"])) for _ in names]
    kinds[0] = "function"
    refers = []
    for index in names:
        others = draw(st.sets(st.integers(1, size - 1), max_size=3))
        if kinds[index] == "constant":
            others = set()
        if kinds[index] == "table":
            # A table is made when its module is, of what stands above it.
            others = {other for other in others if other < index}
        refers.append(sorted(others))
    modules = [0, *(draw(st.integers(0, 1)) for _ in range(size - 1))]
    for index in names:
        if kinds[index] == "table":
            refers[index] = [other for other in refers[index] if modules[other] == modules[index]]
    return kinds, refers, modules, draw(st.integers(0, size - 1))


def written(kinds, refers, modules, edited=None):
    lines = [["import generated_b"], ["import generated_a"]]
    for index, kind in enumerate(kinds):
        value = 1 if index == edited else 0
        here = modules[index]
        spoken = [
            f"n{other}" if modules[other] == here else f"generated_{'ab'[modules[other]]}.n{other}"
            for other in refers[index]
        ]
        body = ", ".join([str(value), *spoken])
        if kind == "function":
            lines[here].append(f"def n{index}():\n    return ({body},)")
        elif kind == "class":
            lines[here].append(f"class n{index}:\n    def method(self):\n        return ({body},)")
        elif kind == "table":
            lines[here].append(f"n{index} = [{body}]")
        else:
            lines[here].append(f"n{index} = {value}")
    return {f"generated_{name}.py": "\n".join(found) for name, found in zip("ab", lines, strict=True)}


@given(programs())
def test_a_digest_changes_if_and_only_if_something_that_is_reached_does(program):  # S25
    kinds, refers, modules, edited = program
    reached, pending = set(), [0]
    while pending:
        index = pending.pop()
        if index not in reached:
            reached.add(index)
            pending.extend(refers[index])

    def digest(at=None):
        with project(written(kinds, refers, modules, at)):
            module = importlib.import_module("generated_a")
            return uses_of(module.n0).digest

    assert (digest() != digest(edited)) == (edited in reached)


def test_a_name_that_is_bound_anew_counts_at_once():
    with project(FILES):
        flow = importlib.import_module("flow_of_tests")
        before = uses_of(flow.work)
        assert uses_of(flow.work) is before
        flow.LIMIT = 4
        changed = uses_of(flow.work)
        assert changed.digest != before.digest
        flow.LIMIT = 3
        assert uses_of(flow.work).digest == before.digest
        flow.SETTINGS["depth"].append(3)
        assert uses_of(flow.work).digest != before.digest
        flow.SETTINGS["depth"].pop()
        flow.seen.append(1)
        assert uses_of(flow.work).digest == before.digest
        flow.Model.rate = 7
        assert uses_of(flow.work).digest != before.digest
        flow.Model.rate = 2
        flow.STEPS["more"][0] = flow.second
        assert uses_of(flow.work).digest != before.digest


def test_code_that_is_replaced_in_place_counts_at_once():
    with project(FILES):
        flow = importlib.import_module("flow_of_tests")
        before = uses_of(flow.work).digest
        flow.even.__code__ = (lambda n: n).__code__
        assert uses_of(flow.work).digest != before
        before = uses_of(flow.work).digest
        flow.work.__defaults__ = (1,)
        assert uses_of(flow.work).digest != before


def test_a_reloaded_helper_counts():
    with project(FILES) as folder:
        flow = importlib.import_module("flow_of_tests")
        before = uses_of(flow.work).digest
        Path(folder, "flow_deeper.py").write_text("def deepest(x):\n    return 1\n")
        importlib.reload(sys.modules["flow_deeper"])
        importlib.reload(sys.modules["flow_parts"])
        assert uses_of(flow.work).digest != before


def test_a_module_used_as_a_value_counts_with_all_that_it_defines():
    files = {
        "flow_of_tests.py": "import flow_parts\ndef work(name):\n    return getattr(flow_parts, name)()\n",
        "flow_parts.py": PARTS,
        "flow_deeper.py": "def deepest(x):\n    return x\n",
    }
    original, _ = parts_of(files)
    for old, new in (("by * x", "by + x"), ("return OTHER", "return 1"), ("OTHER = 6", "OTHER = 7")):
        assert parts_of({**files, "flow_parts.py": PARTS.replace(old, new)})[0] != original


def test_decorators_from_elsewhere_are_looked_through():
    source = """
        import contextlib, functools

        @contextlib.contextmanager
        def opened():
            yield 1

        @functools.singledispatch
        def shown(x):
            return 1

        @shown.register
        def _(x: int):
            return 2

        def work():
            with opened() as x:
                return shown(x)
    """
    original, _ = parts_of({"flow_of_tests.py": source})
    for number in ("yield 1", "return 1", "return 2"):
        assert parts_of({"flow_of_tests.py": source.replace(number, number + "0")})[0] != original


def test_a_memory_that_a_decorator_keeps_is_no_constant():
    source = """
        import functools

        def remember(function):
            known = {}

            @functools.wraps(function)
            def wrapper(x):
                if x not in known:
                    known[x] = function(x)
                return known[x]

            return wrapper

        @remember
        def slow(x):
            return x

        TABLE = [slow]

        def work(x):
            return slow(x), TABLE
    """
    with project({"flow_of_tests.py": source}):
        flow = importlib.import_module("flow_of_tests")
        before = uses_of(flow.work)
        flow.slow(3)
        assert uses_of(flow.work) is before
        remembered_uses._remembered.clear()
        assert uses_of(flow.work).digest == before.digest


def test_classes_and_functions_that_come_as_arguments_bring_their_code():
    source = """
        class Model:
            def predict(self):
                return helper()

        def helper():
            return 1
    """

    def digests(source):
        with project({"flow_of_tests.py": source}):
            flow = importlib.import_module("flow_of_tests")
            values = [flow.Model(), [flow.Model(), 1], {"a": flow.Model()}, flow.helper, (flow.helper,)]
            return [[uses.digest for uses in uses_within(value)] for value in values]

    one, other = digests(source), digests(source.replace("return 1", "return 2"))
    assert all(len(found) == 1 for found in one)
    assert all(a != b for a, b in zip(one, other, strict=True))
    assert uses_within([1, "a", None, {1}, json.JSONDecoder()]) == []


def test_methods_partials_and_callable_objects():
    source = """
        import functools

        class Model:
            def __init__(self):
                self.rate = 1

            def predict(self, x):
                return helper(x) * self.rate

            def __call__(self, x):
                return self.predict(x)

        def helper(x):
            return x

        model = Model()
        method = model.predict
        part = functools.partial(method, 1)
        of_helper = functools.partial(map, helper)
    """
    for name in ("model", "method", "part", "of_helper", "Model"):
        changed = source.replace("return x", "return -x")
        assert parts_of({"flow_of_tests.py": source}, name) != parts_of({"flow_of_tests.py": changed}, name)
    with project({"flow_of_tests.py": source}):
        flow = importlib.import_module("flow_of_tests")
        before = uses_of(flow.method).digest, uses_of(flow.part).digest
        flow.model.rate = 2
        after = uses_of(flow.method).digest, uses_of(flow.part).digest
        assert before[0] != after[0]
        assert before[1] != after[1]


def test_a_task_that_closes_over_what_has_no_sure_content_is_refused():  # S25
    lock = threading.Lock()
    with pytest.raises(UndigestibleError, match="closes over 'lock'"):
        uses_of(lambda: lock)


def test_builtins_and_installed_code_are_their_names():
    assert uses_of(len).parts.keys() == {"code"}
    assert uses_of(json.dumps).parts.keys() == {"code"}
    assert uses_of(functools.partial(json.dumps, indent=1)).parts.keys() == {"code"}


def test_what_is_first_party_is_told_by_where_it_lies(tmp_path):
    installed = tmp_path / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "flow_installed.py").write_text("def helper():\n    return 1\n")
    (tmp_path / "flow_own").mkdir()
    sys.path[:0] = [str(installed), str(tmp_path)]
    try:
        importlib.invalidate_caches()
        assert not is_first_party_name("flow_installed")
        assert is_first_party_name("flow_own.anything")
        assert not is_first_party_name("json")
        assert not is_first_party_name("there_is_no_such_module")
        module = importlib.import_module("flow_installed")
        assert not is_first_party(module)
        assert not is_first_party(module.helper)
    finally:
        del sys.path[:2]
        sys.modules.pop("flow_installed", None)
    assert is_first_party(test_builtins_and_installed_code_are_their_names)
    assert is_first_party(sys.modules[__name__])
    assert not is_first_party(uses_of)
    assert not is_first_party(dataclasses)
    assert not is_first_party(dataclasses.Field)
    assert not is_first_party(pytest.raises)
    assert is_first_party(eval("lambda: 1", {"__name__": "a_notebook"}))


def test_an_import_inside_that_fails_is_the_code_s_own_affair():
    source = """
        def work():
            try:
                import flow_broken
            except ImportError:
                return None
            return flow_broken.help()
    """
    files = {"flow_of_tests.py": source, "flow_broken.py": "raise ImportError('not here')"}
    assert "code" in parts_of(files)[0]
    assert "code" in parts_of({"flow_of_tests.py": source})[0]


def test_what_is_remembered_is_forgotten_with_its_function():
    def make():
        def calls_itself(n):
            return calls_itself(n - 1) if n else 0

        return calls_itself, lambda: 1

    functions = make()
    for function in functions:
        uses_of(function)
        assert id(function) in remembered_uses._remembered
    identities = list(map(id, functions))
    watch = weakref.ref(functions[0])
    del functions, function
    gc.collect()
    assert watch() is None
    assert not any(identity in remembered_uses._remembered for identity in identities)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(remembered_uses, "_MOST_REMEMBERED", 10)
    functions = [types.FunctionType(compile(f"{n}", "here", "eval"), {"__name__": "flow"}) for n in range(50)]
    for function in functions:
        uses_of(function)
    assert len(remembered_uses._remembered) <= 10
