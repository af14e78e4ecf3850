"""What every `CacheBackend` must do, as tests for whoever writes one."""

from __future__ import annotations

import asyncio
import math
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from cascade.testing.clock import MockClock

if TYPE_CHECKING:
    from cascade.spec.protocols import CacheBackend

_MISSING = object()


class CacheBackendContract(ABC):
    """Tests of a backend; inherit from it in a test module, as a class whose name begins with `Test`.

    Values are plain data (numbers, text, lists, dicts, bytes): a backend that keeps less is no cache for
    tasks.

    Attributes:
        clock: for `make_backend` to hand on, so that values can be made to expire.
        obeys_clock: `False` where the backend has its own time, as a server has: what needs time is skipped.
    """

    clock: MockClock
    obeys_clock = True

    @abstractmethod
    def make_backend(self) -> CacheBackend:
        """A new backend, empty at the first call in each test; later calls may give the same store."""

    @pytest.fixture(autouse=True)
    def _new_clock(self) -> None:
        self.clock = MockClock(autojump_threshold=math.inf)

    def test_a_key_never_put_is_a_key_error(self) -> None:
        assert asyncio.run(_get(self.make_backend(), "absent")) is _MISSING

    @pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "text", b"\x00\xff", {"a": [1, (2.5, None)]}])
    def test_a_value_comes_back_as_it_was(self, value: object) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            await backend.put("key", value)
            found = await backend.get("key")
            assert found == value
            assert type(found) is type(value)

        asyncio.run(scenario())

    def test_a_large_value_comes_back_as_it_was(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            value = bytes(range(256)) * 8192
            await backend.put("key", value)
            assert await backend.get("key") == value

        asyncio.run(scenario())

    @pytest.mark.parametrize("key", ["a", "A", "a b", "../a", "a/b", "a\\b", ".", "%00", "\n", "ключ", "k" * 1000, ""])
    def test_any_text_is_a_key_of_its_own(self, key: str) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            await backend.put("other", 1)
            await backend.put(key, 2)
            assert await backend.get(key) == 2
            assert await backend.get("other") == 1
            assert await _get(backend, key + "x") is _MISSING

        asyncio.run(scenario())

    def test_the_last_put_wins(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            await backend.put("key", 1)
            await backend.put("key", 2)
            assert await backend.get("key") == 2

        asyncio.run(scenario())

    def test_what_is_discarded_is_gone_and_the_rest_stays(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            await backend.put("key", 1)
            await backend.put("other", 2)
            await backend.discard("key")
            assert await _get(backend, "key") is _MISSING
            assert await backend.get("other") == 2
            await backend.put("key", 3)
            assert await backend.get("key") == 3

        asyncio.run(scenario())

    def test_discarding_what_is_not_there_is_no_error(self) -> None:
        asyncio.run(self.make_backend().discard("absent"))

    def test_changing_a_value_after_it_was_put_or_got_changes_no_cache(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            value = {"items": [1]}
            await backend.put("key", value)
            value["items"].append(2)
            found = await backend.get("key")
            assert found == {"items": [1]}
            found["items"].append(3)
            assert await backend.get("key") == {"items": [1]}

        asyncio.run(scenario())

    def test_a_value_that_cannot_be_kept_is_an_error_and_leaves_nothing(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            with pytest.raises(Exception, match=r".+"):
                await backend.put("key", threading.Lock())
            assert await _get(backend, "key") is _MISSING

        asyncio.run(scenario())

    def test_a_value_is_there_until_its_time_is_over(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            await backend.put("short", 1, ttl=10.0)
            await backend.put("long", 2, ttl=100.0)
            await backend.put("ever", None)
            self._advance(9.0)
            assert await backend.get("short") == 1
            self._advance(2.0)
            assert await _get(backend, "short") is _MISSING
            assert await backend.get("long") == 2
            self._advance(1_000_000.0)
            assert await _get(backend, "long") is _MISSING
            assert await backend.get("ever") is None

        asyncio.run(scenario())

    def test_a_new_put_begins_a_new_time(self) -> None:
        async def scenario() -> None:
            backend = self.make_backend()
            await backend.put("renewed", 1, ttl=10.0)
            await backend.put("for ever", 1, ttl=10.0)
            self._advance(9.0)
            await backend.put("renewed", 2, ttl=10.0)
            await backend.put("for ever", 2)
            self._advance(9.0)
            assert await backend.get("renewed") == 2
            self._advance(2.0)
            assert await _get(backend, "renewed") is _MISSING
            assert await backend.get("for ever") == 2

        asyncio.run(scenario())

    def test_one_backend_serves_many_threads_and_loops_at_once(self) -> None:
        backend = self.make_backend()
        errors: list[BaseException] = []
        together = threading.Barrier(4)

        async def scenario(own: int) -> None:
            for turn in range(25):
                await backend.put("shared", [turn] * 100)
                found = await backend.get("shared")
                assert len(found) == 100
                assert len(set(found)) == 1
                await backend.put(f"own {own}", turn)
                assert await backend.get(f"own {own}") == turn
                await backend.discard(f"own {own}")
                assert await _get(backend, f"own {own}") is _MISSING

        def work(own: int) -> None:
            try:
                together.wait()
                asyncio.run(scenario(own))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors

    def _advance(self, seconds: float) -> None:
        if not self.obeys_clock:
            pytest.skip("this backend has its own time")
        self.clock.advance(seconds)


async def _get(backend: CacheBackend, key: str) -> Any:
    try:
        return await backend.get(key)
    except KeyError:
        return _MISSING
