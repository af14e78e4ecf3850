"""How a run is started again: what `cascade run` keeps with it in the store, and `cascade resume` reads."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.durability.keys import run_key
from cascade.spec.exceptions import CorruptedValueError
from cascade.tools.command.endings import CommandError
from cascade.tools.command.loading import load_file, load_module, shown_path
from cascade.tools.command.locating import locate_in

if TYPE_CHECKING:
    from cascade.spec.protocols import Serializer
    from cascade.spec.records import RunRow
    from cascade.tools.command.inputs import Texts
    from cascade.tools.command.locating import Located

_VERSION: Final = 1
_SIGNED_FOR: Final = b"how a command line starts the run "


class Program(NamedTuple):
    """What a run was started with.

    Attributes:
        file: the file of the workflow; `None` where a module was named.
        module: the module of the workflow.
        name: its name there.
        params: what was given for each parameter, as text.
        folder: the working directory.
        on_failure: as for `cs.run`, like the rest.
    """

    file: str | None
    module: str
    name: str
    params: Texts
    folder: str
    on_failure: Literal["stop", "continue"]
    max_workers: int | None
    durability: Literal["committed", "relaxed"]

    @property
    def shown(self) -> str:
        """The workflow as people write it."""
        return f"{self.module if self.file is None else os.path.basename(self.file)}:{self.name}"

    def is_same_workflow(self, other: Program) -> bool:
        """Whether both name one workflow, whatever they give it."""
        return (self.file, self.module, self.name) == (other.file, other.module, other.name)

    def to_json(self, run_id: str, serializer: Serializer) -> str:
        """What the store keeps. It is signed: whoever resumes the run loads the file that it names."""
        told = {"version": _VERSION, **self._asdict()}
        signature = serializer.dumps(_digest(told), context=_SIGNED_FOR + run_key(run_id))
        return json.dumps({**told, "signature": signature.hex()})

    def load(self) -> Located:
        """Go to the kept folder and find the workflow there.

        Raises:
            CommandError: the folder, the file or the name in it is gone, or cannot be loaded.
        """
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise CommandError(
                f"the run was started in {shown_path(Path(self.folder))}, which cannot be entered ({error.strerror}); "
                "bring it back, or start the run where its files are now:  cascade run FILE.py:NAME --run-id ID"
            ) from None
        file = None if self.file is None else Path(self.file)
        if file is not None and not file.is_file():
            raise CommandError(
                f"the workflow was in {shown_path(file)}, and that file is gone; bring it back, or start the run from "
                "where it is now:  cascade run FILE.py:NAME --run-id ID"
            )
        return locate_in(load_module(self.module) if file is None else load_file(file), file, self.name)


def program_shown(row: RunRow) -> Program | None:
    """The program of a run, to be shown; `None` where it was started from code. It may have been altered."""
    try:
        return _read(row)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def program_to_load(row: RunRow, serializer: Serializer) -> Program:
    """The program of a run, to be loaded.

    Raises:
        CommandError: the run was started from code, or what the store has was not signed by this user.
    """
    if row.program is None:
        raise CommandError(
            f"run '{harmless(row.run_id)}' was started from code, which alone can go on with it:  "
            f"cs.run(..., run_id='{harmless(row.run_id)}', store=...)"
        )
    try:
        told = json.loads(row.program)
        signature = bytes.fromhex(told.pop("signature"))
        if serializer.loads(signature, context=_SIGNED_FOR + run_key(row.run_id)) == _digest(told):
            return _read(row)
    except (CorruptedValueError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise CommandError(
        f"what the store tells of how run '{harmless(row.run_id)}' is started was altered or signed with another key, "
        "so no code is loaded by it; name the workflow yourself:  cascade run FILE.py:NAME --run-id ID"
    )


def _read(row: RunRow) -> Program:
    told = cast(dict[str, Any], json.loads(row.program or "null"))
    return Program(**{field: told[field] for field in Program._fields})


def _digest(told: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()
