"""Every error that Cascade raises on purpose, under one root.

    CascadeError
      LazyValueError (TypeError)              a lazy value used as if it were its result
      LazyAttributeError (AttributeError)     likewise, for an attribute of the result
      TaskArgumentError (TypeError)           a call does not fit the task's signature
      DeclarationError (ValueError)           a declaration that cannot mean anything
      MissingExtraError (ImportError)         an optional library is not installed
      ValidationError (ValueError)            found before anything ran; lists every problem
        ParameterError                        missing, unknown or ill-typed inputs
        UnknownResourceError (NameError)      an injected name nobody defined
        ResourceCycleError                    resources that inject each other in a circle
        GraphCycleError                       a sequence that contradicts the data
        CapacityError                         an amount that the system can never give
      RunError
        DependencyMissingError (LookupError)  a wanted value was skipped
        UnknownRouteError (ValueError)        a selector's value that is no route
        MapInputError (ValueError)            inputs of a map that do not fit together
        TaskResultError (TypeError)           a task returned what it must not
        TaskTimeoutError (TimeoutError)       a call took longer than allowed
        ResourceError                         an injected resource broke its protocol
        NestedRunError (RuntimeError)         a run started where it would block its own engine
        EngineClosedError (RuntimeError)      an engine used after its end
        RunCancelledError                     a run stopped from outside
        RunTimeoutError (TimeoutError)        a run took longer than allowed
        RunOwnedError                         a durable run that another process has
        StoreError (OSError)                  a durable store that failed for good
        ResumeError (ValueError)              a durable run that cannot go on like this
      UnserializableValueError (TypeError)    a value that has no form as bytes
      CorruptedValueError (ValueError)        stored bytes that were altered, or cannot be loaded any more
        ChangedCodeError (LookupError)        a stored value whose class the program no longer has
      RunFailedGroup (ExceptionGroup)         all failures of a run that went on after the first

An exception raised by a task is never wrapped: it arrives with its own type and with notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class CascadeError(Exception):
    """The root of every error that Cascade raises on purpose."""


class CascadeWarning(UserWarning):
    """The root of every warning that Cascade gives."""


class ThreadTimeoutWarning(CascadeWarning):
    """A timeout was set on a task that runs on a thread, which no timeout can stop."""


class BlockedLoopWarning(CascadeWarning):
    """A task keeps the event loop from everything else: it computes, or waits for something without `await`."""


class StoreWarning(CascadeWarning):
    """A durable store may lose what was committed, as far as its settings tell."""


class VolatileValueWarning(CascadeWarning):
    """A durable run cannot keep a value, so that the task will be called again when the run is resumed."""


class LazyValueError(CascadeError, TypeError):
    """A lazy value was used as if it were already its result."""


class LazyAttributeError(CascadeError, AttributeError):
    """An attribute of a result was asked of its lazy value."""


class TaskArgumentError(CascadeError, TypeError):
    """A call does not fit the signature of its task.

    Attributes:
        task_name: the task that was called.
        signature: the parameters that it has, as text.
    """

    def __init__(self, task_name: str, signature: str, problem: str) -> None:
        super().__init__(task_name, signature, problem)
        self.task_name = task_name
        self.signature = signature
        self.problem = problem

    def __str__(self) -> str:
        return f"task '{self.task_name}': {self.problem}; it takes {self.task_name}{self.signature}"


class DeclarationError(CascadeError, ValueError):
    """A declaration cannot mean anything, whatever the inputs."""


class MissingExtraError(CascadeError, ImportError):
    """An optional library is not installed.

    Attributes:
        extra: the extra of `cascade-py` that brings it.
    """

    def __init__(self, feature: str, library: str, extra: str) -> None:
        super().__init__(feature, library, extra)
        self.feature = feature
        self.library = library
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.feature} needs {self.library}: pip install 'cascade-py[{self.extra}]'"


class ValidationError(CascadeError, ValueError):
    """Something is known to be wrong before anything runs.

    Attributes:
        problems: one line for each thing that is wrong.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems:{lines}"


class ParameterError(ValidationError):
    """Inputs of a workflow are missing, unknown or of another type."""


class UnknownResourceError(ValidationError, NameError):
    """A task or a resource injects a name that nobody defined."""


class ResourceCycleError(ValidationError):
    """Resources inject each other in a circle."""


class GraphCycleError(ValidationError):
    """The order that a sequence asks for contradicts what the values depend on."""


class CapacityError(ValidationError):
    """An amount that the system can never give, or that is no amount."""


class RunError(CascadeError):
    """Something went wrong while a workflow ran."""


class DependencyMissingError(RunError, LookupError):
    """A value that was asked for does not exist, because it was skipped.

    Attributes:
        task_id: who asked: a node's id, or `target`.
        arg_name: for what.
        dependency_id: the id of the skipped node.
        reason: one of the reasons of a skip, as `ConditionFalse`.
    """

    def __init__(self, task_id: str, arg_name: str, dependency_id: str, reason: str = "") -> None:
        super().__init__(task_id, arg_name, dependency_id, reason)
        self.task_id = task_id
        self.arg_name = arg_name
        self.dependency_id = dependency_id
        self.reason = reason

    def __str__(self) -> str:
        because = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.task_id} needs '{self.arg_name}' from {self.dependency_id}, which was skipped{because}; "
            "a value is only there if its condition holds: route around it with Router, "
            "or put it into a pipeline or a sequence"
        )


class UnknownRouteError(RunError, ValueError):
    """A router's selector gave a value for which there is no route.

    Attributes:
        value: what the selector gave.
        routes: the keys that there are.
    """

    def __init__(self, selector: str, value: object, routes: Sequence[object]) -> None:
        super().__init__(selector, value, routes)
        self.selector = selector
        self.value = value
        self.routes = tuple(routes)

    def __str__(self) -> str:
        known = ", ".join(_shown(route) for route in self.routes) or "none"
        return f"no route for {_shown(self.value)}, the value of the selector '{self.selector}'; routes: {known}"


