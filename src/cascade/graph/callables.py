"""Functions and classes: the names under which every process finds them, and the code that they run.

Code is what the interpreter would do: instructions with the constants and names they use, defaults and
closed-over values. Where it stands, its comments and its docstrings are left out. What a function reaches
through a global name is not followed: the name stands for it. Instructions differ between minor versions of
Python, and so does the code's digest.
"""

from __future__ import annotations

import dis
import enum
import functools
import os
import sys
import types
from typing import Any, cast

from cascade.graph.atoms import ATOMS, composite, integer, sized, text
from cascade.graph.parts import Attributes, Parts

_RUNS_AS_MAIN = frozenset({"__main__", "__mp_main__"})
_CONSTANT_USERS = frozenset(dis.hasconst)
_EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
_STORE_NAME = dis.opmap["STORE_NAME"]
_BEHAVIOUR_FLAGS = sum(
    flag
    for flag, name in dis.COMPILER_FLAG_NAMES.items()
    if name in ("VARARGS", "VARKEYWORDS", "GENERATOR", "COROUTINE", "ASYNC_GENERATOR", "ITERABLE_COROUTINE")
)
_NOT_BEHAVIOUR = frozenset({
    "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__", "__dict__",
    "__weakref__", "_abc_impl", "__annotations_cache__", "__annotate__", "__annotate_func__",
})  # fmt: skip
NEW_OBJECT = object().__reduce_ex__(2)[0]
"""What `pickle` names to make an object without calling its class."""

_SLOTS = (types.GetSetDescriptorType, types.MemberDescriptorType)


def qualified_name(definition: Any) -> str:
    """`module:qualname` of a function or class; a script's module as an import would name it."""
    name = getattr(definition, "__qualname__", None) or definition.__name__
    return f"{module_name(getattr(definition, '__module__', None) or 'builtins')}:{name}"


def module_name(module: str) -> str:
    """A module's name in every process: for `__main__` what `python -m` was told, else its file's name."""
    if module not in _RUNS_AS_MAIN:
        return module
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    path = getattr(main, "__file__", None)
    return "__main__" if path is None else _script_name(path)


@functools.lru_cache(maxsize=16)
def _script_name(path: str) -> str:
    # A dot would be that of a package, and nobody can import what is in none.
    return os.path.splitext(os.path.basename(os.path.realpath(path)))[0].replace(".", "_")


def is_local(function: Any) -> bool:
    """Whether no process could find it by its name: a lambda, or made inside a function or at a prompt."""
    return "<" in getattr(function, "__qualname__", "") or (
        getattr(function, "__module__", None) in _RUNS_AS_MAIN and module_name(function.__module__) == "__main__"
    )


def function_parts(function: types.FunctionType) -> Parts:
    code = function.__code__
    label = b"function" + text(qualified_name(function)) + code_token(code)
    children: list[object] = []
    steps: list[str] = []
    closure, unset = closed_over(function)
    for form, values in (
        (" (its default for '{}')", _named_markers(function, defaults(function))),
        (" (closes over '{}')", closure),
        (".{}", own_attributes(function)),
    ):
        label += b"".join(map(text, values)) + b";"
        children.extend(values.values())
        steps.extend(map(form.format, values))
    return Parts(label + b"".join(map(text, unset)), children, steps.__getitem__)


def defaults(function: types.FunctionType) -> dict[str, object]:
    found: dict[str, object] = {}
    if function.__defaults__:
        code = function.__code__
        positional = code.co_varnames[: code.co_argcount]
        found.update(zip(reversed(positional), reversed(function.__defaults__), strict=False))
    if function.__kwdefaults__:
        found.update(sorted(function.__kwdefaults__.items()))
    return found


def _named_markers(function: types.FunctionType, values: dict[str, object]) -> dict[str, object]:
    """Defaults, where a marker for an argument that was not given is named as the code names it.

    A marker has no content, but the code can only compare it with what it finds under a global name, or, in a
    class, under a private one, which the function's own name stands for.
    """
    for name, value in values.items():
        if type(value) not in ATOMS and is_marker(value):
            found = sorted(key for key, known in function.__globals__.items() if known is value)
            if found or not is_local(function):
                values[name] = ("a marker", qualified_name(type(value)), *found)
    return values


def is_marker(value: Any) -> bool:
    """Whether a value is an `object()`, or another that has a class and an identity and nothing else."""
    kind = cast(type[object], type(value))
    if kind is object:
        return True
    own_equality: Any = kind.__eq__
    if own_equality is not object.__eq__ or callable(value):
        return False
    try:
        made_by, *content = value.__reduce_ex__(2)
    except Exception:
        return False
    return made_by is NEW_OBJECT and content[0] == (kind,) and not any(content[1:])


