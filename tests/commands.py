"""`cascade` as a program of its own, away from the settings of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

CASCADE: Final = ("-m", "cascade")
PATIENCE: Final = 120.0
"""Seconds."""


class Commands:
    """Programs that Python runs in a folder; those that still run are killed by `close`.

    Args:
        folder: where they run, and keep their settings.
        settings: further variables of their environment.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
        self.environment |= {"XDG_CONFIG_HOME": str(folder / "config"), "PYTHONDONTWRITEBYTECODE": "1", **settings}
        self._begun: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str, program: tuple[str, ...] = CASCADE, pass_fds: Collection[int] = (), **settings: str
    ) -> subprocess.Popen[str]:
        """Start a program and go on beside it."""
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=self.folder,
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        self._begun.append(process)
        return process

    def call(self, *arguments: str, program: tuple[str, ...] = CASCADE) -> tuple[int, str, str]:
        """Run a program to its end: its status, its output and its errors."""
        return ended(self.start(*arguments, program=program))

    def close(self) -> None:
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The end of a program: its status, the rest of its output and of its errors."""
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors
