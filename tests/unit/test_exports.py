"""The front door: every public name is there, comes from one place, and nothing else is."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import cascade


def test_every_public_name_can_be_had_and_has_a_docstring() -> None:
    for name in dir(cascade):
        value = getattr(cascade, name)
        assert inspect.getdoc(value), name


def test_no_object_has_two_public_names() -> None:
    names: dict[int, str] = {}
    for name in dir(cascade):
        other = names.setdefault(id(getattr(cascade, name)), name)
        assert other == name


def test_the_front_door_defines_nothing_itself() -> None:
    tree = ast.parse(Path(cascade.__file__ or "").read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert defined == {"__getattr__", "__dir__"}


def test_every_error_is_a_cascade_error_beside_its_standard_class() -> None:  # S30
    for name in dir(cascade):
        value = getattr(cascade, name)
        if isinstance(value, type) and issubclass(value, BaseException) and not issubclass(value, Warning):
            assert issubclass(value, cascade.CascadeError), name


def test_importing_it_loads_nothing_from_outside_the_standard_library() -> None:
    code = "import sys; import cascade; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], check=True, capture_output=True)
    known = {name.partition(".")[0] for name in bare.stdout.decode().split()}
    foreign = loaded - known - set(sys.stdlib_module_names) - {"cascade"}
    assert not foreign


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(cascade, "no_such_name")
