"""A folder with workflows in it, and the command line in this process."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Folder:
    """A working directory, and commands in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, source: str) -> Path:
        """Write a file, which the next command loads anew."""
        file = self.path / name
        file.write_text(textwrap.dedent(source))
        sys.modules.pop(file.stem, None)
        return file

    def cascade(self, *arguments: str, env: dict[str, str] | None = None, input: str | None = None) -> Any:
        """Call the command line, as from a new process."""
        from typer.testing import CliRunner

        from cascade.tools.command.app import app

        for name in [name for name, module in sys.modules.items() if self._is_here(module)]:
            del sys.modules[name]
        return CliRunner(env=env).invoke(app, list(arguments), input=input)

    def _is_here(self, module: Any) -> bool:
        return str(getattr(module, "__file__", None) or "").startswith(f"{self.path}/")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CASCADE_STORE", raising=False)
    monkeypatch.delenv("CASCADE_KEY", raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    made = Folder(place)
    yield made
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{place}/"):
            del sys.modules[name]
