"""Caches: policies that make keys, and backends that keep values; each is imported from its module."""
