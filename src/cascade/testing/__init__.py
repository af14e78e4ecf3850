"""What tests of workflows need: a clock that jumps, spies and fakes for each port, traces, and overrides.

Contract suites for those who write an adapter of their own are in `cascade.testing.contracts`; they need pytest.
"""

from __future__ import annotations

from cascade.testing.caches import FailingCacheBackend as FailingCacheBackend
from cascade.testing.caches import FakeCachePolicy as FakeCachePolicy
from cascade.testing.caches import SpyCacheBackend as SpyCacheBackend
from cascade.testing.clock import MockClock as MockClock
from cascade.testing.executors import ExecutedCall as ExecutedCall
from cascade.testing.executors import FakeExecutor as FakeExecutor
from cascade.testing.executors import MissingAnswerError as MissingAnswerError
from cascade.testing.executors import SpyExecutor as SpyExecutor
from cascade.testing.overrides import override_resource as override_resource
from cascade.testing.solvers import FakeSolver as FakeSolver
from cascade.testing.solvers import SpySolver as SpySolver
from cascade.testing.states import FailingStateBackend as FailingStateBackend
from cascade.testing.states import SpyStateBackend as SpyStateBackend
from cascade.testing.states import SpyStates as SpyStates
from cascade.testing.subscriber import SpySubscriber as SpySubscriber
from cascade.testing.trace import TraceRecorder as TraceRecorder
