"""Python files: where they are, what they are for, and reading one that somebody else may be writing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

import cascade as cs

LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})
"""Folders whose files are not the tree's own; hidden ones and virtual environments are left out too."""

LARGEST = 16 * 2**20
"""Bytes above which a file is no source that somebody wrote; it is listed and not read."""


class UnsteadyFileError(Exception):
    """A file changed or went away while it was read: what was read may be half of one version."""


class UnreadableFileError(Exception):
    """A file cannot be read, and trying again would not help."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a tree.

    Attributes:
        root: the tree.
        name: by which files of the tree import each other, where the tree is itself a package.
        paths: of the files below the root, sorted.
        closed: folders that could not be listed, each with the reason.
    """

    root: Path
    name: str
    paths: list[str]
    closed: list[tuple[str, str]]


def list_sources(root: Path) -> Listing:
    """Find the Python files below a folder; links to folders are not followed.

    Raises:
        ParameterError: it is no folder that can be listed, or has no Python files.
    """
    top = os.path.abspath(root)
    if not os.path.isdir(top):
        found = "a file" if os.path.exists(top) else "nothing"
        raise cs.ParameterError(f"--root: expected a folder with Python files, found {found} at {shown(top)}")
    paths: list[str] = []
    closed: list[OSError] = []
    for folder, folders, files in os.walk(top, onerror=closed.append):
        folders[:] = sorted(name for name in folders if _belongs(folder, name))
        paths += (
            os.path.relpath(os.path.join(folder, name), top)
            for name in files
            if name.endswith(".py") and os.path.isfile(os.path.join(folder, name))
        )
    reasons = [(str(error.filename), error.strerror or str(error)) for error in closed]
    if not paths:
        why = "".join(f"; {shown(folder)}: {reason}" for folder, reason in reasons[:3])
        raise cs.ParameterError(f"--root: there are no Python files (*.py) in {shown(top)}{why}")
    name = os.path.basename(top) if "__init__.py" in paths else ""
    relative = [(os.path.relpath(folder, top), reason) for folder, reason in reasons]
    return Listing(Path(top), name, sorted(paths), relative)


def _belongs(folder: str, name: str) -> bool:
    return (
        name not in LEFT_OUT
        and not name.startswith(".")
        and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
    )


def read_source(path: Path) -> bytes:
    """Read one version of a file, whole.

    Raises:
        UnsteadyFileError: the file changed or went away meanwhile, so that it is worth trying again.
        UnreadableFileError: it is too large, or the system refuses it.
    """
    try:
        before = os.stat(path)
        if before.st_size > LARGEST:
            raise UnreadableFileError(f"{before.st_size:,} bytes are more than a source file has")
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        after = os.stat(path)
    except FileNotFoundError:
        raise UnsteadyFileError("it went away") from None
    except OSError as error:
        raise UnreadableFileError(error.strerror or str(error)) from None
    if _version(before) != _version(after) or len(content) != after.st_size:
        raise UnsteadyFileError("it changed while it was read")
    return content


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def package_of(path: str) -> str:
    """The top-level package or module that a file belongs to.

    >>> package_of("email/mime/text.py"), package_of("argparse.py")
    ('email', 'argparse')
    """
    first = PurePath(path).parts[0]
    return first.removesuffix(".py")


def role_of(path: str) -> str:
    """What a file is for: `"test"`, `"package"` for the front of one, `"program"` or `"module"`.

    >>> [role_of(path) for path in ("json/__init__.py", "json/tool.py", "test/test_json.py")]
    ['package', 'module', 'test']
    """
    *folders, name = PurePath(path).parts
    if name.startswith("test_") or any(
        folder in ("test", "tests") or folder.endswith(("_test", "_tests")) for folder in folders
    ):
        return "test"
    return {"__init__.py": "package", "__main__.py": "program"}.get(name, "module")


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path as it can be printed and stored: file names may hold anything, line breaks and no text included.

    >>> shown("two\nlines.py")
    'two\\nlines.py'
    """
    text = os.fspath(path)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
