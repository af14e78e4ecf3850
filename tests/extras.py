"""Which tests need which extras, and what happens where these are missing.

In a full run a missing extra is an error of each test that needs it, never a skip. With `--without-extras`
those tests are left out and counted in the summary, and the run is refused where an extra is installed: it
would prove nothing.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DISTRIBUTION = "cascade-py"
TOOLS = frozenset({"test", "servers", "lint", "types", "build", "examples"})


def read_extras(pyproject: Path) -> dict[str, frozenset[str]]:
    """The distributions that each extra installs, for the extras meant for users."""
    declared = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]

    def distributions(extra: str) -> Iterator[str]:
        for requirement in declared[extra]:
            match = re.match(r"([\w.-]+)(?:\[([\w,.\s-]+)\])?", requirement)
            assert match is not None, requirement
            if match[1] == DISTRIBUTION:
                for inner in match[2].split(","):
                    yield from distributions(inner.strip())
            else:
                yield match[1]

    return {extra: frozenset(distributions(extra)) for extra in declared if extra not in TOOLS}


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


class ExtrasPolicy:
    """A pytest plugin that holds the marker `needs_extra` against what is installed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.extras = read_extras(config.rootpath / "pyproject.toml")
        self.leave_out: bool = config.getoption("--without-extras")
        self.left_out: Counter[str] = Counter()
        if self.leave_out:
            installed = sorted(
                f"{name} (extra {extra})"
                for extra, names in self.extras.items()
                if extra != "all"
                for name in names
                if is_installed(name)
            )
            if installed:
                raise pytest.UsageError(
                    f"--without-extras needs an environment without extras; it has {', '.join(installed)}"
                )

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """Leave out a module whose `pytestmark` needs an extra, unimported: it may import the extra."""
        if not self.leave_out or not (needed := extras_of_module(module_path)):
            return None
        return ModuleLeftOut.from_parent(parent, path=module_path, policy=self, needed=needed)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept: list[pytest.Item] = []
        for item in items:
            needed = self.needed_by(item)
            if needed and self.leave_out:
                self.count(needed, 1)
            else:
                kept.append(item)
        if len(kept) < len(items):
            self.config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
            items[:] = kept

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for extra in self.needed_by(item):
            missing = sorted(name for name in self.extras[extra] if not is_installed(name))
            if missing:
                pytest.fail(
                    f"needs the extra {extra!r}, but {', '.join(missing)} is not installed: "
                    f"pip install '{DISTRIBUTION}[{extra}]'",
                    pytrace=False,
                )

    def needed_by(self, item: pytest.Item) -> list[str]:
        needed = [str(extra) for marker in item.iter_markers("needs_extra") for extra in marker.args]
        if unknown := sorted(set(needed) - set(self.extras)):
            raise pytest.UsageError(f"{item.nodeid}: needs_extra names {unknown}; the extras are {sorted(self.extras)}")
        return needed

    def count(self, needed: Iterable[str], tests: int) -> None:
        self.left_out[", ".join(sorted(set(needed)))] += tests

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the counts of an xdist worker: each collects everything, so those of any one will do."""
        self.left_out = Counter(getattr(node, "workeroutput", {}).get("left_out_for_extras", self.left_out))

    def pytest_sessionfinish(self) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["left_out_for_extras"] = dict(self.left_out)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.leave_out:
            counts = ", ".join(f"{extra}: {tests}" for extra, tests in sorted(self.left_out.items()))
            terminalreporter.section("without extras")
            terminalreporter.line(f"{self.left_out.total()} tests left out, by the extra they need: {counts}")


class ModuleLeftOut(pytest.Module):
    """A test module that is not imported; its test functions are counted in its source."""

    def __init__(self, *, policy: ExtrasPolicy, needed: frozenset[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.policy = policy
        self.needed = needed

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        tests = [
            node
            for node in ast.walk(ast.parse(self.path.read_bytes()))
            if isinstance(node, functions) and node.name.startswith("test")
        ]
        self.policy.count(self.needed, len(tests))
        return []


def extras_of_module(path: Path) -> frozenset[str]:
    """What the module's own `pytestmark = pytest.mark.needs_extra(...)` names, read without importing it."""
    source = path.read_bytes()
    if b"needs_extra" not in source:
        return frozenset()
    return frozenset(
        str(argument.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets)
        for call in ast.walk(statement.value)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "needs_extra"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    )
