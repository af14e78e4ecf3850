"""Where the state of runs is kept."""

from cascade.runtime.state import InMemoryStateBackend

__all__ = ["InMemoryStateBackend"]
