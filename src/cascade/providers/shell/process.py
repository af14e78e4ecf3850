"""One command as a process group of its own: started, fed, read, and ended with all that it has started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import IO, Any, Final, NamedTuple

from cascade.providers.shell.family import Family
from cascade.providers.shell.guardian import guardian

MOST_AT_ONCE: Final = 64
"""How many commands run at once on one event loop: as many as there are worker threads for other tasks."""

GRACE: Final = 2.0
"""How long a group that was asked to end may take, in seconds, before it is killed."""

_PATIENCE: Final = 5.0
_MOST_LOOKS: Final = 10
_CHUNK: Final = 1 << 18


class Finished(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Unfinished(Exception):
    """A command was stopped.

    Attributes:
        timed_out: whether because of the time; otherwise because of how much it wrote.
        stdout: what it wrote until then.
        stderr: likewise.
    """

    def __init__(self, timed_out: bool, stdout: bytes, stderr: bytes) -> None:
        super().__init__(timed_out)
        self.timed_out = timed_out
        self.stdout = stdout
        self.stderr = stderr


async def run_process(
    arguments: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    data: bytes | None,
    timeout: float | None,
    max_output: int | None,
) -> Finished:
    """Run a program to its end, and to the end of its output.

    Args:
        arguments: the program and its arguments.
        cwd: the folder to run it in.
        env: its environment; this process's own by default.
        data: its standard input; empty by default.
        timeout: the time that it may take, in seconds.
        max_output: how many bytes it may write.

    Raises:
        Unfinished: it took longer or wrote more; it was stopped.
        OSError: it could not be started.

    However this ends, by cancellation too, no process of the command is left but those which a command that
    ended by itself left behind without an open output, and those which `Family` cannot find.
    """
    async with _turn():
        group = _ProcessGroup(arguments, cwd, env, data, max_output)
        try:
            group.attend()
            if not await group.until(lambda: group.ended or group.overflowed, timeout):
                raise Unfinished(True, *group.output())
            if group.overflowed:
                raise Unfinished(False, *group.output())
        except GeneratorExit:
            # The loop is gone, so nothing can be awaited any more.
            group.kill()
            raise
        except BaseException:
            await group.stop()
            raise
        finally:
            returncode = group.close()
        assert returncode is not None
        return Finished(returncode, *group.output())


class _Turns:
    """The commands of one event loop, running and waiting."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(MOST_AT_ONCE)
        self.users = 0


_turns: Final[dict[asyncio.AbstractEventLoop, _Turns]] = {}
_turns_lock: Final = threading.Lock()


@asynccontextmanager
async def _turn() -> AsyncGenerator[None, None]:
    """Wait until fewer than `MOST_AT_ONCE` commands run on this loop, first come first served."""
    loop = asyncio.get_running_loop()
    with _turns_lock:
        turns = _turns.setdefault(loop, _Turns())
        turns.users += 1
    try:
        async with turns.free:
            yield
    finally:
        with _turns_lock:
            turns.users -= 1
            if not turns.users:
                del _turns[loop]


