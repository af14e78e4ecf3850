"""Every port in one file: what Cascade asks of the parts that can be exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import asyncio

    from cascade.graph.model import Graph, Node
    from cascade.spec.records import Line, Record, RunRow, RunStatus, Signal

E = TypeVar("E")


class ExecutionPlan(Protocol):
    """A solver's advice: what may run together, and in which order of preference."""

    @property
    def stages(self) -> Sequence[Sequence[Node]]:
        """Nodes that may run together, stage by stage; every node after all that it depends on."""
        ...

    @property
    def order(self) -> Sequence[int]:
        """The indices of all nodes, the most preferred first."""
        ...


@runtime_checkable
class Solver(Protocol):
    """Decides in which order nodes are preferred. Never a barrier: a node starts when its own inputs are there."""

    def resolve(self, graph: Graph) -> ExecutionPlan:
        """Plan a graph. Pure: the same graph gives the same plan."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Makes calls. Knows nothing of graphs, routers, resources or state."""

    async def execute(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call what the node names with finished arguments and return what it returns, or raise what it raises.

        When cancelled, it must not return before the call has ended or can have no further effect.
        """
        ...

    async def close(self) -> None:
        """Give back threads, processes and connections. May be called twice."""
        ...


@runtime_checkable
class StateBackend(Protocol):
    """The truth about one run: results and skips by node id. `None` is a value like any other."""

    async def put_result(self, node_id: str, value: Any) -> None:
        """Keep a result, in place of whatever was known of the node."""
        ...

    async def get_result(self, node_id: str) -> Any:
        """The result of a node.

        Raises:
            KeyError: the node has none.
        """
        ...

    async def has_result(self, node_id: str) -> bool:
        """Whether the node has a result."""
        ...

    async def mark_skipped(self, node_id: str, reason: str) -> None:
        """Note that the node was skipped, and why."""
        ...

    async def get_skip_reason(self, node_id: str) -> str | None:
        """Why the node was skipped, or `None` if it was not."""
        ...

    async def put_many(self, results: Mapping[str, Any], skips: Mapping[str, str]) -> None:
        """Keep many results and skips at once: all of them or none."""
        ...

    async def discard(self, node_ids: Iterable[str]) -> None:
        """Forget nodes; those that are not known are passed over."""
        ...

    async def clear(self) -> None:
        """Forget everything."""
        ...


@runtime_checkable
class CacheBackend(Protocol):
    """Keeps values under keys, beyond one run."""

    async def get(self, key: str) -> Any:
        """The value under a key.

        Raises:
            KeyError: there is none, or not any more.
        """
        ...

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value, for `ttl` seconds if that is given."""
        ...

    async def discard(self, key: str) -> None:
        """Forget a key; it need not exist."""
        ...


@runtime_checkable
class CachePolicy(Protocol):
    """Makes the keys under which a task's values are kept."""

    @property
    def backend(self) -> CacheBackend | None:
        """Where values are kept; `None` for the engine's own."""
        ...

    @property
    def ttl(self) -> float | None:
        """How long values are good, in seconds; `None` for ever."""
        ...

    def key(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
        """The key for one call.

        Args:
            function: what the task calls.
            arguments: all arguments by parameter name, defaults included.

        Raises:
            CascadeError: an argument cannot be digested surely; the message names it.
        """
        ...

    def product(self, key: str, value: Any) -> Any:
        """What consumers receive after a value was computed and kept."""
        ...


class Timer(Protocol):
    """Something that will happen at a moment."""

    def cancel(self) -> None:
        """Let it not happen; without effect afterwards."""
        ...


@runtime_checkable
class Clock(Protocol):
    """Time: the wall's, one that never goes back, and waiting for it to pass."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def call_at(
        self, when: float, callback: Callable[[], object], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Timer:
        """Call something once, at a moment of `monotonic()`: on the loop's thread, or on any where none is given."""
        ...

    def busy(self, calls: int = 1) -> None:
        """Hear that calls began off the loop, so that a clock that jumps must not."""
        ...

    def idle(self, calls: int = 1) -> None:
        """Hear that such calls have ended."""
        ...


class WorkerPool(Protocol):
    """Threads that an executor lends to runs, which then make plain calls without asking it each time."""

    max_workers: int

    def submit(self, job: Callable[[], None]) -> None:
        """Have a thread call the job, first come first served."""
        ...

    def is_waited_for(self) -> bool:
        """Whether jobs wait for a free thread."""
        ...

    def lend(self) -> None:
        """Hear that one thread is out of reach for a while, so that another may take its place."""
        ...

    def take_back(self) -> None:
        """Hear that such a thread is back."""
        ...


@runtime_checkable
class LendsThreads(Protocol):
    """An executor whose threads runs may use by themselves."""

    @property
    def threads(self) -> WorkerPool:
        """The threads."""
        ...


class Serializer(Protocol):
    """Turns values into bytes that nobody can alter unnoticed, and back."""

    def dumps(self, value: object, *, context: bytes) -> bytes:
        """Serialize and sign a value for one place.

        Raises:
            UnserializableValueError: the value has no form as bytes; the message says which part of it.
        """
        ...

    def loads(self, payload: bytes, *, context: bytes) -> Any:
        """Verify and load a value that was serialized for this very place.

        Raises:
            CorruptedValueError: it was altered, was written for another place, or cannot be loaded any more.
        """
        ...


class Store(Protocol):
    """Keeps durable runs. Called by one thread at a time; every method is one transaction, committed when it returns.

    A store that loses its connection connects again and repeats what it was doing: every method can be repeated.
    Whatever goes wrong for good is a `StoreError` that says what was being done and why it failed.
    """

    @property
    def url(self) -> str:
        """The store, without passwords."""
        ...

    def claim(self, row: RunRow, *, over: int | None) -> RunRow | None:
        """Become the owner of a run.

        Args:
            row: the run as it shall be, if it is new; of a run that exists, `host`, `owner` and `lease_until` are taken
                from it, and the status becomes `running` unless it is `succeeded`.
            over: `None` to create the run; otherwise the epoch of the owner to take it from.

        Returns:
            The run as it now stands, with an epoch one higher; `None` if `over` is `None` and the run exists, or if
            the run has another epoch than `over`: look again.
        """
        ...

    def find(self, run_id: str) -> RunRow | None:
        """A run, or `None`."""
        ...

    def runs(self) -> list[RunRow]:
        """All runs, the newest first."""
        ...

    def records(self, run_id: str) -> list[Record]:
        """All records of a run, in the order in which they were written first."""
        ...

    def outline(self, run_id: str) -> list[Record]:
        """The same without payloads, which are not read either: for who looks often. Damage may go unnoticed."""
        ...

    def write(
        self, run_id: str, epoch: int, records: Sequence[Record], dropped: Sequence[bytes], lease_until: float
    ) -> None:
        """Keep records in place of what was known of their places, forget scopes, and renew the lease; all or nothing.

        Args:
            dropped: the scopes to forget, before the records are kept.
            lease_until: when the owner loses the run unless it writes again, in seconds since the epoch.

        Raises:
            RunOwnedError: the run has another epoch: another process has taken it over.
        """
        ...

    def finish(self, run_id: str, epoch: int, status: RunStatus, error: str | None, ended: float) -> None:
        """Note how a run ended, and give it up; `RunOwnedError` as for `write`."""
        ...

    def remove(self, run_id: str) -> bool:
        """Forget a run with all that belongs to it; whether there was one."""
        ...

    def note_lines(self, run_id: str, epoch: int, lines: Sequence[Line], most: int) -> None:
        """Keep lines that calls of a run have logged or printed; `RunOwnedError` as for `write`.

        A loss of power may take the last of them, until the next `write` has returned.

        Args:
            lines: in order, with numbers above those of earlier calls; they replace what is kept from the first on.
            most: how many lines of the run are kept, the last ones.
        """
        ...

    def lines(self, run_id: str, after: int = 0) -> list[Line]:
        """The lines of a run that are kept and have a number above `after`, in order."""
        ...

    def send(self, run_id: str, name: str, payload: str, sent: float) -> None:
        """Keep a signal for a run, whether or not it exists yet."""
        ...

    def signals(self, run_id: str) -> list[Signal]:
        """The signals of a run that were not taken, the oldest first."""
        ...

    def take_signal(self, run_id: str, epoch: int, number: int, record: Record) -> None:
        """Take a signal and keep the record of who took it, at once; `RunOwnedError` as for `write`."""
        ...

    def cached(self, key: str, now: float) -> bytes | None:
        """The payload under a key of the cache that has not expired; it counts as used now."""
        ...

    def cache(self, key: str, payload: bytes, now: float, expires: float | None, most_bytes: int) -> None:
        """Keep a payload under a key, and let go of the least recently used ones beyond a size."""
        ...

    def uncache(self, key: str) -> None:
        """Forget a key of the cache; it need not exist."""
        ...

    def put_setting(self, key: str, text: str, expires: float | None) -> None:
        """Keep a text under a key, in place of what was there; limits that people set are such texts."""
        ...

    def settings(self, now: float) -> dict[str, str]:
        """All texts that have not expired, by their keys."""
        ...

    def remove_setting(self, key: str) -> bool:
        """Forget a key; whether there was one."""
        ...

    def take_slots(self, scope: str, holder: str, count: int, limit: int, now: float, until: float) -> bool:
        """Take slots of a limit that all who use the store share, for as long as they are renewed.

        Args:
            scope: the limit.
            holder: who takes them; what it holds already is counted too.
            count: how many more.
            limit: how many there are in all.
            now: slots whose time is over before this are free again.
            until: when these, and all that the holder has of this limit, are free again.

        Returns:
            Whether they were taken: all of them or none.
        """
        ...

    def give_slots(self, scope: str, holder: str, count: int) -> None:
        """Give slots back; more than the holder has is all that it has."""
        ...

    def renew_slots(self, holder: str, until: float) -> None:
        """Keep all slots of a holder until a later time."""
        ...

    def take_token(self, scope: str, rate: float, burst: float, now: float) -> float:
        """Take a token of a rate that all who use the store share: a bucket that holds `burst` and fills by `rate`.

        Returns:
            0 if it was taken, otherwise in how many seconds there will be one; then none was taken.
        """
        ...

    def sweep(self, now: float) -> int:
        """Remove what nothing refers to and what has expired; how many things that were."""
        ...

    def close(self) -> None:
        """Give back connections and files. May be called twice."""
        ...
