"""Contestants to test the harness with: they run in processes of their own, as real ones do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.measuring import UnfitError, WrongResultError


def constant(value):
    return value


def logged(value, log, name):
    with Path(log).open("a", encoding="utf-8") as lines:
        lines.write(f"{name} {os.getpid()}\n")
    return value


def counted(log):
    """One more each time: 1, 2, 3, ..."""
    with Path(log).open("a+", encoding="utf-8") as lines:
        lines.write("+")
    return Path(log).stat().st_size


def chatty():
    print("not the answer")
    return 7.0


def wrong():
    raise WrongResultError("expected 1, got 2")


def unfit():
    raise UnfitError("no terminal")


def dies():
    sys.stderr.write("the reason\n")
    sys.stderr.flush()
    os._exit(3)


def hangs():
    time.sleep(600)


def terminal():
    return sys.stderr.isatty()