class _ProcessGroup:
    """The live processes of one command.

    Its leader is reaped last of all, in `close`: until then no other group can get its number, so that a
    signal meets this group or nobody.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
        data: bytes | None,
        max_output: int | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._data = memoryview(data or b"")
        self._allowed = max_output
        self._written = 0
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._open: dict[int, Callable[[], Any]] = {}
        self._outputs = 2
        self._discarding = False
        self.exited = False
        self.overflowed = False
        guardian.prepare()
        # No await between the start and the caller's `try`: a cancellation always finds somebody to end this.
        self.process = subprocess.Popen(
            arguments,
            bufsize=0,
            stdin=subprocess.PIPE if self._data else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        guardian.guard(self.process.pid)
        self._family = Family(self.process.pid)

    @property
    def ended(self) -> bool:
        """Whether the leader is gone and all of the output is here."""
        return self.exited and not self._outputs

    def output(self) -> tuple[bytes, bytes]:
        return b"".join(self._stdout), b"".join(self._stderr)

    def attend(self) -> None:
        """Begin to read, to feed, and to watch for the end."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._watch()
        self._read(self.process.stdout, self._stdout)
        self._read(self.process.stderr, self._stderr)
        if self.process.stdin is not None:
            self._feed(self.process.stdin)

    async def until(self, reached: Callable[[], bool], seconds: float | None) -> bool:
        """Wait for a state; false when the time passed first."""
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            self._wake.set()

        timer = None if seconds is None else self._loop.call_later(seconds, expire)
        try:
            while not reached():
                if expired:
                    return False
                self._wake.clear()
                await self._wake.wait()
            return True
        finally:
            if timer is not None:
                timer.cancel()

    async def stop(self) -> None:
        """Ask the group to end, and kill it after a grace period, or at once when cancelled meanwhile."""
        self._discarding = True
        # The children of a leader that has gone can be known by what they keep this waiting for.
        self._family.find(self._pipes() if self.exited else ())
        self.signal(signal.SIGTERM)
        # A stopped process would not notice.
        self.signal(signal.SIGCONT)
        try:
            await self.until(lambda: self.ended, GRACE)
        finally:
            self.kill()
            await self.until(lambda: self.exited, _PATIENCE)

    def kill(self) -> None:
        """Kill all processes of the command."""
        # What has been stopped starts nothing more.
        self.signal(signal.SIGSTOP)
        for _ in range(_MOST_LOOKS):
            if not self._family.find(self._pipes()):
                break
            self.signal(signal.SIGSTOP)
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the command that are known."""
        # Nobody is left, or the command has given itself to another user.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
        self._family.signal(number)

    def _pipes(self) -> set[str]:
        """The outputs that somebody still has open."""
        files = (self.process.stdout, self.process.stderr)
        return {f"pipe:[{os.fstat(file.fileno()).st_ino}]" for file in files if file is not None and not file.closed}

    def close(self) -> int | None:
        """Give back all that this holds; the exit code, or `None` for a process that cannot be killed."""
        for stop_watching in list(self._open.values()):
            stop_watching()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file is not None:
                file.close()
        self._family.close()
        if self.exited or self.process.poll() is not None:
            guardian.release(self.process.pid)
            return self.process.wait()
        threading.Thread(target=self._reap_late, name="cascade-shell-late", daemon=True).start()
        return None

    def _reap_late(self) -> None:
        self.process.wait()
        guardian.release(self.process.pid)

    def _read(self, file: IO[bytes], chunks: list[bytes]) -> None:
        descriptor = file.fileno()

        def readable() -> None:
            try:
                data = os.read(descriptor, _CHUNK)
            except (BlockingIOError, InterruptedError):
                return
            if not data:
                self._outputs -= 1
                finish()
            elif not self._discarding:
                self._keep(data, chunks)

        def finish() -> None:
            self._ended(descriptor, self._loop.remove_reader)
            file.close()

        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, readable)
        self._open[descriptor] = finish

    def _keep(self, data: bytes, chunks: list[bytes]) -> None:
        chunks.append(data)
        self._written += len(data)
        if self._allowed is not None and self._written > self._allowed:
            self.overflowed = self._discarding = True
            self._wake.set()

    def _feed(self, file: IO[bytes]) -> None:
        descriptor = file.fileno()

        def writable() -> None:
            try:
                self._data = self._data[os.write(descriptor, self._data[:_CHUNK]) :]
            except (BlockingIOError, InterruptedError):
                return
            except BrokenPipeError:
                # A command need not read all of its input.
                self._data = self._data[:0]
            if not self._data:
                finish()

        def finish() -> None:
            self._ended(descriptor, self._loop.remove_writer)
            file.close()

        os.set_blocking(descriptor, False)
        self._loop.add_writer(descriptor, writable)
        self._open[descriptor] = finish

    def _watch(self) -> None:
        """Notice the leader's end without reaping it, where the system can tell; with a thread elsewhere."""
        try:
            descriptor = os.pidfd_open(self.process.pid)
        except (AttributeError, OSError):
            threading.Thread(target=self._wait, name="cascade-shell-wait", daemon=True).start()
            return

        def finish() -> None:
            self._ended(descriptor, self._loop.remove_reader)
            os.close(descriptor)

        def exited() -> None:
            finish()
            self._exited()

        self._loop.add_reader(descriptor, exited)
        self._open[descriptor] = finish

    def _wait(self) -> None:
        self.process.wait()
        # The loop is closed when nobody waits for this any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        self.exited = True
        self._wake.set()

    def _ended(self, descriptor: int, stop_watching: Callable[[int], Any]) -> None:
        del self._open[descriptor]
        self._wake.set()
        if not self._loop.is_closed():
            stop_watching(descriptor)
