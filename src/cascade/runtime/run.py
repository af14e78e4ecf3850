"""What all parts of one run share: who it is, where it tells what happens, and whether it is to stop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.digest import combine
from cascade.runtime.affine_thread import is_abandoned
from cascade.runtime.durability.journal import status_after
from cascade.runtime.durability.keys import run_key
from cascade.runtime.map_inputs import BegunIterators
from cascade.runtime.preview import describe_error
from cascade.runtime.resource_container import ResourceContainer
from cascade.runtime.returned import Turn
from cascade.runtime.state_writer import StateWriter
from cascade.runtime.teller import Teller
from cascade.spec.context import CallContext, current_call
from cascade.spec.exceptions import RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from cascade.runtime.capacity import Grant
    from cascade.runtime.constraints.manager import Permit
    from cascade.runtime.constraints.scopes import Subject
    from cascade.runtime.durability.journal import Journal
    from cascade.runtime.durability.kept_lines import KeptLines
    from cascade.runtime.engine import Engine
    from cascade.runtime.resource_container import ResourceRegistry
    from cascade.runtime.scheduler import Continuation
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.runtime.workers import WorkerLane
    from cascade.spec.lazy_types import Call
    from cascade.spec.protocols import Clock, StateBackend


class Run:
    """One run of a target on an engine.

    Attributes:
        id: the run's id.
        loop: the loop on which it was started.
        lock: guards all scheduling state of the run; held for moments, and never while code of users runs.
        outer_ids: the runs whose calls have started this one, the nearest first.
        context: the contextvars at the start; each call sees a copy.
        inputs: the values of parameters, by their specification.
        goes_on: whether failures do not stop it.
        stopping: whether nothing new may start.
        abandoned: whether nobody waits any more for what is under way.
        error: what stopped it.
        teller: tells what happens.
        state: writes what ends through to a state backend.
        journal: keeps what ends in a store, where the run is durable.
        keeps_track: whether the ends of places are written down somewhere.
        lines: keeps what calls log and print in the store of this run, or of the one that a call of it belongs to.
        nested: the runs that calls of this run have started and wait for.
        begun_iterators: what maps have begun to pull from.
        awaiting: what calls wait for from outside, in words.
        ended: whether it is over, so that what it has left behind is no part of it any more.
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
        self.outer_ids: tuple[str, ...] = () if parent is None else (parent.id, *parent.outer_ids)
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
        self.keeps_track = self.state is not None or journal is not None
        self.lines: KeptLines | None = (
            journal.lines if journal is not None else None if parent is None else parent.lines
        )
        self.caller = None if parent is None else _caller(parent)
        self.awaiting: dict[Caller, str] = {}
        self.ended = False
        self.context = copy_context()
        # Before it is this run's own: who prepares it may ask which call has started the run.
        engine.bus.prepare(self.context, run_id)
        self.context.run(current_caller.set, None)
        self.context.run(current_call.set, self.describe_call)
        self.context.run(current_run.set, self)
        self.context.run(is_abandoned.set, lambda: self.abandoned)
        self.nested: set[GraphExecutionStrategy] = set()
        self.begun_iterators = BegunIterators()
        self.teller = Teller(run_id, engine.bus, engine.clock, loop, keeps_track=self.keeps_track)
        self.teller.outer = None if parent is None else parent.teller

    def asked_to_stop(self) -> bool:
        """Whether calls of this run should end soon."""
        return self.stopping or (self.parent is not None and self.parent.asked_to_stop())

    @property
    def may_call(self) -> bool:
        """Whether calls may begin: the run is not being stopped, and is surely this process's."""
        return not self.stopping and (self.journal is None or not self.journal.may_be_lost())

    async def assure(self) -> None:
        """Make sure that the run is still this process's, before a call of it begins.

        Raises:
            asyncio.CancelledError: it is not, and has been stopped.
        """
        if self.journal is not None and self.journal.may_be_lost():
            await self.journal.confirm()
            if self.stopping:
                raise asyncio.CancelledError

    def under_way(self, strategy: GraphExecutionStrategy) -> AbstractContextManager[None]:
        """For its time, let the run be stopped with the one that started it, and hold up neither limits nor threads."""
        return _nested(self, strategy)

    def caller_place(self) -> tuple[Continuation, int] | None:
        """The call of another run that waits for this run, if it is known."""
        return None if self.caller is None else self.caller.where()

    def path_of(self, task_id: str) -> str:
        """The id of a call within the outermost run: of a nested one after that of the call that waits for it."""
        run: Run | None = self if task_id else None
        while run is not None and run.parent is not None:
            where = run.caller_place()
            if where is not None:
                task_id = f"{where[0].place_id(where[1])}/{task_id}"
            run = run.parent
        return task_id

    def held_by_callers(self) -> list[Grant]:
        """The capacity held by calls that wait until this run has ended."""
        held: list[Grant] = []
        run: Run | None = self
        while run is not None:
            if run.caller is not None and run.caller.grant is not None and run.caller.run.engine is self.engine:
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
        problems = [("a teardown", problem) for problem in await self.resources.close(error)]
        if self.state is not None:
            try:
                await self.state.flush()
            except Exception as raised:
                problems.append(("keeping the state", raised))
        if self.journal is not None:
            try:
                await self._finish_journal(self.journal, error or (problems[0][1] if problems else None), value)
            except Exception as raised:
                if raised is not error:
                    problems.append(("journaling the end of the run", raised))
        if not problems:
            return None
        final = error or problems.pop(0)[1]
        for what, problem in problems:
            final.add_note(f"and {what} raised {describe_error(problem)}")
        return final

    async def _finish_journal(self, journal: Journal, error: BaseException | None, value: Any) -> None:
        if error is None:
            await journal.finish("succeeded", None, value)
        else:
            await journal.finish(status_after(error), describe_error(error))

    def describe_call(self) -> CallContext:
        """The context of a plain call, made when somebody asks for it."""
        caller = _caller(self)
        where = None if caller is None else caller.where()
        if where is not None:
            return self.call_context(*where)
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
        return combine(
            "call in memory",
            self.id.encode(errors="surrogatepass"),
            parent.place_id(place).encode(errors="surrogatepass"),
        ).hex()


