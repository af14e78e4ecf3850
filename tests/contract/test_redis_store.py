"""The store in Redis keeps the contract of `Store` (S27)."""

from __future__ import annotations

import pytest

from cascade.testing.contracts.store import StoreContract

pytestmark = pytest.mark.needs_extra("redis")


class TestRedisStore(StoreContract):
    opener = "cascade.adapters.stores.redis_store:open_redis_store"

    @pytest.fixture(autouse=True)
    def _own_database(self, redis_url):
        self.url = redis_url
