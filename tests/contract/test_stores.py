"""Every store keeps the contract of `Store` (S27)."""

from __future__ import annotations

import pytest

from cascade.testing.contracts.store import StoreContract

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql")


class TestSqliteStore(StoreContract):
    opener = "cascade.adapters.stores.sql:open_sql_store"

    @pytest.fixture(autouse=True)
    def _own_file(self, tmp_path):
        self.url = f"sqlite:///{tmp_path}/flows.db"


class TestPostgresqlStore(StoreContract):
    opener = "cascade.adapters.stores.sql:open_sql_store"

    @pytest.fixture(autouse=True)
    def _own_database(self, postgresql_url):
        self.url = postgresql_url
