"""Durable runs in SQLite and PostgreSQL."""

from __future__ import annotations

from cascade.adapters.stores.sql.opening import open_sql_store as open_sql_store
