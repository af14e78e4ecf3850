"""The composition root: picks the parts of an engine, and runs targets from wherever they are called."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cascade.adapters.cache.memory import InMemoryCacheBackend
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.adapters.telemetry import reporting
from cascade.runtime.engine import Engine
from cascade.runtime.run import current_run
from cascade.runtime.spare_loop import run_on_spare_loop
from cascade.spec.exceptions import NestedRunError

if TYPE_CHECKING:
    from typing import Literal, TypedDict, Unpack

    from cascade.runtime.bus import MessageBus
    from cascade.runtime.chance import Randomness
    from cascade.runtime.durability.session import DurableStore
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.protocols import CacheBackend, Clock, Executor, Solver, StateBackend, Store
    from cascade.spec.resource import ResourceDefinition

    class RunOptions(TypedDict, total=False):
        """What `run` and `arun` can be told beside target and parameters; their docstrings tell what each means."""

        system_resources: Mapping[str, Any] | None
        resources: Iterable[ResourceDefinition]
        on_failure: Literal["stop", "continue"]
        log_level: str
        log_format: Literal["human", "json"]
        bus: MessageBus | None
        cache: CacheBackend | None
        clock: Clock | None
        max_workers: int | None
        run_id: str | None
        store: str | os.PathLike[str] | Store | DurableStore | None
        durability: Literal["committed", "relaxed"]


A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
K = TypeVar("K")
R = TypeVar("R")


class _Shared:
    """What calls of `run` share in one process: idle threads for the next call, and values cached in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()
        if hasattr(os, "register_at_fork"):
            # A forked child has none of its parent's threads.
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._executor: LocalExecutor | None = None
        self.cache: CacheBackend = InMemoryCacheBackend()

    @property
    def executor(self) -> LocalExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = LocalExecutor()
            return self._executor


_shared = _Shared()


def create_engine(
    solver: Solver | None = None,
    executor: Executor | None = None,
    bus: MessageBus | None = None,
    *,
    state_backend: Callable[[str], StateBackend] | None = None,
    system_resources: Mapping[str, Any] | None = None,
    resources: Iterable[ResourceDefinition] = (),
    cache: CacheBackend | None = None,
    clock: Clock | None = None,
    chance: Randomness | None = None,
    max_workers: int | None = None,
    grace: float = 5.0,
    executors: Mapping[str, Executor] | None = None,
    store: str | os.PathLike[str] | Store | DurableStore | None = None,
) -> Engine:
    """Make an engine, with a default for every part that is not given; see `Engine` for the parts.

    Args:
        max_workers: the most worker threads at a time, 64 by default.
        store: keeps the runs, by its URL: `"sqlite:///flows.db"`, `"postgresql://..."`, `"redis://..."`.
    """
    return Engine(
        solver or NativeSolver(),
        executor or LocalExecutor(64 if max_workers is None else max_workers, grace=grace, clock=clock),
        bus,
        state_backend=state_backend,
        system_resources=system_resources,
        resources=resources,
        cache=InMemoryCacheBackend(clock=clock) if cache is None else cache,
        clock=clock,
        chance=chance,
        grace=grace,
        executors=executors,
        store=None if store is None else _durable(store, clock),
    )


def _durable(store: str | os.PathLike[str] | Store | DurableStore, clock: Clock | None) -> DurableStore:
    from cascade.stores import open_durable

    return open_durable(store, clock=clock)


