"""What all tests of stores stand on: opening stores, texts that are hard to keep, threads and processes."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

import pytest

if TYPE_CHECKING:
    from cascade.spec.protocols import Store

ODD_TEXTS = (
    "",
    "'; DROP TABLE runs; --",
    "\x1b[31mred\x1b[0m\r\n",
    "a\0b",
    "\0",
    "\ud800 lone \udfff",
    "\x1a0000",
    "\\x00 \\ %s ? :name {0}",
    "ключ 鍵 🔑",
    "e\u0301 \u00e9",
    "x" * 10_000,
)


class OpenedStores(ABC):
    """Opens the stores of a test and closes them when it has ended.

    Attributes:
        opener: what opens a store by its URL, as `package.module:function`.
        url: the URL of a store with nothing in it, for a fixture of the class to set before each test.
    """

    opener: ClassVar[str]
    url: str

    @pytest.fixture(autouse=True)
    def _stores_are_closed(self) -> Iterator[None]:
        with contextlib.ExitStack() as self._opened:
            yield

    def open(self) -> Store:
        """Open the store once more; it is closed when the test has ended."""
        module, _, name = self.opener.partition(":")
        open_store: Callable[[str], Store] = getattr(import_module(module), name)
        store = open_store(self.url)
        self._opened.callback(store.close)
        return store


def run_threads(work: Callable[[int], None], count: int) -> None:
    """Do some work on so many threads at once, and wait for them."""
    threads = [threading.Thread(target=work, args=(own,)) for own in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