class Caller:
    """A call under way, as those see it who count it and the runs that it starts.

    Attributes:
        run: the run that it belongs to.
        parent: whose call it is, with `place`; `None` for a thread between calls.
        permit: the leave that limits gave the call, or what counts it against limits that were set while it ran.
        grant: the capacity that the call holds.
        waits: for how many runs that it has started it waits.
        turn: where what it returned is computed without a graph, the call that is made now, and which turn it is.
    """

    __slots__ = ("grant", "parent", "permit", "place", "run", "turn", "waits")

    def __init__(self, run: Run, parent: Continuation | None = None, place: int = 0) -> None:
        self.run = run
        self.parent: Continuation | None = parent
        self.place = place
        self.permit: Permit | None = None
        self.grant: Grant | None = None
        self.waits = 0
        self.turn: tuple[Call[Any], int] | None = None

    def where(self) -> tuple[Continuation, int] | None:
        """The place of what is called now: the call's own, or that of a turn of the loop which it returned."""
        parent, place, turn = self.parent, self.place, self.turn
        if parent is None:
            return None
        return (parent, place) if turn is None else (Turn(parent, place, *turn), 0)

    def enlist(self, subject: Subject, goes_on: Callable[[], bool]) -> None:
        """Count the call against limits that were not there when it began; from any thread.

        Args:
            subject: what limits may know of it.
            goes_on: whether it has not ended; whoever ends it notes that first and then gives back its permit.
        """
        with self.run.lock:
            permit = self.permit
            if permit is not None and permit.counts:
                return
            self.permit = permit = self.run.engine.constraints.enlist(subject)
            if self.waits:
                permit.suspend()
        if not goes_on():
            permit.release()

    def is_at(self, parent: Continuation, place: int) -> bool:
        """Whether this is still the call at a place."""
        return self.parent is parent and self.place == place

    def give_permit_back(self) -> None:
        """Let limits forget the call."""
        permit = self.permit
        if permit is not None:
            self.permit = None
            permit.release()

    def begin_waiting(self) -> None:
        """Hold up no limit while it waits for a run that it has started, and that may need the same leave."""
        with self.run.lock:
            self.waits += 1
            if self.waits == 1 and self.permit is not None:
                self.permit.suspend()

    def end_waiting(self) -> None:
        """Count again once it waits for no run any more."""
        with self.run.lock:
            self.waits -= 1
            if self.waits == 0 and self.permit is not None:
                self.permit.resume()