@overload
def run(target: LazyResult[R], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> R: ...
@overload
def run(
    target: tuple[LazyResult[A], LazyResult[B]], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> tuple[A, B]: ...
@overload
def run(
    target: tuple[LazyResult[A], LazyResult[B], LazyResult[C]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunOptions],
) -> tuple[A, B, C]: ...
@overload
def run(
    target: list[LazyResult[R]], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> list[R]: ...
@overload
def run(
    target: dict[K, LazyResult[R]], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> dict[K, R]: ...
@overload
def run(target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> Any: ...
def run(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    system_resources: Mapping[str, Any] | None = None,
    resources: Iterable[ResourceDefinition] = (),
    on_failure: Literal["stop", "continue"] = "stop",
    log_level: str = "INFO",
    log_format: Literal["human", "json"] = "human",
    bus: MessageBus | None = None,
    cache: CacheBackend | None = None,
    clock: Clock | None = None,
    max_workers: int | None = None,
    run_id: str | None = None,
    store: str | os.PathLike[str] | Store | DurableStore | None = None,
    durability: Literal["committed", "relaxed"] = "committed",
) -> Any:
    """Run what a target needs and return its value.

    Works in a script, in a thread, in a notebook, and inside a sync task, whose engine it then shares.

    Args:
        target: a lazy value, a container of them, or a plain value.
        params: the values of parameters, by name.
        system_resources: the capacities of the system, by resource, as `{"gpu": 2}`.
        resources: what can be injected by name.
        on_failure: `"stop"` at the first failure, or `"continue"` with all that does not depend on one.
        log_level: how much is told on stderr: `"DEBUG"`, `"INFO"`, `"WARNING"`, `"ERROR"`, or `"CRITICAL"` for nothing.
        log_format: `"human"`, or `"json"` for one object a line.
        bus: where the run tells what happens.
        cache: keeps the values of cached tasks that name no backend of their own; this process's memory by default.
        clock: what time is taken from.
        max_workers: the most worker threads at a time, 64 by default.
        run_id: the run's id; one is made where it is not given. With a store, a run that is known by it goes on where
            it was, or gives what it gave if it has finished.
        store: keeps the run, so that it can be resumed after it was killed, by its URL: `"sqlite:///flows.db"`,
            `"postgresql://..."`, `"redis://..."`. With a `run_id` and no store it is the environment's `CASCADE_STORE`.
        durability: with a store, whether a task starts only on inputs that are `"committed"`, or `"relaxed"`: sooner,
            so that work done just before a crash may be done again after it.

    Raises:
        RunOwnedError: another process has the run.
        ResumeError: the run has other parameters.
        StoreError: the store failed for good.
        ValidationError: something is wrong that can be known before anything runs.
        NestedRunError: called in an async task, whose loop it would block; `await arun(...)` there.
        DependencyMissingError: the target was skipped.
        RunFailedGroup: tasks failed in a run that continues.
        Exception: what a task raised, in a run that stops.

    >>> import cascade as cs
    >>> @cs.task
    ... def add(x: int, y: int) -> int:
    ...     return x + y
    >>> cs.run(add(add(1, 2), 3))
    6
    """
    options: dict[str, Any] = {
        "system_resources": system_resources, "resources": resources, "on_failure": on_failure,
        "log_level": log_level, "log_format": log_format, "bus": bus, "cache": cache, "clock": clock,
        "max_workers": max_workers, "run_id": run_id, "store": store, "durability": durability,
    }  # fmt: skip
    outer = current_run.get()
    running = _running_loop()
    if outer is None:
        if running is None:
            return _on_this_thread(target, params, options)
        return _on_own_thread(target, params, options)
    if running is outer.loop:
        raise NestedRunError(
            "cs.run inside an async task would block the loop of the engine that has to do the work; "
            "write  await cs.arun(...)  or return the lazy value, which the engine then computes"
        )
    pool, clock = outer.engine.pool, outer.engine.clock
    if pool is not None:
        pool.lend()
    # While this call waits for the nested run it is not busy itself.
    clock.idle()
    try:
        if running is None:
            return _on_this_thread(target, params, options)
        return _on_own_thread(target, params, options)
    finally:
        clock.busy()
        if pool is not None:
            pool.take_back()


@overload
async def arun(target: LazyResult[R], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> R: ...
@overload
async def arun(
    target: tuple[LazyResult[A], LazyResult[B]], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> tuple[A, B]: ...
@overload
async def arun(
    target: tuple[LazyResult[A], LazyResult[B], LazyResult[C]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[RunOptions],
) -> tuple[A, B, C]: ...
@overload
async def arun(
    target: list[LazyResult[R]], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> list[R]: ...
@overload
async def arun(
    target: dict[K, LazyResult[R]], params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> dict[K, R]: ...
@overload
async def arun(target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> Any: ...
async def arun(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    system_resources: Mapping[str, Any] | None = None,
    resources: Iterable[ResourceDefinition] = (),
    on_failure: Literal["stop", "continue"] = "stop",
    log_level: str = "INFO",
    log_format: Literal["human", "json"] = "human",
    bus: MessageBus | None = None,
    cache: CacheBackend | None = None,
    clock: Clock | None = None,
    max_workers: int | None = None,
    run_id: str | None = None,
    store: str | os.PathLike[str] | Store | DurableStore | None = None,
    durability: Literal["committed", "relaxed"] = "committed",
) -> Any:
    """Run what a target needs and return its value, in async code; see `run` for the arguments.

    Inside a task it shares the engine of the task's run.
    """
    options: dict[str, Any] = {
        "system_resources": system_resources, "resources": resources, "on_failure": on_failure,
        "log_level": log_level, "log_format": log_format, "bus": bus, "cache": cache, "clock": clock,
        "max_workers": max_workers, "run_id": run_id, "store": store, "durability": durability,
    }  # fmt: skip
    return await _arun(target, params, options, [])


async def _arun(target: Any, params: Mapping[str, Any] | None, options: dict[str, Any], engines: list[Engine]) -> Any:
    """Run on the engine of the run here, or on a new one, which is added to `engines`."""
    outer = current_run.get()
    if outer is not None:
        given = [
            name
            for name in ("system_resources", "bus", "clock", "max_workers", "cache", "store")
            if options[name] is not None
        ]
        if given:
            raise NestedRunError(
                f"a run inside a task shares the engine of that task, so {', '.join(given)} can only be given where "
                "the outermost run starts"
            )
        return await _run_on(outer.engine, target, params, options)
    max_workers, clock = options["max_workers"], options["clock"]
    executor = _shared.executor if max_workers is None and clock is None else None
    engine = create_engine(
        None,
        executor,
        options["bus"],
        system_resources=options["system_resources"],
        cache=_shared.cache if options["cache"] is None else options["cache"],
        clock=clock,
        max_workers=max_workers,
        store=_store_of(options),
    )
    engines.append(engine)
    with reporting(engine, options["log_level"], options["log_format"]):
        try:
            return await _run_on(engine, target, params, options)
        finally:
            await engine.close(keeps_executor=executor is not None)


async def _run_on(engine: Engine, target: Any, params: Mapping[str, Any] | None, options: dict[str, Any]) -> Any:
    return await engine.run(
        target,
        params,
        on_failure=options["on_failure"],
        resources=options["resources"],
        run_id=options["run_id"],
        durability=options["durability"],
        program=options.get("program"),
    )


def _store_of(options: dict[str, Any]) -> Any:
    """The store that was given, or for a run with an id of its own the environment's."""
    if options["store"] is not None or options["run_id"] is None:
        return options["store"]
    return os.environ.get("CASCADE_STORE") or None


def _on_this_thread(target: Any, params: Mapping[str, Any] | None, options: dict[str, Any]) -> Any:
    engines: list[Engine] = []

    def abandon() -> None:
        # The first Ctrl-C has ended the run in order before it gets here; a second one does not wait for that.
        for engine in engines:
            engine.abandon()

    return run_on_spare_loop(_arun(target, params, options, engines), copy_context(), interrupted=abandon)


def _raise(error: BaseException) -> Any:
    raise error


def _on_own_thread(target: Any, params: Mapping[str, Any] | None, options: dict[str, Any]) -> Any:
    """Run on a thread of its own, because this one's loop is running and would be waited for in vain."""
    context = copy_context()
    ended: list[Callable[[], Any]] = []

    def work() -> None:
        try:
            value = context.run(_on_this_thread, target, params, options)
        except BaseException as error:
            ended.append(partial(_raise, error))
        else:
            ended.append(lambda: value)

    thread = threading.Thread(target=work, name="cascade-run", daemon=True)
    thread.start()
    thread.join()
    return ended[0]()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
