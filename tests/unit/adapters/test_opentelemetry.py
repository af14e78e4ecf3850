"""Runs as traces and metrics, seen by the SDK's exporters in memory."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import cascade as cs
from cascade.adapters.telemetry.opentelemetry import OpenTelemetryReporter

pytestmark = pytest.mark.needs_extra("opentelemetry")


class Seen:
    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.bus = cs.MessageBus()
        self.tracer = self.tracers.get_tracer("test")

    def run(self, target, **options):
        with OpenTelemetryReporter(self.bus, self.tracers, self.meters):
            return cs.run(target, bus=self.bus, log_level="CRITICAL", **options)

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def named(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def parent_of(self, name):
        parent = self.named(name).parent
        return None if parent is None else self.name_of(parent)

    def links_of(self, name):
        return [self.name_of(link.context) for link in self.named(name).links]

    def name_of(self, context):
        (span,) = [span for span in self.spans if span.context.span_id == context.span_id]
        assert span.context.trace_id == context.trace_id
        return span.name

    def points(self):
        data = self.reader.get_metrics_data()
        return {
            metric.name: {tuple(sorted(point.attributes.items())): point for point in metric.data.data_points}
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def seen():
    return Seen()


def test_runs_and_tasks_are_spans_with_links_along_the_data(seen):  # S28
    a = cs.task(lambda: 1, name="a")()
    b = cs.task(lambda: 2, name="b")()
    total = cs.task(lambda xs, after: sum(xs), name="total")([a, b], cs.task(lambda x: x, name="c")(a))
    assert seen.run(total, run_id="r") == 3
    assert Counter(span.name for span in seen.spans) == Counter(["run total", "a", "b", "c", "total"])
    assert {seen.parent_of(name) for name in ("a", "b", "c", "total")} == {"run total"}
    assert seen.parent_of("run total") is None
    assert seen.links_of("c") == ["a"]
    assert sorted(seen.links_of("total")) == ["a", "b", "c"]
    assert seen.named("run total").attributes["cascade.run.id"] == "r"
    assert seen.named("c").attributes["cascade.task.id"] == "c#2"
    assert all(span.status.is_ok for span in seen.spans)
    assert all(span.end_time >= span.start_time for span in seen.spans)


def test_who_takes_a_router_has_links_to_the_selector_and_to_the_chosen_route(seen):  # S10 S28
    calls = {name: cs.task(lambda *_: "x", name=name)() for name in ("selector", "inner", "route", "other", "before")}
    nested = cs.Router(calls["inner"], {"x": calls["route"].after(calls["before"]), "y": calls["other"]})
    router = cs.Router(calls["selector"], {"x": [nested], "y": calls["other"]})
    together = cs.task(lambda both: both, name="together")([router, {"again": router}])
    seen.run(together)
    assert sorted(seen.links_of("together")) == ["inner", "route", "selector"]


def test_a_map_and_a_condition_have_links_through_routers(seen):  # S10 S17 S28
    selector = cs.task(lambda: True, name="selector")()
    router = cs.Router(selector, {True: cs.task(lambda: [1], name="chosen")(), False: cs.task(list, name="no")()})
    mapped = cs.task(lambda x: x, name="mapped").map(x=router)
    guarded = cs.task(lambda: 1, name="guarded")().run_if(router)
    seen.run([mapped, guarded])
    links = {
        span.attributes["cascade.task.id"]: sorted(seen.name_of(link.context) for link in span.links)
        for span in seen.spans
        if span.name in ("mapped", "guarded") and "[" not in span.attributes["cascade.task.id"]
    }
    assert list(links.values()) == [["chosen", "selector"]] * 2


def test_items_are_inside_their_map_and_what_was_returned_inside_its_call(seen):
    inner = cs.task(lambda x: x, name="inner")
    outer = cs.task(lambda: [inner(1), inner.named("other")(2)], name="outer")
    item = cs.task(lambda x: x, name="item")
    seen.run([outer(), item.named("whole").map(x=[5])])
    assert seen.parent_of("inner") == "outer"
    assert seen.parent_of("other") == "outer"
    wholes = [span for span in seen.spans if span.name == "whole"]
    (map_span,) = [span for span in wholes if "[" not in span.attributes["cascade.task.id"]]
    (item_span,) = [span for span in wholes if "[" in span.attributes["cascade.task.id"]]
    assert item_span.parent.span_id == map_span.context.span_id


@pytest.mark.parametrize("kind", ["thread", "loop", "map", "retry", "inline"])
def test_spans_of_a_task_are_inside_its_own(seen, kind):  # S7
    def work(x):
        with seen.tracer.start_as_current_span("mine"):
            seen.tracer.start_span("deeper").end()
        assert baggage.get_baggage("who") == "me"

    async def work_on_loop(x):
        await asyncio.sleep(0)
        work(x)

    task = cs.task(
        work_on_loop if kind == "loop" else work, name="task", executor="inline" if kind == "inline" else None
    )
    target = task.map(x=[1]) if kind == "map" else task(1)
    if kind == "retry":
        target = target.with_retry(max_attempts=2)
    token = context.attach(baggage.set_baggage("who", "me"))
    try:
        with seen.tracer.start_as_current_span("request"):
            seen.run(target)
    finally:
        context.detach(token)
    inside = seen.named("mine").parent
    (span,) = [span for span in seen.spans if span.context.span_id == inside.span_id]
    assert span.attributes["cascade.task.id"] == ("task#0[0]" if kind == "map" else "task#0")
    assert seen.parent_of("deeper") == "mine"
    assert seen.parent_of("run task") == "request"


def test_context_values_set_in_a_task_keep_its_span(seen):
    @cs.task
    def work():
        context.attach(baggage.set_baggage("x", "y"))
        seen.tracer.start_span("mine").end()

    seen.run(work())
    assert seen.parent_of("mine") == "work"


def test_a_nested_run_is_inside_the_task_that_started_it(seen):  # S21
    inner = cs.task(lambda: 1, name="inner")
    seen.run(cs.task(lambda: cs.run(inner()), name="outer")())
    assert seen.parent_of("run inner") == "outer"
    assert seen.parent_of("inner") == "run inner"


def test_attempts_are_spans_and_failures_are_told(seen):  # S16
    @cs.task
    def flaky():
        seen.tracer.start_span(f"in {cs.attempt()}").end()
        raise ConnectionError(f"refused {cs.attempt()}")

    with pytest.raises(ConnectionError):
        seen.run(flaky().with_retry(max_attempts=3))
    for number in (1, 2, 3):
        span = seen.named(f"attempt {number}")
        assert seen.parent_of(f"attempt {number}") == "flaky"
        assert span.status.description == f"ConnectionError: refused {number}"
        assert span.events[0].attributes["exception.type"] == "ConnectionError"
    assert not seen.named("flaky").status.is_ok
    assert not seen.named("run flaky").status.is_ok
    assert seen.named("attempt 1").end_time <= seen.named("attempt 2").start_time
    points = seen.points()
    assert points["cascade.task.retries"][(("task", "flaky"),)].value == 2
    assert points["cascade.tasks"][(("status", "Failed"), ("task", "flaky"))].value == 1
    assert points["cascade.runs"][(("status", "Failed"),)].value == 1


def test_counts_durations_and_waits_are_metrics(seen):  # S23
    task = cs.task(lambda x: x, name="t")
    seen.run(task.map(x=range(5)).with_constraints(gpu=1), system_resources={"gpu": 1})
    points = seen.points()
    done = (("status", "Succeeded"), ("task", "t"))
    assert points["cascade.tasks"][done].value == 6
    assert points["cascade.task.duration"][done].count == 6
    assert points["cascade.task.wait"][(("task", "t"),)].count == 4
    assert points["cascade.run.duration"][(("status", "Succeeded"),)].count == 1


def test_what_came_from_a_cache_can_be_linked_to(seen):  # S25
    cached = cs.task(lambda: 1, name="cached")().with_cache(cs.InputsCache(cs.InMemoryCacheBackend()))
    cs.run(cached)
    seen.run(cs.task(lambda x: x, name="user")(cached))
    assert seen.named("cached").attributes["cascade.task.cache_hit"] is True
    assert seen.links_of("user") == ["cached"]


def test_everything_is_over_when_the_run_is(seen):
    reporter = OpenTelemetryReporter(seen.bus, seen.tracers, seen.meters)
    with reporter:
        cs.run(cs.task(lambda x: x, name="t").map(x=range(50)), bus=seen.bus)
        assert not reporter._runs
    assert len(seen.spans) == 52
    assert not seen.bus.has_handlers
    cs.run(cs.task(lambda: 1, name="t")(), bus=seen.bus)
    assert len(seen.spans) == 52
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_an_engine_can_be_reported_of(seen):
    async def main():
        async with cs.create_engine() as engine:
            with OpenTelemetryReporter(engine, seen.tracers, seen.meters):
                await engine.run(cs.task(lambda: 1, name="t")())

    asyncio.run(main())
    assert seen.parent_of("t") == "run t"
