"""`cascade.testing` is one import away, costs nothing before, and needs no pytest."""

from __future__ import annotations

import subprocess
import sys


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_it_is_an_attribute_of_the_package() -> None:
    assert python("import cascade as cs; print(cs.testing.override_resource.__name__)") == "override_resource"


def test_importing_the_package_does_not_import_it() -> None:
    assert python("import cascade, sys; print('cascade.testing' in sys.modules)") == "False"


def test_only_the_contract_suites_need_pytest() -> None:
    assert python("import cascade.testing, sys; print('pytest' in sys.modules)") == "False"


def test_the_facade_has_what_the_modules_define_and_nothing_else() -> None:
    program = """
import cascade.testing as testing, types
names = {name: value for name, value in vars(testing).items() if not name.startswith("_")}
modules = {name for name, value in names.items() if isinstance(value, types.ModuleType)}
print(sorted(set(names) - modules - {"annotations"}))
"""
    assert python(program) == str(
        sorted(
            [
                "ExecutedCall",
                "FailingCacheBackend",
                "FailingStateBackend",
                "FakeCachePolicy",
                "FakeExecutor",
                "FakeSolver",
                "MissingAnswerError",
                "MockClock",
                "SpyCacheBackend",
                "SpyExecutor",
                "SpySolver",
                "SpyStateBackend",
                "SpyStates",
                "SpySubscriber",
                "TraceRecorder",
                "override_resource",
            ]
        )
    )
