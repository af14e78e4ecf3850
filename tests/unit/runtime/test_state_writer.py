"""Writing through to a state backend: in order, in batches, and nothing after a failure. (S15, S27)"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cascade.runtime.state import InMemoryStateBackend
from cascade.runtime.state_writer import StateWriter


class Recording(InMemoryStateBackend):
    """Notes its batches; the one with a given number fails."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.fails_at = fails_at

    async def put_many(self, results: Any, skips: Any) -> None:
        self.batches.append([*results, *skips])
        await asyncio.sleep(0)
        if len(self.batches) - 1 == self.fails_at:
            raise OSError("disk full")


def test_entries_from_any_thread_are_written_in_order_by_the_time_of_the_flush() -> None:
    async def main() -> list[list[str]]:
        backend = Recording()
        writer = StateWriter(backend, asyncio.get_running_loop())

        def note() -> None:
            for n in range(100):
                writer.result(str(n), n)

        threads = [threading.Thread(target=note) for _ in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(0)
        for thread in threads:
            thread.join()
        writer.skip("last", "Pruned")
        await writer.flush()
        return backend.batches

    written = [entry for batch in asyncio.run(main()) for entry in batch]
    assert set(written) == {*map(str, range(100)), "last"}
    assert written[-1] == "last"


def test_the_first_failure_is_kept_and_nothing_is_written_after_it() -> None:
    async def main() -> list[list[str]]:
        backend = Recording(fails_at=1)
        writer = StateWriter(backend, asyncio.get_running_loop())
        for name in "abc":
            writer.result(name, 1)
            # Until this batch has been written, or has failed.
            for _ in range(5):
                await asyncio.sleep(0)
        with pytest.raises(OSError, match="disk full"):
            await writer.flush()
        return backend.batches

    assert asyncio.run(main()) == [["a"], ["b"]]


def test_a_call_that_outlives_its_loop_may_still_note_what_it_gave() -> None:
    async def main() -> StateWriter:
        return StateWriter(Recording(), asyncio.get_running_loop())

    writer = asyncio.run(main())
    writer.result("late", 1)
