"""Durable runs in Redis."""

from __future__ import annotations

from cascade.adapters.stores.redis_store.opening import open_redis_store as open_redis_store
