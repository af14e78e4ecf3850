"""From a run id to a journal: finding or making the run, checking its parameters, and knowing what has ended."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cascade.runtime.durability.journal import Journal
from cascade.runtime.durability.keys import PARAMS, run_key, signed_for
from cascade.runtime.durability.ownership import Ownership, claim
from cascade.runtime.durability.writer import Writer
from cascade.runtime.fault_points import reach
from cascade.runtime.preview import preview
from cascade.spec.exceptions import ResumeError, UnserializableValueError
from cascade.spec.input import ParamSpec
from cascade.spec.records import ROOT, RunRow
from cascade.spec.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.runtime.durability.opening import Opening
    from cascade.spec.protocols import Clock, Serializer, Store
    from cascade.spec.records import Record


class DurableStore:
    """A store with what an engine needs around it: who turns values into bytes, and who writes.

    Args:
        store: keeps the runs; from now on it belongs to this object, which closes it.
        serializer: turns values into signed bytes.
        lease: for how long an owner that writes nothing keeps its run, in seconds.
    """

    def __init__(self, store: Store, serializer: Serializer, *, lease: float = 15.0) -> None:
        self.store = store
        self.serializer = serializer
        self.lease = lease
        self._writer: Writer | None = None
        self._lock = threading.Lock()

    def writer(self, clock: Clock) -> Writer:
        """Who writes, started at its first use."""
        with self._lock:
            if self._writer is None:
                self._writer = Writer(self.store, clock, self.lease)
            return self._writer

    def session(self, run_id: str, clock: Clock) -> Session:
        """A session with one run."""
        return Session(self, self.writer(clock), run_id, clock)

    def close(self) -> None:
        """Write what waits and close the store. May be called twice."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
            else:
                self.store.close()


