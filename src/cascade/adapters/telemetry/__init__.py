"""What people and machines see of runs."""

from cascade.adapters.telemetry.json_lines import JsonLines
from cascade.adapters.telemetry.reports import reporting
from cascade.adapters.telemetry.terminal import TerminalReporter

__all__ = ["JsonLines", "TerminalReporter", "reporting"]
