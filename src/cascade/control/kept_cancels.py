"""Cancelling a run from another process: the wish is a setting of its store until the run's owner takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.spec.protocols import Store

SECONDS_KEPT: Final = 3600.0
"""For how long a run that nobody has is cancelled when somebody goes on with it: as after a crash, by a supervisor.

Who resumes it later than that means it.
"""
_PREFIX: Final = "cancel:"


def keep_cancel(store: Store, run_id: str, reason: str, now: float) -> None:
    """Have a run cancelled by the process that has it, now or within `SECONDS_KEPT`.

    Args:
        reason: why, for people.
        now: in seconds since the epoch.
    """
    store.put_setting(_PREFIX + run_id, reason, now + SECONDS_KEPT)


def reason_to_cancel(settings: Mapping[str, str], run_id: str) -> str | None:
    """Why a run is to be cancelled; `None` if it is not."""
    return settings.get(_PREFIX + run_id)


def forget_cancel(store: Store, run_id: str) -> None:
    """Note that it was done, or is not wanted any more."""
    store.remove_setting(_PREFIX + run_id)
