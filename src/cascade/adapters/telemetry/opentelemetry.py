"""Runs as traces and metrics of OpenTelemetry."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskRetrying,
    TaskSkipped,
)
from cascade.spec.context import call_context
from cascade.spec.exceptions import MissingExtraError

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode
except ModuleNotFoundError:
    raise MissingExtraError("OpenTelemetryReporter", "opentelemetry-api", "opentelemetry") from None

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from cascade.runtime.engine import Engine

_MOST_ENDED: Final = 10_000
_NAME: Final = "cascade"
# The key under which a context has its span, as the API itself sets it.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class OpenTelemetryReporter:
    """Makes spans and metrics of the runs of an engine or on a bus, for the time of a `with` block.

    A run is a span, and so is each call, map and item of a map. A call's span has links to those of the calls whose
    values it takes; it is inside that of its map, or of the call that returned it. Where a call is tried again, each
    attempt is a span inside that of the call. Spans that a task starts are inside its own; a run is inside the span of
    the code that started it. Calls in worker processes have no current span.

    Metrics: `cascade.runs` and `cascade.tasks` count by how they ended, `cascade.task.retries` attempts that failed and
    were followed by another; `cascade.run.duration`, `cascade.task.duration` and `cascade.task.wait`, the time that
    calls were held back by limits and capacities, are histograms in seconds.

    Args:
        source: whose runs: an engine, or the bus that is given to `cs.run`.
        tracer_provider: makes the tracer; the global one by default.
        meter_provider: makes the meter; the global one by default.

    Raises:
        MissingExtraError: on import, without the extra `opentelemetry`.
    """

    def __init__(
        self,
        source: Engine | MessageBus,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._bus = source if isinstance(source, MessageBus) else source.bus
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._runs_ended = meter.create_counter("cascade.runs", "1", "runs that have ended")
        self._run_seconds = meter.create_histogram("cascade.run.duration", "s", "how long runs took")
        self._tasks_ended = meter.create_counter("cascade.tasks", "1", "calls that have ended")
        self._task_seconds = meter.create_histogram("cascade.task.duration", "s", "how long calls took")
        self._retries = meter.create_counter("cascade.task.retries", "1", "attempts that another one followed")
        self._wait_seconds = meter.create_histogram("cascade.task.wait", "s", "how long calls were held back")
        self._lock = threading.Lock()
        self._runs: dict[str, _RunSpans] = {}
        self._ends: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        bus = self._bus
        self._ends = [
            bus.in_each_run(self._prepare),
            bus.subscribe(RunStarted, self._run_started),
            bus.subscribe(RunFinished, self._run_finished),
            bus.subscribe(TaskExecutionStarted, self._task_started),
            bus.subscribe(TaskExecutionFinished, self._task_finished),
            bus.subscribe(TaskSkipped, self._task_skipped),
            bus.subscribe(TaskRetrying, self._task_retrying),
            bus.subscribe(TaskBlocked, self._task_blocked),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            end()
        with self._lock:
            for run in self._runs.values():
                run.end()
            self._runs.clear()

    def _prepare(self, run_id: str) -> None:
        """Begin the span of a run, in the run's own context."""
        around = Context(contexts.get_current().copy())
        span = self._tracer.start_span("run", around, attributes={"cascade.run.id": run_id})
        run = _RunSpans(self._tracer, span, around, self._lock)
        with self._lock:
            self._runs[run_id] = run
        contexts.attach(_RunContext(run, run_id))

    def _run_started(self, event: RunStarted) -> None:
        run = self._runs.get(event.run_id)
        if run is not None:
            targets = tuple(event.target_tasks[:_MOST_TARGETS])
            run.span.update_name(f"run {', '.join(targets)}")
            run.span.set_attribute("cascade.run.target", targets)

    def _run_finished(self, event: RunFinished) -> None:
        attributes = {"status": event.status}
        self._runs_ended.add(1, attributes)
        self._run_seconds.record(event.duration, attributes)
        with self._lock:
            run = self._runs.pop(event.run_id, None)
            if run is not None:
                run.end(_at(event.timestamp))
        if run is not None:
            _end(run.span, event.status, event.error, _at(event.timestamp))

    def _task_started(self, event: TaskExecutionStarted) -> None:
        run = self._runs.get(event.run_id)
        if run is None:
            return
        with self._lock:
            run.start(event.task_id, event.task_name, event.inputs, _at(event.timestamp))
            blocked = run.blocked.pop(event.task_id, None)
        if blocked is not None:
            self._wait_seconds.record(max(0.0, event.timestamp - blocked), {"task": event.task_name})

    def _task_finished(self, event: TaskExecutionFinished) -> None:
        attributes = {"task": event.task_name, "status": event.status}
        self._tasks_ended.add(1, attributes)
        self._task_seconds.record(event.duration, attributes)
        run = self._runs.get(event.run_id)
        if run is None:
            return
        at = _at(event.timestamp)
        with self._lock:
            found = run.finish(event.task_id)
        if found is not None:
            if found.attempt is not None:
                _end(found.attempt, event.status, event.error, at)
            if event.continues_as is not None:
                found.span.set_attribute("cascade.task.continues_as", event.continues_as)
            _end(found.span, event.status, event.error, at)

    def _task_skipped(self, event: TaskSkipped) -> None:
        self._tasks_ended.add(1, {"task": event.task_name, "status": event.reason})
        run = self._runs.get(event.run_id)
        if run is not None and event.reason == "CacheHit":
            # What takes its value shall have something to link to.
            at = _at(event.timestamp)
            with self._lock:
                run.start(event.task_id, event.task_name, (), at)
                found = run.finish(event.task_id)
            if found is not None:
                found.span.set_attribute("cascade.task.cache_hit", True)
                found.span.end(at)

    def _task_retrying(self, event: TaskRetrying) -> None:
        self._retries.add(1, {"task": event.task_name})
        run = self._runs.get(event.run_id)
        if run is None:
            return
        at = _at(event.timestamp)
        with self._lock:
            failed = run.next_attempt(event.task_id, event.attempt, at, at + int(event.delay * 1e9))
        if failed is not None:
            _end(failed, "Failed", event.error, at)

    def _task_blocked(self, event: TaskBlocked) -> None:
        run = self._runs.get(event.run_id)
        if run is not None:
            with self._lock:
                run.blocked[event.task_id] = event.timestamp


