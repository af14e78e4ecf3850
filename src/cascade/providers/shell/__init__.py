"""Commands as tasks."""

from cascade.providers.shell.outcome import ShellError, ShellOutputError, ShellResult, ShellTimeoutError
from cascade.providers.shell.task import ShellTask, shell

__all__ = ["ShellError", "ShellOutputError", "ShellResult", "ShellTask", "ShellTimeoutError", "shell"]
