"""Random workflows for Hypothesis, with what each must do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from hypothesis import strategies as st

import cascade as cs
from tests.property.comparison import Difference, differences
from tests.property.construction import Built, Variant
from tests.property.description import Workflow
from tests.property.generation import random_workflow
from tests.property.prediction import Prediction
from tests.property.reduction import reduced
from tests.property.reference import TooMuch, predict


@st.composite
def workflows(draw: st.DrawFn, *, on_failure: str | None = None, most_nodes: int = 12) -> Workflow:
    """A strategy for workflows; see `random_workflow`."""
    return random_workflow(lambda low, high: draw(st.integers(low, high)), most_nodes, on_failure)


def variants() -> list[Variant]:
    """The engines whose runs must all keep the same rules."""

    def engine(bus: cs.MessageBus, capacity: int, **parts: int) -> cs.Engine:
        return cs.create_engine(bus=bus, system_resources={"slots": capacity}, **parts)

    def limited(bus: cs.MessageBus, capacity: int) -> cs.Engine:
        made = engine(bus, capacity)
        made.constraints.set(cs.GlobalConstraint.concurrency(1, "global"))
        return made

    return [
        Variant("default", engine),
        # Without subscribers no event is built, and plain calls take their shortest way.
        Variant("nobody listens", engine, listens=False),
        Variant("one worker", lambda bus, capacity: engine(bus, capacity, max_workers=1)),
        # With any limit in force every call takes the long way, through the processor.
        Variant("one call at a time", limited),
    ]


class Examiner:
    """Runs workflows on all variants of the engine and tells what is wrong."""

    def __init__(self, runner: asyncio.Runner, engines: list[Variant]) -> None:
        self.runner = runner
        self.engines = engines
        self.refused: dict[str, AssertionError] = {}

    def problems(self, workflow: Workflow) -> list[Difference]:
        """Each rule that a run of the workflow breaks; none if it is too much to work out."""
        try:
            prediction = predict(workflow)
        except TooMuch:
            return []
        return self.runner.run(self._problems(workflow, prediction))

    async def _problems(self, workflow: Workflow, prediction: Prediction) -> list[Difference]:
        found: list[Difference] = []
        built = Built(workflow)
        # The same lazy values are run on each engine: they hold no state of a run (S3).
        for variant in self.engines:
            seen = await variant.observe(built)
            found += [
                replace(difference, detail=f"{difference.detail} [{variant.name}]")
                for difference in differences(built, prediction, seen)
            ]
        return found

    def check(self, workflow: Workflow) -> None:
        """Assert that all runs of a workflow keep the rules.

        Raises:
            AssertionError: they do not; the message shows the workflow, and a small one that breaks the same
                rule, both also as data that can be kept as a test.
        """
        if repr(workflow) in self.refused:
            # Hypothesis asks again for what it has seen to fail, which a race might answer otherwise.
            raise self.refused[repr(workflow)]
        problems = self.problems(workflow)
        if problems:
            error = AssertionError(self._explanation(workflow, problems))
            self.refused[repr(workflow)] = error
            raise error

    def _explanation(self, workflow: Workflow, problems: list[Difference]) -> str:
        kinds = {problem.kind for problem in problems}
        usual = [variant.hangs_after for variant in self.engines]
        for variant in self.engines:
            variant.hangs_after = 2.0
        small = reduced(
            workflow,
            lambda other: bool(kinds & {problem.kind for problem in self.problems(other)}),
            seconds=60.0,
        )
        parts = [_told(workflow, problems)]
        if small != workflow:
            parts.append(_told(small, self.problems(small)))
        for variant, seconds in zip(self.engines, usual, strict=True):
            variant.hangs_after = seconds
        return "\n\nwhich can be made as small as this:\n".join(parts)

    def check_together(self, several: list[Workflow]) -> None:
        """Assert that workflows which run at once keep the rules as if each were alone."""
        with_predictions: list[tuple[Built, Prediction]] = []
        for workflow in several:
            with suppress(TooMuch):
                with_predictions.append((Built(workflow), predict(workflow)))
        for variant in self.engines:
            all_seen = self.runner.run(variant.observe_together([built for built, _ in with_predictions]))
            for (built, prediction), seen in zip(with_predictions, all_seen, strict=True):
                problems = differences(built, prediction, seen)
                assert not problems, f"{variant.name}, of several: {_told(built.workflow, problems)}"


def _told(workflow: Workflow, problems: list[Difference]) -> str:
    lines = "\n  ".join(map(str, problems))
    return f"{lines}\n\n{workflow}\n\nas data:\n{workflow!r}"


@contextmanager
def examiner() -> Iterator[Examiner]:
    """An examiner with a loop and engines of its own."""
    with asyncio.Runner() as runner:
        engines = variants()
        try:
            yield Examiner(runner, engines)
        finally:
            for variant in engines:
                runner.run(variant.close())
