"""How much is told."""

from __future__ import annotations

from enum import IntEnum

from cascade.runtime.events import (
    Event,
    LoopBlocked,
    RunBlocked,
    RunFinished,
    RunStarted,
    TaskAbandoned,
    TaskBlocked,
    TaskLogged,
    TaskRetrying,
)


class Level(IntEnum):
    """The least weight of what is told; numbered as in `logging`."""

    DEBUG = 10
    """Every event."""
    INFO = 20
    """How far a run has come, and what holds it up."""
    WARNING = 30
    """What went wrong and was helped."""
    ERROR = 40
    """What went wrong."""
    CRITICAL = 50
    """Nothing."""

    @classmethod
    def named(cls, name: str) -> Level:
        """The level of a name, in capitals or not.

        Raises:
            ValueError: there is none of that name.

        >>> Level.named("debug") is Level.DEBUG
        True
        """
        level = cls.__members__.get(name.upper()) if isinstance(name, str) else None
        if level is None:
            raise ValueError(f"log_level is one of {', '.join(cls.__members__)}, got {name!r}")
        return level


RARE: dict[type[Event], Level] = {
    RunBlocked: Level.INFO,
    RunStarted: Level.INFO,
    TaskBlocked: Level.INFO,
    TaskRetrying: Level.WARNING,
    TaskAbandoned: Level.WARNING,
    LoopBlocked: Level.WARNING,
    # These at their lightest: a run that fails weighs more, and a log message as much as it says.
    RunFinished: Level.INFO,
    TaskLogged: Level.DEBUG,
}
"""The events that a run has few of, so that hearing them costs it nothing; all others are told at `DEBUG`."""


def level_of(event: Event) -> Level:
    """How much an event weighs."""
    if isinstance(event, RunFinished):
        return {"Succeeded": Level.INFO, "Cancelled": Level.WARNING, "Failed": Level.ERROR}[event.status]
    if isinstance(event, TaskLogged):
        # Levels of a program's own weigh as much as what is told of a run.
        return Level.__members__.get(event.level, Level.INFO)
    return RARE.get(type(event), Level.DEBUG)
