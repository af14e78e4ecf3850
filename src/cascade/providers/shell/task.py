"""The task that runs a command."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, overload

from cascade.providers.shell.outcome import (
    Command,
    ShellError,
    ShellOutputError,
    ShellResult,
    ShellTimeoutError,
    tail,
)
from cascade.providers.shell.process import Unfinished, run_process
from cascade.providers.shell.quoting import parse_command_line, word
from cascade.spec.exceptions import DeclarationError, TaskArgumentError
from cascade.spec.policy import checked_timeout, is_lazy
from cascade.spec.task import Task

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult

    Lazy = LazyResult[Any]
    Text = str | os.PathLike[str]
    Environment = Mapping[str, str | os.PathLike[str] | int | float | Lazy | None]

MOST_OUTPUT: Final = 256 * 2**20
_SHELL: Final = "/bin/sh"


class ShellTask(Task[..., Any]):
    """The task `shell`: what can be known to be wrong with a command is reported at the call."""

    __slots__ = ()
    checks_calls = True

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            command: str | Sequence[Text | float | Lazy] | Lazy,
            *,
            check: bool | Lazy = True,
            cwd: Text | Lazy | None = None,
            env: Environment | Lazy | None = None,
            timeout: float | Lazy | None = None,
            input: str | bytes | Lazy | None = None,
            encoding: str = "utf-8",
            max_output: int | Lazy | None = MOST_OUTPUT,
            **values: Any,
        ) -> LazyResult[ShellResult[str]]: ...
        @overload
        def __call__(
            self,
            command: str | Sequence[Text | float | Lazy] | Lazy,
            *,
            check: bool | Lazy = True,
            cwd: Text | Lazy | None = None,
            env: Environment | Lazy | None = None,
            timeout: float | Lazy | None = None,
            input: str | bytes | Lazy | None = None,
            encoding: None,
            max_output: int | Lazy | None = MOST_OUTPUT,
            **values: Any,
        ) -> LazyResult[ShellResult[bytes]]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> LazyResult[Any]: ...

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        _check(*args, **kwargs)


def _check(
    command: Any,
    *,
    timeout: Any = None,
    max_output: Any = MOST_OUTPUT,
    check: Any = True,  # noqa: ARG001 - takes what `shell` takes; likewise the next ones
    cwd: Any = None,  # noqa: ARG001
    env: Any = None,  # noqa: ARG001
    input: Any = None,  # noqa: ARG001
    encoding: Any = "utf-8",  # noqa: ARG001
    **values: Any,
) -> None:
    """Refuse what is wrong whatever the lazy arguments will be."""
    if timeout is not None and not is_lazy(timeout):
        checked_timeout(timeout)
    if max_output is not None and not is_lazy(max_output):
        _check_bound(max_output)
    if isinstance(command, str):
        _check_names(command, values)
    elif not is_lazy(command):
        if not isinstance(command, (list, tuple)) or not command:
            raise DeclarationError(
                f"a command is text for the shell, or a list of a program and its arguments, got {command!r}"
            )
        if values:
            raise _misfit(
                f"got values for {_listed(values)}, but a list has no placeholders: put them into the list itself"
            )


def _check_names(template: str, values: Mapping[str, Any]) -> None:
    names = parse_command_line(template).names
    taken = names & _parameters()
    if taken:
        raise _misfit(f"the placeholder {_listed(taken)} has the name of an argument of shell; choose another name")
    missing = names - values.keys()
    if missing:
        raise _misfit(f"no value for {_listed(missing)} of the command {template!r}")
    unknown = values.keys() - names
    if unknown:
        raise _misfit(
            f"the command {template!r} has no placeholder for {_listed(unknown)}; it has {_listed(names) or 'none'}"
        )


def _check_bound(max_output: Any) -> None:
    if isinstance(max_output, bool) or not isinstance(max_output, int) or max_output < 0:
        raise DeclarationError(
            f"max_output is a number of bytes, an int of at least 0, or None for no bound, got {max_output!r}"
        )


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


@functools.cache
def _parameters() -> frozenset[str]:
    signature = shell.signature
    assert signature is not None
    return frozenset(signature.parameters) - {"values"}


def _misfit(problem: str) -> TaskArgumentError:
    assert shell.signature is not None
    parameters = [parameter.replace(annotation=parameter.empty) for parameter in shell.signature.parameters.values()]
    return TaskArgumentError("shell", str(inspect.Signature(parameters)), problem)


@functools.partial(ShellTask, name="shell")
async def shell(
    command: str | Sequence[str | os.PathLike[str] | float],
    *,
    check: bool = True,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str | os.PathLike[str] | float | None] | None = None,
    timeout: float | None = None,
    input: str | bytes | None = None,
    encoding: str | None = "utf-8",
    max_output: int | None = MOST_OUTPUT,
    **values: Any,
) -> ShellResult[Any]:
    """Run a command.

    A list is a program and its arguments, each given to it as it is. Text is read by `/bin/sh`, after each
    `{name}` in it has been replaced by the value of that name, quoted, so that it stays one word whatever is
    in it. A list of values becomes several words. `{{` and `}}` are braces for the shell. Quoting holds for
    this one shell: a value for `eval`, `ssh` or another `sh -c` needs care, and one that may begin with a
    dash a `--` before it.

    The command has a session of its own. When the task ends early, by cancellation or a timeout, the command
    and all that it has started are asked to end (SIGTERM), and killed (SIGKILL) two seconds later. On Linux
    that includes what has made a session of its own, as with `setsid`, unless its parent has gone and it
    holds no output of the command; elsewhere it goes on. When this Python process is killed, they are ended
    too, except for what has made a session of its own. A process that the command leaves in the background is
    waited for as long as it holds the output open. At most 64 commands run at once on one event loop.

    Args:
        command: a list of text, paths and numbers, or text for the shell.
        check: whether an exit code other than 0 is an error.
        cwd: the folder to run in.
        env: variables to add to this process's environment; `None` removes one.
        timeout: how long the command may run, in seconds; waiting for its turn does not count.
        input: its standard input, which is empty without it, so that nothing waits for an answer.
        encoding: of its output and of a text for its input; `None` gives bytes.
        max_output: how many bytes it may write in all, 256 MiB by default; `None` for no bound.
        values: a value for each placeholder: text, a path, a number, or a list of those.

    Raises:
        TaskArgumentError: a placeholder has no value, or a value no placeholder.
        DeclarationError: a placeholder stands where a quoted value would not stay one word, as inside quotes;
            or a value is no word.
        ShellError: the exit code is not 0.
        ShellTimeoutError: it took too long.
        ShellOutputError: it wrote too much, or something that is not in the encoding.
        OSError: the program or the folder cannot be used.

    >>> import cascade as cs
    >>> cs.run(cs.shell("echo {what}", what="it's $HOME"))["text"]
    "it's $HOME"
    >>> cs.run(cs.shell(["tr", "a-z", "A-Z"], input="loud")["stdout"])
    'LOUD'
    """
    _check(command, timeout=timeout, max_output=max_output, **values)
    shown: Command
    if isinstance(command, str):
        shown = parse_command_line(command).fill(values)
        if "\0" in shown:
            raise DeclarationError(f"the command contains a null character: {shown!r}")
        arguments = [_SHELL, "-c", shown]
    else:
        shown = tuple(word(item, f"item {index} of the command") for index, item in enumerate(command))
        arguments = list(shown)
    try:
        finished = await run_process(
            arguments,
            cwd=cwd,
            env=None if env is None else _environment(env),
            data=input.encode(encoding or "utf-8") if isinstance(input, str) else input,
            timeout=timeout,
            max_output=max_output,
        )
    except Unfinished as end:
        outputs = tail(end.stdout), tail(end.stderr)
        if timeout is not None and end.timed_out:
            raise ShellTimeoutError(shown, timeout, *outputs) from None
        problem = f"wrote more than max_output={max_output} bytes and was stopped"
        raise ShellOutputError(shown, None, problem, *outputs) from None
    except OSError as error:
        error.add_note(f"while starting the command {shown!r} in {os.fspath(cwd or '.')!r}")
        raise
    if check and finished.returncode != 0:
        raise ShellError(shown, finished.returncode, tail(finished.stdout), tail(finished.stderr))
    if encoding is None:
        return ShellResult(shown, finished.returncode, finished.stdout, finished.stderr)
    try:
        stdout = finished.stdout.decode(encoding)
    except UnicodeDecodeError as error:
        problem = (
            f"wrote something that is not {encoding} at byte {error.start} of its standard output; "
            "name the right encoding, or take the bytes with encoding=None"
        )
        outputs = tail(finished.stdout), tail(finished.stderr)
        raise ShellOutputError(shown, finished.returncode, problem, *outputs) from None
    # Messages are for people: one odd byte in them is no reason to lose the result.
    return ShellResult(shown, finished.returncode, stdout, finished.stderr.decode(encoding, "backslashreplace"))


def _environment(changes: Mapping[str, Any]) -> dict[str, str]:
    environment = dict(os.environ)
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = word(value, f"the environment variable {name}")
    return environment
