"""What `cs.run` tells of a run."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from cascade.adapters.telemetry.json_reporter import JsonReporter
from cascade.adapters.telemetry.levels import Level
from cascade.adapters.telemetry.terminal import TerminalReporter

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import TextIO

    from cascade.runtime.engine import Engine

LOG_FORMATS: Final = ("human", "json")


def reporting(engine: Engine, log_level: str, log_format: str) -> AbstractContextManager[Any]:
    """Tell on stderr how the runs of an engine are doing, for the time of a `with` block.

    Args:
        engine: whose runs.
        log_level: the least weight of what is told; at `"CRITICAL"` nothing is.
        log_format: `"human"`, or `"json"` for one object a line.

    Raises:
        ValueError: there is no such level or format.
    """
    level = Level.named(log_level)
    if log_format not in LOG_FORMATS:
        raise ValueError(f"log_format is one of {', '.join(LOG_FORMATS)}, got {log_format!r}")
    stream: TextIO | None = sys.stderr
    if level is Level.CRITICAL or stream is None:
        return nullcontext()
    if log_format == "json":
        return JsonReporter(engine, log_level, stream)
    return TerminalReporter(engine, log_level, stream)
