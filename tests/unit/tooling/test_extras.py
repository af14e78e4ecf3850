"""Tests that need an extra are found, and the extras are those that pyproject.toml declares."""

from __future__ import annotations

from pathlib import Path

from tests.extras import extras_of_module, read_extras

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_all_stands_for_every_other_extra() -> None:
    extras = read_extras(PYPROJECT)
    everything = extras.pop("all")
    assert everything == frozenset().union(*extras.values())
    assert "cloudpickle" in everything


def test_extras_for_work_on_the_package_are_not_among_them() -> None:
    assert not {"test", "lint", "types", "build", "examples"} & set(read_extras(PYPROJECT))


def test_a_module_says_which_extras_it_needs_without_being_imported(tmp_path: Path) -> None:
    module = tmp_path / "test_it.py"
    module.write_text(
        "import not_there\npytestmark = [pytest.mark.needs_extra('cli', 'yaml'), pytest.mark.other('x')]\n"
    )
    assert extras_of_module(module) == {"cli", "yaml"}


def test_a_marker_on_one_test_does_not_leave_out_its_module(tmp_path: Path) -> None:
    module = tmp_path / "test_it.py"
    module.write_text("@pytest.mark.needs_extra('cli')\ndef test_it(): ...\n")
    assert extras_of_module(module) == frozenset()
