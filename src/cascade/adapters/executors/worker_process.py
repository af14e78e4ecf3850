"""One worker process, as its parent sees it."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from cascade.adapters.executors import _process_worker as worker
from cascade.adapters.executors.shipping import Outcome
from cascade.runtime.output import PRINTS
from cascade.spec.exceptions import RunError
from cascade.spec.log import receive

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from cascade.adapters.executors._process_worker import Part
    from cascade.adapters.executors.shipping import Shipped, Shipper
    from cascade.runtime.output import Channel

# Loads the worker's file under the name that pickles know it by, without the packages above it.
_START = """\
import sys
if sys.path[:1] == ['']: del sys.path[0]
from importlib.machinery import ModuleSpec, SourceFileLoader
name, path, *channels = sys.argv[1:]
module = sys.modules[name] = type(sys)(name)
module.__file__, module.__spec__ = path, ModuleSpec(name, SourceFileLoader(name, path), origin=path)
module.__spec__.loader.exec_module(module)
module.main(*map(int, channels))
"""
_log = logging.getLogger("cascade.executors")
_CHANNELS: Final[dict[bytes, Channel]] = {b"stdout": "stdout", b"stderr": "stderr"}
TERMINATE_PATIENCE = 1.0
"""Seconds between SIGTERM and SIGKILL."""

_HINTS = {
    signal.SIGKILL: "; if nobody killed it, the system may have been out of memory",
    signal.SIGSEGV: "; native code crashed: PYTHONFAULTHANDLER=1 shows where",
}


class WorkerDiedError(RunError, RuntimeError):
    """The worker process that made a call ended before the call did.

    Attributes:
        task_name: the task that it ran.
        pid: the process; `None` if it could not be started.
        exit_code: how it ended: its exit code, or the negative number of the signal that killed it.
    """

    def __init__(self, task_name: str, pid: int | None, exit_code: int | None, *, started: bool = True) -> None:
        super().__init__(task_name, pid, exit_code)
        self.task_name = task_name
        self.pid = pid
        self.exit_code = exit_code
        self.started = started

    def __str__(self) -> str:
        if self.exit_code is None:
            return f"task '{self.task_name}': no worker process could be started"
        if self.exit_code < 0:
            number = -self.exit_code
            try:
                how = f"killed by {signal.Signals(number).name}{_HINTS.get(signal.Signals(number), '')}"
            except ValueError:
                how = f"killed by signal {number}"
        else:
            how = f"exit code {self.exit_code}"
        when = "died in the middle of the call" if self.started else "died while starting"
        return f"task '{self.task_name}': its worker process {self.pid} {when}: {how}"


def _print(channel: Channel, text: str) -> None:
    stream: Any = getattr(sys, channel)
    if text and stream is not None:
        # What cannot be printed any more is no reason to lose the call's result.
        with suppress(OSError, ValueError):
            stream.write(text)


class Call:
    """One call that a worker makes for a coroutine on some event loop."""

    __slots__ = ("_context", "_halves", "_is_drawn", "loop", "number", "outcome", "task_name", "tells_prints", "woken")

    def __init__(self, task_name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.task_name = task_name
        self.number = 0
        self.outcome: Outcome | None = None
        self.loop = loop
        self.woken = loop.create_future()
        self._is_drawn = PRINTS.drawings > 0
        self.tells_prints = worker.INSTEAD if self._is_drawn else worker.TOO if PRINTS.wants_here() else worker.NOT
        self._halves: dict[Channel, str] = {}
        self._context = copy_context()

    def log(self, record: bytes) -> None:
        """Log what the call has logged; on the thread that listens to the process."""
        try:
            self._context.run(receive, pickle.loads(record))
        except Exception:
            # A handler of the program's own raised; the call goes on.
            _log.exception("a log record of task '%s' was lost", self.task_name)

    def tell_print(self, channel: bytes, text: bytes) -> None:
        """Tell what the call has printed; on the thread that listens to the process."""
        self._context.run(self._take_print, _CHANNELS[channel], text.decode("utf-8", "surrogatepass"))

    def _take_print(self, channel: Channel, text: str) -> None:
        if not self._is_drawn:
            PRINTS.take(channel, text)
            return
        # Printed here it does not tear what is drawn, and who listens hears of it as of all that is printed here.
        # Whole lines: those of several processes come here in turns.
        whole, newline, self._halves[channel] = (self._halves.get(channel, "") + text).rpartition("\n")
        _print(channel, whole + newline)

    def finish(self, outcome: Outcome) -> None:
        """Keep the outcome and wake the coroutine; from any thread."""
        for channel, half in self._halves.items():
            # A copy, since the thread that listens may be in the context now.
            self._context.copy().run(_print, channel, half)
        # First the outcome, then the future; `wait_again` does the reverse, so none misses the other.
        self.outcome = outcome
        wake(self.loop, self.woken)

    def wait_again(self) -> asyncio.Future[None] | None:
        """A new future after the old one was cancelled; `None` if the call has ended."""
        self.woken = self.loop.create_future()
        return self.woken if self.outcome is None else None


def wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> bool:
    """Complete a future of any loop from any thread.

    Returns:
        Whether the loop is still there.
    """
    try:
        loop.call_soon_threadsafe(_complete, future)
    except RuntimeError:
        return False
    return True


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Roster:
    """The worker processes that one pool has, for ending them together."""

    def __init__(self) -> None:
        self.workers: set[WorkerProcess] = set()
        self.changed = threading.Condition()

    def dismiss(self) -> None:
        """Have every worker end after its call, without waiting for it."""
        for member in list(self.workers):
            member.dismiss()

    def end(self, grace: float) -> None:
        """End every worker, and wait for it.

        Args:
            grace: seconds for calls that run to heed that they shall stop.
        """
        members = list(self.workers)
        for step, patience in (
            (WorkerProcess.dismiss, grace),
            (WorkerProcess.terminate, TERMINATE_PATIENCE),
            (WorkerProcess.kill, 60.0),
        ):
            for member in list(self.workers):
                step(member)
            with self.changed:
                if self.changed.wait_for(lambda: not self.workers, patience):
                    break
        for member in members:
            member.join()


class WorkerProcess:
    """A Python process that makes one call at a time, and the thread that listens to it.

    The thread alone reads answers, reaps the process and closes the channels, so a process cannot have ended
    without anybody noticing.
    """

    _numbers = itertools.count(1)

    def __init__(self, roster: Roster, shipper: Shipper) -> None:
        self.alive = True
        self.doomed = False
        self._roster = roster
        self._shipper = shipper
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reaped = False
        self._dismissed = False
        self._started = False
        self._failure: BaseException | None = None
        self._call: Call | None = None
        self._calls = 0
        self._surroundings: tuple[list[str], list[str]] | None = None
        self._sender: threading.Thread | None = None
        ours, theirs = (socket.socket(fileno=_above_streams(end.detach())) for end in socket.socketpair())
        self._data = ours
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 18)
        control, self._control = map(_above_streams, os.pipe())
        life, self._life = map(_above_streams, os.pipe())
        self._theirs = [theirs.detach(), control, life]
        self._thread = threading.Thread(target=self._attend, name=f"cascade-process-{next(self._numbers)}", daemon=True)
        roster.workers.add(self)
        self._thread.start()

    def begin(self, call: Call, shipped: Shipped, arguments: list[Part], context: Mapping[str, Any]) -> bool:
        """Have the process make a call.

        Returns:
            Whether it was handed over; if not, the process had died before, and nothing of the call has run.

        Raises:
            WorkerDiedError: the process could not even be started.
        """
        surroundings = list(sys.path), list(sys.argv)
        try:
            directory = os.getcwd()
        except OSError:
            directory = None
        with self._lock:
            if not self.alive:
                if not self._started:
                    raise self._death(call.task_name) from self._failure
                return False
            call.number = self._calls = self._calls + 1
            news = None if surroundings == self._surroundings else surroundings
            head = pickle.dumps((call.number, shipped, context, news, directory, call.tells_prints), 5)
            self._call = call
            try:
                self._send(worker.frame([head, *arguments]))
            except OSError:
                self._call = None
                return False
            self._surroundings = surroundings
        return True

    def ask_to_stop(self) -> None:
        """Set the flag of the call that runs."""
        with self._lock:
            if self._call is not None and self.alive:
                try:
                    os.write(self._control, self._call.number.to_bytes(8, "little"))
                except OSError:
                    pass

    def is_abandoned(self) -> bool:
        """Whether the event loop that waits for the call has been closed."""
        call = self._call
        return call is not None and call.loop.is_closed()

    def dismiss(self) -> None:
        """Have the process end as soon as its call has ended, and ask that call to stop."""
        with self._lock:
            if self.alive and not self._dismissed:
                self._dismissed = True
                self.ask_to_stop()
                try:
                    self._data.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

    def terminate(self) -> None:
        """Send SIGTERM to the process and what it started."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the process and what it started."""
        self._signal(signal.SIGKILL)

    def join(self) -> None:
        """Wait for the thread of a process that has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(TERMINATE_PATIENCE)

    def forget(self) -> None:
        """Drop everything in a process forked from the one that this worker belongs to."""
        self.alive = False
        self._close()
        if self._process is not None:
            # It is not this process's child: there is nothing to reap and nothing to warn about.
            self._process.returncode = 0

    def _send(self, pieces: list[Part]) -> None:
        """Write a frame; what the socket does not take at once is written by a thread of its own."""
        rest = pieces
        if len(pieces) == 1:
            try:
                sent = self._data.send(pieces[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            if sent == len(pieces[0]):
                return
            rest = [memoryview(pieces[0])[sent:]]
        self._sender = threading.Thread(target=self._send_rest, args=(rest,), name="cascade-process-send", daemon=True)
        self._sender.start()

    def _send_rest(self, pieces: list[Part]) -> None:
        try:
            worker.write_all(self._data.fileno(), pieces)
        except OSError:
            pass  # the process died, which the other thread will tell

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            self.doomed = True
            if self._process is None or self._reaped:
                return
            try:
                # Its own process group, made with it. Until it is reaped its number belongs to nobody else.
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def _attend(self) -> None:
        """The life of the listening thread: start the process, pass on its answers, see it end."""
        try:
            if self._start():
                while (parts := worker.read_frame(self._data.fileno())) is not None:
                    if bytes(parts[0]) == worker.STARTED:
                        self._started = True
                        continue
                    if bytes(parts[0]) == worker.LOGGED:
                        if self._call is not None:
                            self._call.log(bytes(parts[1]))
                        continue
                    if bytes(parts[0]) == worker.PRINTED:
                        if self._call is not None:
                            self._call.tell_print(bytes(parts[1]), bytes(parts[2]))
                        continue
                    call, self._call = self._call, None
                    if call is not None:
                        try:
                            outcome = self._shipper.read(parts, call.task_name)
                        except BaseException as error:
                            outcome = Outcome(error=error)
                        call.finish(outcome)
                        del outcome
                    del call, parts
        finally:
            self._end()

    def _start(self) -> bool:
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    *_interpreter_flags(),
                    "-c",
                    _START,
                    worker.__name__,
                    os.path.abspath(worker.__file__),
                    *map(str, self._theirs),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=self._theirs,
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._failure = error
            return False
        finally:
            for fd in self._theirs:
                os.close(fd)
        with self._lock:
            self._process = process
            if self.doomed:
                self.kill()
        return True

    def _end(self) -> None:
        with self._lock:
            self.alive = False
        if self._process is not None:
            if self.doomed or not self._dismissed:
                # What the process started dies with it; and it may only have closed its socket.
                self.kill()
            self._reap(self._process)
        # The process is gone, so what the sender waits for fails.
        if self._sender is not None:
            self._sender.join()
        with self._lock:
            self._close()
            call, self._call = self._call, None
        if call is not None:
            death = self._death(call.task_name)
            death.__cause__ = self._failure
            call.finish(Outcome(error=death))
        with self._roster.changed:
            self._roster.workers.discard(self)
            self._roster.changed.notify_all()

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        if hasattr(os, "waitid"):
            try:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass
        with self._lock:
            process.wait()
            self._reaped = True

    def _death(self, task_name: str) -> WorkerDiedError:
        process = self._process
        if process is None:
            return WorkerDiedError(task_name, None, None, started=False)
        return WorkerDiedError(task_name, process.pid, process.returncode, started=self._started)

    def _close(self) -> None:
        self._data.close()
        for fd in (self._control, self._life):
            os.close(fd)


def _above_streams(fd: int) -> int:
    """The descriptor under a number that no standard stream has: the parent may run without them."""
    if fd > 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return int(moved)


def _interpreter_flags() -> list[str]:
    """The command line flags with which this interpreter runs, as `multiprocessing` finds them."""
    return list(vars(subprocess)["_args_from_interpreter_flags"]())
