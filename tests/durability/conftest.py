"""What the tests of durable runs share: a key of their own, and processes to kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cascade.runtime import fault_points
from tests.durability.processes import Processes, processes

STORES = ("sqlite", "postgresql", "redis")


@pytest.fixture(autouse=True, scope="session")
def _own_key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASCADE_KEY", "ab" * 32)
        yield


@pytest.fixture(autouse=True)
def _no_fault_points_stay_set() -> Iterator[None]:
    yield
    fault_points.on_reach = None


@pytest.fixture(scope="session")
def children() -> Iterator[Processes]:
    """Runs shapes in processes of their own."""
    with processes() as made:
        yield made


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest) -> str:
    """A store with nothing in it, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/flows.db"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