def closed_over(function: types.FunctionType) -> tuple[dict[str, object], list[str]]:
    """The values that a function closes over by name, and the names that have none yet."""
    values: dict[str, object] = {}
    unset: list[str] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            unset.append(name)
    return values, unset


def own_attributes(function: types.FunctionType) -> dict[str, object]:
    """What was set on a local function; for one that can be imported the name stands for that."""
    if not function.__dict__ or not is_local(function):
        return {}
    return {name: value for name, value in sorted(function.__dict__.items()) if name != "__wrapped__"}


@functools.lru_cache(maxsize=1024)
def code_token(code: types.CodeType) -> bytes:
    """The token of a code object, wherever its lines stand."""
    out = [
        text(code.co_name),
        *map(integer, (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
        integer(code.co_flags & _BEHAVIOUR_FLAGS),
    ]
    for names in (code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars):
        out.append(integer(len(names)))
        out.extend(map(text, names))
    out.append(sized(b"x", code.co_exceptiontable))
    out.extend(_instructions(code))
    return composite(b"".join(out))


def _instructions(code: types.CodeType) -> list[bytes]:
    """Each instruction, with the constant that it uses in place of its index, which a docstring moves."""
    out: list[bytes] = []
    instructions = code.co_code
    extended = 0
    for position in range(0, len(instructions), 2):
        operation, argument = instructions[position], instructions[position + 1] | extended
        if operation == _EXTENDED_ARG:
            extended = argument << 8
            continue
        extended = 0
        if operation in _CONSTANT_USERS:
            out.append(b"K%c" % operation + _constant(code.co_consts[argument]))
        else:
            if operation == _STORE_NAME and code.co_names[argument] in _NOT_BEHAVIOUR:
                out[-1] = b"-"
            out.append(b"O%c" % operation + integer(argument))
    return out


def _constant(value: Any) -> bytes:
    # Constants nest no deeper than the compiler goes into a source file, which the stack holds too.
    kind = cast(type[object], type(value))
    if kind is types.CodeType:
        return code_token(value)
    if kind is tuple:
        return composite(b"tuple" + b"".join(map(_constant, value)))
    if kind is frozenset:
        return composite(b"frozenset" + b"".join(sorted(map(_constant, value))))
    if kind is slice:
        return composite(b"slice" + b"".join(map(_constant, (value.start, value.stop, value.step))))
    return ATOMS[kind](value)


def class_parts(kind: type[Any]) -> Parts:
    """A class as a value: its name, its bases, and what its body defines.

    Of a class that can be imported the body counts as far as it is code or plain values, the name stands for
    the rest; a local one has nothing but its body, so all of it must be digestible.
    """
    local = is_local(kind)
    body: dict[str, object] = {}
    for name, value in vars(kind).items():
        if name in _NOT_BEHAVIOUR or isinstance(value, _SLOTS):
            continue
        code = _code_of(value)
        if code is not None:
            body[name] = code
        elif local or _is_plain(value) or _is_nested_class(kind, value):
            body[name] = value
    if issubclass(kind, enum.Enum):
        for name, member in kind.__members__.items():
            body[f"member {name}"] = member.value if _is_plain(member.value) else None
    label = b"class" + text(qualified_name(kind)) + text(qualified_name(type(kind)))
    return Parts(label, (kind.__bases__, Attributes(body)), ("'s bases", "").__getitem__)


def module_parts(module: types.ModuleType) -> Parts:
    """A module as a value: its name and the functions and classes that it defines itself."""
    name = module.__name__
    defined = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, types.FunctionType | type) and value.__module__ == name
    }
    return Parts(b"module" + text(module_name(name)), (Attributes(defined),), ("",).__getitem__)


def _code_of(value: Any) -> object:
    """The functions inside what a class body makes of a function, or `None`."""
    kind = cast(type[object], type(value))
    if kind is types.FunctionType:
        return value
    if kind in (staticmethod, classmethod):
        return (kind.__name__, value.__func__)
    if kind is property:
        return (kind.__name__, value.fget, value.fset, value.fdel)
    if kind in (functools.cached_property, functools.partialmethod):
        return (kind.__name__, value.func)
    return None


def _is_nested_class(owner: type, value: object) -> bool:
    return isinstance(value, type) and value.__qualname__.startswith(owner.__qualname__ + ".")


def _is_plain(value: Any, depth: int = 4) -> bool:
    kind = cast(type[object], type(value))
    if kind in ATOMS:
        return True
    if depth and kind in (tuple, list, set, frozenset):
        return all(_is_plain(item, depth - 1) for item in value)
    if depth and kind is dict:
        return all(_is_plain(item, depth - 1) for pair in value.items() for item in pair)
    return False
