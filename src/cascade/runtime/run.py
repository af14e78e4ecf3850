"""What all parts of one run share: who it is, where it tells what happens, and whether it is to stop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.digest import combine
from cascade.runtime.affine_thread import is_abandoned
from cascade.runtime.durability.keys import run_key
from cascade.runtime.preview import describe_error
from cascade.runtime.resource_container import ResourceContainer
from cascade.runtime.state_writer import StateWriter
from cascade.runtime.teller import Teller
from cascade.spec.context import CallContext, current_call
from cascade.spec.exceptions import RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from cascade.runtime.attempts import Attempt
    from cascade.runtime.capacity import Grant
    from cascade.runtime.constraints.manager import Permit
    from cascade.runtime.durability.journal import Journal
    from cascade.runtime.engine import Engine
    from cascade.runtime.resource_container import ResourceRegistry
    from cascade.runtime.scheduler import Continuation
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.protocols import Clock, StateBackend


class Run:
    """One run of a target on an engine.

    Attributes:
        id: the run's id.
        loop: the loop on which it was started.
        lock: guards all scheduling state of the run; held for moments, and never while code of users runs.
        context: the contextvars at the start; each call sees a copy.
        inputs: the values of parameters, by their specification.
        goes_on: whether failures do not stop it.
        stopping: whether nothing new may start.
        abandoned: whether nobody waits any more for what is under way.
        error: what stopped it.
        teller: tells what happens.
        state: writes what ends through to a state backend.
        journal: keeps what ends in a store, where the run is durable.
        nested: the runs that calls of this run have started and wait for.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: str,
        loop: asyncio.AbstractEventLoop,
        *,
        inputs: Mapping[Any, Any],
        params: Mapping[str, Any],
        registry: ResourceRegistry,
        goes_on: bool,
        parent: Run | None,
        state_backend: Callable[[str], StateBackend] | None,
        journal: Journal | None = None,
    ) -> None:
        self.engine = engine
        self.id = run_id
        self.loop = loop
        self.loop_thread = threading.get_ident()
        self.clock: Clock = engine.clock
        self.lock = threading.Lock()
        self.parent = parent
        self.inputs = dict(inputs)
        self.params = params
        self.registry = registry
        self.resources = ResourceContainer(registry, self)
        self.goes_on = goes_on
        self.stopping = False
        self.abandoned = False
        self.error: BaseException | None = None
        self.state = StateWriter(state_backend(run_id), loop) if state_backend is not None else None
        self.journal = journal
        self.caller = current_attempt.get()
        self.context = copy_context()
        self.context.run(current_call.set, self.describe_call)
        self.context.run(current_run.set, self)
        self.context.run(is_abandoned.set, lambda: self.abandoned)
        self.nested: set[GraphExecutionStrategy] = set()
        self.teller = Teller(run_id, engine.bus, engine.clock, loop, keeps_track=self.keeps_track)
        self.teller.outer = None if parent is None else parent.teller

    @property
    def keeps_track(self) -> bool:
        """Whether the ends of places are written down somewhere."""
        return self.state is not None or self.journal is not None

    def asked_to_stop(self) -> bool:
        """Whether calls of this run should end soon."""
        return self.stopping or (self.parent is not None and self.parent.asked_to_stop())

    def under_way(self, strategy: GraphExecutionStrategy) -> AbstractContextManager[None]:
        """For the time of the run: be stopped with the run that started this one, and do not hold up its limits."""
        return _nested(self, strategy)

    def caller_place(self) -> tuple[Continuation, int] | None:
        """The call of another run that waits for this run, if it is known."""
        if self.caller is not None:
            return self.caller.parent, self.caller.place
        helper = here.helper
        if helper is not None and helper.run is self.parent and helper.parent is not None:
            return helper.parent, helper.place
        return None

    def held_by_callers(self) -> list[Grant]:
        """The capacity held by calls that wait until this run has ended."""
        held: list[Grant] = []
        run: Run | None = self
        while run is not None:
            if run.caller is not None and run.caller.grant is not None:
                held.append(run.caller.grant)
            run = run.parent
        return held

    async def end(self, error: BaseException | None, value: Any) -> BaseException | None:
        """Tear down the resources and write what is not written yet; what that raised, if nothing else had."""
        if self.abandoned or (not self.keeps_track and self.resources.is_empty):
            return None
        ending = self.loop.create_task(self._end(error, value), context=self.context.copy())
        while not ending.done() and not self.abandoned:
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                # Teardown is not cut short; the cancellation is the run's own error already, or comes again.
                continue
            except BaseException:
                break
        return None if self.abandoned else ending.result()

    async def _end(self, error: BaseException | None, value: Any) -> BaseException | None:
        problems = await self.resources.close(error)
        if self.state is not None:
            try:
                await self.state.flush()
            except Exception as raised:
                problems.append(raised)
        if self.journal is not None:
            try:
                await self._finish_journal(self.journal, error or (problems[0] if problems else None), value)
            except Exception as raised:
                if raised is not error:
                    problems.append(raised)
        if not problems:
            return None
        final = error or problems.pop(0)
        for problem in problems:
            final.add_note(f"and a teardown raised {describe_error(problem)}")
        return final

    async def _finish_journal(self, journal: Journal, error: BaseException | None, value: Any) -> None:
        if error is None:
            await journal.finish("succeeded", None, value)
        elif isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, RunCancelledError)):
            await journal.finish("cancelled", describe_error(error))
        else:
            await journal.finish("failed", describe_error(error))

    def describe_call(self) -> CallContext:
        """The context of a plain call, made when somebody asks for it."""
        helper = here.helper
        if helper is not None and helper.run is self and helper.parent is not None:
            return self.call_context(helper.parent, helper.place)
        return CallContext(self.id, "", "", 1, self.asked_to_stop)

    def call_context(self, parent: Continuation, place: int, attempt: int = 1) -> CallContext:
        """The context of a call on the loop."""
        return CallContext(
            self.id,
            parent.place_id(place),
            parent.name_of(place),
            attempt + self.earlier_attempts(parent, place),
            self.asked_to_stop,
            partial(self.idempotency_key, parent, place),
        )

    def earlier_attempts(self, parent: Continuation, place: int) -> int:
        """How many attempts at a call have failed before the run was resumed."""
        return 0 if self.journal is None else self.journal.earlier_attempts(*parent.key_of(place))

    def idempotency_key(self, parent: Continuation, place: int) -> str:
        """What stands for a call in every attempt at it, in a durable run also after it was resumed."""
        if self.journal is not None:
            return combine("call of", run_key(self.id), *parent.key_of(place)).hex()
        return combine("call in memory", self.id.encode(), parent.place_id(place).encode(errors="surrogatepass")).hex()


