"""The walk from a function through all the code and constants that it uses."""

from __future__ import annotations

import builtins
import enum
import functools
import importlib
import importlib.util
import sys
import types
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from cascade.graph.atoms import ATOMS
from cascade.graph.callables import closed_over, code_token, defaults, is_local, module_name, qualified_name
from cascade.graph.code import code_digest
from cascade.graph.constants import ByType, Watched, content_of, is_fixed
from cascade.graph.digest import combine
from cascade.graph.first_party import is_first_party, is_first_party_name
from cascade.graph.parts import Refusal
from cascade.graph.references import Chain, LocalImport, references_of
from cascade.graph.values import take_apart
from cascade.graph.wrappers import held, is_code

MISSING: Final = object()
"""What is found under a name that is not bound."""

_MOST_INSIDE: Final = 100_000
_OWN_PACKAGE: Final = __name__.partition(".")[0]
_SAYS_NOTHING: Final = frozenset({
    "__abstractmethods__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__dict__", "__weakref__", "_abc_impl", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__dataclass_fields__", "__match_args__", "__parameters__", "__orig_bases__", "__hash__",
})  # fmt: skip
_SLOTS: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)
_FIELDS: Final = frozenset({"__annotations__", "__pydantic_fields__"})
"""Attributes with which classes tell their fields to the library that made them."""


