"""Cascade turns plain Python functions into workflows by calling them.

>>> import cascade as cs
>>> @cs.task
... def greet(name: str) -> str:
...     return f"hello {name}"
>>> cs.run(greet("world"))
'hello world'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.constraint import GlobalConstraint as GlobalConstraint
from cascade.spec.constraint import ResourceConstraint as ResourceConstraint
from cascade.spec.context import attempt as attempt
from cascade.spec.context import cancelled as cancelled
from cascade.spec.context import checkpoint as checkpoint
from cascade.spec.context import idempotency_key as idempotency_key
from cascade.spec.exceptions import BlockedLoopWarning as BlockedLoopWarning
from cascade.spec.exceptions import CapacityError as CapacityError
from cascade.spec.exceptions import CascadeError as CascadeError
from cascade.spec.exceptions import CascadeWarning as CascadeWarning
from cascade.spec.exceptions import ChangedCodeError as ChangedCodeError
from cascade.spec.exceptions import CorruptedValueError as CorruptedValueError
from cascade.spec.exceptions import DeclarationError as DeclarationError
from cascade.spec.exceptions import DependencyMissingError as DependencyMissingError
from cascade.spec.exceptions import EngineClosedError as EngineClosedError
from cascade.spec.exceptions import GraphCycleError as GraphCycleError
from cascade.spec.exceptions import LazyAttributeError as LazyAttributeError
from cascade.spec.exceptions import LazyValueError as LazyValueError
from cascade.spec.exceptions import MapInputError as MapInputError
from cascade.spec.exceptions import MissingExtraError as MissingExtraError
from cascade.spec.exceptions import NestedRunError as NestedRunError
from cascade.spec.exceptions import ParameterError as ParameterError
from cascade.spec.exceptions import ResourceCycleError as ResourceCycleError
from cascade.spec.exceptions import ResourceError as ResourceError
from cascade.spec.exceptions import ResumeError as ResumeError
from cascade.spec.exceptions import RunCancelledError as RunCancelledError
from cascade.spec.exceptions import RunError as RunError
from cascade.spec.exceptions import RunFailedGroup as RunFailedGroup
from cascade.spec.exceptions import RunOwnedError as RunOwnedError
from cascade.spec.exceptions import RunTimeoutError as RunTimeoutError
from cascade.spec.exceptions import StoreError as StoreError
from cascade.spec.exceptions import StoreWarning as StoreWarning
from cascade.spec.exceptions import TaskArgumentError as TaskArgumentError
from cascade.spec.exceptions import TaskResultError as TaskResultError
from cascade.spec.exceptions import TaskTimeoutError as TaskTimeoutError
from cascade.spec.exceptions import ThreadTimeoutWarning as ThreadTimeoutWarning
from cascade.spec.exceptions import UnknownResourceError as UnknownResourceError
from cascade.spec.exceptions import UnknownRouteError as UnknownRouteError
from cascade.spec.exceptions import UnserializableValueError as UnserializableValueError
from cascade.spec.exceptions import ValidationError as ValidationError
from cascade.spec.exceptions import VolatileValueWarning as VolatileValueWarning
from cascade.spec.flow import pipeline as pipeline
from cascade.spec.flow import sequence as sequence
from cascade.spec.input import Env as Env
from cascade.spec.input import Param as Param
from cascade.spec.lazy_types import LazyResult as LazyResult
from cascade.spec.lazy_types import MappedLazyResult as MappedLazyResult
from cascade.spec.policy import Retry as Retry
from cascade.spec.resource import Outcome as Outcome
from cascade.spec.resource import inject as inject
from cascade.spec.resource import resource as resource
from cascade.spec.routing import Router as Router
from cascade.spec.secret import Secret as Secret
from cascade.spec.task import Task as Task
from cascade.spec.task import task as task

if TYPE_CHECKING:
    from cascade import testing as testing
    from cascade.adapters.cache.directory import DirectoryCacheBackend as DirectoryCacheBackend
    from cascade.adapters.cache.file_existence import FileExistenceCache as FileExistenceCache
    from cascade.adapters.cache.file_existence import FileNotProducedError as FileNotProducedError
    from cascade.adapters.cache.inputs import InputsCache as InputsCache
    from cascade.adapters.cache.memory import InMemoryCacheBackend as InMemoryCacheBackend
    from cascade.adapters.executors.shipping import RemoteTaskError as RemoteTaskError
    from cascade.adapters.executors.shipping import ShippingError as ShippingError
    from cascade.adapters.executors.worker_process import WorkerDiedError as WorkerDiedError
    from cascade.adapters.serializers.registry import register_type as register_type
    from cascade.app import arun as arun
    from cascade.app import create_engine as create_engine
    from cascade.app import run as run
    from cascade.graph.digest import UndigestibleError as UndigestibleError
    from cascade.handle import RunHandle as RunHandle
    from cascade.handle import start as start
    from cascade.providers.documents import DocumentError as DocumentError
    from cascade.providers.documents import load_json as load_json
    from cascade.providers.documents import load_toml as load_toml
    from cascade.providers.documents import load_yaml as load_yaml
    from cascade.providers.files import read as read
    from cascade.providers.files import write as write
    from cascade.providers.lookup import LookupPathError as LookupPathError
    from cascade.providers.lookup import lookup as lookup
    from cascade.providers.shell import ShellError as ShellError
    from cascade.providers.shell import ShellOutputError as ShellOutputError
    from cascade.providers.shell import ShellResult as ShellResult
    from cascade.providers.shell import ShellTimeoutError as ShellTimeoutError
    from cascade.providers.shell import shell as shell
    from cascade.providers.text import TemplateError as TemplateError
    from cascade.providers.text import format as format  # noqa: A004 - the task that does what str.format does
    from cascade.providers.text import template as template
    from cascade.providers.text import template_file as template_file
    from cascade.runtime.bus import MessageBus as MessageBus
    from cascade.runtime.capacity import CapacityHeldError as CapacityHeldError
    from cascade.runtime.engine import Engine as Engine
    from cascade.runtime.events import Event as Event
    from cascade.runtime.waiting import sleep_until as sleep_until
    from cascade.runtime.waiting import wait_for_signal as wait_for_signal
    from cascade.spec.log import log as log
    from cascade.tools.cli import cli as cli
    from cascade.tools.dry_run import dry_run as dry_run
    from cascade.tools.pictures import visualize as visualize

# Loaded when they are first asked for, so that `import cascade` costs what every declaration needs and no more: asyncio
# alone, which only a run needs, takes longer to load than all the rest.
_LAZY: Final = {
    "CapacityHeldError": "cascade.runtime.capacity",
    "DirectoryCacheBackend": "cascade.adapters.cache.directory",
    "DocumentError": "cascade.providers.documents",
    "Engine": "cascade.runtime.engine",
    "Event": "cascade.runtime.events",
    "FileExistenceCache": "cascade.adapters.cache.file_existence",
    "FileNotProducedError": "cascade.adapters.cache.file_existence",
    "InMemoryCacheBackend": "cascade.adapters.cache.memory",
    "InputsCache": "cascade.adapters.cache.inputs",
    "LookupPathError": "cascade.providers.lookup",
    "MessageBus": "cascade.runtime.bus",
    "RunHandle": "cascade.handle",
    "RemoteTaskError": "cascade.adapters.executors.shipping",
    "ShellError": "cascade.providers.shell",
    "ShellOutputError": "cascade.providers.shell",
    "ShellResult": "cascade.providers.shell",
    "ShellTimeoutError": "cascade.providers.shell",
    "ShippingError": "cascade.adapters.executors.shipping",
    "TemplateError": "cascade.providers.text",
    "UndigestibleError": "cascade.graph.digest",
    "WorkerDiedError": "cascade.adapters.executors.worker_process",
    "arun": "cascade.app",
    "cli": "cascade.tools.cli",
    "create_engine": "cascade.app",
    "dry_run": "cascade.tools.dry_run",
    "format": "cascade.providers.text",
    "load_json": "cascade.providers.documents",
    "load_toml": "cascade.providers.documents",
    "load_yaml": "cascade.providers.documents",
    "log": "cascade.spec.log",
    "lookup": "cascade.providers.lookup",
    "read": "cascade.providers.files",
    "register_type": "cascade.adapters.serializers.registry",
    "run": "cascade.app",
    "sleep_until": "cascade.runtime.waiting",
    "shell": "cascade.providers.shell",
    "start": "cascade.handle",
    "template": "cascade.providers.text",
    "template_file": "cascade.providers.text",
    "testing": "cascade.testing",
    "visualize": "cascade.tools.pictures",
    "wait_for_signal": "cascade.runtime.waiting",
    "write": "cascade.providers.files",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cascade' has no attribute {name!r}")
    module = import_module(_LAZY[name])
    value = module if name == "testing" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    own = [name for name, value in globals().items() if getattr(value, "__module__", "").startswith("cascade.")]
    return sorted({*own, *_LAZY})
