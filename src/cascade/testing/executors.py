"""A spy and a fake for the port that makes calls."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.adapters.executors.local import LocalExecutor
from cascade.spec.exceptions import CascadeError

if TYPE_CHECKING:
    from cascade.graph.model import Node
    from cascade.spec.protocols import Executor


@dataclass(frozen=True, slots=True)
class ExecutedCall:
    """One call as an executor received it.

    Attributes:
        node_id: the node; all items of a map have the id of the map.
        name: its name.
        args: the finished arguments by position.
        kwargs: the finished arguments by name.
    """

    node_id: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class SpyExecutor:
    """Notes every call and has another executor make it.

    It lends no threads, so that the engine makes no call past it, but for users of thread-affine resources, which
    run where their resource lives. As the engine does not know its threads either, a call on one of them that takes
    too long fails only when it ends, and nested runs need a free thread each.

    Args:
        inner: who makes the calls; a `LocalExecutor` of its own by default.

    Attributes:
        closed: whether it was closed.

    >>> import asyncio
    >>> import cascade as cs
    >>> double = cs.task(lambda x: 2 * x, name="double")
    >>> spy = SpyExecutor()
    >>> async def main() -> int:
    ...     async with cs.create_engine(executor=spy) as engine:
    ...         return await engine.run(double(double(1)))
    >>> asyncio.run(main())
    4
    >>> [(call.node_id, call.args) for call in spy.calls]
    [('double#0', (1,)), ('double#1', (2,))]
    """

    def __init__(self, inner: Executor | None = None) -> None:
        self._inner = inner or LocalExecutor()
        self._lock = threading.Lock()
        self._calls: list[ExecutedCall] = []
        self.closed = False

    @property
    def calls(self) -> list[ExecutedCall]:
        """All calls so far, in the order in which they came; a list of its own."""
        with self._lock:
            return list(self._calls)

    def calls_of(self, name: str) -> list[ExecutedCall]:
        """The calls of one task."""
        return [call for call in self.calls if call.name == name]

    async def execute(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Note a call and have it made."""
        with self._lock:
            self._calls.append(ExecutedCall(node.id, node.name, tuple(args), dict(kwargs)))
        return await self._inner.execute(node, args, kwargs)

    async def close(self) -> None:
        """Close the executor within."""
        self.closed = True
        await self._inner.close()


class FakeExecutor(SpyExecutor):
    """Answers in the place of tasks, so that the wiring of a workflow can be tested without what its tasks do.

    Args:
        answers: by the name of a task: a value, an exception to raise, or a function (maybe a coroutine function) that
            is called with the arguments of the task.
        otherwise: who makes the calls of all other tasks; without it, a call without an answer fails.

    >>> import asyncio
    >>> import cascade as cs
    >>> @cs.task
    ... def fetch(url: str) -> str:
    ...     raise ConnectionError("not in a test")
    >>> @cs.task
    ... def count(page: str) -> int:
    ...     return len(page)
    >>> fake = FakeExecutor({"fetch": "four", "count": lambda page: len(page) * 10})
    >>> async def main() -> int:
    ...     async with cs.create_engine(executor=fake) as engine:
    ...         return await engine.run(count(fetch("https://a")))
    >>> asyncio.run(main())
    40
    """

    def __init__(self, answers: Mapping[str, Any], *, otherwise: Executor | None = None) -> None:
        super().__init__(_Answers(answers, otherwise))


class MissingAnswerError(CascadeError, LookupError):
    """A fake was asked for something that it has no answer to.

    Attributes:
        name: the task that was called.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(f"'{name}'" for name in self.known) or "nothing"
        return (
            f"FakeExecutor has no answer for task '{self.name}'; it has answers for {known}: add one, or pass "
            "otherwise=LocalExecutor() to have the rest really called"
        )


class _Answers:
    """The executor inside a fake."""

    def __init__(self, answers: Mapping[str, Any], otherwise: Executor | None) -> None:
        self._answers: dict[str, Any] = dict(answers)
        self._otherwise = otherwise

    async def execute(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if node.name not in self._answers:
            if self._otherwise is None:
                raise MissingAnswerError(node.name, sorted(self._answers))
            return await self._otherwise.execute(node, args, kwargs)
        answer = self._answers[node.name]
        if _is_exception(answer):
            raise answer
        if not inspect.isroutine(answer):
            return answer
        value = answer(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    async def close(self) -> None:
        if self._otherwise is not None:
            await self._otherwise.close()


def _is_exception(answer: Any) -> bool:
    """Whether it is something to raise: an exception or a class of them."""
    return isinstance(answer, BaseException) or (inspect.isclass(answer) and issubclass(answer, BaseException))
