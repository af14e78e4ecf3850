"""What ends commands whose Python process was killed before it could end them itself.

One small shell process, started with the first command, holds the reading end of a pipe and is told which
process groups live. When this process ends, in whichever way, the system closes the pipe, and the shell ends
what is left. A process that is killed in the moment between a command's start and the word to the guardian
leaves that command behind.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import threading

_SCRIPT = """
trap '' HUP INT QUIT TERM
groups=' '
while read -r verb group; do
    case $verb in
        +) groups="$groups$group " ;;
        -) case $groups in
               *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;;
           esac ;;
    esac
done
[ "$groups" = ' ' ] && exit
for group in $groups; do kill -s TERM -- "-$group"; kill -s CONT -- "-$group"; done
sleep 1
for group in $groups; do kill -s KILL -- "-$group"; done
"""
_PATIENCE_AT_EXIT = 3.0


class Guardian:
    """Tells the guarding process which process groups live; for all threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def prepare(self) -> None:
        """Start the guarding process if there is none: a command should not be without a guard for long."""
        with self._lock:
            if self._process is None:
                self._start()

    def guard(self, group: int) -> None:
        """Have a process group ended when this process ends."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+ {group}\n")

    def release(self, group: int) -> None:
        """Forget a process group, before its leader is reaped: afterwards the number may be another's."""
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._tell(f"- {group}\n")

    def close(self) -> None:
        """End the guarding process, and with it all groups that are still guarded."""
        with self._lock:
            self._stop(_PATIENCE_AT_EXIT)

    def forget(self) -> None:
        """After a fork: leave the parent's guarding process to the parent, and its groups as well."""
        self._lock = threading.Lock()
        self._groups = set()
        if self._process is not None:
            # It is no child of this process, so there is nothing to wait for.
            self._process.returncode = 0
            self._process = None
            os.close(self._pipe)

    def _tell(self, line: str) -> None:
        if self._process is None:
            self._start()
            return
        try:
            os.write(self._pipe, line.encode())
        except OSError:
            # It was killed, or does not read any more: another one takes over.
            self._process.kill()
            self._stop(_PATIENCE_AT_EXIT)
            self._start()

    def _start(self) -> None:
        reading, self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.defpath},
                start_new_session=True,
            )
            os.write(self._pipe, "".join(f"+ {group}\n" for group in self._groups).encode())
        except OSError:
            # Commands can be run without it, only not guarded.
            if self._process is None:
                os.close(self._pipe)
        finally:
            os.close(reading)

    def _stop(self, patience: float) -> None:
        if self._process is not None:
            os.close(self._pipe)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


guardian = Guardian()
atexit.register(guardian.close)
os.register_at_fork(after_in_child=guardian.forget)
