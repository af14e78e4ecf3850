"""The engine: the parts of Cascade put together, serving one run or many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.build import build
from cascade.graph.validate import validate
from cascade.runtime.bus import MessageBus
from cascade.runtime.caching import KEYS_UNDER_WAY
from cascade.runtime.chance import Randomness
from cascade.runtime.clock import SystemClock
from cascade.runtime.collector import collector_at_rest
from cascade.runtime.constraints.manager import ConstraintManager
from cascade.runtime.durability.journal import status_after
from cascade.runtime.durability.opening import Openings
from cascade.runtime.events import RunFinished, RunStarted, Status
from cascade.runtime.output import PRINTS
from cascade.runtime.plan_cache import PlanCache
from cascade.runtime.preview import describe_error, mask_error
from cascade.runtime.resource_container import ResourceRegistry, context_overrides
from cascade.runtime.resource_manager import ResourceManager
from cascade.runtime.run import Run, run_here
from cascade.runtime.signals import Signals, as_json
from cascade.runtime.strategies.graph import GraphExecutionStrategy
from cascade.runtime.threading_calls import call_on
from cascade.runtime.trouble import is_cancellation
from cascade.spec.exceptions import EngineClosedError, LazyValueError, RunCancelledError, RunTimeoutError
from cascade.spec.lazy_types import Gathered, as_lazy
from cascade.spec.secret import masked
from cascade.spec.task import Task

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from typing import Literal, Protocol, Self

    from cascade.graph.model import Graph
    from cascade.runtime.durability.opening import Over
    from cascade.runtime.durability.session import DurableStore
    from cascade.runtime.plan import Plan
    from cascade.spec.protocols import CacheBackend, Clock, Executor, Solver, StateBackend, Timer, WorkerPool
    from cascade.spec.resource import ResourceDefinition

    class RunControl(Protocol):
        """Obeys what people say about runs, wherever they say it."""

        def over(self, run_id: str, *, had_owner: bool) -> AbstractAsyncContextManager[None]:
            """For its time, obey for a run; what was said before it began is in force when this is entered.

            Args:
                run_id: the run.
                had_owner: whether it had an owner before this one.
            """
            ...


_DEFAULT_WORKERS: Final = 64


class Engine:
    """Runs workflows; several at once, from several threads and event loops, if need be.

    Args:
        solver: plans graphs.
        executor: makes calls.
        bus: where runs tell what happens.
        state_backend: makes the state of a run, called with the run's id; without it nothing is written anywhere.
        system_resources: the capacities of the system, by resource.
        resources: what can be injected by name.
        cache: keeps the values of cached tasks that name no backend of their own.
        clock: what time is taken from.
        chance: where ids and random numbers come from.
        grace: how long, in seconds, async work may go on after it was cancelled.
        executors: more executors by name, for tasks that ask for one with `executor=`.
        store: keeps the runs, so that they can be resumed after they were killed.
        control: lets people command the runs in the store from elsewhere; called with the engine and the store.
        blocked_after: for how many seconds a call may keep the event loop from everything else before a
            `BlockedLoopWarning` names it; `None` to let it be.

    Attributes:
        constraints: the limits that people put on the engine while it runs.
        capacities: the capacities of the system, and what is taken of them.
        under_way: the runs that have begun and not ended.
        openings: the durable runs that are about to begin.

    >>> import asyncio
    >>> import cascade as cs
    >>> @cs.task
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> async def main() -> int:
    ...     async with cs.create_engine() as engine:
    ...         return await engine.run(double(21))
    >>> asyncio.run(main())
    42
    """

    def __init__(
        self,
        solver: Solver,
        executor: Executor,
        bus: MessageBus | None = None,
        *,
        state_backend: Callable[[str], StateBackend] | None = None,
        system_resources: Mapping[str, Any] | None = None,
        resources: Iterable[ResourceDefinition] = (),
        cache: CacheBackend | None = None,
        clock: Clock | None = None,
        chance: Randomness | None = None,
        grace: float = 5.0,
        executors: Mapping[str, Executor] | None = None,
        store: DurableStore | None = None,
        control: Callable[[Engine, DurableStore], RunControl] | None = None,
        blocked_after: float | None = 0.5,
    ) -> None:
        self.solver = solver
        self.executor = executor
        self.bus = MessageBus() if bus is None else bus
        self.clock: Clock = SystemClock() if clock is None else clock
        self.chance = Randomness() if chance is None else chance
        self.grace = grace
        self.blocked_after = blocked_after
        self.executors = dict(executors or {})
        self.capacities = ResourceManager(system_resources or {})
        self.constraints = ConstraintManager(self.clock)
        self.resources = ResourceRegistry(resources)
        self.keys_under_way = KEYS_UNDER_WAY
        self.signals = Signals()
        self.openings = Openings(self.bus, self.clock)
        self._cache = cache
        self._state_backend = state_backend
        self._store = store
        self._control = control(self, store) if control is not None and store is not None else None
        self._plans = PlanCache(solver)
        self._closed = False
        self.under_way: set[GraphExecutionStrategy] = set()
        # What `isinstance(executor, LendsThreads)` asks, without its cost, which is that of a whole small run.
        self.pool: WorkerPool | None = getattr(executor, "threads", None)
        self.max_workers = self.pool.max_workers if self.pool is not None else _DEFAULT_WORKERS

    @property
    def cache(self) -> CacheBackend:
        """Keeps the values of cached tasks that name no backend of their own."""
        if self._cache is None:
            raise EngineClosedError("this engine was given no cache: pass cache=..., or a backend to the cache policy")
        return self._cache

    @property
    def is_as_new(self) -> bool:
        """Whether no run is under way, nobody listens, and nothing was set up on it."""
        return not (
            self._closed
            or self.under_way
            or self.bus.has_handlers
            or self.constraints.active
            or self.signals.has_any
            or self.resources.has_any
        )

    def register(self, resource: ResourceDefinition) -> None:
        """Make a resource known, so that it can be injected by its name."""
        self.resources.register(resource)

    def override_resource_provider(self, name: str, provider: Any) -> Callable[[], None]:
        """Let something else be injected for a name, as a fake in a test.

        Args:
            name: the resource.
            provider: a definition, a function or generator function as for `resource`, or a plain value.

        Returns:
            A function that ends this.
        """
        return self.resources.override(name, provider)

    async def run(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        on_failure: Literal["stop", "continue"] = "stop",
        resources: Iterable[ResourceDefinition] = (),
        run_id: str | None = None,
        durability: Literal["committed", "relaxed"] = "committed",
        timeout: float | None = None,
        program: str | None = None,
    ) -> Any:
        """Run what a target needs and return its value.

        Args:
            target: a lazy value, a container of them, or a plain value.
            params: the values of parameters, by name.
            on_failure: `"stop"` at the first failure, or `"continue"` with all that does not depend on one.
            resources: what can be injected by name in this run.
            run_id: the run's id; one is made where it is not given. With a store, a run that is known by it goes on, or
                gives what it gave if it has finished.
            durability: with a store, whether a task starts only on inputs that are `"committed"`, or sooner: then work
                that was done just before a crash may be done again after it.
            timeout: how long the run may take, in seconds, the wait for another owner included; then it is stopped as
                if it were cancelled.
            program: how a command line starts the run again, as JSON.

        Raises:
            RunTimeoutError: the run took longer than its timeout.
            RunCancelledError: `cancel` stopped it.
            RunOwnedError: another process has the run.
            ResumeError: the run has other parameters.
            StoreError: the store failed for good.
            ValidationError: something is wrong that can be known before anything runs.
            DependencyMissingError: the target was skipped.
            RunFailedGroup: tasks failed in a run that continues.
            Exception: what a task raised, in a run that stops.
        """
        if self._closed:
            raise EngineClosedError("this engine is closed; make a new one with cs.create_engine()")
        if on_failure not in ("stop", "continue"):
            raise ValueError(f"on_failure is 'stop' or 'continue', got {on_failure!r}")
        if timeout is not None and not timeout > 0.0:
            raise ValueError(f"timeout is a number of seconds above 0, got {timeout!r}")
        _refuse_uncalled(target)
        with collector_at_rest:
            graph = build(as_lazy(target))
        registry = ResourceRegistry(resources, self.resources)
        for name, provider in context_overrides.get().items():
            registry.override(name, provider)
        run_id = run_id or self.chance.run_id(self.clock.now())
        parent = run_here()
        given = dict(params or {})
        over = None if timeout is None else (self.clock.monotonic() + timeout, RunTimeoutError(run_id, timeout))

        def validated(params: Mapping[str, Any]) -> dict[Any, Any]:
            return dict(validate(graph, self, registry, params, os.environ))

        # What a run inside a task computes belongs to that task, whose record it ends in.
        session = self._store.session(run_id, self.clock) if self._store is not None and parent is None else None
        if session is None:
            inputs = validated(given)
        else:
            with self.openings.begun(run_id, over) as opening:
                given, inputs = await session.open(
                    given, validated, target=_target_names(graph), program=program, opening=opening
                )
            finished, value = await session.result()
            if finished:
                self.openings.take_reason(run_id)
                return value
        journal = None if session is None else session.begin(waits=durability == "committed")
        try:
            run = Run(
                self,
                run_id,
                asyncio.get_running_loop(),
                inputs=inputs,
                params=given,
                registry=registry,
                goes_on=on_failure == "continue",
                parent=parent,
                state_backend=self._state_backend,
                journal=journal,
            )
        except BaseException as error:
            if journal is not None:
                await journal.finish(status_after(error), describe_error(error))
            raise
        return await self._run(run, graph, over)

    async def _run(self, run: Run, graph: Graph, over: Over | None) -> Any:
        """One run from its first event to its last."""
        began = self.clock.monotonic()
        if self.bus.wants(RunStarted):
            run.teller.tell(
                RunStarted(
                    run_id=run.id,
                    timestamp=self.clock.now(),
                    target_tasks=_target_names(graph),
                    params=masked(run.params),
                )
            )
        error: BaseException | None = None
        strategy = GraphExecutionStrategy(run, self)
        self.under_way.add(strategy)
        PRINTS.begin(run)
        reason = self.openings.take_reason(run.id)
        if reason is not None:
            strategy.stop(RunCancelledError(reason))
        alarm = self._alarm(run, strategy, over)
        value: Any = None
        try:
            with run.under_way(strategy):
                async with self._controlled(run):
                    value = await strategy.execute(graph)
                    return value
        except BaseException as raised:
            error = raised
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
            # Before the run is given up: what was printed belongs to it.
            PRINTS.end(run)
            problem = await run.end(error, value)
            mask_error(error or problem)
            if self.bus.wants(RunFinished):
                final = error or problem
                status: Status = "Succeeded"
                if final is not None:
                    status = "Cancelled" if is_cancellation(final) else "Failed"
                run.teller.tell(
                    RunFinished(
                        run_id=run.id,
                        timestamp=self.clock.now(),
                        status=status,
                        duration=self.clock.monotonic() - began,
                        error=None if final is None else describe_error(final),
                    )
                )
            run.teller.close()
            run.teller.deliver()
            # Only now: whoever watches this engine knows its runs by this, also when it hears their last events.
            self.under_way.discard(strategy)
            self.signals.forget(run)
            run.ended = True
            if error is None and problem is not None:
                raise problem

    def _controlled(self, run: Run) -> AbstractAsyncContextManager[None]:
        if self._control is None or run.journal is None:
            return nullcontext()
        return self._control.over(run.id, had_owner=run.journal.epoch > 1)

    def _alarm(self, run: Run, strategy: GraphExecutionStrategy, over: Over | None) -> Timer | None:
        if over is None:
            return None
        moment, error = over
        return run.clock.call_at(moment, partial(strategy.stop, error), loop=run.loop)

    def cancel(self, run_id: str, reason: str = "") -> bool:
        """Stop a run of this engine: it raises `RunCancelledError`. One that has not begun yet is stopped when it does.

        One that waits for another owner waits no longer, and leaves the run to that. From any thread.

        Args:
            run_id: the run.
            reason: why, for people.

        Returns:
            Whether the run was under way.
        """
        reason = reason or "the run was cancelled"
        self.openings.cancel(run_id, reason)
        found = [strategy for strategy in list(self.under_way) if strategy.run.id == run_id]
        if found:
            self.openings.take_reason(run_id)
        for strategy in found:
            strategy.stop(RunCancelledError(reason))
        return bool(found)

    async def send_signal(self, run_id: str, name: str, value: Any = None) -> None:
        """Send a signal to a run, which a `wait_for_signal` in it takes; it is kept until then.

        Args:
            run_id: the run; with a store it may be any run there, otherwise one of this engine. It need not have begun.
            name: what the signal is called.
            value: plain data, as JSON has it.

        Raises:
            DeclarationError: the value is no plain data.
            StoreError: the store failed for good.
        """
        payload = as_json(name, value)
        if self._store is None:
            self.signals.send(run_id, name, payload)
            return
        await self._store.writer(self.clock).call(self._sending(run_id, name, payload))

    def post_signal(self, run_id: str, name: str, value: Any = None) -> None:
        """Send a signal as `send_signal` does, from any thread and without waiting until a store has it."""
        payload = as_json(name, value)
        if self._store is None:
            self.signals.send(run_id, name, payload)
        else:
            self._store.writer(self.clock).post(self._sending(run_id, name, payload))

    def _sending(self, run_id: str, name: str, payload: str) -> Callable[[], None]:
        assert self._store is not None
        return partial(self._store.store.send, run_id, name, payload, self.clock.now())

    def plan_for(self, graph: Graph) -> tuple[Plan, Graph]:
        """The plan of a graph, and the graph in the order of that plan."""
        with collector_at_rest:
            return self._plans.plan_for(graph, lends_threads=self.pool is not None)

    def check_amounts(self, amounts: Mapping[str, Any]) -> None:
        """Raise `CapacityError` for amounts that the system can never give."""
        self.capacities.check(amounts)

    def executor_names(self) -> Collection[str] | None:
        """The executors that tasks may name; `None` if the executor makes of names what it likes."""
        if self.pool is None:
            return None
        return {"thread", "process", "inline", *self.executors}

    def executor_of(self, task: Task[..., Any]) -> Executor:
        """The executor that makes a task's calls."""
        return self.executors.get(task.executor or "", self.executor)

    def reports_beginning(self, task: Task[..., Any]) -> bool:
        """Whether a task's executor says when a call has got the thread or process that it waited for."""
        return not task.is_async and hasattr(self.executor_of(task), "threads")

    def runs_on_thread(self, task: Task[..., Any]) -> bool:
        """Whether calls of a task occupy a thread, which nothing can stop."""
        return self.pool is not None and not task.is_async and task.executor in (None, "thread")

    def runs_in_process(self, task: Task[..., Any]) -> bool:
        """Whether calls of a task are shipped to another process."""
        return task.executor is not None and task.executor not in ("thread", "inline")

    async def call_on_thread(self, function: Callable[[], Any]) -> Any:
        """Call something that may block, on a thread of the pool."""
        self.clock.busy()
        try:
            return await call_on(self.pool, function)
        finally:
            self.clock.idle()

    def abandon(self) -> None:
        """Wait for nothing that is under way any more, and tear nothing down: the second Ctrl-C."""
        for strategy in list(self.under_way):
            strategy.abandon()

    async def close(self, *, keeps_executor: bool = False) -> None:
        """Give back threads, processes and the store. An engine that is closed runs nothing any more.

        Args:
            keeps_executor: whether its executor serves other engines.
        """
        if self._closed:
            return
        self._closed = True
        if keeps_executor and self._store is None and not self.executors:
            return
        async with AsyncExitStack() as stack:
            for executor in self.executors.values():
                stack.push_async_callback(executor.close)
            if not keeps_executor:
                stack.push_async_callback(self.executor.close)
            if self._store is not None:
                stack.push_async_callback(asyncio.to_thread, self._store.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _refuse_uncalled(target: Any) -> None:
    """A task that was not called is a plain value, which nobody means by a target."""
    members = target.values() if type(target) is dict else target if type(target) in (list, tuple) else (target,)
    for member in members:
        if isinstance(member, Task):
            raise LazyValueError(f"{member!r} was not called, so there is nothing to run; write  {member.name}(...)")


def _target_names(graph: Graph) -> tuple[str, ...]:
    """The names of what is asked for, each once."""
    target = graph.lazies[graph.target]
    if isinstance(target, Gathered):
        return tuple(dict.fromkeys(lazy.name for lazy in target.packed.lazies))
    return (target.name,)
