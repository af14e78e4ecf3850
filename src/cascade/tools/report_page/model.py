"""What a page shows of a run: counted over all records, listed for as many as a browser can take."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.preview import preview
from cascade.tools.command.journal_tree import Place, all_places, result_of, tree_of
from cascade.tools.command.programs import program_shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cascade.spec.records import Record, RunRow
    from cascade.tools.command.programs import Program

MOST_PLACES: Final = 20_000
"""Places that a page lists. Its counts and times are of all of them."""
MOST_TASKS: Final = 1_000
MOST_FAILURES: Final = 200
_LONGEST_NAME: Final = 120
_LONGEST_TEXT: Final = 1_000
_PLAIN: Final = b"\x01P"
"""How a payload begins that is plain data; `SignedSerializer` says how the rest is laid out."""
_BODY_AT: Final = 34
_SECONDS_OF_A_YEAR: Final = 366 * 86_400.0


class TaskRow:
    """All calls of tasks of one name."""

    __slots__ = ("attempts", "done", "failed", "going", "longest", "name", "reasons", "timed", "total")

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = self.failed = self.going = self.attempts = self.timed = 0
        self.reasons: Counter[str] = Counter()
        self.total = self.longest = 0.0

    @property
    def skipped(self) -> int:
        """How many calls were not made."""
        return self.reasons.total()

    @property
    def count(self) -> int:
        """How many places have it."""
        return self.done + self.failed + self.going + self.skipped

    @property
    def mean(self) -> float:
        """Seconds that a call took, from its first attempt in a process to its end."""
        return self.total / self.timed if self.timed else 0.0

    def add(self, record: Record) -> None:
        """Count one call."""
        if record.kind == "skipped":
            self.reasons[named(record.detail or "for no reason")] += 1
            return
        if record.kind == "continues":
            self.going += 1
            return
        if record.kind == "failed":
            self.failed += 1
        else:
            self.done += 1
        self.attempts += max(1, record.attempt)
        took = seconds_of(record)
        if took > 0:
            self.timed += 1
            self.total += took
            self.longest = max(self.longest, took)


class Report:
    """A run as a page shows it.

    Args:
        row: the run.
        records: its records.
        whereabouts: on what calls were made, by their names, as far as that is known.
        most_places: how many places the page lists.

    Attributes:
        program: how a command line started it.
        params: the names and values of its parameters, as far as they can be shown.
        roots: the places of its first graph and of what that went on with.
        places: the places that are listed, each before what is inside it.
        number_of: the number of each listed place.
        total: how many places there are.
        tasks: the calls by the names of their tasks, those that took longest first.
        failures: the places where an error came from, not those that failed because of what is inside them.
        origin: when the first call began, in seconds since the epoch.
    """

    def __init__(
        self,
        row: RunRow,
        records: Sequence[Record],
        *,
        whereabouts: Mapping[str, str] | None = None,
        most_places: int = MOST_PLACES,
    ) -> None:
        self.row = row
        self.whereabouts = whereabouts or {}
        self.roots = tree_of(records)
        self.result = result_of(records)
        self.program = _program_of(row)
        self.params = list(_params_of(row, self.program))
        self.states: Counter[str] = Counter()
        by_name: dict[str, TaskRow] = {}
        everywhere = list(all_places(self.roots))
        self.total = len(everywhere)
        began: list[float] = []
        for place in everywhere:
            record = place.record
            if record is None:
                continue
            if seconds_of(record) > 0:
                began.append(record.began)
            if is_map(place):
                continue
            self.states[place.state] += 1
            name = named(record.name or record.label)
            task = by_name.get(name)
            if task is None:
                task = by_name[name] = TaskRow(name)
            task.add(record)
        self.failures = [place for place in everywhere if _is_source_of_error(place)]
        self.tasks = sorted(by_name.values(), key=lambda task: (-task.total, -task.count, task.name))
        self.origin = min(began, default=row.created)
        self.places = _listed(everywhere, most_places)
        self.number_of = {id(place): number for number, place in enumerate(self.places)}

    def columns(self) -> dict[str, Any]:
        """The listed places as columns of numbers and texts, each text once."""
        texts: dict[str, int] = {}

        def text(given: str | None, longest: int) -> int:
            if given is None:
                return -1
            return texts.setdefault(harmless(given, longest), len(texts))

        parents: list[int] = [-1] * len(self.places)
        for number, place in enumerate(self.places):
            for inner in place.inside:
                inside = self.number_of.get(id(inner))
                if inside is not None:
                    parents[inside] = number
        columns: dict[str, list[Any]] = {
            key: []
            for key in ("title", "name", "state", "attempt", "began", "took", "detail", "preview", "turn", "map", "on")
        }
        for place in self.places:
            record = place.record
            columns["title"].append(text(place.title, _LONGEST_NAME))
            columns["state"].append(text(place.state, _LONGEST_NAME))
            columns["map"].append(int(is_map(place)))
            columns["name"].append(text(place.title if record is None else record.name, _LONGEST_NAME))
            columns["attempt"].append(0 if record is None else record.attempt)
            columns["turn"].append(0 if record is None else record.turn)
            columns["began"].append(0.0 if record is None else round(self._since(record.began), 6))
            columns["took"].append(0.0 if record is None else round(seconds_of(record), 6))
            columns["detail"].append(-1 if record is None else text(record.detail, _LONGEST_TEXT))
            columns["on"].append(-1 if record is None else text(self.whereabouts.get(record.name), _LONGEST_NAME))
            columns["preview"].append(-1 if record is None else text(record.preview, _LONGEST_TEXT))
        return {"texts": list(texts), "parent": parents, **columns}

    def _since(self, moment: float) -> float:
        """Seconds from the beginning; a damaged store may hold any number."""
        since = moment - self.origin
        return since if -_SECONDS_OF_A_YEAR < since < 100 * _SECONDS_OF_A_YEAR else 0.0


def named(text: str) -> str:
    """A name that a page can show: bounded, and without anything that cannot be seen."""
    return harmless(text, _LONGEST_NAME)


def told(text: str) -> str:
    """A longer text that a page can show."""
    return harmless(text, _LONGEST_TEXT)


def seconds_of(record: Record) -> float:
    """How long a call took."""
    took = record.ended - record.began
    return took if 0 < took < 100 * _SECONDS_OF_A_YEAR else 0.0


def is_map(place: Place) -> bool:
    """Whether it is no call of its own, but the items inside it are."""
    record = place.record
    if record is None:
        return True
    return record.is_of_map or (bool(place.inside) and place.inside[0].title.startswith("["))


def _is_source_of_error(place: Place) -> bool:
    if place.state != "failed":
        return False
    return not any(inner.state == "failed" for inner in place.inside)


def _listed(everywhere: Sequence[Place], most: int) -> list[Place]:
    """The first places and those that failed, with all that is around them."""
    if len(everywhere) <= most:
        return list(everywhere)
    wanted = {id(place) for place in everywhere[:most]}
    failed = [place for place in everywhere[most:] if place.state == "failed"][:MOST_FAILURES]
    if failed:
        around = {id(inner): place for place in everywhere for inner in place.inside}
        for place in failed:
            step: Place | None = place
            while step is not None and id(step) not in wanted:
                wanted.add(id(step))
                step = around.get(id(step))
    return [place for place in everywhere if id(place) in wanted]


def _program_of(row: RunRow) -> Program | None:
    """What the run was started with; `None` for what was altered so that it cannot be shown."""
    program = program_shown(row)
    if program is None or not isinstance(program.params, dict):
        return None
    texts = (program.module, program.name, program.folder, program.file or "")
    return program if all(isinstance(text, str) for text in texts) else None


def _params_of(row: RunRow, program: Program | None) -> Iterator[tuple[str, str]]:
    """The parameters, as they were given on a command line, or if they are plain data. Nothing is ever unpickled."""
    if program is not None:
        for name, texts in program.params.items():
            yield named(str(name)), told(", ".join(map(str, texts)) if isinstance(texts, list) else str(texts))
        return
    if not row.params.startswith(_PLAIN):
        return
    from cascade.adapters.serializers.reading import read_plain
    from cascade.spec.exceptions import CorruptedValueError

    try:
        params = read_plain(row.params, _BODY_AT)
    except CorruptedValueError:
        return
    if isinstance(params, dict):
        for name, value in params.items():
            yield named(str(name)), told(preview(value))
