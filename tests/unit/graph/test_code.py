"""A task's identity is its name in every process; its code is what it would do (S25, S26)."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
import types

import pytest

from cascade.graph.callables import code_token
from cascade.graph.code import code_digest, is_local, is_marker_default, task_identity
from cascade.graph.digest import UndigestibleError, digest

HERE = __name__


def compiled(source, name="work"):
    namespace = {"__name__": "flow"}
    exec(textwrap.dedent(source), namespace)
    return namespace[name]


ORIGINAL = """
    def work(x, y=1, *args, z=2, **rest):
        try:
            return [item + 1 for item in x if item in {"a", "b"}]
        except KeyError:
            return lambda: y
"""

SAME = {
    "moved and commented": "\n\n    # a comment\n" + ORIGINAL.replace("try:", "try:  # here\n\n"),
    "with a docstring": ORIGINAL.replace("try:", '"""It works."""\n        try:', 1),
    "with another docstring": ORIGINAL.replace("try:", '"""It works well."""\n        try:', 1),
    "annotated": ORIGINAL.replace("x, y=1", "x: list, y: int = 1").replace("**rest):", "**rest) -> object:"),
    "laid out otherwise": ORIGINAL.replace("x, y=1, ", "\n    x,\n    y=1,\n    "),
}

OTHER = {
    "constant": ORIGINAL.replace("item + 1", "item + 2"),
    "type of a constant": ORIGINAL.replace("item + 1", "item + True"),
    "set constant": ORIGINAL.replace('{"a", "b"}', '{"a", "c"}'),
    "operator": ORIGINAL.replace("item + 1", "item - 1"),
    "name": ORIGINAL.replace("except KeyError", "except ValueError"),
    "default": ORIGINAL.replace("y=1", "y=3"),
    "keyword default": ORIGINAL.replace("z=2", "z=3"),
    "no default": ORIGINAL.replace("x, y=1", "x, y"),
    "kind of parameter": ORIGINAL.replace("x, y=1", "x, /, y=1"),
    "name of a parameter": ORIGINAL.replace("z=2", "zz=2"),
    "nested code": ORIGINAL.replace("lambda: y", "lambda: x"),
    "protected lines": ORIGINAL.replace("try:", "try:\n            x = x"),
    "asynchronous": ORIGINAL.replace("def work", "async def work"),
    "own name": ORIGINAL,
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_where_code_stands_and_what_it_says_of_itself_does_not_count(name):
    assert code_digest(compiled(SAME[name])) == code_digest(compiled(ORIGINAL))


def test_every_change_of_what_code_does_counts():
    digests = {name: code_digest(compiled(source)) for name, source in OTHER.items()}
    assert len(set(digests.values())) == len(OTHER), digests


def test_lines_and_docstrings_of_nested_definitions_do_not_count():
    source = '''
        def work():
            class Inner:
                """One."""

                size = 1

            def inner():
                """Two."""
                return Inner

            return inner
    '''
    moved = source.replace("class Inner", "\n\n            class Inner").replace("One", "Eins").replace("Two", "Zwei")
    assert code_digest(compiled(source)) == code_digest(compiled(moved))
    assert code_digest(compiled(source)) != code_digest(compiled(source.replace("size = 1", "size = 2")))


def test_running_or_tracing_code_does_not_change_its_digest():
    source = "def work(n):\n    return sum(i * i for i in range(n))"
    fresh, used = compiled(source), compiled(source)
    before = sys.gettrace()
    try:
        for _ in range(100):
            used(10)
        sys.settrace(lambda *_: None)
        used(10)
        # The digest of an equal code object is remembered.
        code_token.cache_clear()
        assert code_digest(used) == code_digest(fresh)
    finally:
        sys.settrace(before)


def test_closed_over_values_count():
    def adder(n):
        return lambda x: x + n

    assert code_digest(adder(1)) == code_digest(adder(1)) != code_digest(adder(2))
    assert task_identity(adder(1)) == task_identity(adder(1)) != task_identity(adder(2))


def test_closed_over_functions_count_with_their_code():
    def outer(inner):
        return lambda x: inner(x + 1)

    assert code_digest(outer(lambda x: x)) != code_digest(outer(lambda x: x + 1))


def test_a_name_that_is_closed_over_and_not_yet_bound_is_no_obstacle():
    def make():
        def early():
            return later

        found = code_digest(early)
        later = 1
        return found, code_digest(early)

    unbound, bound = make()
    assert unbound != bound


def test_what_cannot_be_digested_in_a_closure_is_named():
    lock = threading.Lock()

    def work():
        return lock

    with pytest.raises(UndigestibleError, match=r"function '.*work' \(closes over 'lock'\)"):
        code_digest(work)


class Unset:
    def __repr__(self):
        return "UNSET"


UNSET = Unset()
NOT_GIVEN = object()
ALSO_NOT_GIVEN = object()


def marked(x=NOT_GIVEN):
    return x


def marked_by_own_class(x=UNSET):
    return x


def test_a_marker_among_the_defaults_is_the_name_under_which_the_code_finds_it():
    other = types.FunctionType(marked.__code__, globals(), "marked", (ALSO_NOT_GIVEN,))
    other.__qualname__ = marked.__qualname__
    assert code_digest(marked) == code_digest(marked) != code_digest(other)
    assert is_marker_default(marked, "x", NOT_GIVEN)
    assert not is_marker_default(marked, "x", ALSO_NOT_GIVEN)
    assert not is_marker_default(marked, "y", NOT_GIVEN)
    assert is_marker_default(marked_by_own_class, "x", UNSET)
    assert code_digest(marked_by_own_class) == code_digest(marked_by_own_class)

    def local(x=threading.Lock()):  # noqa: B008
        return x

    with pytest.raises(UndigestibleError, match="its default for 'x'"):
        code_digest(local)


class Service:
    size = 1

    def __init__(self, rate):
        self.rate = rate

    def scale(self, x):
        return x * self.rate

    def __call__(self, x):
        return x

    @classmethod
    def make(cls):
        return cls(1)

    @staticmethod
    def plain():
        return 1


class Derived(Service):
    pass


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def times(n, lock=None):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return lock, [function(*args) for _ in range(n)]

        return wrapper

    return decorate


def plain():
    return 1


@logged
def decorated():
    return 1


@functools.lru_cache
def remembered():
    return 1


def test_what_can_be_imported_is_called_by_its_name():
    assert task_identity(plain) == f"{HERE}:plain"
    assert task_identity(Service) == f"{HERE}:Service"
    assert task_identity(Service.plain) == f"{HERE}:Service.plain"
    assert task_identity(remembered) == f"{HERE}:remembered"
    assert task_identity(sum) == "builtins:sum"
    assert task_identity(str.upper) == "builtins:str.upper"
    assert task_identity(os.path.join) == "posixpath:join"
    assert not is_local(plain)


def test_identity_survives_a_change_of_code_where_there_is_a_name():  # S26
    one, other = compiled("def work(): return 1"), compiled("def work(): return 2")
    assert task_identity(one) == task_identity(other) == "flow:work"
    assert task_identity(compiled("work = lambda: 1")) != task_identity(compiled("work = lambda: 2"))


def test_lambdas_and_local_functions_are_local():
    def local():
        return 1

    class Inner:
        def method(self):
            return 1

    assert is_local(local)
    assert is_local(lambda: 1)
    assert is_local(Inner)
    assert is_local(Inner.method)
    assert "#" in task_identity(local)
    assert "#" in task_identity(Inner)


def test_no_two_of_these_are_one_task():
    service = Service(2)
    functions = [
        plain, decorated, remembered, logged(plain), logged(logged(plain)), times(1)(plain), times(2)(plain),
        times(2, threading.Lock())(plain), logged(decorated), service.scale, Service(3).scale, Service.scale,
        service, Service(3), Service, Derived, Derived.make, Service.make, Service.plain,
        functools.partial(plain), functools.partial(plain, 1), functools.partial(plain, x=1),
        functools.partial(functools.partial(decorated), 1), sum, len, str.upper, str.lower, "a".upper,
        "b".upper, [].append, {}.get, dict.fromkeys, int, lambda: 1, lambda: 2,
    ]  # fmt: skip
    identities = [task_identity(function) for function in functions]
    assert len(set(identities)) == len(functions)
    assert identities == [task_identity(function) for function in functions]


def test_a_decorated_function_keeps_its_identity_through_changes_of_code():
    source = """
        import functools
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper
        @decorate
        def work():
            return 1
    """
    one, other = compiled(source), compiled(source.replace("return 1", "return 2"))
    assert task_identity(one) == task_identity(other)
    assert task_identity(one).startswith("flow:work@flow:decorate")
    assert code_digest(one) != code_digest(other)


def test_code_of_methods_partials_and_objects_counts():
    source = """
        class Work:
            def __call__(self): return 1
            def run(self): return 1
        work = Work()
        run = work.run
    """
    changed = source.replace("return 1", "return 2")
    assert code_digest(compiled(source)) != code_digest(compiled(changed))
    assert code_digest(compiled(source, "run")) != code_digest(compiled(changed, "run"))
    assert code_digest(compiled(source, "Work")) != code_digest(compiled(changed, "Work"))
    ones, twos = (functools.partial(compiled(f"def work(): return {n}")) for n in (1, 2))
    assert task_identity(ones) == task_identity(twos)
    assert code_digest(ones) != code_digest(twos)


def test_a_class_is_its_code_its_plain_attributes_and_its_bases():
    source = """
        class Base:
            def run(self): return 1
        class Work(Base):
            size = 1
            @property
            def p(self): return 1
    """
    variants = [
        source,
        source.replace("run(self): return 1", "run(self): return 2"),
        source.replace("size = 1", "size = 2"),
        source.replace("p(self): return 1", "p(self): return 2"),
        source.replace("(Base)", ""),
    ]
    assert len({digest(compiled(variant, "Work")) for variant in variants}) == len(variants)


SCRIPT = """
import flow_library
from cascade.graph.code import code_digest, task_identity

