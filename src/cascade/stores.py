"""Durable stores by their URLs: which adapter serves which, and what signs the values in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cascade.runtime.durability.session import DurableStore
from cascade.spec.exceptions import DeclarationError

if TYPE_CHECKING:
    from cascade.spec.protocols import Clock, Store

VARIABLE: Final = "CASCADE_STORE"
_LEASE: Final = "CASCADE_LEASE_SECONDS"
_SQL: Final = ("sqlite:", "postgresql:", "postgres:")
_REDIS: Final = ("redis:", "rediss:", "unix:")


def open_store(url: str | os.PathLike[str], *, clock: Clock | None = None) -> Store:
    """Open the store that a URL names.

    Args:
        url: `sqlite:///flows.db`, `postgresql://...` or `redis://...`; a path is that of a SQLite file.
        clock: what the store takes the time from.

    Raises:
        DeclarationError: the URL names no store.
        StoreError: the store cannot be opened; the message says why and what to do.
        MissingExtraError: the library for it is not installed; the message has the command that installs it.
    """
    text = os.fspath(url)
    if text.startswith(_REDIS):
        from cascade.adapters.stores.redis_store import open_redis_store

        return open_redis_store(text, clock=clock)
    if "://" not in text:
        text = f"sqlite:///{text}"
    if not text.startswith(_SQL):
        raise DeclarationError(
            f"no store is known by {text.partition(':')[0]!r}; expected sqlite:///FILE, postgresql://... or redis://..."
        )
    from cascade.adapters.stores.sql import open_sql_store

    return open_sql_store(text, clock=clock)


def open_durable(
    store: str | os.PathLike[str] | Store | DurableStore,
    *,
    clock: Clock | None = None,
    environment: Mapping[str, str] = os.environ,
) -> DurableStore:
    """A store with the serializer that signs with this user's key.

    Args:
        store: the URL of a store, the path of a SQLite file, or a store.
        clock: what the store takes the time from.
        environment: where the key and the length of leases are looked up.
    """
    if isinstance(store, DurableStore):
        return store
    from cascade.adapters.serializers import SignedSerializer, load_signing_key

    key = load_signing_key(signing_key_file(environment), environment)
    opened = open_store(store, clock=clock) if isinstance(store, (str, os.PathLike)) else store
    return DurableStore(opened, SignedSerializer(key), lease=_lease(environment))


def signing_key_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the key of this user is: among the settings, and in no store."""
    settings = environment.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "cascade" / "store.key"


def _lease(environment: Mapping[str, str]) -> float:
    text = environment.get(_LEASE, "15")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise DeclarationError(f"{_LEASE} must be a number of seconds between 0.1 and 86400, got {text!r}")
    return seconds
