"""Values as bytes, so that what a cache keeps is nobody else's object."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

PROTOCOL = 5


def dumps(value: Any) -> bytes:
    """The value as a pickle, by cloudpickle where pickle alone cannot and cloudpickle is installed.

    Raises:
        pickle.PicklingError, TypeError, AttributeError: what pickle says about a value that cannot be kept.
    """
    try:
        return pickle.dumps(value, protocol=PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        try:
            cloudpickle: Any = import_module("cloudpickle")
        except ImportError:
            error.add_note("what has no importable name needs: pip install 'cascade-py[process]'")
            raise error from None
        return bytes(cloudpickle.dumps(value, protocol=PROTOCOL))


def loads(content: bytes | memoryview) -> Any:
    """A new object from what `dumps` made; only for bytes of certain origin, as a pickle can run code."""
    return pickle.loads(content)
