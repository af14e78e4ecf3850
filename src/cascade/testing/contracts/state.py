"""What every `StateBackend` must do, as tests for whoever writes one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pytest

from cascade.spec.protocols import StateBackend

_MISSING = object()
NOTHING = object()
"""Says that a backend has no value that it refuses."""


class StateBackendContract(ABC):
    """Tests of a backend; inherit from it in a test module, as a class whose name begins with `Test`.

    Values are plain data (numbers, text, lists, dicts, bytes): a backend that keeps less is no state for runs.

    Attributes:
        persistent: whether a second backend of the same run finds what the first one kept.
        refused: a value that the backend cannot keep, to see that it then keeps nothing of a batch.
    """

    persistent: ClassVar[bool] = False
    refused: ClassVar[object] = NOTHING

    @abstractmethod
    def make_backend(self, run_id: str) -> StateBackend:
        """The backend of a run, which has nothing of it at the first call in each test."""

    def test_it_has_the_methods_of_the_port(self) -> None:
        assert isinstance(self.make_backend("run"), StateBackend)

    def test_of_an_unknown_node_there_is_neither_result_nor_skip(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await _expect_unknown(state, "a#0")

        asyncio.run(scenario())

    @pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "text", b"\x00\xff", {"a": [1, (2.5, None)]}])
    def test_a_result_comes_back_as_it_was(self, value: object) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.put_result("one", value)
            await state.put_many({"many": value}, {})
            for node_id in ("one", "many"):
                assert await state.has_result(node_id)
                found = await state.get_result(node_id)
                assert found == value
                assert type(found) is type(value)
                assert await state.get_skip_reason(node_id) is None

        asyncio.run(scenario())

    def test_a_skip_has_its_reason_and_no_result(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.mark_skipped("one", "ConditionFalse")
            await state.put_many({}, {"many": "Pruned"})
            for node_id, reason in (("one", "ConditionFalse"), ("many", "Pruned")):
                assert await state.get_skip_reason(node_id) == reason
                assert not await state.has_result(node_id)
                assert await _get(state, node_id) is _MISSING

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "node_id",
        ["a#0", "A#0", "a b#1", "../a#2", "a/b\\c#3", "a#3[17]", "a#3@5/b#0", "\n", "задача#0", "n" * 1000, "'", "%"],
    )
    def test_any_text_names_a_node_of_its_own(self, node_id: str) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.put_result("other", 1)
            await state.put_result(node_id, 2)
            assert await state.get_result(node_id) == 2
            assert await state.get_result("other") == 1
            assert await _get(state, node_id + "x") is _MISSING

        asyncio.run(scenario())

    def test_what_is_known_last_of_a_node_counts(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.put_result("a#0", 1)
            await state.put_result("a#0", 2)
            assert await state.get_result("a#0") == 2
            await state.mark_skipped("a#0", "Pruned")
            assert not await state.has_result("a#0")
            assert await _get(state, "a#0") is _MISSING
            assert await state.get_skip_reason("a#0") == "Pruned"
            await state.put_result("a#0", None)
            assert await state.has_result("a#0")
            assert await state.get_skip_reason("a#0") is None
            await state.put_many({}, {"a#0": "RunStopped"})
            assert await state.get_skip_reason("a#0") == "RunStopped"
            await state.put_many({"a#0": 3}, {})
            assert await state.get_result("a#0") == 3
            assert await state.get_skip_reason("a#0") is None

        asyncio.run(scenario())

    def test_a_batch_keeps_everything_and_an_empty_one_changes_nothing(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            results: dict[str, Any] = {f"a#{place}": place for place in range(2000)}
            skips = {f"b#{place}": "Pruned" for place in range(2000)}
            await state.put_many(results, skips)
            await state.put_many({}, {})
            for place in (0, 1, 999, 1999):
                assert await state.get_result(f"a#{place}") == place
                assert await state.get_skip_reason(f"b#{place}") == "Pruned"

        asyncio.run(scenario())

    def test_a_batch_that_cannot_be_kept_is_not_kept_in_part(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.put_result("before", 1)
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the backend says of such a value
                await state.put_many({"a#0": 1, "a#1": self.refused, "a#2": 2}, {"before": "Pruned"})
            for node_id in ("a#0", "a#1", "a#2"):
                await _expect_unknown(state, node_id)
            assert await state.get_result("before") == 1
            assert await state.get_skip_reason("before") is None

        if self.refused is NOTHING:
            pytest.skip("this backend keeps every value")
        asyncio.run(scenario())

    def test_what_is_discarded_is_gone_and_the_rest_stays(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.put_many({"a#0": 1, "b#1": 2}, {"c#2": "Pruned", "d#3": "Pruned"})
            await state.discard(node_id for node_id in ("a#0", "c#2", "never known"))
            await state.discard([])
            await _expect_unknown(state, "a#0")
            await _expect_unknown(state, "c#2")
            assert await state.get_result("b#1") == 2
            assert await state.get_skip_reason("d#3") == "Pruned"
            await state.put_result("a#0", 3)
            assert await state.get_result("a#0") == 3

        asyncio.run(scenario())

    def test_after_clear_nothing_is_known_and_all_can_be_kept_again(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")
            await state.clear()
            await state.put_many({"a#0": 1}, {"b#1": "Pruned"})
            await state.clear()
            await _expect_unknown(state, "a#0")
            await _expect_unknown(state, "b#1")
            await state.put_result("a#0", 2)
            assert await state.get_result("a#0") == 2

        asyncio.run(scenario())

    def test_runs_do_not_see_each_other(self) -> None:
        async def scenario() -> None:
            one, other = self.make_backend("one"), self.make_backend("other")
            await one.put_result("a#0", 1)
            await other.mark_skipped("a#0", "Pruned")
            assert await one.get_result("a#0") == 1
            assert await other.get_skip_reason("a#0") == "Pruned"
            await other.clear()
            assert await one.get_result("a#0") == 1

        asyncio.run(scenario())

    def test_a_second_backend_of_a_run_finds_what_the_first_kept(self) -> None:
        async def scenario() -> None:
            first = self.make_backend("run")
            await first.put_many({"a#0": None, "gone": 1}, {"b#1": "Pruned"})
            await first.discard(["gone"])
            second = self.make_backend("run")
            assert await second.has_result("a#0")
            assert await second.get_result("a#0") is None
            assert await second.get_skip_reason("b#1") == "Pruned"
            await _expect_unknown(second, "gone")

        if not self.persistent:
            pytest.skip("this backend keeps nothing beyond itself")
        asyncio.run(scenario())

    def test_many_coroutines_of_a_loop_use_it_at_once(self) -> None:
        async def scenario() -> None:
            state = self.make_backend("run")

            async def work(own: int) -> None:
                for turn in range(5):
                    await state.put_many({f"a#{own}": turn, f"b#{own}": turn}, {f"c#{own}": str(turn)})
                    assert await state.get_result(f"a#{own}") == turn
                    assert await state.get_skip_reason(f"c#{own}") == str(turn)
                    await state.discard([f"b#{own}"])
                    assert not await state.has_result(f"b#{own}")

            await asyncio.gather(*(work(own) for own in range(20)))

        asyncio.run(scenario())


async def _get(state: StateBackend, node_id: str) -> Any:
    try:
        return await state.get_result(node_id)
    except KeyError:
        return _MISSING


async def _expect_unknown(state: StateBackend, node_id: str) -> None:
    assert not await state.has_result(node_id)
    assert await _get(state, node_id) is _MISSING
    assert await state.get_skip_reason(node_id) is None
