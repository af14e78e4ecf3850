"""Every solver keeps the contract of `Solver` (S8)."""

from __future__ import annotations

from cascade.adapters.solvers.native import NativeSolver
from cascade.spec.protocols import Solver
from cascade.testing import FakeSolver, SpySolver
from cascade.testing.contracts.solver import SolverContract


class TestNativeSolver(SolverContract):
    def make_solver(self) -> Solver:
        return NativeSolver()


class TestSpySolver(SolverContract):
    def make_solver(self) -> Solver:
        return SpySolver()


class TestFakeSolver(SolverContract):
    def make_solver(self) -> Solver:
        return FakeSolver()
