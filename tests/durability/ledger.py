"""What tasks do to the world outside: a file that only grows, with a line for each effect."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import cascade as cs
from cascade.runtime import fault_points
from cascade.spec.context import call_context


class Effect(NamedTuple):
    """What one call did.

    Attributes:
        function: what was called.
        number: made of its arguments.
        attempt: which attempt it was, by its own account.
        key: its idempotency key.
        place: the id of its place in the run.
    """

    function: str
    number: int
    attempt: int
    key: str
    place: str


class Ledger:
    """A file of effects, which processes may write at once and which survives all of them.

    Args:
        path: the file.
        synced: whether an effect is on the disk before the call that has it goes on.
    """

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        self.path = path
        self._synced = synced
        self._file: int | None = None

    def note(self, function: object, number: int) -> None:
        """Have an effect, in a task."""
        context = call_context()
        assert context is not None
        effect = Effect(str(function), number, cs.attempt(), cs.idempotency_key(), context.task_id)
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fault_points.reach("effect.begin")
        # One call writes one line: nobody ever sees half of it, and no other process can write into it.
        os.write(self._file, (json.dumps(effect) + "\n").encode())
        if self._synced:
            os.fsync(self._file)
        fault_points.reach("effect.end")

    def effects(self) -> list[Effect]:
        """All effects so far, in their order."""
        if not self.path.exists():
            return []
        return [Effect(*json.loads(line)) for line in self.path.read_text().splitlines()]
