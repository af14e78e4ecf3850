"""How commands end: what they give, and the errors of those that fail.

ShellError                          the command failed
  ShellTimeoutError (TimeoutError)  it took too long and was stopped
  ShellOutputError (ValueError)     it wrote too much, or something that is no text
"""

from __future__ import annotations

import shlex
import signal
from dataclasses import dataclass
from typing import Any, AnyStr, Final, Generic

from cascade.spec.exceptions import CascadeError

_MOST_SHOWN_OF_COMMAND: Final = 500
_MOST_SHOWN_OF_OUTPUT: Final = 60
_TAIL_CHARACTERS: Final = 4000
_TAIL_LINES: Final = 20

Command = str | tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class ShellResult(Generic[AnyStr]):
    """What a command gave.

    A lazy one is taken apart with `[...]`: `cs.shell("git rev-parse HEAD")["text"]`.

    Attributes:
        command: what was run, with the values in their places: text for the shell, or the tuple of arguments.
        returncode: 0 for success; the negative number of the signal that killed it.
        stdout: all that it wrote there; bytes where no encoding was asked for.
        stderr: likewise.
    """

    command: Command
    returncode: int
    stdout: AnyStr
    stderr: AnyStr

    @property
    def text(self) -> AnyStr:
        """The standard output without the newlines at its end, as `$(...)` gives it."""
        if isinstance(self.stdout, str):
            return self.stdout.rstrip("\n")
        return self.stdout.rstrip(b"\n")

    def __getitem__(self, name: str) -> Any:
        """A field by its name."""
        if name in ("command", "returncode", "stdout", "stderr", "text"):
            return getattr(self, name)
        raise KeyError(f"{name!r}: a ShellResult has 'command', 'returncode', 'stdout', 'stderr' and 'text'")

    def __repr__(self) -> str:
        shown = [f"{name}={_beginning(getattr(self, name))}" for name in ("stdout", "stderr")]
        return f"ShellResult({shown_command(self.command)!r}, returncode={self.returncode}, {', '.join(shown)})"


class ShellError(CascadeError):
    """A command failed.

    Attributes:
        command: what was run: text for the shell, or the tuple of arguments.
        returncode: its exit code; the negative number of the signal that killed it; `None` if it was stopped.
        stdout: the end of what it wrote there.
        stderr: likewise.
    """

    def __init__(self, command: Command, returncode: int | None, stdout: str, stderr: str) -> None:
        super().__init__(command, returncode, stdout, stderr)
        self.command = command
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    def _problem(self) -> str:
        if self.returncode is None:
            return "was stopped"
        if self.returncode < 0:
            return f"was killed by {_signal_name(-self.returncode)}"
        return f"failed with exit code {self.returncode}"

    def __str__(self) -> str:
        source, text = ("stderr", self.stderr) if self.stderr.strip() else ("stdout", self.stdout)
        lines = text.rstrip().splitlines()[-_TAIL_LINES:]
        ending = "".join(f"\n  {line}" for line in lines)
        told = f"; the end of its {source}:{ending}" if lines else "; it wrote nothing"
        return f"the command {self._problem()}: {shown_command(self.command)}{told}"


class ShellTimeoutError(ShellError, TimeoutError):
    """A command took longer than its timeout; it was stopped, with all that it had started.

    Attributes:
        timeout: what was allowed, in seconds.
    """

    def __init__(self, command: Command, timeout: float, stdout: str, stderr: str) -> None:
        super().__init__(command, None, stdout, stderr)
        self.args = (command, timeout, stdout, stderr)
        self.timeout = timeout

    def _problem(self) -> str:
        return f"took longer than its timeout of {self.timeout:g} s and was stopped"


class ShellOutputError(ShellError, ValueError):
    """What a command wrote cannot be its result.

    Attributes:
        problem: why, and what to do.
    """

    def __init__(self, command: Command, returncode: int | None, problem: str, stdout: str, stderr: str) -> None:
        super().__init__(command, returncode, stdout, stderr)
        self.args = (command, returncode, problem, stdout, stderr)
        self.problem = problem

    def _problem(self) -> str:
        return self.problem


def tail(output: bytes) -> str:
    """The end of an output for people to read, whatever its encoding."""
    return output[-_TAIL_CHARACTERS:].decode("utf-8", "backslashreplace")


def shown_command(command: Command) -> str:
    text = command if isinstance(command, str) else shlex.join(command)
    return text if len(text) <= _MOST_SHOWN_OF_COMMAND else f"{text[:_MOST_SHOWN_OF_COMMAND]}..."


def _beginning(output: str | bytes) -> str:
    """A bounded `repr`: results are shown in events, and outputs can be long."""
    if len(output) <= _MOST_SHOWN_OF_OUTPUT:
        return repr(output)
    return f"{output[:_MOST_SHOWN_OF_OUTPUT]!r}... ({len(output)} in all)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
