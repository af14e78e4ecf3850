"""An environment of its own for each peer, with the versions that its requirements name."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".environments"
PEERS = tuple(sorted(path.parent.name for path in (HERE / "peers").glob("*/requirements.txt")))


def requirements_of(peer: str) -> Path:
    return HERE / "peers" / peer / "requirements.txt"


def make_environments(peers: Iterable[str], tell: Callable[[str], None]) -> dict[str, str]:
    """The interpreters of the peers that could be installed, by name; what exists and fits is used again."""
    pythons: dict[str, str] = {}
    for peer in peers:
        try:
            pythons[peer] = _environment_of(peer, tell)
        except subprocess.CalledProcessError as error:
            reason = (error.stderr or "").strip().splitlines()[-1:]
            tell(f"{peer}: cannot be installed, so it takes no part: {' '.join(reason)}")
    return pythons


def _environment_of(peer: str, tell: Callable[[str], None]) -> str:
    folder = ENVIRONMENTS / f"{peer}-{sys.version_info.major}.{sys.version_info.minor}"
    python = str(folder / "bin" / "python")
    stamp = folder / "installed"
    wanted = sha256(requirements_of(peer).read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text("ascii") != wanted:
        tell(f"installing {peer} ...")
        venv.create(folder, clear=True, with_pip=True)
        command = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(requirements_of(peer)),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        stamp.write_text(wanted, "ascii")
    return python
