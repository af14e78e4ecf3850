"""The composition root: picks the parts of an engine, and runs targets from wherever they are called."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from cascade.adapters.cache.memory import InMemoryCacheBackend
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.adapters.telemetry import reporting
from cascade.runtime.engine import Engine
from cascade.runtime.run import run_here
from cascade.runtime.spare_loop import run_on_spare_loop
from cascade.spec.exceptions import NestedRunError

if TYPE_CHECKING:
    from typing import Literal, TypedDict, Unpack

    from cascade.control.store_control import StoreControl
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
        timeout: float | None


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
        self._spare_engines: list[Engine] = []
        self.cache: CacheBackend = InMemoryCacheBackend()

    @property
    def executor(self) -> LocalExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = LocalExecutor()
            return self._executor

    def take_engine(self) -> Engine:
        """An engine with nothing but defaults: one that served an earlier run, whose plans it knows, or a new one."""
        try:
            return self._spare_engines.pop()
        except IndexError:
            return create_engine(None, self.executor, cache=self.cache)

    def give_back(self, engine: Engine) -> None:
        """Keep an engine for the next run, if this one left nothing in it."""
        if engine.is_as_new and not self._spare_engines:
            self._spare_engines.append(engine)


_DEFAULTS: Final[Mapping[str, Any]] = {
    "system_resources": None, "resources": (), "on_failure": "stop", "log_level": "INFO", "log_format": "human",
    "bus": None, "cache": None, "clock": None, "max_workers": None, "run_id": None, "store": None,
    "durability": "committed", "timeout": None,
}  # fmt: skip
_PARTS: Final = ("system_resources", "bus", "cache", "clock", "max_workers")
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
    blocked_after: float | None = 0.5,
) -> Engine:
    """Make an engine, with a default for every part that is not given; see `Engine` for the parts.

    Args:
        max_workers: the most worker threads at a time, 64 by default.
        store: keeps the runs, by its URL: `"sqlite:///flows.db"`, `"postgresql://..."`, `"redis://..."`.
    """
    durable = None if store is None else _durable(store, clock)
    return Engine(
        solver or NativeSolver(),
        executor or LocalExecutor(64 if max_workers is None else max_workers, grace=grace, clock=clock),
        bus,
        state_backend=state_backend,
        system_resources=system_resources,
        resources=resources,
        cache=_cache_beside(durable, clock) if cache is None else cache,
        clock=clock,
        chance=chance,
        grace=grace,
        executors=executors,
        store=durable,
        control=None if durable is None else _control,
        blocked_after=blocked_after,
    )


def _control(engine: Engine, durable: DurableStore) -> StoreControl:
    from cascade.control.store_control import StoreControl

    return StoreControl(engine, durable)


def _durable(store: str | os.PathLike[str] | Store | DurableStore, clock: Clock | None) -> DurableStore:
    from cascade.stores import open_durable

    return open_durable(store, clock=clock)


def _cache_beside(durable: DurableStore | None, clock: Clock | None) -> CacheBackend:
    """Where an engine that was given no cache keeps values: where its runs are, or else in memory."""
    if durable is None:
        return InMemoryCacheBackend(clock=clock)
    from cascade.adapters.cache.store import store_cache

    return store_cache(durable, clock)


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
    timeout: float | None = None,
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
        cache: keeps the values of cached tasks that name no backend of their own; by default the store if there is
            one, or else this process's memory.
        clock: what time is taken from.
        max_workers: the most worker threads at a time, 64 by default.
        run_id: the run's id; one is made where it is not given. With a store, a run that is known by it goes on where
            it was, or gives what it gave if it has finished.
        store: keeps the run, so that it can be resumed after it was killed, by its URL: `"sqlite:///flows.db"`,
            `"postgresql://..."`, `"redis://..."`. With a `run_id` and no store it is the environment's `CASCADE_STORE`.
        durability: with a store, whether a task starts only on inputs that are `"committed"`, or `"relaxed"`: sooner,
            so that work done just before a crash may be done again after it.
        timeout: how long the run may take, in seconds, the wait for another owner included; then it is stopped as if it
            were cancelled.

    Raises:
        RunTimeoutError: the run took longer than its timeout.
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
        "timeout": timeout,
    }  # fmt: skip
    outer = run_here()
    running = _running_loop()
    if outer is not None and running is outer.loop:
        raise NestedRunError(
            "cs.run inside an async task would block the loop of the engine that has to do the work; "
            "write  await cs.arun(...)  or return the lazy value, which the engine then computes"
        )
    return _on_this_thread(target, params, options) if running is None else _on_own_thread(target, params, options)


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
    timeout: float | None = None,
) -> Any:
    """Run what a target needs and return its value, in async code; see `run` for the arguments.

    Inside a task it shares the engine of the task's run.
    """
    options: dict[str, Any] = {
        "system_resources": system_resources, "resources": resources, "on_failure": on_failure,
        "log_level": log_level, "log_format": log_format, "bus": bus, "cache": cache, "clock": clock,
        "max_workers": max_workers, "run_id": run_id, "store": store, "durability": durability,
        "timeout": timeout,
    }  # fmt: skip
    return await _arun(target, params, options, [])


async def _arun(target: Any, params: Mapping[str, Any] | None, options: dict[str, Any], engines: list[Engine]) -> Any:
    """Run on the engine of the run here, or on a new one, which is added to `engines`."""
    outer = run_here()
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
    store = _store_of(options)
    if store is None and all(options[name] is None for name in _PARTS):
        engine = _shared.take_engine()
        engines.append(engine)
        try:
            with reporting(engine, options["log_level"], options["log_format"]):
                return await _run_on(engine, target, params, options)
        finally:
            _shared.give_back(engine)
    max_workers, clock = options["max_workers"], options["clock"]
    executor = _shared.executor if max_workers is None and clock is None else None
    engine = create_engine(
        None,
        executor,
        options["bus"],
        system_resources=options["system_resources"],
        cache=_shared.cache if options["cache"] is None and store is None else options["cache"],
        clock=clock,
        max_workers=max_workers,
        store=store,
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
        timeout=options["timeout"],
        program=options.get("program"),
    )


def run_options(**given: Any) -> dict[str, Any]:
    """All that a run can be told, with the defaults of `run` for what was not given.

    Raises:
        TypeError: there is no such option.
    """
    unknown = given.keys() - _DEFAULTS.keys()
    if unknown:
        raise TypeError(f"a run takes no {', '.join(sorted(unknown))}; it takes {', '.join(_DEFAULTS)}")
    return {**_DEFAULTS, **given}


def run_on_engine(engine: Engine, target: Any, params: Mapping[str, Any] | None, options: dict[str, Any]) -> Any:
    """Run on an engine that serves nothing else, on this thread, and close it."""

    async def main() -> Any:
        with reporting(engine, options["log_level"], options["log_format"]):
            async with engine:
                return await _run_on(engine, target, params, options)

    return run_on_spare_loop(main(), copy_context(), interrupted=engine.abandon)


def _store_of(options: dict[str, Any]) -> Any:
    """The store that was given, or for a run with an id of its own the environment's."""
    if options["store"] is not None or options["run_id"] is None:
        return options["store"]
    return os.environ.get("CASCADE_STORE") or None