class MapInputError(RunError, ValueError):
    """The inputs of a map do not fit together.

    Attributes:
        lengths: the length of each input by name; `None` where it has none.
    """

    def __init__(self, task_name: str, lengths: Mapping[str, int | None], problem: str) -> None:
        super().__init__(task_name, lengths, problem)
        self.task_name = task_name
        self.lengths = dict(lengths)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.task_name}.map: {self.problem}"


class TaskResultError(RunError, TypeError):
    """A task returned something that a task must not return."""


class TaskTimeoutError(RunError, TimeoutError):
    """A call took longer than its timeout.

    Attributes:
        task_id: the node whose call it was.
        task_name: its task.
        timeout: what was allowed, in seconds.
    """

    def __init__(self, task_id: str, task_name: str, timeout: float) -> None:
        super().__init__(task_id, task_name, timeout)
        self.task_id = task_id
        self.task_name = task_name
        self.timeout = timeout

    def __str__(self) -> str:
        return f"task '{self.task_name}' ({self.task_id}) took longer than its timeout of {self.timeout:g} s"


class ResourceError(RunError):
    """An injected resource did not keep the protocol of resources."""


class NestedRunError(RunError, RuntimeError):
    """A run was started where it would block the engine that it needs."""


class EngineClosedError(RunError, RuntimeError):
    """An engine was used after it had been closed."""


class RunCancelledError(RunError):
    """A run was stopped from outside, by its handle, its engine or a command; the message is the reason."""


class RunTimeoutError(RunError, TimeoutError):
    """A run took longer than allowed, and was stopped.

    Attributes:
        run_id: the run.
        timeout: what was allowed, in seconds.
    """

    def __init__(self, run_id: str, timeout: float) -> None:
        super().__init__(run_id, timeout)
        self.run_id = run_id
        self.timeout = timeout

    def __str__(self) -> str:
        return f"run '{self.run_id}' took longer than its timeout of {self.timeout:g} s, and was stopped"


class RunOwnedError(RunError):
    """Another process has a durable run, or has taken it over.

    Attributes:
        run_id: the run.
        owner: who has it, in words; empty where that is not known.
    """

    def __init__(self, run_id: str, owner: str, problem: str) -> None:
        super().__init__(run_id, owner, problem)
        self.run_id = run_id
        self.owner = owner
        self.problem = problem

    def __str__(self) -> str:
        by = f" by {self.owner}" if self.owner else ""
        return f"run '{self.run_id}' is owned{by}: {self.problem}"


class StoreError(RunError, OSError):
    """A durable store failed for good; what it had committed before is safe.

    Attributes:
        store: the store, without passwords.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"store {self.store}: {self.problem}"


class ResumeError(RunError, ValueError):
    """A durable run cannot go on with what it was given this time."""


class UnserializableValueError(CascadeError, TypeError):
    """A value, or something inside it, has no meaning outside this process.

    Attributes:
        value_type: the type of what cannot be kept.
        path: where it is in the value, as `result['model'][3]`.
        problem: what was wrong with it.
        task_name: the task that returned the value; whoever knows it sets it.
    """

    def __init__(self, value_type: type, path: str, problem: str, task_name: str | None = None) -> None:
        super().__init__(value_type, path, problem, task_name)
        self.value_type = value_type
        self.path = path
        self.problem = problem
        self.task_name = task_name

    def __str__(self) -> str:
        task = "" if self.task_name is None else f"task '{self.task_name}': "
        kind = self.value_type.__qualname__
        if self.value_type.__module__ != "builtins":
            kind = f"{self.value_type.__module__}.{kind}"
        return (
            f"{task}cannot keep {self.path}: a {kind} ({self.problem}); expected plain data, a registered dataclass, "
            "or what pickle can take. Return data or the path of a file instead, let whoever needs a live object "
            "inject a resource, or define its class at the top level of a module and register it with cs.register_type"
        )


class CorruptedValueError(CascadeError, ValueError):
    """Bytes in a store are not what was written there, or cannot be loaded any more.

    Attributes:
        problem: what is wrong with them.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"a stored value was refused: {self.problem}"


class ChangedCodeError(CorruptedValueError, LookupError):
    """A stored value is whole, but needs something that the program no longer has in that form.

    Attributes:
        name: what it needs, as `module:qualname`.
        problem: what came instead.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.args = (name, problem)
        self.name = name

    def __str__(self) -> str:
        return (
            f"a stored value needs '{self.name}', {self.problem}; "
            "go on with code that has it as it was, or begin anew under another run id"
        )


class RunFailedGroup(CascadeError, ExceptionGroup[Exception]):
    """All failures of a run with `on_failure="continue"`, and what was computed all the same.

    Attributes:
        results: the value of each lazy value that has one.
    """

    results: Mapping[Any, Any]

    if TYPE_CHECKING:

        def __init__(
            self, message: str, exceptions: Sequence[Exception], results: Mapping[Any, Any] | None = None
        ) -> None: ...

    def __new__(cls, message: str, exceptions: Sequence[Exception], results: Mapping[Any, Any] | None = None) -> Self:
        group = super().__new__(cls, message, exceptions)
        group.results = {} if results is None else results
        return group

    def derive(self, excs: Sequence[Exception], /) -> RunFailedGroup:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return RunFailedGroup(self.message, excs, self.results)


def _shown(value: object) -> str:
    """A short `repr` that never raises: errors are built from users' values."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= 120 else text[:117] + "..."
