"""Described workflows as programs that a later process finds again: their functions are those of this module."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import cascade as cs
from tests.durability.ledger import Ledger
from tests.property.construction import Built
from tests.property.description import Workflow
from tests.property.values import number_of

MOST_FUNCTIONS = 80


class Program(Built):
    """A workflow made with Cascade, whose tasks note their effects.

    One program runs at a time in a process: its tasks are known to every process by names of this module.
    """

    def __init__(self, workflow: Workflow, ledger: Ledger) -> None:
        self.ledger = ledger
        super().__init__(workflow)

    def _function(self, key: int) -> Callable[..., Any]:
        mode = self.workflow.functions[key].mode
        return FUNCTIONS["plain" if mode in ("thread", "inline") else mode, key]

    def call(self, key: int, arguments: tuple[Any, ...]) -> Any:
        function = self.workflow.functions[key]
        self.calls.append(key)
        self.ledger.note(key, number_of((key, arguments)))
        function.complain(key, cs.attempt(), arguments)
        if function.continues(arguments):
            return self._returned(key, function.givens(key, arguments))
        return function.value(key, arguments)


class _Now:
    program: Program


def perform(program: Program) -> Program:
    """Have the functions of this module do what a program says, from now on."""
    _Now.program = program
    return program


def _plain(key: int) -> Callable[..., Any]:
    def function(a: Any = None, b: Any = None, c: Any = None) -> Any:
        return _Now.program.call(key, (a, b, c))

    return function


def _async(key: int) -> Callable[..., Any]:
    async def function(a: Any = None, b: Any = None, c: Any = None) -> Any:
        return _Now.program.call(key, (a, b, c))

    return function


def _yielding(key: int) -> Callable[..., Any]:
    async def function(a: Any = None, b: Any = None, c: Any = None) -> Any:
        await asyncio.sleep(0)
        return _Now.program.call(key, (a, b, c))

    return function


def _named(kind: str, key: int, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = f"{kind}_{key}"
    setattr(sys.modules[__name__], function.__name__, function)
    return function


FUNCTIONS = {
    (kind, key): _named(kind, key, make(key))
    for kind, make in {"plain": _plain, "async": _async, "yielding": _yielding}.items()
    for key in range(MOST_FUNCTIONS)
}