class Helper(Caller):
    """What a worker thread is doing for a run, so that plain calls need no context of their own.

    Attributes:
        lane: the helpers that it is one of.
        is_surplus: whether there are enough helpers without it.
        is_leaving: whether it is counted no more among those that make calls.
        unwritten: the journal for which it has left entries that nobody was called to write.
    """

    __slots__ = ("is_leaving", "is_surplus", "lane", "unwritten")

    def __init__(self, run: Run, lane: WorkerLane) -> None:
        super().__init__(run)
        self.lane = lane
        self.is_surplus = False
        self.is_leaving = False
        self.unwritten: Journal | None = None

    def begin_waiting(self) -> None:
        """Leave the run's other nodes to other helpers meanwhile."""
        super().begin_waiting()
        if self.waits == 1:
            self.lane.one_goes_away()

    def end_waiting(self) -> None:
        """Be one of the helpers again."""
        super().end_waiting()
        if self.waits == 0:
            self.lane.one_comes_back(self)

    def has_called(self) -> None:
        """Note that the call has ended."""
        self.parent = None
        if self.permit is not None:
            self.give_permit_back()

    def wake_writer(self, *, goes_on: bool = True) -> None:
        """Have what it has left for the store written while it does other things.

        Args:
            goes_on: whether it makes more calls, before which it waits where the store is far behind.
        """
        if self.unwritten is not None:
            journal, self.unwritten = self.unwritten, None
            journal.wake_writer()
            if goes_on:
                journal.wait_for_room()


class _Here(threading.local):
    helper: Helper | None = None


here: Final = _Here()
"""What this thread is doing."""


def run_here() -> Run | None:
    """The run that the code here is a part of; a run started here is nested in it."""
    run = current_run.get()
    return None if run is None or run.ended else run


def _caller(parent: Run) -> Caller | None:
    """The call of a run that the code here is a part of, if it is known."""
    caller = current_caller.get()
    if caller is None or caller.run is not parent:
        caller = here.helper
    return None if caller is None or caller.run is not parent or caller.parent is None else caller


@contextmanager
def _nested(run: Run, strategy: GraphExecutionStrategy) -> Generator[None]:
    parent, caller = run.parent, run.caller
    if parent is None:
        yield
        return
    parent.nested.add(strategy)
    if parent.asked_to_stop():
        strategy.stop(RunCancelledError("the run that started this one has been stopped"))
    if caller is not None:
        caller.begin_waiting()
    off_the_loop = run.loop_thread != parent.loop_thread
    try:
        with _thread_lent(parent) if off_the_loop else nullcontext():
            yield
    finally:
        if caller is not None:
            caller.end_waiting()
        parent.nested.discard(strategy)


@contextmanager
def _thread_lent(parent: Run) -> Generator[None]:
    """While a call waits for a run it is not busy itself, and its thread is made up for."""
    pool, clock = parent.engine.pool, parent.engine.clock
    if pool is not None:
        pool.lend()
    clock.idle()
    try:
        yield
    finally:
        clock.busy()
        if pool is not None:
            pool.take_back()


current_caller: Final[ContextVar[Caller | None]] = ContextVar("cascade_caller", default=None)
"""The call that the code here is a part of, unless a worker thread makes it without a context of its own."""
current_run: Final[ContextVar[Run | None]] = ContextVar("cascade_run", default=None)
"""The run that the code here was started by; see `run_here`."""