def work(x):
    return x

class Model:
    pass

if __name__ != "flow":
    from cascade.graph.digest import digest
    for function in (work, lambda: 1, Model, flow_library.helper):
        print(task_identity(function), code_digest(function).hex())
    print(digest(Model).hex())
"""


def test_a_script_has_one_identity_however_it_is_started(tmp_path):  # S26
    (tmp_path / "flow.py").write_text(SCRIPT)
    (tmp_path / "flow_library.py").write_text("def helper(): return 1")
    (tmp_path / "other").mkdir()
    (tmp_path / "link.py").symlink_to(tmp_path / "flow.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}

    def printed(*command, cwd=tmp_path):
        return subprocess.run(
            [sys.executable, *command], cwd=cwd, env=environment, check=True, capture_output=True, text=True
        ).stdout

    by_path = printed("flow.py")
    assert by_path.startswith("flow:work ")
    assert by_path == printed("-m", "flow") == printed("../flow.py", cwd=tmp_path / "other") == printed("link.py")
    as_worker = """if True:
        import runpy, sys
        main = sys.modules["__mp_main__"] = type(sys)("__mp_main__")
        main.__file__ = "flow.py"
        runpy.run_path("flow.py", run_name="__mp_main__")
    """
    assert by_path == printed("-c", as_worker)
    asked = "import flow; from cascade.graph.code import task_identity; print(task_identity(flow.work))"
    assert by_path.startswith(printed("-c", asked).strip() + " ")


def test_what_is_made_at_a_prompt_has_no_name_of_its_own():
    source = "from cascade.graph.code import is_local\ndef work(): pass\nprint(is_local(work))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", source], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"
