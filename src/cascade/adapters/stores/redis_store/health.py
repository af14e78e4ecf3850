"""Whether a server keeps what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.adapters.stores.redis_store.connection import is_forbidden, is_loading
from cascade.spec.exceptions import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.adapters.stores.redis_store.connection import Connection

_OPENING: Final = "open the store"


def look_over(connection: Connection) -> list[str]:
    """What may make the server lose what it has committed, a sentence each.

    A server that is not there is told at once, one that reads its data is waited for.

    Raises:
        StoreError: it cannot be used at all.
    """
    patience, connection.patience = connection.patience, 0.0
    try:
        connection.call(_OPENING, "PING")
    except StoreError as error:
        if not is_loading(error.__cause__):
            raise
    finally:
        connection.patience = patience
    about = _ask(connection, "INFO") or {}
    _refuse_unusable(connection.url, about)
    worries: list[str] = []
    if not about:
        worries.append("whether the server keeps its data could not be checked: it allows no INFO")
        return worries
    settings = _settings(connection)
    policy = str(about.get("maxmemory_policy", settings.get("maxmemory-policy", "")))
    # What volatile policies may evict has a time to live, which none of the store's keys has.
    if int(about.get("maxmemory", settings.get("maxmemory", 0))) > 0 and policy.startswith("allkeys"):
        worries.append(
            f"the server lets go of any key when its memory is full (maxmemory-policy {policy}): "
            "set maxmemory-policy noeviction"
        )
    worries += _about_disk(about, settings)
    return worries


def _refuse_unusable(url: str, about: Mapping[str, Any]) -> None:
    mode, version = about.get("redis_mode", "standalone"), str(about.get("redis_version", "5"))
    if mode == "sentinel":
        raise StoreError(url, "this is a sentinel, which keeps no data; give the address of the primary")
    if about.get("role", "master") != "master":
        primary = f"{about.get('master_host')}:{about.get('master_port')}"
        raise StoreError(url, f"this is a replica, which takes no writes; give the address of its primary, {primary}")
    if int(version.partition(".")[0]) < 5:
        raise StoreError(url, f"this is Redis {version}; version 5 or newer is needed")


def _about_disk(about: Mapping[str, Any], settings: Mapping[str, str]) -> list[str]:
    every_write = "set appendonly yes and appendfsync always"
    if int(about.get("aof_enabled", 0)):
        sync = settings.get("appendfsync")
        if sync == "always":
            return []
        if sync is None:
            return ["how often the server's journal goes to its disk could not be checked: it allows no CONFIG GET"]
        lost = "the last second" if sync == "everysec" else "what the system had not yet written"
        return [f"a loss of power may take {lost} (appendfsync {sync}): {every_write}"]
    if "save" not in settings:
        return ["whether the server saves its data could not be checked: it allows no CONFIG GET"]
    if settings["save"]:
        return [f"a stop of the server loses all since its last snapshot (appendonly no): {every_write}"]
    return [f"the server writes nothing to its disk, all is lost when it stops: {every_write}"]


def _settings(connection: Connection) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("maxmemory", "maxmemory-policy", "appendfsync", "save"):
        answer: Mapping[str, str] | None = _ask(connection, "CONFIG GET", name)
        if answer is None:
            break
        found |= answer
    return found


def _ask(connection: Connection, *command: str) -> Any:
    try:
        return connection.call(_OPENING, *command)
    except StoreError as error:
        if is_forbidden(error.__cause__):
            return None
        raise
