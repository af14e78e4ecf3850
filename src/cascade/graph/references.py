"""Which names from outside itself a piece of code uses, as its instructions tell.

What is found: global names with the attributes that are read from them at once (`helpers.clean`), imports inside the
code, and names whose values the code changes. What a computed name finds (`getattr`, `globals()[name]`) is not seen.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

Chain = tuple[str, ...]
"""A name and the attributes that are read from it, as `("helpers", "clean")` for `helpers.clean`."""

_GLOBAL: Final = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_LOCAL: Final = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_ATTRIBUTE: Final = ("LOAD_ATTR", "LOAD_METHOD")
_STORE: Final = ("STORE_FAST", "STORE_DEREF", "STORE_NAME", "STORE_GLOBAL")
_CHANGED_BELOW: Final = {"STORE_SUBSCR": 1, "DELETE_SUBSCR": 1, "STORE_SLICE": 2, "STORE_ATTR": 0, "DELETE_ATTR": 0}
"""How many values lie above the one that an instruction changes."""

_CHANGERS: Final = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "move_to_end", "pop", "popitem", "popleft", "put", "put_nowait", "remove", "reverse",
    "rotate", "set", "setdefault", "sort", "subtract", "symmetric_difference_update", "update",
})  # fmt: skip
"""Methods that change what they are called on, by the names that Python's own containers give them."""


class LocalImport(NamedTuple):
    """An import inside code, and what it uses of the module.

    Attributes:
        module: the module, as it is written.
        level: the number of dots before it.
        from_top: whether the chain begins at the module's first package, as in `import a.b`.
        chain: the attributes that are used; empty where the module is used as a value.
    """

    module: str
    level: int
    from_top: bool
    chain: Chain


class References(NamedTuple):
    """What code uses from outside itself.

    Attributes:
        chains: global names, with attributes.
        imports: imports inside the code.
        changed: global names whose values the code changes, with attributes.
        changed_cells: names that it closes over, and whose values it changes.
    """

    chains: tuple[Chain, ...]
    imports: tuple[LocalImport, ...]
    changed: frozenset[Chain]
    changed_cells: frozenset[str]


@lru_cache(maxsize=1024)
def references_of(code: types.CodeType) -> References:
    """What a code object and those inside it use.

    >>> references_of(compile("print(helpers.clean(LIMIT))", "", "eval")).chains
    (('print',), ('helpers', 'clean'), ('LIMIT',))
    """
    reader = _Reader()
    reader.read(code, {})
    return References(
        tuple(reader.chains), tuple(reader.imports), frozenset(reader.changed), frozenset(reader.changed_cells)
    )


class _Step(NamedTuple):
    """One instruction; `depth` is the height of the stack before it, `effect` by how much it grows."""

    operation: str
    argument: object
    depth: int
    effect: int


class _Reader:
    def __init__(self) -> None:
        # Dicts are sets in order: what is read must not depend on the hash of text, which differs between processes.
        self.chains: dict[Chain, None] = {}
        self.imports: dict[LocalImport, None] = {}
        self.changed: set[Chain] = set()
        self.changed_cells: set[str] = set()

    def read(self, code: types.CodeType, imported: dict[str, LocalImport]) -> None:
        steps = list(_steps(code))
        imported = {**imported, **_imported(steps)}
        for place, step in enumerate(steps):
            operation, argument = step.operation, step.argument
            if operation in _GLOBAL:
                self._load(str(argument), _attributes(steps, place), imported if operation == "LOAD_NAME" else {})
            elif operation.startswith(_LOCAL) and argument in imported:
                self._load(str(argument), _attributes(steps, place), imported)
            elif operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                self.changed.add((str(argument),))
            elif operation == "STORE_DEREF" and argument in code.co_freevars:
                self.changed_cells.add(str(argument))
            elif operation in _CHANGED_BELOW or (operation in _ATTRIBUTE and argument in _CHANGERS):
                self._change(steps, place)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.read(constant, imported)

    def _load(self, name: str, attributes: Chain, imported: dict[str, LocalImport]) -> None:
        found = imported.get(name)
        if found is None:
            self.chains[name, *attributes] = None
        else:
            self.imports[found._replace(chain=found.chain + attributes)] = None

    def _change(self, steps: list[_Step], place: int) -> None:
        """Find out which name the instruction's changed value was read from."""
        step = steps[place]
        above = _CHANGED_BELOW.get(step.operation, 0)
        if step.operation in ("STORE_SUBSCR", "STORE_ATTR") and place and steps[place - 1].operation == "SWAP":
            # As in `counts[key] += 1`, where the new value was computed above and went below.
            above += 1
        slot = step.depth - 1 - above
        for origin in range(place - 1, -1, -1):
            source = steps[origin]
            if source.depth <= slot < source.depth + source.effect:
                break
        else:
            return
        if source.operation in _GLOBAL:
            attributes = _attributes(steps, origin)
            if step.operation in _ATTRIBUTE and origin + len(attributes) == place:
                attributes = attributes[:-1]
            elif step.operation in ("STORE_ATTR", "DELETE_ATTR"):
                attributes = (*attributes, str(step.argument))
            self.changed.add((str(source.argument), *attributes))
        elif source.operation in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            self.changed_cells.add(str(source.argument))


def _steps(code: types.CodeType) -> Iterator[_Step]:
    depth = 0
    for found in dis.get_instructions(code):
        if found.opname == "EXTENDED_ARG":
            continue
        argument = found.arg if found.opcode >= dis.HAVE_ARGUMENT else None
        effect = dis.stack_effect(found.opcode, argument, jump=False)
        if isinstance(found.argval, tuple) and found.opname.count("_FAST") == 2:
            # Two instructions in one, as LOAD_FAST_LOAD_FAST.
            first, second = found.opname[:10].rstrip("_"), found.opname[found.opname.rindex("_FAST") - 5 :].lstrip("_")
            yield _Step(first, found.argval[0], depth, _effect(first))
            yield _Step(second, found.argval[1], depth + _effect(first), _effect(second))
        else:
            yield _Step(found.opname, found.argval, depth, effect)
        depth += effect


def _effect(operation: str) -> int:
    return 1 if operation.startswith("LOAD") else -1


def _attributes(steps: list[_Step], place: int) -> Chain:
    """The attributes that are read at once from what is loaded here."""
    found: list[str] = []
    for step in steps[place + 1 : place + 17]:
        if step.operation not in _ATTRIBUTE:
            break
        found.append(str(step.argument))
    return tuple(found)


def _imported(steps: list[_Step]) -> dict[str, LocalImport]:
    """The names that the code binds by imports."""
    found: dict[str, LocalImport] = {}
    current: LocalImport | None = None
    chain: Chain = ()
    for place, step in enumerate(steps):
        if step.operation == "IMPORT_NAME":
            level, names = steps[place - 2].argument, steps[place - 1].argument
            current = LocalImport(str(step.argument), level if isinstance(level, int) else 0, names is None, ())
            chain = ()
        elif current is None:
            continue
        elif step.operation == "IMPORT_FROM":
            chain = (*chain, str(step.argument)) if current.from_top else (str(step.argument),)
        elif step.operation in _STORE:
            found[str(step.argument)] = current._replace(chain=chain)
            if current.from_top:
                current = None
        elif (step.operation == "POP_TOP" and current.from_top) or step.operation == "SWAP":
            continue
        else:
            current = None
    return found