class Helper:
    """What a worker thread is doing for a run, so that plain calls need no context of their own.

    Attributes:
        run: the run that it helps.
        parent: whose call it makes, with `place`; `None` between calls.
        permit: what counts the call against limits that were set while it ran.
    """

    __slots__ = ("parent", "permit", "place", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.parent: Continuation | None = None
        self.place = 0
        self.permit: Permit | None = None

    def has_called(self) -> None:
        """Note that the call has ended."""
        self.parent = None
        if self.permit is not None:
            self.permit.release()
            self.permit = None


class _Here(threading.local):
    helper: Helper | None = None


here: Final = _Here()
"""What this thread is doing."""


@contextmanager
def _nested(run: Run, strategy: GraphExecutionStrategy) -> Generator[None]:
    parent = run.parent
    if parent is None:
        yield
        return
    permit = run.caller.permit if run.caller is not None else None
    parent.nested.add(strategy)
    if parent.asked_to_stop():
        strategy.stop(RunCancelledError("the run that started this one has been stopped"))
    if permit is not None:
        permit.suspend()
    try:
        yield
    finally:
        if permit is not None:
            permit.resume()
        parent.nested.discard(strategy)


current_attempt: Final[ContextVar[Attempt | None]] = ContextVar("cascade_attempt", default=None)
"""The attempt that the code here is a part of, if its call has policies."""
current_run: Final[ContextVar[Run | None]] = ContextVar("cascade_run", default=None)
"""The run that the code here is a part of; a run started here is nested in it."""
