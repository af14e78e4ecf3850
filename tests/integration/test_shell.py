"""Commands end with their tasks, together with all that they have started."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cascade.providers.shell import ShellError, ShellOutputError, ShellResult, ShellTimeoutError, shell
from cascade.providers.shell import process as process_module
from cascade.spec.exceptions import DeclarationError, TaskArgumentError


def run(*args: Any, **kwargs: Any) -> Any:
    return asyncio.run(shell.function(*args, **kwargs))


class Lifeline:
    """A FIFO that is held open by whatever a command has started: its end tells that all of it is gone."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lifeline"
        os.mkfifo(self.path)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    async def wait_for(self, *texts: bytes) -> None:
        """Wait until somebody holds it and has written all of these."""
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, arrived.set)
        seen = b""
        try:
            while not all(text in seen for text in texts):
                arrived.clear()
                await arrived.wait()
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(self._descriptor, 1000)
        finally:
            loop.remove_reader(self._descriptor)

    def wait_for_end(self) -> None:
        """Return when nobody holds it; a command that is left would hold it for a thousand seconds."""
        os.set_blocking(self._descriptor, True)
        while os.read(self._descriptor, 1000):
            pass
        os.close(self._descriptor)


def test_a_list_is_given_to_the_program_as_it_is(tmp_path: Path) -> None:
    program = "import sys; print(sys.argv[1:])"
    result = run([sys.executable, "-c", program, "{x}", "a b", "$HOME", tmp_path, 3])
    assert result.text == str(["{x}", "a b", "$HOME", str(tmp_path), "3"])
    assert result.returncode == 0


def test_text_goes_through_the_shell_with_quoted_values() -> None:
    result = run("printf '%s|' {a} {b} $((1 + 1)); echo oops >&2", a="it's $(id)", b=["x y", 2])
    assert (result.stdout, result.stderr) == ("it's $(id)|x y|2|2|", "oops\n")
    assert result["stdout"] == result.stdout
    with pytest.raises(KeyError, match="'returncode'"):
        result["exit"]


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (("echo {x}",), {}, "no value for 'x'"),
        (("echo {x}",), {"y": 1, "x": 2}, "no placeholder for 'y'"),
        (("cat {input}",), {"input": "x"}, "name of an argument"),
        ((["echo", "{x}"],), {"x": 1}, "a list has no placeholders"),
    ],
)
def test_values_that_do_not_fit_are_reported_at_the_call(args: Any, kwargs: Any, expected: str) -> None:  # S1
    with pytest.raises(TaskArgumentError, match=expected):
        shell(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (([],), {}),
        ((3,), {}),
        (("true",), {"timeout": 0}),
        (("true",), {"max_output": -1}),
        (("'{x}'",), {"x": 1}),
    ],
)
def test_commands_that_cannot_mean_anything_are_reported_at_the_call(args: Any, kwargs: Any) -> None:
    with pytest.raises(DeclarationError):
        shell(*args, **kwargs)


def test_it_is_a_task_like_any_other() -> None:  # S3
    lazy = shell("echo {x}", x=shell("true"))
    assert lazy.name == "shell"
    assert lazy.origin is not None
    assert lazy.origin[0] == __file__
    shell.partial("echo {x}").map(x=["a", "b"])
    with pytest.raises(TaskArgumentError):
        shell.partial("echo {x}").with_retry(3)()


def test_an_exit_code_is_an_error_unless_it_is_asked_for() -> None:
    with pytest.raises(ShellError, match=r"(?s)exit code 3.*\n  worse$") as caught:
        run("echo bad >&2; echo worse >&2; exit 3")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.command, error.returncode) == ("echo bad >&2; echo worse >&2; exit 3", 3)
    assert error.stderr == "bad\nworse\n"
    assert run("exit 3", check=False).returncode == 3
    with pytest.raises(ShellError, match="killed by SIGKILL"):
        run("kill -KILL $$")


def test_a_program_or_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program") as caught:
        run(["no-such-program"])
    assert "no-such-program" in caught.value.__notes__[0]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run("true", cwd=tmp_path / "nowhere")


def test_folder_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_KEPT", "kept")
    monkeypatch.setenv("CASCADE_GONE", "gone")
    env = {"CASCADE_ADDED": 1, "CASCADE_GONE": None}
    result = run('pwd -P; echo "$CASCADE_KEPT/$CASCADE_ADDED/${{CASCADE_GONE-unset}}"', cwd=tmp_path, env=env)
    assert result.text.splitlines() == [str(tmp_path.resolve()), "kept/1/unset"]


