"""Why a call hits or misses its cache, in words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cascade.adapters.cache.inputs import InputsKey
from cascade.adapters.cache.notes import Note, note_of
from cascade.adapters.cache.store import StoreCacheBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.spec.protocols import CacheBackend, CachePolicy

_UNITS = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a call hits its cache, and why.

    Attributes:
        hit: whether there is a value.
        key: the key of the call.
        reasons: why, in words; of a miss, what differs from the call nearest to it that was kept.
        loosely: the constants that count by their type alone, and why.
    """

    hit: bool
    key: str
    reasons: tuple[str, ...]
    loosely: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'hit' if self.hit else 'miss'}: {'; '.join(self.reasons)}"


async def explain(
    policy: CachePolicy, function: Callable[..., Any], arguments: Mapping[str, Any], backend: CacheBackend
) -> Explanation:
    """Why a call would hit or miss; nothing is run, and from a store no value is loaded.

    Args:
        policy: the call's cache policy.
        function: what the task calls.
        arguments: all arguments by parameter name, defaults included, injected ones left out.
        backend: the engine's cache, for policies that name no backend of their own.

    Raises:
        CascadeError: the policy refuses an argument; the message names it.
    """
    key = policy.key(function, arguments)
    asked = backend if policy.backend is None else policy.backend
    loosely: tuple[str, ...] = ()
    if isinstance(key, InputsKey):
        used = (key.uses, *key.brought)
        loosely = tuple(f"{_in_words(label)}: {reason}" for uses in used for label, reason in uses.loosely.items())
    if not isinstance(asked, StoreCacheBackend):
        hit = await _has(asked, key)
        return Explanation(hit, str(key), ("it is kept" if hit else "it is not kept",), loosely)
    hit = await asked.has(key)
    if not isinstance(key, InputsKey):
        return Explanation(hit, str(key), ("it is kept" if hit else "it is not kept",), loosely)
    same, others = await asked.notes(key)
    now = asked.clock.now()
    reasons = _why_hit(key, same, now) if hit else _why_missed(key, same, others, now)
    return Explanation(hit, str(key), reasons, loosely)


async def _has(backend: CacheBackend, key: str) -> bool:
    try:
        await backend.get(key)
    except KeyError:
        return False
    return True


def _why_hit(key: InputsKey, same: Note | None, now: float) -> tuple[str, ...]:
    if same is None or same.key != key:
        return ("it is kept",)
    until = "" if same.expires is None else f", good for another {_span(same.expires - now)}"
    return (f"computed {_span(now - same.made)} ago{until}",)


def _why_missed(key: InputsKey, same: Note | None, others: list[Note], now: float) -> tuple[str, ...]:
    wanted = note_of(key, now, None)
    if same is not None and same.key != key:
        return tuple(_differences(wanted, same))
    if same is not None and same.expires is not None and same.expires <= now:
        return (f"expired {_span(now - same.expires)} ago",)
    if same is not None:
        return (f"computed {_span(now - same.made)} ago, and let go since to make room, or found damaged",)
    if not others:
        return ("never computed",)
    compared = [_differences(wanted, other) for other in reversed(others)]
    nearest = min(compared, key=len)
    return tuple(nearest)


def _differences(wanted: Note, kept: Note) -> list[str]:
    """What of a call is otherwise than it was for one that was kept."""
    found: list[str] = []
    for name in sorted(wanted.arguments.keys() | kept.arguments.keys()):
        how = _change(
            wanted.arguments, kept.arguments, name, "is new", "is gone", "differs from the nearest call that is known"
        )
        if how:
            found.append(f"argument '{name}' {how}")
    if wanted.version != kept.version:
        found.append("the version of the cache policy changed")
    for label in sorted(wanted.parts.keys() | kept.parts.keys()):
        how = _change(wanted.parts, kept.parts, label, "is used now", "is not used any more", "changed")
        if how:
            found.append(f"{_in_words(label)} {how}")
    return found or ["the task is another one"]


def _change(
    wanted: Mapping[str, bytes], kept: Mapping[str, bytes], name: str, new: str, gone: str, other: str
) -> str | None:
    if name not in kept:
        return new
    if name not in wanted:
        return gone
    return other if wanted[name] != kept[name] else None


def _in_words(label: str) -> str:
    """A part by its kind, its name and its module."""
    if label == "code":
        return "the code of the task"
    kind, _, place = label.partition(" ")
    module, _, name = place.partition(":")
    return f"{kind} '{name}' in {module}" if name else label


def _span(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return "less than a second"