def _on_this_thread(target: Any, params: Mapping[str, Any] | None, options: dict[str, Any]) -> Any:
    engines: list[Engine] = []
    main = _arun(target, params, options, engines)
    return run_on_spare_loop(main, copy_context(), interrupted=partial(_abandon, engines))


def _abandon(engines: list[Engine]) -> None:
    # The first Ctrl-C has ended the run in order before it gets here; a second one does not wait for that.
    for engine in engines:
        engine.abandon()


def _on_own_thread(target: Any, params: Mapping[str, Any] | None, options: dict[str, Any]) -> Any:
    """Run on a thread of its own, because this one's loop is running and would be waited for in vain."""
    run = _RunOnThread()
    engines: list[Engine] = []
    thread = threading.Thread(
        target=copy_context().run,
        args=(run.work, _arun(target, params, options, engines), partial(_abandon, engines)),
        name="cascade-run",
        daemon=True,
    )
    try:
        thread.start()
        run.over.get()
    except KeyboardInterrupt:
        # Only the main thread hears of Ctrl-C.
        run.on_its_loop(run.cancel)
        try:
            run.over.get()
        except KeyboardInterrupt:
            run.on_its_loop(partial(_abandon, engines))
        raise
    return run.ended()


class _RunOnThread:
    """A run on a thread of its own, which another thread may cancel.

    Attributes:
        over: holds something for each of two that wait, once it has ended. An `Event` would do, but for Ctrl-C, which
            may hit it in the middle and leave its lock taken for ever; a simple queue's `get` is one step.
        ended: gives its value or raises what it raised.
    """

    def __init__(self) -> None:
        self.over: SimpleQueue[None] = SimpleQueue()
        self.ended: Callable[[], Any] = bool
        self._lock = threading.Lock()
        self._asked = False
        self._task: asyncio.Task[Any] | None = None

    def work(self, main: Coroutine[Any, Any, Any], interrupted: Callable[[], object]) -> None:
        """What the thread does."""
        try:
            value = run_on_spare_loop(self._begin(main), copy_context(), interrupted=interrupted)
        except BaseException as error:
            self.ended = partial(_raise, error)
        else:
            self.ended = lambda: value
        self.over.put(None)
        self.over.put(None)

    async def _begin(self, main: Coroutine[Any, Any, Any]) -> Any:
        with self._lock:
            self._task = asyncio.current_task()
        if self._asked:
            main.close()
            raise asyncio.CancelledError
        return await main

    def cancel(self) -> None:
        """Cancel it; on its loop."""
        assert self._task is not None
        self._task.cancel()

    def on_its_loop(self, callback: Callable[[], object]) -> None:
        """Have something called on its loop, or let it not begin at all; from any thread."""
        with self._lock:
            task = self._task
            if task is None:
                self._asked = True
                return
        try:
            task.get_loop().call_soon_threadsafe(callback)
        except RuntimeError:
            # It has ended meanwhile, and its loop with it.
            return


def _raise(error: BaseException) -> Any:
    raise error


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