class _GivenOrKept(dict[str, Any]):
    """What was given, and behind it what the run has: only what is given may be refused as unknown.

    A parameter that the run has and the code declares no more is so passed over.
    """

    def __init__(self, given: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
        super().__init__(given)
        self._kept = kept

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._kept

    def __missing__(self, name: str) -> Any:
        return self._kept[name]


def _secrets(inputs: Mapping[Any, Any], params: Mapping[str, Any]) -> set[str]:
    """The names of what is in no store, but given again when the run is resumed."""
    declared = {spec.name for spec in inputs if isinstance(spec, ParamSpec) and spec.kind.hides}
    return declared | {name for name, value in params.items() if isinstance(value, Secret)}


class Session:
    """One process's time with one run: `open`, then `result`, and where there is none `begin`.

    Whatever ends the first two, cancellation too, the run is then as free as before.
    """

    def __init__(self, durable: DurableStore, writer: Writer, run_id: str, clock: Clock) -> None:
        self._serializer = durable.serializer
        self._writer = writer
        self._run_id = run_id
        self._clock = clock
        self._ownership: Ownership | None = None
        self._records: list[Record] = []

    async def open(
        self,
        given: dict[str, Any],
        validated: Callable[[Mapping[str, Any]], dict[Any, Any]],
        *,
        target: tuple[str, ...],
        program: str | None,
        opening: Opening,
    ) -> tuple[dict[str, Any], dict[Any, Any]]:
        """Become the owner of the run, new or not.

        Args:
            given: the parameters that were given this time; none of them for those that the run has already.
            validated: checks parameters and gives the values of all inputs.
            target: the names of the tasks that are asked for.
            program: how a command line starts the run again.
            opening: is told if another process has the run and may be alive, and may end the wait for it.

        Returns:
            The parameters that the run was given or has, and the values of all its inputs.

        Raises:
            RunOwnedError: another process has the run.
            ResumeError: the run has other parameters.
        """
        store = self._writer.store
        found = await self._writer.call(lambda: store.find(self._run_id))
        kept = {} if found is None else self._params_of(found)
        inputs = self._inputs(given, kept, validated)
        values = {spec.name: value for spec, value in inputs.items() if isinstance(spec, ParamSpec)}
        params = {name: values.get(name, value) for name, value in {**kept, **given}.items()}
        secret = _secrets(inputs, params)
        storable = {name: value for name, value in params.items() if name not in secret}
        if found is not None:
            self._compare(kept, {name: value for name, value in storable.items() if name in given})
        defaults = {name: value for name, value in values.items() if name not in params and name not in secret}
        now = self._clock.now()
        draft = RunRow(
            self._run_id,
            "running",
            0,
            "",
            "",
            0.0,
            now,
            now if found is None else found.updated,
            ", ".join(target),
            self._dumped({**storable, **self._keepable(defaults)}),
            program,
            None,
        )
        self._ownership = await claim(self._writer, self._clock, draft, opening)
        if self._ownership.row.epoch > 1:
            try:
                self._records = await self._writer.call(lambda: store.records(self._run_id))
            except BaseException as error:
                await self._ownership.fail(error, self._clock.now())
                raise
            reach("run.recalled")
        return params, inputs

    def _params_of(self, found: RunRow) -> dict[str, Any]:
        context = signed_for(run_key(self._run_id), ROOT, PARAMS, 0)
        kept: dict[str, Any] = self._serializer.loads(found.params, context=context)
        return kept

    def _dumped(self, params: dict[str, Any]) -> bytes:
        try:
            return self._serializer.dumps(params, context=signed_for(run_key(self._run_id), ROOT, PARAMS, 0))
        except UnserializableValueError as error:
            error.path = error.path.replace("result", "params", 1)
            raise

    def _inputs(
        self,
        given: Mapping[str, Any],
        kept: Mapping[str, Any],
        validated: Callable[[Mapping[str, Any]], dict[Any, Any]],
    ) -> dict[Any, Any]:
        """The values of all inputs: what the run has goes before the defaults, whatever these are now."""
        # `None` belongs to no type; it is that of a parameter whose default it was when the run began.
        absent = {name for name, value in kept.items() if value is None and name not in given}
        inputs = validated(_GivenOrKept(given, {name: kept[name] for name in kept.keys() - absent}))
        return inputs | {spec: None for spec in inputs if isinstance(spec, ParamSpec) and spec.name in absent}

    def _keepable(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults without those that no store can hold, which are taken from the code each time."""
        keepable: dict[str, Any] = {}
        for name, value in defaults.items():
            with suppress(UnserializableValueError):
                self._dumped({name: value})
                keepable[name] = value
        return keepable

    def _compare(self, kept: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """A run has the parameters that it began with; one that the code has got since is none of them."""
        for name, value in given.items():
            if name not in kept or kept[name] == value:
                continue
            if self._dumped({name: kept[name]}) == self._dumped({name: value}):
                continue
            raise ResumeError(
                f"run '{self._run_id}' goes on with the parameters that it began with: {name} = {preview(value)} was "
                f"given, and the run has {preview(kept[name])}; leave the parameters out to resume it, or choose "
                "another run id"
            )

    async def result(self) -> tuple[bool, Any]:
        """Whether the run has finished before with a value that was kept, and the value: then the run is given up."""
        assert self._ownership is not None
        if self._ownership.row.status != "succeeded":
            return False, None
        try:
            found, value = self._journal(waits=True).result()
        except BaseException as error:
            await self._ownership.fail(error, self._clock.now())
            raise
        if found:
            await self._ownership.leave()
        return found, value

    def begin(self, *, waits: bool) -> Journal:
        """Start to journal the run.

        Args:
            waits: whether what follows waits until an ending is committed.
        """
        journal = self._journal(waits=waits)
        self._records = []
        journal.start()
        return journal

    def _journal(self, *, waits: bool) -> Journal:
        assert self._ownership is not None
        return Journal(self._ownership, self._writer, self._serializer, self._clock, self._records, waits=waits)
