"""Every state backend keeps the contract of `StateBackend` (DESIGN: the one truth about a run)."""

from __future__ import annotations

from cascade.adapters.state import InMemoryStateBackend
from cascade.spec.protocols import StateBackend
from cascade.testing import SpyStateBackend
from cascade.testing.contracts.state import StateBackendContract


class TestInMemoryStateBackend(StateBackendContract):
    def make_backend(self, run_id: str) -> StateBackend:
        return InMemoryStateBackend(run_id)


class TestSpyStateBackend(StateBackendContract):
    def make_backend(self, run_id: str) -> StateBackend:
        return SpyStateBackend(InMemoryStateBackend(run_id))