def test_nothing_waits_for_an_answer() -> None:
    assert run("cat; if (: < /dev/tty) 2>&-; then echo terminal; fi").stdout == ""


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_input_and_output_of_any_size(size: int) -> None:
    assert run(["cat"], input=b"x" * size, encoding=None).stdout == b"x" * size


def test_a_command_need_not_read_its_input() -> None:
    assert run("exec <&-; echo done", input="x" * 3_000_000).text == "done"


def test_output_that_is_no_text() -> None:
    with pytest.raises(ShellOutputError, match="not utf-8 at byte 1"):
        run("printf 'a\\377'")
    assert run("printf '\\377'", encoding=None) == ShellResult("printf '\\377'", 0, b"\xff", b"")
    assert run("printf '\\377'", encoding="latin-1").stdout == "ÿ"
    assert run("printf '\\377' >&2").stderr == "\\xff"


def test_output_that_never_ends_is_stopped() -> None:
    with pytest.raises(ShellOutputError, match="max_output=100000") as caught:
        run(["yes"], max_output=100_000)
    assert caught.value.stdout.endswith("y\n")
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), ShellOutputError)


def test_a_long_output_has_a_short_repr() -> None:
    assert len(repr(run("yes | head -c 1000000"))) < 300


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:  # S20
    line = Lifeline(tmp_path)
    with pytest.raises(ShellTimeoutError, match=r"timeout of 0\.2 s") as caught:
        run("exec 9>lifeline; (sleep 1000 >&- 2>&-) & echo started; sleep 1000", cwd=tmp_path, timeout=0.2)
    line.wait_for_end()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.returncode is None
    assert pickle.loads(pickle.dumps(caught.value)).timeout == 0.2


@pytest.mark.parametrize("leader", ["exec 9>lifeline; ", "exec 9>lifeline; trap '' TERM; "])
def test_cancellation_ends_the_command_and_its_children(
    tmp_path: Path, leader: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # S20
    monkeypatch.setattr(process_module, "GRACE", 0.2)
    line = Lifeline(tmp_path)

    async def scenario() -> None:
        command = leader + "(trap '' TERM; echo ready >&9; sleep 1000; sleep 1000) & sleep 1000; sleep 1000"
        running = asyncio.create_task(shell.function(command, cwd=tmp_path))
        await line.wait_for(b"ready")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    line.wait_for_end()


def test_a_command_that_was_asked_to_end_may_clean_up(tmp_path: Path) -> None:  # S20
    line = Lifeline(tmp_path)

    async def scenario() -> None:
        command = "exec 9>lifeline; trap 'echo tidy > left; exit' TERM; echo ready >&9; "
        running = asyncio.create_task(shell.function(command + "while :; do sleep 0.05; done", cwd=tmp_path))
        await line.wait_for(b"ready")
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())
    line.wait_for_end()
    assert (tmp_path / "left").read_text() == "tidy\n"


def test_a_second_cancellation_does_not_wait_for_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # S20
    monkeypatch.setattr(process_module, "GRACE", 1000.0)
    line = Lifeline(tmp_path)

    async def scenario() -> None:
        command = "exec 9>lifeline; trap 'echo asked >&9' TERM; echo ready >&9; while :; do sleep 0.05; done"
        running = asyncio.create_task(shell.function(command, cwd=tmp_path))
        await line.wait_for(b"ready")
        running.cancel()
        await line.wait_for(b"asked")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    line.wait_for_end()


ON_LINUX = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells what descends from a process")


@ON_LINUX
@pytest.mark.parametrize(
    "command",
    [
        # A child of the command, one whose parent has a session of its own too, and one in a group of its own.
        "setsid sh -c 'echo ready >&9; exec sleep 1000' >&- 2>&- & sleep 1000",
        "setsid sh -c 'setsid sleep 1000 & echo ready >&9; wait' >&- 2>&- & wait",
        "trap '' TERM; setsid sh -c \"trap '' TERM; echo ready >&9; sleep 1000; sleep 1000\" & wait; sleep 1000",
        # Its parent has gone, but it has the output.
        "(setsid sh -c 'echo ready >&9; exec sleep 1000' &); exec 9>&-; sleep 1000",
        "exec setsid -f sh -c 'sleep 0.1; echo ready >&9; exec sleep 1000'",
    ],
)
def test_cancellation_ends_what_has_made_a_session_of_its_own(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # S20
    monkeypatch.setattr(process_module, "GRACE", 0.2)
    line = Lifeline(tmp_path)

    async def scenario() -> None:
        running = asyncio.create_task(shell.function("exec 9>lifeline; " + command, cwd=tmp_path))
        await line.wait_for(b"ready")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    line.wait_for_end()


@ON_LINUX
def test_what_has_made_a_session_of_its_own_may_clean_up(tmp_path: Path) -> None:  # S20
    line = Lifeline(tmp_path)

    async def scenario() -> None:
        inner = "trap 'echo tidy >> left; exit' TERM; echo ready >&9; while :; do sleep 0.05; done"
        command = f'exec 9>lifeline; setsid sh -c "{inner}" & wait'
        running = asyncio.create_task(shell.function(command, cwd=tmp_path))
        await line.wait_for(b"ready")
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())
    line.wait_for_end()
    assert (tmp_path / "left").read_text() == "tidy\n"


