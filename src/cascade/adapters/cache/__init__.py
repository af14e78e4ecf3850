"""Caches: policies that make keys, and backends that keep values."""

from cascade.adapters.cache.directory import CacheKeyFileError, DirectoryCacheBackend
from cascade.adapters.cache.file_existence import FileExistenceCache, FileNotProducedError
from cascade.adapters.cache.inputs import InputsCache
from cascade.adapters.cache.memory import InMemoryCacheBackend

__all__ = [
    "CacheKeyFileError",
    "DirectoryCacheBackend",
    "FileExistenceCache",
    "FileNotProducedError",
    "InMemoryCacheBackend",
    "InputsCache",
]