def content_in(cell: types.CellType) -> object:
    """What a closed-over name is bound to."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


class Walk:
    """One walk from a function through all that it uses.

    Attributes:
        functions: functions whose code was read.
        cells: what was closed over.
        watched: values that can change where they are.
        parts: a digest for each thing that is used, by names such as `function flow:clean`.
        loosely: why those constants that count by their type alone do so, by the same names.
    """

    def __init__(self, root: Any) -> None:
        self._bindings: dict[tuple[int, str], tuple[Mapping[str, Any], str, object]] = {}
        self.functions: list[types.FunctionType] = []
        self.cells: list[tuple[types.CellType, object]] = []
        self.watched: list[Watched] = []
        self.loosely: dict[str, str] = {}
        self._tokens_of: dict[str, set[bytes]] = {"code": {code_digest(root)}}
        self._constants: dict[tuple[str, int], object] = {}
        self._changed: set[str] = set()
        self._pending: deque[object] = deque()
        # Objects stand with their ids, which must not be given again while the walk goes on.
        self._followed: dict[int, object] = {}
        self._tokens: dict[int, tuple[object, bytes]] = {}
        self._own: set[int] = set()

        self._hold(root)
        self._inside(root)
        while self._pending:
            self._follow(self._pending.popleft())
        # Only now is it known which of them the code changes.
        for (label, _), value in self._constants.items():
            self._add(f"constant {label}", self._constant(label, value))
        self.parts = {
            label: next(iter(found)) if len(found) == 1 else combine("several", *sorted(found))
            for label, found in self._tokens_of.items()
        }

    @property
    def bindings(self) -> list[tuple[Mapping[str, Any], str, object]]:
        """Names with the objects that were found under them."""
        return list(self._bindings.values())

    def _bind(self, names: Mapping[str, Any], name: str, value: object) -> None:
        self._bindings[id(names), name] = (names, name, value)

    def _hold(self, root: Any) -> None:
        """Look again each time at what the root is bound to; its own code is counted already."""
        self._own.add(id(root))
        if isinstance(root, functools.partial):
            self._watch((root.args, root.keywords))
            self._hold(root.func)
        elif isinstance(root, types.MethodType):
            self._watch(root.__self__)
            self._own.add(id(root.__func__))
        elif isinstance(root, types.FunctionType):
            for value in (*closed_over(root)[0].values(), *defaults(root).values()):
                self._watch(value)
        elif not isinstance(root, type) and not hasattr(root, "__qualname__"):
            self._watch(root)

    def _watch(self, value: object) -> None:
        if not is_fixed(value):
            self.watched.append(Watched(value))

    def _add(self, label: str, token: bytes) -> None:
        self._tokens_of.setdefault(label, set()).add(token)

    # Following

    def _follow(self, thing: Any) -> None:
        if id(thing) in self._followed:
            return
        self._followed[id(thing)] = thing
        kind = type(thing)
        if kind is types.FunctionType:
            self._follow_function(thing)
        elif isinstance(thing, type):
            self._follow_class(thing)
        elif isinstance(thing, types.ModuleType):
            self._follow_module(thing)
        else:
            for part in held(thing):
                self._inside(part)

    def _follow_function(self, function: types.FunctionType) -> None:
        self.functions.append(function)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            value = content_in(cell)
            if name not in references_of(function.__code__).changed_cells:
                self.cells.append((cell, value))
            self._inside(value)
        for value in defaults(function).values():
            self._inside(value)
        self._inside(function.__dict__.get("__wrapped__"))
        if not is_first_party(function):
            return
        if id(function) not in self._own:
            self._add(f"function {qualified_name(function)}", self._token(function))
        references = references_of(function.__code__)
        names = function.__globals__
        module = module_name(names.get("__name__") or function.__module__ or "")
        changed = {self._label(names, module, chain) for chain in references.changed}
        self._changed |= changed
        for chain in references.chains:
            self._use(names, module, chain)
        for found in references.imports:
            self._import(found, names)

    def _import(self, found: LocalImport, names: Mapping[str, Any]) -> None:
        """Follow an import inside the code; a first-party module is imported for that, as the code would do."""
        package = names.get("__package__") or ""
        if found.level and not package:
            return
        name = importlib.util.resolve_name("." * found.level + found.module, package) if found.level else found.module
        module = _imported(name)
        if module is None:
            return
        if found.from_top:
            module = sys.modules[name.partition(".")[0]]
        if is_first_party(module):
            if found.chain:
                if not hasattr(module, found.chain[0]):
                    _imported(f"{name}.{found.chain[0]}")
                self._use(vars(module), module_name(module.__name__), found.chain)
            else:
                self._pending.append(module)

    def _label(self, names: Mapping[str, Any], module: str, chain: Chain) -> str:
        """What a chain leads to: the first name in a module that is no module, or the attribute of a class."""
        name, attributes = chain[0], chain[1:]
        value = names.get(name)
        if attributes and isinstance(value, types.ModuleType):
            return self._label(vars(value), module_name(value.__name__), attributes)
        if attributes and isinstance(value, type):
            return f"{qualified_name(value)}.{attributes[0]}"
        return f"{module}:{name}"

    def _use(self, names: Mapping[str, Any], module: str, chain: Chain) -> None:
        name = chain[0]
        if name.startswith("__") and name.endswith("__"):
            return
        value = names.get(name, MISSING)
        self._bind(names, name, value)
        if value is MISSING:
            if not hasattr(builtins, name) and f"{module}:{name}" not in self._changed:
                self._add(f"name {module}:{name}", b"unbound")
        elif isinstance(value, types.ModuleType):
            if is_first_party(value):
                if len(chain) > 1:
                    self._use(vars(value), module_name(value.__name__), chain[1:])
                else:
                    self._pending.append(value)
        else:
            self._bound(f"{module}:{name}", value)

    def _bound(self, label: str, value: Any) -> None:
        """Count what was found under a name."""
        if isinstance(value, type):
            self._add(f"class {label}", combine("is", qualified_name(value).encode()))
        elif is_code(value):
            self._add(f"function {label}", self._named_token(value))
        else:
            self._constants[label, id(value)] = value
        self._inside(value)

    def _follow_class(self, kind: type[Any]) -> None:
        if not is_first_party(kind):
            return
        self._pending.extend(base for base in kind.__mro__[1:] if base is not object)
        self._pending.append(type(kind))
        label = qualified_name(kind)
        tokens = [combine("bases", *(qualified_name(base).encode() for base in (*kind.__bases__, type(kind))))]
        is_enum = issubclass(kind, enum.Enum)
        # One view of the class for all of its names: each call of `vars` makes another.
        names = vars(kind)
        for name, value in sorted(names.items()):
            if name in _SAYS_NOTHING or isinstance(value, _SLOTS):
                continue
            if name in _FIELDS:
                tokens.append(combine(name, self._value_token(value)))
                continue
            if isinstance(value, type) or is_code(value):
                tokens.append(combine(name, self._named_token(value)))
            elif is_enum or (name.startswith("__") and type(value) not in ATOMS):
                continue
            else:
                self._constants[f"{label}.{name}", id(value)] = value
            self._bind(names, name, value)
            self._inside(value)
        if is_enum:
            for name, member in kind.__members__.items():
                self._constants[f"{label}.{name}", id(member.value)] = member.value
        self._add(f"class {label}", combine("class", *tokens))

    def _follow_module(self, module: types.ModuleType) -> None:
        """A module that is used as a value: all that it defines itself."""
        if not is_first_party(module):
            return
        label = module_name(module.__name__)
        for name, value in sorted(vars(module).items()):
            if isinstance(value, types.FunctionType | type) and value.__module__ == module.__name__:
                self._bind(vars(module), name, value)
                self._bound(f"{label}:{name}", value)

    def _inside(self, value: Any) -> None:
        """Follow the functions and classes inside a value, and the class of each object in it."""
        above = [value]
        seen: dict[int, object] = {}
        while above and len(seen) < _MOST_INSIDE:
            item = above.pop()
            kind = type(item)
            if kind in ATOMS or id(item) in seen:
                continue
            seen[id(item)] = item
            if isinstance(item, type) or is_code(item):
                self._pending.append(item)
                continue
            if isinstance(item, types.ModuleType) or str(kind.__module__).partition(".")[0] == _OWN_PACKAGE:
                continue
            if is_first_party(kind):
                self._pending.append(kind)
            try:
                above.extend(reversed(take_apart(item).children))
            except Refusal:
                continue

    # Tokens

    def _token(self, value: Any) -> bytes:
        """What stands for a piece of code, without what it finds under global names."""
        known = self._tokens.get(id(value))
        if known is not None:
            return known[1]
        # Whoever refers to itself is known by its name on the way round.
        self._tokens[id(value)] = (value, combine("itself", type(value).__qualname__.encode()))
        token = self._made_token(value)
        self._tokens[id(value)] = (value, token)
        return token

    def _named_token(self, value: Any) -> bytes:
        """What stands for a piece of code under a name: the name of what has a part of its own, or else its token."""
        if type(value) is types.FunctionType and is_first_party(value) and not is_local(value):
            return combine("is", qualified_name(value).encode())
        return self._token(value)

    def _made_token(self, value: Any) -> bytes:
        if isinstance(value, type):
            return combine("named", qualified_name(value).encode())
        if type(value) is not types.FunctionType:
            inside = [self._value_token(part) for part in held(value)]
            return combine("holds", qualified_name(type(value)).encode(), *inside)
        first_party = is_first_party(value)
        tokens = [qualified_name(value).encode(), code_token(value.__code__) if first_party else b""]
        changed = references_of(value.__code__).changed_cells
        closure, unset = closed_over(value)
        for name, found in (*closure.items(), *defaults(value).items(), *((name, MISSING) for name in unset)):
            if is_code(found) or first_party or is_fixed(found):
                content = b"" if name in changed and name in closure else self._value_token(found)
                tokens.append(combine(name, content))
        return combine("function", *tokens)

    def _value_token(self, value: Any) -> bytes:
        if value is MISSING:
            return b"unset"
        if isinstance(value, type) or is_code(value):
            return self._token(value)
        return self._constant("", value)

    def _constant(self, label: str, value: Any) -> bytes:
        """A value by its content, or where that is not sure or not meant, by its type."""
        try:
            if label in self._changed:
                raise ByType("the code that uses it changes it")
            found = content_of(value, self._token)
        except ByType as reason:
            kind = qualified_name(type(value))
            if label:
                self.loosely[f"constant {label}"] = f"it counts by its type, {kind}, alone: {reason}"
            return combine("type", kind.encode())
        self._watch(value)
        return found


def _imported(name: str) -> types.ModuleType | None:
    """A module, imported if it is first-party; `None` if it is not, or cannot be imported."""
    found = sys.modules.get(name)
    if found is None and is_first_party_name(name):
        try:
            found = importlib.import_module(name)
        except Exception:
            # The code may be written to do without it.
            return None
    return found
