"""Every executor keeps the contract of `Executor`, for each kind of call that it makes (S6, S7, S20)."""

from __future__ import annotations

import pytest

from cascade.adapters.executors.local import LocalExecutor
from cascade.spec.protocols import Executor
from cascade.testing import FakeExecutor, SpyExecutor
from cascade.testing.contracts.executor import ExecutorContract


class TestLocalExecutorOnThreads(ExecutorContract):
    def make_executor(self) -> Executor:
        return LocalExecutor()


class TestLocalExecutorOnThreadsByName(TestLocalExecutorOnThreads):
    executor_name = "thread"


class TestLocalExecutorOnTheLoop(ExecutorContract):
    calls_coroutines = True

    def make_executor(self) -> Executor:
        return LocalExecutor()


class TestLocalExecutorInline(ExecutorContract):
    executor_name = "inline"
    leaves_the_loop = False

    def make_executor(self) -> Executor:
        return LocalExecutor()


@pytest.mark.needs_extra("process")
class TestLocalExecutorInProcesses(ExecutorContract):
    executor_name = "process"
    sees_context = False

    def make_executor(self) -> Executor:
        return LocalExecutor(max_processes=2, grace=0.2)


class TestSpyExecutor(ExecutorContract):
    def make_executor(self) -> Executor:
        return SpyExecutor()


class TestFakeExecutor(ExecutorContract):
    def make_executor(self) -> Executor:
        return FakeExecutor({}, otherwise=LocalExecutor())