@ON_LINUX
def test_what_this_process_has_started_itself_is_none_of_the_command_though_it_holds_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE", 0.2)
    line = Lifeline(tmp_path)
    holders: list[subprocess.Popen[bytes]] = []

    def hold_output(leader: str) -> None:
        # As what another thread forks while a command starts may do for ever.
        with open(f"/proc/{leader}/fd/1", "wb") as output:
            holders.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output))

    async def scenario() -> None:
        command = "exec 9>lifeline; echo $$ > pid; echo ready >&9; sleep 1000"
        running = asyncio.create_task(shell.function(command, cwd=tmp_path))
        await line.wait_for(b"ready")
        hold_output((tmp_path / "pid").read_text().strip())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    try:
        asyncio.run(scenario())
        line.wait_for_end()
        assert holders[0].poll() is None
    finally:
        for holder in holders:
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait()


def test_a_loop_that_is_dropped_leaves_nothing_behind(tmp_path: Path) -> None:
    line = Lifeline(tmp_path)
    loop = asyncio.new_event_loop()
    coroutine = shell.function("exec 9>lifeline; echo ready >&9; sleep 1000", cwd=tmp_path)

    async def scenario() -> None:
        coroutine.send(None)
        await line.wait_for(b"ready")

    loop.run_until_complete(scenario())
    loop.close()
    coroutine.close()
    line.wait_for_end()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_commands_end_when_the_whole_program_is_killed(tmp_path: Path, ending: signal.Signals) -> None:
    line = Lifeline(tmp_path)
    command = "exec 9>lifeline; (echo ready >&9; sleep 1000) & sleep 1000; sleep 1000"
    program = (
        "import asyncio\n"
        "from cascade.providers.shell import shell\n"
        "async def main():\n"
        f"    running = asyncio.create_task(shell.function({command!r}))\n"
        "    await asyncio.sleep(0)\n"
        "    with open('lifeline', 'w') as line:\n"
        "        line.write('guarded')\n"
        "    await running\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, **_import_path()}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment
    ) as victim:
        # Both words, in whichever order: a command is guarded a moment after it has begun.
        try:
            asyncio.run(line.wait_for(b"ready", b"guarded"))
        finally:
            victim.send_signal(ending)
        line.wait_for_end()


def _import_path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_program_that_ran_commands_ends_without_a_word(tmp_path: Path) -> None:
    program = "import asyncio, cascade.providers.shell as s; asyncio.run(s.shell.function('echo {x}', x=1))"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **_import_path()},
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_background_process_without_an_output_is_not_waited_for(tmp_path: Path) -> None:
    line = Lifeline(tmp_path)
    result = run("exec 9>lifeline; sleep 1000 >&- 2>&- & echo $!", cwd=tmp_path)
    os.kill(int(result.text), signal.SIGKILL)
    line.wait_for_end()


def test_many_loops_in_many_threads() -> None:
    results: list[int] = []

    def work(number: int) -> None:
        async def many() -> list[ShellResult[str]]:
            return await asyncio.gather(*(shell.function("echo {n}", n=number) for _ in range(20)))

        results.extend(int(result.text) for result in asyncio.run(many()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(list(range(4)) * 20)


def test_more_commands_than_may_run_at_once_leave_nothing_open() -> None:
    async def many() -> None:
        await asyncio.gather(*(shell.function(["true"]) for _ in range(process_module.MOST_AT_ONCE + 20)))

    run(["true"])
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    asyncio.run(many())
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_it_works_where_the_system_tells_of_no_endings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert run("echo yes; exit 3", check=False).returncode == 3
    line = Lifeline(tmp_path)
    with pytest.raises(ShellTimeoutError):
        run("exec 9>lifeline; sleep 1000", cwd=tmp_path, timeout=0.1)
    line.wait_for_end()
