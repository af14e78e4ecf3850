"""Which code is the user's own: neither of Python, nor installed beside it, nor of Cascade.

It is decided by where the code's file lies. Not first-party is what is in the folders of the standard library, in any
folder named `site-packages` or `dist-packages`, and in Cascade's own. A package that is installed in editable mode is
where its author edits it, so it is first-party. Code without a file, as of a notebook or a prompt, is first-party
unless it goes by the name of a module of the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import types
from functools import lru_cache
from typing import Any, Final

_INSTALLED: Final = frozenset({
    "site-packages", "dist-packages", f"python{sys.version_info.major}{sys.version_info.minor}.zip",
})  # fmt: skip


def _folders() -> tuple[str, ...]:
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = sysconfig.get_paths()
    known = {own, paths["stdlib"], paths["platstdlib"]}
    return tuple(sorted({os.path.join(os.path.realpath(path), "") for path in known}))


_NOT_FIRST_PARTY: Final = _folders()


def is_first_party(definition: Any) -> bool:
    """Whether a function, a class or a module is the user's own.

    >>> import json
    >>> is_first_party(json), is_first_party(json.dumps), is_first_party(json.JSONDecoder)
    (False, False, False)
    """
    if isinstance(definition, types.FunctionType):
        # `functools.wraps` lends a function the name of another's module; its code tells where it was written.
        file = definition.__code__.co_filename
        if not file.startswith("<"):
            return _is_own_file(file)
        if file.startswith("<frozen "):
            return False
    name = definition.__name__ if isinstance(definition, types.ModuleType) else definition.__module__
    module = definition if isinstance(definition, types.ModuleType) else sys.modules.get(name or "")
    source: str | None = getattr(module, "__file__", None)
    if source is not None:
        return _is_own_file(source)
    folders = getattr(module, "__path__", None)
    if folders is not None:
        # A package without a file of its own is where its folders are.
        return all(map(_is_own_file, folders))
    return isinstance(name, str) and name.partition(".")[0] not in sys.stdlib_module_names


def is_first_party_name(name: str) -> bool:
    """Whether an import of the name would find a first-party module; nothing is imported to find out."""
    try:
        found = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return False
    if found is None:
        return False
    if found.has_location and found.origin is not None:
        return _is_own_file(found.origin)
    return bool(found.submodule_search_locations) and all(map(_is_own_file, found.submodule_search_locations or ()))


@lru_cache(maxsize=4096)
def _is_own_file(file: str) -> bool:
    path = os.path.abspath(file)
    if not _INSTALLED.isdisjoint(path.split(os.sep)):
        return False
    return not os.path.join(os.path.realpath(path), "").startswith(_NOT_FIRST_PARTY)