class _TaskSpans:
    """The span of a call under way, and that of its attempt where it is tried again."""

    __slots__ = ("attempt", "began", "is_told", "span")

    def __init__(self, span: Span, began: int | None, *, is_told: bool) -> None:
        self.span = span
        self.began = began
        self.is_told = is_told
        self.attempt: Span | None = None


class _RunSpans:
    """The spans of one run; its methods are called with the reporter's lock."""

    def __init__(self, tracer: trace.Tracer, span: Span, around: Context, lock: threading.Lock) -> None:
        self.span = span
        self.around = around
        self.blocked: dict[str, float] = {}
        self.lock = lock
        self._tracer = tracer
        self._under_way: dict[str, _TaskSpans] = {}
        self._ended: dict[str, SpanContext] = {}

    def start(self, task_id: str, name: str, inputs: tuple[str, ...], at: int | None) -> _TaskSpans:
        """The span of a call, which may have been needed before it was told that the call starts."""
        found = self._under_way.get(task_id)
        if found is not None:
            if at is not None and not found.is_told:
                found.is_told = True
                for link in self._links(inputs):
                    found.span.add_link(link.context)
            return found
        span = self._tracer.start_span(
            name,
            trace.set_span_in_context(self._parent_of(task_id), self.around),
            attributes={"cascade.task.id": task_id, "cascade.task.name": name},
            links=self._links(inputs),
            start_time=at,
        )
        found = self._under_way[task_id] = _TaskSpans(span, at, is_told=at is not None)
        return found

    def finish(self, task_id: str) -> _TaskSpans | None:
        found = self._under_way.pop(task_id, None)
        if found is not None:
            self._ended[task_id] = found.span.get_span_context()
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]
        return found

    def next_attempt(self, task_id: str, failed: int, at: int, next_at: int) -> Span | None:
        """Begin the span of the next attempt; that of the one that failed, to be ended."""
        found = self._under_way.get(task_id)
        if found is None:
            return None
        before = found.attempt or self._attempt(found, failed, found.began)
        found.attempt = self._attempt(found, failed + 1, next_at)
        return before

    def _attempt(self, found: _TaskSpans, number: int, at: int | None) -> Span:
        return self._tracer.start_span(
            f"attempt {number}",
            trace.set_span_in_context(found.span, self.around),
            attributes={"cascade.task.attempt": number},
            start_time=at,
        )

    def current(self, run_id: str) -> Span:
        """The span of the call that runs here, or else that of the run."""
        call = call_context()
        if call is None or call.run_id != run_id or not call.task_id:
            return self.span
        with self.lock:
            if call.task_id in self._ended and call.task_id not in self._under_way:
                return trace.NonRecordingSpan(self._ended[call.task_id])
            found = self.start(call.task_id, call.task_name, (), None)
            return found.attempt or found.span

    def end(self, at: int | None = None) -> None:
        """End what was left behind."""
        for found in self._under_way.values():
            if found.attempt is not None:
                found.attempt.end(at)
            found.span.end(at)
        self._under_way.clear()

    def _links(self, inputs: tuple[str, ...]) -> list[Link]:
        return [Link(context) for context in map(self._ended.get, inputs) if context is not None]

    def _parent_of(self, task_id: str) -> Span:
        """The span around a call: of its map, of the call that returned it, or of the run."""
        outer = task_id
        while outer:
            cut = max(outer.rfind("["), outer.rfind("/"), outer.rfind("@"))
            if cut < 0:
                break
            outer = outer[:cut]
            under_way = self._under_way.get(outer)
            if under_way is not None:
                return under_way.span
            ended = self._ended.get(outer)
            if ended is not None:
                return trace.NonRecordingSpan(ended)
        return self.span


class _RunContext(Context):
    """The context of OpenTelemetry in a run: its span is that of whichever call asks.

    So no call needs to be told its span before it begins, and a call that never asks costs nothing.
    """

    def __init__(self, run: _RunSpans, run_id: str) -> None:
        super().__init__({**run.around, _SPAN_KEY: run.span})
        self._run = run
        self._run_id = run_id

    def get(self, key: str, default: Any = None) -> Any:
        return self._run.current(self._run_id) if key == _SPAN_KEY else super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self._run.current(self._run_id) if key == _SPAN_KEY else super().__getitem__(key)

    def copy(self) -> dict[str, object]:
        """As it is for the call here: what is made of a copy may be used anywhere."""
        return {**dict(self.items()), _SPAN_KEY: self._run.current(self._run_id)}


_MOST_TARGETS: Final = 10


def _at(timestamp: float) -> int:
    """Nanoseconds since the epoch."""
    return int(timestamp * 1e9)


def _end(span: Span, status: str, error: str | None, at: int) -> None:
    span.set_attribute("cascade.status", status)
    if status == "Failed":
        kind, _, message = (error or "").partition(": ")
        span.set_status(Status(StatusCode.ERROR, error))
        span.add_event("exception", {"exception.type": kind, "exception.message": message}, at)
    elif status == "Succeeded":
        span.set_status(Status(StatusCode.OK))
    span.end(at)
