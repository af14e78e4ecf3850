"""A subscriber that keeps everything that it hears."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from cascade.runtime.events import Event

if TYPE_CHECKING:
    from typing import Self

    from cascade.runtime.bus import MessageBus

E = TypeVar("E", bound=Event)


class SpySubscriber:
    """Keeps the events of a bus, from as many runs and threads as use it.

    As a context manager it stops listening at the end of the block.

    Args:
        bus: where it listens, from now on.

    >>> import cascade as cs
    >>> from cascade.runtime.events import TaskExecutionFinished
    >>> bus = cs.MessageBus()
    >>> spy = SpySubscriber(bus)
    >>> cs.run(cs.task(len)("four"), bus=bus, log_level="CRITICAL")
    4
    >>> [event.result_preview for event in spy.events_of_type(TaskExecutionFinished)]
    ['4']
    """

    def __init__(self, bus: MessageBus) -> None:
        self._events: list[Event] = []
        self._heard = threading.Condition()
        self._cancel = bus.subscribe(Event, self._hear)

    @property
    def events(self) -> list[Event]:
        """Everything heard so far, in the order of delivery; a list of its own."""
        with self._heard:
            return list(self._events)

    def events_of_type(self, event_type: type[E]) -> list[E]:
        """The events of one type, or of the types that derive from it."""
        return [event for event in self.events if isinstance(event, event_type)]

    def wait_for(self, event_type: type[E], count: int = 1, *, patience: float = 10.0) -> list[E]:
        """Wait until a number of events of a type have been heard; not on the loop of the run, which tells them.

        Args:
            count: how many there must be in all.
            patience: how long to wait at most, in real seconds.

        Raises:
            TimeoutError: there were fewer when patience was over; the message tells what there was.
        """
        with self._heard:
            if self._heard.wait_for(lambda: len(self.events_of_type(event_type)) >= count, patience):
                return self.events_of_type(event_type)
            heard = ", ".join(type(event).__name__ for event in self._events) or "nothing"
        raise TimeoutError(f"expected {count} {event_type.__name__} within {patience:g} s, heard: {heard}")

    def clear(self) -> None:
        """Forget what was heard."""
        with self._heard:
            self._events.clear()

    def close(self) -> None:
        """Stop listening; what was heard stays."""
        self._cancel()

    def _hear(self, event: Event) -> None:
        with self._heard:
            self._events.append(event)
            self._heard.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
