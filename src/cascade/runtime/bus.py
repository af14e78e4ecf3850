"""The bus on which a run tells what happens."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cascade.runtime.events import Event

if TYPE_CHECKING:
    from contextvars import Context

E = TypeVar("E", bound=Event)
T = TypeVar("T")
_log: Final = logging.getLogger("cascade.bus")


class MessageBus:
    """Hands events to those who subscribed to their type or to a base of it.

    Handlers are called one after another, also when several runs share the bus. One that raises is logged and harms
    nobody. With no subscriber for a type, engines do not even build the event.

    >>> from cascade.runtime.events import RunStarted
    >>> bus = MessageBus()
    >>> cancel = bus.subscribe(RunStarted, lambda event: print(event.target_tasks))
    >>> bus.publish(RunStarted(run_id="r", target_tasks=("total",), params={}))
    ('total',)
    >>> cancel()
    >>> bus.wants(RunStarted)
    False
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._handlers: list[tuple[type[Event], Callable[[Any], object]]] = []
        self._by_type: dict[type[Event], tuple[Callable[[Any], object], ...]] = {}
        self._watchers: list[Callable[[], object]] = []
        self._preparers: list[Callable[[str], object]] = []

    def subscribe(self, event_type: type[E], handler: Callable[[E], object]) -> Callable[[], None]:
        """Call the handler with every event of a type; `Event` stands for all of them.

        Args:
            event_type: the type, or a base of several.
            handler: a plain function; what it returns is not used.

        Returns:
            A function that ends the subscription.

        Raises:
            TypeError: the type is no event, or the handler is a coroutine function.
        """
        if not (isinstance(event_type, type) and issubclass(event_type, Event)):
            raise TypeError(f"subscribe takes a type of event such as cascade.Event, got {event_type!r}")
        if inspect.iscoroutinefunction(handler) or not callable(handler):
            raise TypeError(
                f"a handler is a plain function, called as the event is delivered, got {handler!r}; "
                "hand the event to a queue that a coroutine reads"
            )
        entry = (event_type, handler)
        with self._lock:
            self._handlers.append(entry)
            self._by_type = {}
            watchers = self._watchers.copy()
        for watcher in watchers:
            watcher()

        def cancel() -> None:
            with self._lock:
                if entry in self._handlers:
                    self._handlers.remove(entry)
                    self._by_type = {}

        return cancel

    def watch(self, watcher: Callable[[], object]) -> Callable[[], None]:
        """Have something called when somebody subscribes: who is not listened to need not ask again and again.

        Returns:
            A function that ends this.
        """
        return self._keep(self._watchers, watcher)

    def in_each_run(self, prepare: Callable[[str], object]) -> Callable[[], None]:
        """Call something at the start of each run, in the context of which all calls of that run see a copy.

        Args:
            prepare: called with the run's id; it may set context variables.

        Returns:
            A function that ends this.
        """
        return self._keep(self._preparers, prepare)

    def _keep(self, entries: list[T], entry: T) -> Callable[[], None]:
        """Add an entry; what takes it away again, and may be called twice."""
        with self._lock:
            entries.append(entry)

        def cancel() -> None:
            with self._lock:
                if entry in entries:
                    entries.remove(entry)

        return cancel

    def prepare(self, context: Context, run_id: str) -> None:
        """Let those who asked for it prepare the context of a run."""
        for prepare in self._preparers.copy():
            try:
                context.run(prepare, run_id)
            except Exception:
                _log.exception("the context of a run could not be prepared; the run goes on")

    @property
    def has_handlers(self) -> bool:
        """Whether anybody listens to anything, or takes part in runs."""
        return bool(self._handlers or self._preparers)

    def wants(self, event_type: type[Event]) -> bool:
        """Whether anybody listens to this type."""
        return bool(self._handlers) and bool(self._handlers_of(event_type))

    def publish(self, event: Event) -> None:
        """Hand one event to its handlers, now."""
        self.publish_all(deque((event,)))

    def publish_all(self, outbox: deque[Event]) -> None:
        """Hand over all events of a queue and take them from it, whoever else is about to do the same."""
        take = outbox.popleft
        with self._lock:
            while outbox:
                event = take()
                for handler in self._by_type.get(type(event)) or self._handlers_of(type(event)):
                    try:
                        handler(event)
                    except Exception:
                        _log.exception("a subscriber raised on %s; the run goes on", type(event).__name__)

    def _handlers_of(self, event_type: type[Event]) -> tuple[Callable[[Any], object], ...]:
        found = self._by_type.get(event_type)
        if found is None:
            with self._lock:
                found = tuple(handler for kind, handler in self._handlers if issubclass(event_type, kind))
                self._by_type[event_type] = found
        return found
