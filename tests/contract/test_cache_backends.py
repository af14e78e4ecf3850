"""Every cache backend keeps the contract of `CacheBackend` (S25)."""

from __future__ import annotations

import pytest

from cascade.adapters.cache.directory import DirectoryCacheBackend
from cascade.adapters.cache.memory import InMemoryCacheBackend
from cascade.adapters.cache.store import StoreCacheBackend
from cascade.spec.protocols import CacheBackend
from cascade.stores import open_durable
from cascade.testing.contracts.cache import CacheBackendContract


class TestInMemoryCacheBackend(CacheBackendContract):
    def make_backend(self) -> CacheBackend:
        return InMemoryCacheBackend(clock=self.clock)


class TestDirectoryCacheBackend(CacheBackendContract):
    @pytest.fixture(autouse=True)
    def _own_directory(self, tmp_path):
        self.directory = tmp_path / "cache"

    def make_backend(self) -> CacheBackend:
        return DirectoryCacheBackend(self.directory, clock=self.clock)


class TestBoundedDirectoryCacheBackend(TestDirectoryCacheBackend):
    def make_backend(self) -> CacheBackend:
        return DirectoryCacheBackend(self.directory, max_bytes=100_000_000, clock=self.clock)


@pytest.mark.needs_extra("sqlite")
class TestStoreCacheBackend(CacheBackendContract):
    @pytest.fixture(autouse=True)
    def _own_store(self, tmp_path):
        self.url = f"sqlite:///{tmp_path / 'store.db'}"
        self.opened = []
        yield
        for durable in self.opened:
            durable.close()

    def make_backend(self) -> CacheBackend:
        durable = open_durable(self.url, environment={"CASCADE_KEY": "ab" * 32})
        self.opened.append(durable)
        return StoreCacheBackend(durable, clock=self.clock)
