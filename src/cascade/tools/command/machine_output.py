"""What `--json` prints: plain objects, of which docs/reference/command-line.md has the fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from cascade.tools.command.moments import iso
from cascade.tools.command.programs import program_shown

if TYPE_CHECKING:
    from cascade.spec.records import Record, RunRow
    from cascade.tools.command.standing import Standing


def write_json(value: Any) -> None:
    """Write a value as JSON in ASCII, so that no text in it can do harm or be lost."""
    typer.echo(json.dumps(value, indent=2))


def told_run(row: RunRow, standing: Standing) -> dict[str, Any]:
    """A run."""
    program = program_shown(row)
    return {
        "run_id": row.run_id,
        "status": standing.value,
        "target": row.target,
        "file": None if program is None else program.file,
        "module": None if program is None else program.module,
        "name": None if program is None else program.name,
        "params": None if program is None else program.params,
        "folder": None if program is None else program.folder,
        "created": iso(row.created),
        "updated": iso(row.updated),
        "owners": row.epoch,
        "owner": row.owner if standing.value == "running" else None,
        "error": row.error,
    }


def told_record(record: Record, path: str) -> dict[str, Any]:
    """A place of a run."""
    return {
        "id": path,
        "scope": record.scope.hex(),
        "node": record.node.hex(),
        "inner": None if record.inner is None else record.inner.hex(),
        "kind": record.kind,
        "label": record.label,
        "name": record.name,
        "turn": record.turn,
        "attempt": record.attempt,
        "began": iso(record.began),
        "ended": iso(record.ended),
        "detail": record.detail,
        "preview": record.preview,
    }
