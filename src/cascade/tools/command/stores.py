"""The store of a command: which one it is, and opening it without making it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.signing_key import SigningKeyError
from cascade.spec.exceptions import DeclarationError
from cascade.stores import VARIABLE, open_durable, open_store
from cascade.tools.command.endings import CommandError
from cascade.tools.command.loading import shown_path, working_directory
from cascade.tools.command.shell_line import resume_line
from cascade.tools.command.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from cascade.runtime.durability.session import DurableStore
    from cascade.spec.protocols import Store
    from cascade.spec.records import RunRow

DEFAULT: Final = Path(".cascade", "cascade.db")
_SQLITE: Final = "sqlite:///"


def url_of(given: str | None) -> str:
    """The URL of the store that was asked for, or is used otherwise. The path of a file in it is absolute.

    Args:
        given: a URL, or the path of a SQLite file.

    Raises:
        CommandError: it is empty, as of a variable that is not set.
    """
    if given is not None and not given.removeprefix(_SQLITE):
        raise CommandError(f"--store: expected a URL or the path of a SQLite file, got '{given}'")
    text = given or os.environ.get(VARIABLE) or str(DEFAULT)
    if "://" not in text and not text.startswith("unix:"):
        text = f"{_SQLITE}{text}"
    if text.startswith(_SQLITE):
        # One run of one file has one lock, from whatever folder the file is named.
        file = Path(text.removeprefix(_SQLITE))
        text = f"{_SQLITE}{file if file.is_absolute() else working_directory() / file}"
    return text


def exists(given: str | None) -> bool:
    """Whether there is a store already; of a server it is taken for granted."""
    url = url_of(given)
    if not url.startswith(_SQLITE):
        return True
    try:
        return Path(url.removeprefix(_SQLITE)).stat().st_size > 0
    except OSError:
        return False


def is_elsewhere(given: str | None) -> bool:
    """Whether a command must name the store to find it again here."""
    return given is not None and url_of(given) != url_of(None)


def way_on(run_id: str, given: str | None, store_url: str, secrets: Iterable[str] = ()) -> str:
    """How to go on with a run, in words that can follow "go on": the command, and what it does not have in it.

    Args:
        given: the store that this command was given.
        store_url: the same as the store shows itself: without a password.
        secrets: the names of parameters that were given and are in no store.
    """
    store = store_url if is_elsewhere(given) else None
    again = [f"--param {harmless(name)}" for name in sorted(secrets)]
    if store is not None and (store_url != url_of(given) or "password=" in store_url):
        store = None
        again.insert(0, "--store")
    also = f" the same {', '.join(again)} and" if again else ""
    return f"with{also}:  {resume_line(run_id, store)}"


@contextmanager
def existing_store(given: str | None) -> Generator[Store]:
    """The store, if there is one.

    Raises:
        CommandError: there is none yet.
    """
    url = url_of(given)
    _check_exists(url, given)
    with _wrong_use():
        store = open_store(url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def existing_durable(given: str | None) -> Generator[DurableStore]:
    """The store with what loads values, if there is one; `CommandError` as for `existing_store`."""
    url = url_of(given)
    _check_exists(url, given)
    with _wrong_use():
        durable = open_durable(url)
    try:
        yield durable
    finally:
        durable.close()


@contextmanager
def new_or_existing_durable(given: str | None) -> Generator[DurableStore]:
    """The store, made if need be."""
    url = url_of(given)
    if given is None and not os.environ.get(VARIABLE):
        folder = DEFAULT.parent
        try:
            folder.mkdir(exist_ok=True)
            ignored = folder / ".gitignore"
            if not ignored.exists():
                ignored.write_text("*\n")
        except OSError as error:
            raise CommandError(
                f"the folder {shown_path(folder.absolute())} cannot be made ({error.strerror}); choose a store with "
                f"--store or {VARIABLE}"
            ) from None
    _check_place(url)
    with _wrong_use():
        durable = open_durable(url)
    try:
        yield durable
    finally:
        durable.close()


@contextmanager
def _wrong_use() -> Generator[None]:
    """A URL, a variable or a key that means nothing is wrong use, and no failure of a store."""
    try:
        yield
    except (DeclarationError, SigningKeyError) as error:
        raise CommandError(str(error)) from None


def _check_place(url: str) -> None:
    """Check that a file can be where the URL says."""
    if not url.startswith(_SQLITE):
        return
    file = Path(url.removeprefix(_SQLITE))
    if file.is_dir():
        raise CommandError(f"the store {shown_path(file)} is a folder; name a file, as in sqlite:///flows.db")
    if not file.parent.is_dir():
        raise CommandError(
            f"the store {shown_path(file)} cannot be made: there is no folder {shown_path(file.parent)}; make it first"
        )


def run_in(store: Store, run_id: str) -> RunRow:
    """A run.

    Raises:
        CommandError: the store has no such run; the message names those that may have been meant.
    """
    found = store.find(run_id)
    if found is not None:
        return found
    known = [row.run_id for row in store.runs()]
    hint = did_you_mean(run_id, known) or ("`cascade runs` lists those that there are" if known else "it has no runs")
    raise CommandError(f"there is no run '{harmless(run_id)}' in the store {harmless(store.url, 1_000)}; {hint}")


def _check_exists(url: str, given: str | None) -> None:
    if exists(given):
        _check_place(url)
        return
    if given is None and not os.environ.get(VARIABLE):
        raise CommandError(
            f"nothing has been run in this folder yet: there is no {shown_path(DEFAULT)} in {shown_path(Path.cwd())}; "
            f"`cascade run FILE.py:NAME` makes it, --store or {VARIABLE} names another store"
        )
    raise CommandError(f"there is no store {shown_path(Path(url.removeprefix(_SQLITE)))}; `cascade run` makes one")
