"""What a durable store keeps: a row for each run, a record for each place that has ended, and what calls have said."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

RecordKind = Literal["value", "skipped", "failed", "continues", "mapped", "volatile"]
"""How a place stands: `continues` with what its call returned, `mapped` over items that have records of their own,
`volatile` with a value that could not be serialized."""

RunStatus = Literal["running", "succeeded", "failed", "cancelled"]
"""How a run stands; one that is `running` with nobody who owns it was killed, and can be resumed."""

ROOT: Final = bytes(16)
"""The scope of what concerns a whole run, and not one of its graphs."""


class Record(NamedTuple):
    """How one place of a run stands.

    Attributes:
        scope: the graph or the map that the place is in, 16 bytes.
        node: the place in it, at most 16 bytes.
        kind: how it stands.
        turn: of what `continues`, how many graphs have come in its place.
        label: the place in words, such as `fetch#3` or `[17]`.
        name: the task.
        attempt: which attempt it was that ended so, the first is 1.
        began: when the call began, in seconds since the epoch.
        ended: when it ended.
        detail: the reason of a skip, or the description of an error.
        preview: the value in a few characters; of what failed, where the call was declared.
        payload: the value, serialized; of what `continues`, what goes on.
        inner: the scope of the graph that the call returned, or of the map's items.
    """

    scope: bytes
    node: bytes
    kind: RecordKind
    turn: int
    label: str
    name: str
    attempt: int
    began: float
    ended: float
    detail: str | None
    preview: str | None
    payload: bytes | None
    inner: bytes | None

    @property
    def is_of_map(self) -> bool:
        """Whether it is that of a map, whose items have records of their own and are what counts."""
        return self.kind == "mapped" or (self.kind == "failed" and self.inner is not None)


class RunRow(NamedTuple):
    """What a store knows of a run as a whole.

    Attributes:
        run_id: the run.
        status: how it stands.
        epoch: how many owners it has had; every write carries the epoch of who writes.
        host: where its owner's lock is, in a form that only that place understands; empty where there is no owner.
        owner: its owner in words.
        lease_until: when its owner loses it unless it renews, in seconds since the epoch; 0 where there is no owner.
        created: when it began.
        updated: when it was last written.
        target: the names of the tasks that were asked for.
        params: its parameters, serialized.
        program: how a command line starts it again, as JSON; `None` where it was started from code.
        error: the description of what it failed by.
    """

    run_id: str
    status: RunStatus
    epoch: int
    host: str
    owner: str
    lease_until: float
    created: float
    updated: float
    target: str
    params: bytes
    program: str | None
    error: str | None


class Line(NamedTuple):
    """Something that a call has logged or printed.

    Attributes:
        number: its place in the order of the run's lines; there may be gaps.
        at: when that was, in seconds since the epoch.
        source: `stdout`, `stderr`, or the name of the level that it was logged with.
        place: the id of the call within the run; empty where it was no call, as in a resource of the run.
        name: the task.
        attempt: which attempt of the call, from 1 on.
        text: the line; what was logged may have several.
    """

    number: int
    at: float
    source: str
    place: str
    name: str
    attempt: int
    text: str


class Signal(NamedTuple):
    """Something that was sent to a run.

    Attributes:
        number: its place in the order of sending, unique within the store.
        name: what a waiting task asks for.
        payload: the value, as JSON.
    """

    number: int
    name: str
    payload: str
