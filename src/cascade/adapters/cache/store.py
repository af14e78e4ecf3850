"""A cache in the store of durable runs."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.adapters.cache.inputs import InputsKey
from cascade.adapters.cache.notes import Note, note_of, slot_of_call, slot_of_task
from cascade.runtime.clock import SystemClock
from cascade.spec.exceptions import (
    ChangedCodeError,
    CorruptedValueError,
    DeclarationError,
    UnserializableValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.runtime.durability.session import DurableStore
    from cascade.spec.protocols import Clock, Store

    T = TypeVar("T")
    _Entry = tuple[str, bytes, float | None]

logger = logging.getLogger("cascade.cache")

_NOTED_EACH = 16
_READ_IN_PLACE = 128 * 1024
"""Bytes up to which a value is checked and loaded on the event loop: handing it to a thread takes longer."""


def store_cache(durable: DurableStore, clock: Clock | None = None) -> StoreCacheBackend:
    """The cache of an engine that keeps its runs in a store, in that store.

    Args:
        clock: by which values expire.
    """
    return StoreCacheBackend(durable, clock=clock)


class _Latest:
    """The latest calls of one task, and how many this process has noted."""

    __slots__ = ("count", "notes")

    def __init__(self, notes: list[Note]) -> None:
        self.notes = deque(notes, maxlen=8)
        self.count = 0


class StoreCacheBackend:
    """Keeps values in a store, signed, beside the runs that are there; every process that uses the store shares them.

    The store is asked on its own thread, between the records of runs.

    Args:
        durable: the store.
        max_bytes: let go of the values not asked for the longest when there is more; 1 GiB by default.
        clock: by which values expire.
    """

    def __init__(self, durable: DurableStore, *, max_bytes: int = 1 << 30, clock: Clock | None = None) -> None:
        if max_bytes < 1:
            raise DeclarationError(f"max_bytes must be at least 1, not {max_bytes!r}")
        self.clock: Clock = SystemClock() if clock is None else clock
        self._durable = durable
        self._max_bytes = max_bytes
        self._told: set[str] = set()
        self._latest: dict[str, _Latest] = {}

    async def get(self, key: str) -> Any:
        """The value; `KeyError` where there is none that is whole, signed and not expired."""
        place = f"value:{key}"
        payload = await self._payload(place)
        if payload is None:
            raise KeyError(key)
        try:
            if len(payload) <= _READ_IN_PLACE:
                return self._loads(place, payload)
            return await asyncio.to_thread(self._loads, place, payload)
        except CorruptedValueError as error:
            level = logging.INFO if isinstance(error, ChangedCodeError) else logging.WARNING
            logger.log(
                level, "cache: a value in '%s' was not loaded and is forgotten: %s", self._durable.store.url, error
            )
            await self.discard(key)
            raise KeyError(key) from None

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Keep the value, for `ttl` seconds if given.

        Raises:
            UnserializableValueError: it cannot be kept. This is raised once for each task: who runs a thousand calls of
                one shall not be told a thousand times.
        """
        now = self.clock.now()
        expires = None if ttl is None else now + ttl
        note = note_of(key, now, expires) if isinstance(key, InputsKey) else None
        try:
            kept = await asyncio.to_thread(self._entries, key, value, note, expires)
        except UnserializableValueError as error:
            error.task_name = task = key.uses.identity if isinstance(key, InputsKey) else key
            if task in self._told:
                return
            self._told.add(task)
            raise

        def write(store: Store) -> None:
            for place, payload, until in kept:
                store.cache(place, payload, now, until, self._max_bytes)
            if note is not None and isinstance(key, InputsKey):
                self._note(store, slot_of_task(key), note)

        await self._call(write)

    async def discard(self, key: str) -> None:
        """Forget the key, if it is there."""
        await self._call(lambda store: store.uncache(f"value:{key}"))

    async def has(self, key: str) -> bool:
        """Whether there is a value; it is not loaded."""
        return await self._payload(f"value:{key}") is not None

    async def notes(self, key: InputsKey) -> tuple[Note | None, list[Note]]:
        """What is known of calls like this: the latest with the same arguments, and some others of the same task."""
        now = self.clock.now()
        same = await self._call(lambda store: self._read_notes(store, slot_of_call(key), now))
        others = await self._call(lambda store: self._read_notes(store, slot_of_task(key), now))
        return (same[0] if same else None), others

    def _entries(self, key: str, value: Any, note: Note | None, expires: float | None) -> list[_Entry]:
        place = f"value:{key}"
        entries: list[_Entry] = [(place, self._dumps(place, value), expires)]
        if note is not None and isinstance(key, InputsKey):
            place = slot_of_call(key)
            entries.append((place, self._dumps(place, [note.as_plain()]), None))
        return entries

    def _note(self, store: Store, place: str, note: Note) -> None:
        """Note a call among the latest of its task; on the store's thread."""
        known = self._latest.get(place)
        if known is None:
            known = self._latest[place] = _Latest(self._read_notes(store, place, note.made))
        known.notes.append(note)
        known.count += 1
        # Seldom, as they only explain: at first and then ever less often.
        if known.count % _NOTED_EACH == 0 or known.count & (known.count - 1) == 0:
            payload = self._dumps(place, [note.as_plain() for note in known.notes])
            store.cache(place, payload, note.made, None, self._max_bytes)

    def _read_notes(self, store: Store, place: str, now: float) -> list[Note]:
        payload = store.cached(place, now)
        if payload is None:
            return []
        try:
            return [Note(**note) for note in self._loads(place, payload)]
        except CorruptedValueError:
            # It explains nothing, and will be written again.
            return []

    def _dumps(self, place: str, value: object) -> bytes:
        return self._durable.serializer.dumps(value, context=place.encode("utf-8", "surrogatepass"))

    def _loads(self, place: str, payload: bytes) -> Any:
        return self._durable.serializer.loads(payload, context=place.encode("utf-8", "surrogatepass"))

    async def _payload(self, place: str) -> bytes | None:
        now = self.clock.now()
        return await self._call(lambda store: store.cached(place, now))

    async def _call(self, function: Callable[[Store], T]) -> T:
        writer = self._durable.writer(self.clock)
        return await writer.call(lambda: function(writer.store))
