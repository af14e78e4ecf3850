"""Why a call of a run hits or misses its cache, as far as that can be known without loading stored values."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from cascade.adapters.cache.explain import explain
from cascade.adapters.cache.store import store_cache
from cascade.adapters.telemetry.wording import harmless
from cascade.graph.build import build_graph
from cascade.graph.hashing import identities_of
from cascade.runtime.durability.keys import ROOT_GRAPH
from cascade.spec.exceptions import CascadeError
from cascade.spec.input import Input, ParamSpec
from cascade.spec.lazy_types import Call
from cascade.spec.policy import is_lazy
from cascade.stores import open_durable
from cascade.tools.command.inputs import values_of
from cascade.tools.command.programs import program_to_load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.runtime.durability.session import DurableStore
    from cascade.spec.protocols import Store
    from cascade.spec.records import Record, RunRow

_UNKNOWN: Final = object()


def cache_reasons(row: RunRow, record: Record, store: Store) -> Iterator[str]:
    """What there is to say of the cache of a call of the run's first graph; nothing if it has none.

    The workflow is loaded. Values that the call takes from other nodes are not: only literals and parameters are known.

    Args:
        row: the run.
        record: how the call stands.
        store: the store of both, which is closed here.
    """
    if row.program is None or record.scope != ROOT_GRAPH:
        return
    durable = open_durable(store)
    try:
        yield from _reasons(row, record, durable)
    except CascadeError as error:
        yield f"cache  not known: {harmless(str(error).partition(chr(10))[0], 1_000)}"
    finally:
        durable.close()


def _reasons(row: RunRow, record: Record, durable: DurableStore) -> Iterator[str]:
    program = program_to_load(row, durable.serializer)
    located = program.load()
    graph, _ = build_graph(located.target)
    keys = identities_of(graph).keys
    if record.node not in keys:
        yield "the code as it is now has no such call"
        return
    lazy = graph.lazies[keys.index(record.node)]
    policy = None if lazy.policy is None else lazy.policy.cache
    if policy is None or not isinstance(lazy, Call):
        return
    params = values_of(located.target, program.params)
    args = [_known(value, params) for value in lazy.args]
    kwargs = {name: _known(value, params) for name, value in lazy.kwargs.items()}
    if lazy.packed is not None or any(value is _UNKNOWN for value in (*args, *kwargs.values())):
        yield "cache  its key covers values of other nodes, which are not loaded here"
        return
    arguments = lazy.task.arguments_by_name(args, kwargs)
    told = asyncio.run(explain(policy, lazy.task.function, arguments, store_cache(durable)))
    yield f"cache  called now, it would be a {harmless(str(told), 1_000)}"
    yield from (f"cache  by its type alone counts {harmless(reason)}" for reason in told.loosely)


def _known(value: Any, params: Mapping[str, Any]) -> Any:
    if not is_lazy(value):
        return value
    if isinstance(value, Input) and isinstance(value.spec, ParamSpec):
        default = _UNKNOWN if value.spec.required else value.spec.default
        return params.get(value.spec.name, default)
    return _UNKNOWN
