"""How pytest runs this project's tests: which extras they need, and where examples run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _pytest.doctest import DoctestModule

from tests.extras import ExtrasPolicy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-extras",
        action="store_true",
        help="leave out tests marked needs_extra, and refuse to run where an extra is installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ExtrasPolicy(config), "cascade-extras")


# Fixtures that start real database servers.
pytest_plugins = ["tests.servers"]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    collectors = yield
    if file_path.suffix == ".md" and is_asked_for(file_path, parent.config):
        # Sybil is imported only where there are documents to check.
        from tests.documents import collect_document

        return [*collectors, collect_document(file_path, parent)]
    package = parent.config.rootpath / "src"
    if file_path == package / "cascade" / "mypy_plugin.py":
        # It has no examples, and mypy's modules can only be imported in the order in which mypy does it.
        return []
    if not file_path.is_relative_to(package):
        # Examples in docstrings are the package's; to look for them elsewhere would import each test twice.
        return [collector for collector in collectors if not isinstance(collector, DoctestModule)]
    return collectors


def is_asked_for(path: Path, config: pytest.Config) -> bool:
    """Whether the arguments of pytest include the file: those beside a folder asked for are offered too."""
    asked = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return any(path.is_relative_to(place.resolve()) for place in asked)


@pytest.fixture(autouse=True)
def _docstrings_run_in_an_empty_folder(request: pytest.FixtureRequest) -> Iterator[None]:
    if isinstance(request.node, pytest.DoctestItem):
        folder = request.getfixturevalue("tmp_path")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            yield
    else:
        yield
