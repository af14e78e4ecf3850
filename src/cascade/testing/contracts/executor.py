"""What every `Executor` must do, as tests for whoever writes one."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from cascade.graph.build import build_graph
from cascade.spec.protocols import Executor
from cascade.spec.task import task

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from cascade.graph.model import Node

_PATIENCE = 30.0
"""How long, in real seconds, a test waits for what should take milliseconds."""
_color: ContextVar[str] = ContextVar("color", default="none")


class UnluckyError(Exception):
    """Raised by a call of these tests; with state beside its arguments."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


def _echo(value: object) -> object:
    return value


def _spread(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


def _fail(message: str, code: int) -> None:
    raise UnluckyError(message, code)


def _paint(color: str) -> str:
    before = _color.get()
    _color.set(color)
    return before


def _meet(began: Path, gate: Path, ended: Path) -> str:
    """Say that the call has begun, wait for a file, and say that it has come to its end."""
    began.touch()
    pause = threading.Event()
    while not gate.exists():
        pause.wait(0.005)
    ended.touch()
    return "met"


async def _echo_async(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def _spread_async(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


async def _fail_async(message: str, code: int) -> None:
    await asyncio.sleep(0)
    raise UnluckyError(message, code)


async def _paint_async(color: str) -> str:
    before = _color.get()
    _color.set(color)
    await asyncio.sleep(0)
    return before


async def _meet_async(began: Path, gate: Path, ended: Path) -> str:
    began.touch()  # noqa: ASYNC240 - a file is all that the test shares with a call that may be made anywhere
    await _appearance_of(gate)
    ended.touch()  # noqa: ASYNC240
    return "met"


async def _appearance_of(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - nobody is told of a new file
        await asyncio.sleep(0.002)


class ExecutorContract(ABC):
    """Tests of an executor; inherit from it in a test module, as a class whose name begins with `Test`.

    One class for each kind of call that the executor makes: set the attributes to what that kind can do.

    Attributes:
        executor_name: what tasks say with `@task(executor=...)` to be called so; `None` for nothing.
        calls_coroutines: whether the tasks of these tests are coroutine functions.
        leaves_the_loop: whether other work of the loop goes on during a call.
        sees_context: whether calls see the `contextvars` of whoever executes them.
    """

    executor_name: ClassVar[str | None] = None
    calls_coroutines: ClassVar[bool] = False
    leaves_the_loop: ClassVar[bool] = True
    sees_context: ClassVar[bool] = True

    @abstractmethod
    def make_executor(self) -> Executor:
        """A new executor; each test closes those that it makes."""

    def test_it_has_the_methods_of_the_port(self) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                assert isinstance(executor, Executor)

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "value", [None, False, 0, "", [], {"a": [1, (2.5, None)]}, b"\x00\xff", bytes(1_000_000)],
        ids=["None", "False", "zero", "empty text", "empty list", "nested", "bytes", "a million bytes"],
    )  # fmt: skip
    def test_a_call_gives_what_the_function_returns(self, value: object) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                found = await executor.execute(self._node(_echo, _echo_async, value), (value,), {})
                assert found == value
                assert type(found) is type(value)

        asyncio.run(scenario())

    def test_arguments_arrive_by_position_and_by_name(self) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                node = self._node(_spread, _spread_async)
                assert await executor.execute(node, (1, None), {"x": 2}) == ((1, None), {"x": 2})
                # The engine hands over whichever sequence it has.
                assert await executor.execute(node, [1, [2]], {}) == ((1, [2]), {})
                assert await executor.execute(node, (), {}) == ((), {})

        asyncio.run(scenario())

    def test_a_call_raises_what_the_function_raises_and_the_next_is_made(self) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                node = self._node(_fail, _fail_async, "no luck", 7)
                for _ in range(3):
                    with pytest.raises(UnluckyError, match="no luck") as caught:
                        await executor.execute(node, ("no luck", 7), {})
                    assert caught.value.code == 7
                assert await executor.execute(self._node(_echo, _echo_async, 1), (1,), {}) == 1

        asyncio.run(scenario())

    def test_many_calls_at_once_have_their_own_results(self) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                node = self._node(_echo, _echo_async, None)
                calls = [executor.execute(node, (number,), {}) for number in range(200)]
                assert await asyncio.gather(*calls) == list(range(200))

        asyncio.run(scenario())

    def test_the_loop_goes_on_during_a_call(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                with _Meeting(tmp_path, "one") as meeting:
                    node = self._node(_meet, _meet_async, *meeting.paths)
                    call = asyncio.ensure_future(executor.execute(node, meeting.paths, {}))
                    await meeting.has_begun()
                    assert not call.done()
                    meeting.open_gate()
                    assert await asyncio.wait_for(call, _PATIENCE) == "met"

        self._needs_a_free_loop()
        asyncio.run(scenario())

    def test_two_calls_are_under_way_at_once(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                with _Meeting(tmp_path, "one") as one, _Meeting(tmp_path, "other") as other:
                    node = self._node(_meet, _meet_async, *one.paths)
                    calls = [
                        asyncio.ensure_future(executor.execute(node, meeting.paths, {})) for meeting in (one, other)
                    ]
                    await one.has_begun()
                    await other.has_begun()
                    one.open_gate()
                    other.open_gate()
                    assert await asyncio.wait_for(asyncio.gather(*calls), _PATIENCE) == ["met", "met"]

        self._needs_a_free_loop()
        asyncio.run(scenario())

    def test_a_call_that_was_cancelled_has_no_effect_once_it_has_returned(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                with _Meeting(tmp_path, "cancelled") as meeting:
                    node = self._node(_meet, _meet_async, *meeting.paths)
                    call = asyncio.ensure_future(executor.execute(node, meeting.paths, {}))
                    await meeting.has_begun()
                    call.cancel()
                    await asyncio.wait([call], timeout=0.05)
                    meeting.open_gate()
                    await asyncio.wait([call], timeout=_PATIENCE)
                    assert call.done()
                    happened = meeting.ended.exists()
                    # Long enough for a call that goes on to look at its gate many times.
                    await asyncio.sleep(0.1)
                    assert meeting.ended.exists() is happened
                    if call.cancelled():
                        assert await executor.execute(self._node(_echo, _echo_async, 1), (1,), {}) == 1
                    else:
                        assert call.result() == "met"

        self._needs_a_free_loop()
        asyncio.run(scenario())

    def test_a_call_sees_the_context_and_changes_it_for_nobody(self) -> None:
        async def scenario() -> None:
            async with self._executor() as executor:
                _color.set("blue")
                node = self._node(_paint, _paint_async, "red")
                assert await executor.execute(node, ("red",), {}) == "blue"
                assert await executor.execute(node, ("green",), {}) == "blue"
                assert _color.get() == "blue"

        if not self.sees_context:
            pytest.skip("these calls are made where the context does not reach")
        asyncio.run(scenario())

    def test_several_loops_in_several_threads_use_it_one_after_another_and_at_once(self) -> None:
        executor = self.make_executor()
        node = self._node(_echo, _echo_async, None)
        errors: list[BaseException] = []
        together = threading.Barrier(3)

        async def calls(own: int) -> None:
            expected = [own * 1000 + number for number in range(20)]
            found = await asyncio.gather(*(executor.execute(node, (number,), {}) for number in expected))
            assert found == expected

        def work(own: int) -> None:
            try:
                together.wait(_PATIENCE)
                for _ in range(2):
                    asyncio.run(calls(own))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(own,)) for own in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(executor.close())
        assert not errors

    def test_it_may_be_closed_twice_and_without_a_call(self) -> None:
        async def scenario() -> None:
            executor = self.make_executor()
            await executor.close()
            await executor.close()
            used = self.make_executor()
            await used.execute(self._node(_echo, _echo_async, 1), (1,), {})
            await used.close()
            await used.close()

        asyncio.run(scenario())

    @asynccontextmanager
    async def _executor(self) -> AsyncGenerator[Executor, None]:
        executor = self.make_executor()
        try:
            yield executor
        finally:
            await executor.close()

    def _node(self, function: Callable[..., Any], coroutine_function: Callable[..., Any], *args: Any) -> Node:
        """The node of one call, as the engine would hand it over."""
        chosen = coroutine_function if self.calls_coroutines else function
        declared = task(chosen, executor=self.executor_name, name=function.__name__.strip("_"))
        graph, _ = build_graph(declared(*args))
        return graph.nodes[graph.target]

    def _needs_a_free_loop(self) -> None:
        if not self.leaves_the_loop:
            pytest.skip("these calls hold up the loop")


class _Meeting:
    """Files by which a call, wherever it is made, and its test tell each other how far they are.

    At the end of its block the gate is open, so that a test that fails leaves no call that waits for ever.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.began, self.gate, self.ended = (folder / f"{name} {what}" for what in ("began", "gate", "ended"))
        self.paths = (self.began, self.gate, self.ended)

    async def has_begun(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            await _appearance_of(self.began)

    def open_gate(self) -> None:
        self.gate.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open_gate()
