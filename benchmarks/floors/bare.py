"""The least that a program takes: Python that starts and does nothing."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measuring import repeated


def start() -> float:
    def one() -> int:
        return subprocess.run([sys.executable, "-c", "pass"], check=False).returncode

    return repeated(one, 0, warm_up=1, times=5)
