"""A store in Redis.

All keys begin with `cascade:`. What stands in braces decides in which part of a cluster a key is, so all that belongs
to one run is in one. None of them has a time to live.

    cascade:runs                            set: the ids of runs, and perhaps of some that are gone
    cascade:signals                         the number of the last signal that was sent
    cascade:{run:ID}                        hash: the fields of `RunRow`, and
                                              birth     of the claim that made the run: it is not one of the same id
                                              claim     of the last claim, so that it knows itself when repeated
                                              sequence  grows with every write; gives records their order
    cascade:{run:ID}:scopes                 set: the scopes that have records, in hexadecimal
    cascade:{run:ID}:scope:SCOPE            hash: node -> six bytes of order, then the packed record
    cascade:{run:ID}:lines                  sorted set: the packed lines, by their numbers
    cascade:{run:ID}:signals                hash: number -> the packed signal
    cascade:{run:ID}:taken                  sorted set: the numbers of the last hundred signals that were taken
    cascade:{cache}:values                  hash: key -> payload
    cascade:{cache}:used, :expires          sorted sets: when each key was used last, and when it expires
    cascade:{cache}:bytes                   how long all payloads are together
    cascade:settings                        hash: key -> when it expires or '', a space, the text
    cascade:{slots}                         set: the scopes that have slots taken
    cascade:{slots}:SCOPE                   hash: holder -> how many, until when, and of the last change the claim
    cascade:{tokens}                        hash: scope -> how many, when that was, and the claim of the last taker
    cascade:{tokens}:full                   sorted set: when each scope has all its tokens again

An owner remembers the birth of its run and the sequence of its last write, and each write brings them along. So a
server that lost data, or that is a replica in the place of the one that had them, refuses to go on as if nothing was
missing.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.adapters.stores.redis_store import limit_scripts, packing, scripts
from cascade.adapters.stores.redis_store.connection import Connection
from cascade.adapters.stores.redis_store.health import look_over
from cascade.adapters.stores.redis_store.limits import SharedLimits
from cascade.adapters.stores.redis_store.packing import decode, encode
from cascade.runtime.chance import Randomness
from cascade.runtime.clock import SystemClock
from cascade.runtime.fault_points import reach
from cascade.spec.exceptions import RunOwnedError, StoreError, StoreWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade.spec.protocols import Clock
    from cascade.spec.records import Line, Record, RunRow, RunStatus, Signal

_RUNS: Final = b"cascade:runs"
_SIGNALS: Final = b"cascade:signals"
_SETTINGS: Final = b"cascade:settings"
_CACHE: Final = (
    b"cascade:{cache}:values",
    b"cascade:{cache}:used",
    b"cascade:{cache}:expires",
    b"cascade:{cache}:bytes",
)
_ORDER_BYTES: Final = 6
_AT_ONCE: Final = 500
"""How many commands go together, and how many values one sweep of the cache forgets: the server is busy meanwhile."""


class RedisStore:
    """Durable runs in one database of a Redis server; `open_redis_store` says how it is opened.

    Args:
        url: with user and password where the server wants them.
        clock: by which it is noted when a run was written last; that of the machine by default.
        patience: how long a lost connection is tried again, in seconds.

    Warns:
        StoreWarning: the server is set up so that it may lose what it has committed.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, patience: float = 30.0) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._chance = Randomness()
        self._connection = Connection(url, clock=self._clock, patience=patience)
        self._limits = SharedLimits(self._connection)
        self._owned: dict[str, _Owned] = {}
        try:
            for worry in look_over(self._connection):
                warnings.warn(f"store {self.url}: {worry}", StoreWarning, stacklevel=3)
        except BaseException:
            self._connection.close()
            raise

    @property
    def url(self) -> str:
        return self._connection.url

    def claim(self, row: RunRow, *, over: int | None) -> RunRow | None:
        doing = f"claim run {row.run_id!r}"
        claim = self._claim()
        run_id = encode(row.run_id)
        made = row._replace(status="running", epoch=1, error=None)
        # Before and after: so a run is listed even if one of the same id is being removed meanwhile.
        self._connection.call(doing, "SADD", _RUNS, run_id)
        reach("store.claim.before-commit")
        answer = self._connection.run(
            doing,
            scripts.CLAIM,
            _run_keys(row.run_id, b"", b":scopes", b":taken", b":lines"),
            b"" if over is None else over,
            claim,
            0 if over is None else over + 1,
            encode(row.host),
            encode(row.owner),
            repr(row.lease_until),
            repr(row.updated),
            *packing.run_fields(made),
        )
        reach("store.claim.after-commit")
        if answer is None:
            return None
        self._connection.call(doing, "SADD", _RUNS, run_id)
        fields = _pairs(answer)
        self._owned[row.run_id] = _Owned(fields[b"birth"], int(fields[b"sequence"]))
        return self._row(row.run_id, fields)

    def find(self, run_id: str) -> RunRow | None:
        fields = self._connection.call(f"look for run {run_id!r}", "HGETALL", _run_key(run_id))
        return self._row(run_id, fields) if fields else None

    def runs(self) -> list[RunRow]:
        doing = "list the runs"
        run_ids = [decode(member) for member in self._connection.call(doing, "SMEMBERS", _RUNS)]
        rows: list[RunRow] = []
        for first in range(0, len(run_ids), _AT_ONCE):
            some = run_ids[first : first + _AT_ONCE]
            found = self._connection.call_each(doing, [("HGETALL", _run_key(run_id)) for run_id in some])
            rows += [self._row(run_id, fields) for run_id, fields in zip(some, found, strict=True) if fields]
        rows.sort(key=lambda row: (row.created, row.run_id), reverse=True)
        return rows

    def records(self, run_id: str) -> list[Record]:
        return self._records(run_id, scripts.RECORDS, packing.unpack_record)

    def outline(self, run_id: str) -> list[Record]:
        at = _ORDER_BYTES + packing.LENGTH_OF_PAYLOAD_AT
        return self._records(run_id, scripts.OUTLINE, packing.unpack_outline, at)

    def _records(
        self, run_id: str, script: str, unpack: Callable[[bytes, bytes, bytes], Record], *arguments: int
    ) -> list[Record]:
        doing = f"read the records of run {run_id!r}"
        scopes, found = self._connection.run(doing, script, _run_keys(run_id, b"", b":scopes"), *arguments)
        rows: list[tuple[bytes, Record]] = []
        try:
            for scope, fields in zip(scopes, found, strict=True):
                scope_bytes = bytes.fromhex(scope.decode())
                for node, stored in _pairs(fields).items():
                    order, packed = stored[:_ORDER_BYTES], stored[_ORDER_BYTES:]
                    rows.append((order, unpack(scope_bytes, node, packed)))
        except ValueError as error:
            raise StoreError(self.url, f"cannot {doing}: {error}") from error
        rows.sort(key=lambda row: row[0])
        return [record for _, record in rows]

    def write(
        self, run_id: str, epoch: int, records: Sequence[Record], dropped: Sequence[bytes], lease_until: float
    ) -> None:
        reach("store.write.begin")
        scopes, group = packing.pack_group(records)
        self._change(
            "store.write",
            f"write to run {run_id!r}",
            scripts.WRITE,
            run_id,
            epoch,
            _run_keys(run_id, b"", b":scopes", *map(_scope, dropped), *map(_scope, scopes)),
            repr(lease_until),
            repr(self._clock.now()),
            len(dropped),
            group,
        )

    def note_lines(self, run_id: str, epoch: int, lines: Sequence[Line], most: int) -> None:
        if not lines:
            return
        told = [part for line in lines[-most:] for part in (line.number, packing.pack_line(line))]
        doing = f"keep what run {run_id!r} has logged and printed"
        keys = _run_keys(run_id, b"", b":lines")
        self._change("store.lines", doing, scripts.NOTE, run_id, epoch, keys, most, *told)

    def lines(self, run_id: str, after: int = 0) -> list[Line]:
        doing = f"read what run {run_id!r} has logged and printed"
        above = b"(%d" % after
        found = self._connection.call(doing, "ZRANGEBYSCORE", *_run_keys(run_id, b":lines"), above, b"+inf")
        try:
            return [packing.unpack_line(packed) for packed in found]
        except ValueError as error:
            raise StoreError(self.url, f"cannot {doing}: {error}") from error

    def finish(self, run_id: str, epoch: int, status: RunStatus, error: str | None, ended: float) -> None:
        said = () if error is None else (encode(error),)
        self._change(
            "store.finish",
            f"finish run {run_id!r}",
            scripts.FINISH,
            run_id,
            epoch,
            _run_keys(run_id, b""),
            status,
            repr(ended),
            *said,
        )
        self._owned.pop(run_id, None)

    def remove(self, run_id: str) -> bool:
        doing = f"remove run {run_id!r}"
        run_key = _run_key(run_id)
        # Asked apart: removing may be repeated, and what a first attempt removed is not there for the second.
        existed = self._connection.call(doing, "EXISTS", run_key)
        removed = self._connection.run(
            doing, scripts.REMOVE, _run_keys(run_id, b"", b":scopes", b":signals", b":taken", b":lines")
        )
        self._unlist(doing, run_id)
        self._owned.pop(run_id, None)
        return bool(existed or removed)

    def send(self, run_id: str, name: str, payload: str, sent: float) -> None:
        doing = f"send {name!r} to run {run_id!r}"
        number = self._connection.call(doing, "INCR", _SIGNALS)
        self._connection.run(
            doing,
            scripts.SEND,
            _run_keys(run_id, b":signals", b":taken"),
            number,
            packing.pack_signal(name, payload),
        )

    def signals(self, run_id: str) -> list[Signal]:
        waiting = self._connection.call(
            f"read the signals of run {run_id!r}", "HGETALL", *_run_keys(run_id, b":signals")
        )
        return sorted(packing.unpack_signal(int(number), packed) for number, packed in waiting.items())

    def take_signal(self, run_id: str, epoch: int, number: int, record: Record) -> None:
        scopes, group = packing.pack_group([record])
        self._change(
            "store.signal",
            f"take a signal of run {run_id!r}",
            scripts.TAKE,
            run_id,
            epoch,
            _run_keys(run_id, b"", b":scopes", b":signals", b":taken", *map(_scope, scopes)),
            repr(self._clock.now()),
            number,
            group,
        )

    def cached(self, key: str, now: float) -> bytes | None:
        payload: bytes | None = self._connection.run(
            "look into the cache", scripts.CACHED, _CACHE, encode(key), repr(now)
        )
        return payload

    def cache(self, key: str, payload: bytes, now: float, expires: float | None, most_bytes: int) -> None:
        self._refuse_too_long("keep a value in the cache", len(payload))
        self._connection.run(
            "keep a value in the cache",
            scripts.CACHE,
            _CACHE,
            encode(key),
            payload,
            repr(now),
            b"" if expires is None else repr(expires),
            most_bytes,
        )

    def uncache(self, key: str) -> None:
        self._connection.run("forget a value of the cache", scripts.UNCACHE, _CACHE, encode(key))

    def put_setting(self, key: str, text: str, expires: float | None) -> None:
        packed = packing.pack_setting(text, expires)
        self._connection.call(f"keep the setting {key!r}", "HSET", _SETTINGS, encode(key), packed)

    def settings(self, now: float) -> dict[str, str]:
        doing = "read the settings"
        found: dict[str, str] = {}
        for key, packed in self._connection.call(doing, "HGETALL", _SETTINGS).items():
            try:
                text, expires = packing.unpack_setting(packed)
            except ValueError as error:
                raise StoreError(self.url, f"cannot {doing}: that of {decode(key)!r} was damaged") from error
            if expires is None or expires > now:
                found[decode(key)] = text
        return found

    def remove_setting(self, key: str) -> bool:
        doing = f"remove the setting {key!r}"
        # Asked apart, as for a run.
        existed = self._connection.call(doing, "HEXISTS", _SETTINGS, encode(key))
        removed = self._connection.call(doing, "HDEL", _SETTINGS, encode(key))
        return bool(existed or removed)

    def take_slots(self, scope: str, holder: str, count: int, limit: int, now: float, until: float) -> bool:
        return self._limits.take_slots(scope, holder, count, limit, now, until, self._claim())

    def give_slots(self, scope: str, holder: str, count: int) -> None:
        self._limits.give_slots(scope, holder, count, self._claim())

    def renew_slots(self, holder: str, until: float) -> None:
        self._limits.renew_slots(holder, until)

    def take_token(self, scope: str, rate: float, burst: float, now: float) -> float:
        return self._limits.take_token(scope, rate, burst, now, self._claim())

    def sweep(self, now: float) -> int:
        doing = "sweep the store"
        swept: int = 0
        reach("store.sweep.before-commit")
        while expired := self._connection.run(doing, scripts.EXPIRE, _CACHE, repr(now), _AT_ONCE):
            swept += expired
        swept += self._connection.run(doing, limit_scripts.EXPIRE_SETTINGS, (_SETTINGS,), repr(now))
        swept += self._limits.expire(doing, now, _AT_ONCE)
        reach("store.sweep.after-commit")
        for member in self._connection.call(doing, "SMEMBERS", _RUNS):
            run_id = decode(member)
            if not self._connection.call(doing, "EXISTS", _run_key(run_id)):
                self._unlist(doing, run_id)
        return swept

    def close(self) -> None:
        self._connection.close()

    def _claim(self) -> bytes:
        """What a change finds itself by when it is repeated."""
        return self._chance.run_id(self._clock.now()).encode()

    def _change(
        self, point: str, doing: str, script: str, run_id: str, epoch: int, keys: Sequence[bytes], *arguments: Any
    ) -> None:
        """Run a script that begins with the fence, and note how far the run is now."""
        self._refuse_too_long(doing, sum(len(argument) for argument in arguments if isinstance(argument, bytes)))
        owned = self._owned.get(run_id) or _Owned(b"", 0)
        reach(f"{point}.before-commit")
        answer = self._connection.run(doing, script, keys, epoch, owned.birth, owned.sequence, *arguments)
        reach(f"{point}.after-commit")
        if isinstance(answer, list):
            problem, owner = map(decode, cast(list[bytes], answer))
            raise self._refusal(run_id, problem, owner)
        owned.sequence = int(answer)

    def _refusal(self, run_id: str, problem: str, owner: str) -> RunOwnedError | StoreError:
        if problem == "gone":
            return RunOwnedError(run_id, "", f"{self.url} has it no more: it was removed, or the server lost its data")
        if problem == "anew":
            return RunOwnedError(run_id, owner, "it was removed, and another of the same name was begun")
        if problem == "taken":
            return RunOwnedError(run_id, owner, "another process has taken it over")
        return StoreError(
            self.url,
            f"the server has lost records of run {run_id!r} that it had committed: it came back without them, or a "
            "replica took its place; resume the run, and what was lost runs again",
        )

    def _refuse_too_long(self, doing: str, length: int) -> None:
        if length > packing.MOST_BYTES:
            raise StoreError(
                self.url,
                f"cannot {doing}: {length:,} bytes at once are more than the {packing.MOST_BYTES:,} that Redis takes; "
                "let tasks return what is smaller, as the name of a file",
            )

    def _unlist(self, doing: str, run_id: str) -> None:
        self._connection.call(doing, "SREM", _RUNS, encode(run_id))
        # It may have been begun anew after it was found to be gone, and before it was taken from the list.
        if self._connection.call(doing, "EXISTS", _run_key(run_id)):
            self._connection.call(doing, "SADD", _RUNS, encode(run_id))

    def _row(self, run_id: str, fields: Mapping[bytes, bytes]) -> RunRow:
        try:
            return packing.run_row(fields)
        except (KeyError, ValueError) as error:
            raise StoreError(self.url, f"what is stored of run {run_id!r} was damaged: {error!r}") from error


class _Owned:
    """What an owner knows of its run: which one it is, and how far it has come."""

    __slots__ = ("birth", "sequence")

    def __init__(self, birth: bytes, sequence: int) -> None:
        self.birth = birth
        self.sequence = sequence


def _run_key(run_id: str) -> bytes:
    return b"cascade:{run:%b}" % encode(run_id)


def _run_keys(run_id: str, *endings: bytes) -> list[bytes]:
    run = _run_key(run_id)
    return [run + ending for ending in endings]


def _scope(scope: bytes) -> bytes:
    return b":scope:" + scope.hex().encode()


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash, as a script returns it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
