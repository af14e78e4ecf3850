"""The executor of one machine: threads, the loop itself, and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from cascade.adapters.executors.threads import ThreadPool
from cascade.adapters.executors.worker_resources import call_with_resources
from cascade.runtime.coroutines import drive
from cascade.runtime.threading_calls import NotBegun, call_may_begin, call_on
from cascade.spec.context import call_context
from cascade.spec.exceptions import DeclarationError
from cascade.spec.resource import WorkerRecipe

if TYPE_CHECKING:
    from cascade.adapters.executors.processes import ProcessPool
    from cascade.graph.model import Node
    from cascade.spec.protocols import Clock


class LocalExecutor:
    """Calls coroutine functions on the loop, others on a thread, and in a process or inline what asks for that.

    Args:
        max_workers: the most threads at a time.
        max_processes: the most processes at a time; one a usable processor by default.
        grace: how long, in seconds, a process may go on after its call was cancelled.
        clock: what measures the grace.
    """

    def __init__(
        self,
        max_workers: int = 64,
        *,
        max_processes: int | None = None,
        grace: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
            raise DeclarationError(f"max_workers must be an int of at least 1, got {max_workers!r}")
        self.threads = ThreadPool(max_workers)
        self._max_processes = max_processes
        self._grace = grace
        self._clock = clock
        self._processes: ProcessPool | None = None

    async def execute(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call what the node names; see `Executor`."""
        task = node.task
        assert task is not None, f"{node!r} calls nothing"
        if task.executor == "process":
            return await self._in_process(node, args, kwargs)
        if task.is_async:
            return await drive(task.function(*args, **kwargs), copy_context())
        if task.executor == "inline":
            if not call_may_begin.get()():
                raise NotBegun
            return copy_context().run(task.function, *args, **kwargs)
        return await call_on(self.threads, lambda: task.function(*args, **kwargs))

    async def _in_process(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        from cascade.adapters.executors.processes import ProcessPool

        if self._processes is None:
            self._processes = ProcessPool(self._max_processes, grace=self._grace, clock=self._clock)
        assert node.task is not None
        context = call_context()
        told = {} if context is None else context.told()
        function = node.task.function
        arguments = tuple(args)
        if any(type(value) is WorkerRecipe for value in (*arguments, *kwargs.values())):
            function, arguments, kwargs = call_with_resources, (function, arguments, dict(kwargs)), {}
        return await self._processes.call(
            function, arguments, kwargs, name=node.name, context=told, may_begin=call_may_begin.get()
        )

    async def close(self) -> None:
        """Let idle threads end and stop the processes."""
        self.threads.close()
        if self._processes is not None:
            await self._processes.close()
            self._processes = None
