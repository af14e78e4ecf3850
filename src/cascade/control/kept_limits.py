"""Limits that people put on all engines of a store: settings there, until they are removed or their time is over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cascade.spec.constraint import GlobalConstraint
from cascade.spec.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.spec.constraint import ConstraintType
    from cascade.spec.protocols import Store

_PREFIX: Final = "limit:"


class KeptLimit(NamedTuple):
    """A limit in a store.

    Attributes:
        constraint: the limit, without a time to live.
        since: when it was set, in seconds since the epoch.
        until: when it ends by itself; `None` for never.
    """

    constraint: GlobalConstraint
    since: float
    until: float | None


def keep_limit(store: Store, constraint: GlobalConstraint, now: float) -> KeptLimit:
    """Put a limit on all engines of a store, in place of the one of the same scope and type.

    Args:
        constraint: the limit; its time to live begins now.
        now: in seconds since the epoch.
    """
    until = None if constraint.ttl is None else now + constraint.ttl
    kept = KeptLimit(replace(constraint, ttl=None), now, until)
    text = json.dumps(
        {
            "scope": constraint.scope,
            "type": constraint.type,
            "limit": constraint.limit,
            "rate": constraint.rate,
            "burst": constraint.burst,
            "since": now,
            "until": until,
        }
    )
    store.put_setting(_key(constraint.scope, constraint.type), text, until)
    return kept


def remove_limit(store: Store, scope: str, type: ConstraintType) -> bool:
    """End a limit; whether there was one."""
    return store.remove_setting(_key(scope, type))


def limit_texts(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that are limits."""
    return {key: text for key, text in settings.items() if key.startswith(_PREFIX)}


def kept_limit(text: str) -> KeptLimit:
    """A limit from its text.

    Raises:
        DeclarationError: it is none.
    """
    try:
        told: dict[str, Any] = json.loads(text)
        constraint = GlobalConstraint(told["scope"], told["type"], told["limit"], told["rate"], told["burst"])
        since, until = float(told["since"]), told["until"]
        return KeptLimit(constraint, since, None if until is None else float(until))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DeclarationError(f"a limit in the store cannot be read: {type(error).__name__}: {error}") from None


def kept_limits(store: Store, now: float) -> list[KeptLimit]:
    """The limits in force on a store, by scope and type; what cannot be read is passed over."""
    found: list[KeptLimit] = []
    for text in limit_texts(store.settings(now)).values():
        try:
            found.append(kept_limit(text))
        except DeclarationError:
            continue
    return sorted(found, key=lambda kept: (kept.constraint.scope, kept.constraint.type))


def _key(scope: str, type: str) -> str:
    return f"{_PREFIX}{type}:{scope}"
