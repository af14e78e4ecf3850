"""A mypy plugin that checks what tasks are called with.

A task takes a value or a lazy value for each parameter, and both at any depth of a container. Python's
type system cannot say so of an arbitrary signature, so `Task.__call__` accepts anything besides the exact
parameters, and only the call at run time refuses what does not fit. With this plugin mypy refuses it too:

    [tool.mypy]
    plugins = ["cascade.mypy_plugin"]

It checks each call as if the lazy values in it were the values that they stand for, against the function
itself: names, number and types of the arguments of a task, of `partial` and of `map`. Generic and overloaded
functions keep their type variables and overloads, `lazy[key]` has the type of the item, and `unpack` that of
each part, and a router that of its routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy.argmap import map_actuals_to_formals
from mypy.checker import TypeChecker
from mypy.erasetype import remove_instance_last_known_values
from mypy.maptype import map_instance_to_supertype
from mypy.nodes import (
    ArgKind,
    CallExpr,
    ConditionalExpr,
    DictExpr,
    Expression,
    IndexExpr,
    IntExpr,
    ListExpr,
    MemberExpr,
    NameExpr,
    SetExpr,
    StarExpr,
    TempNode,
    TupleExpr,
)
from mypy.plugin import (
    CheckerPluginInterface,
    FunctionContext,
    FunctionSigContext,
    MethodContext,
    MethodSigContext,
    Plugin,
)
from mypy.typeops import make_simplified_union
from mypy.types import (
    AnyType,
    CallableType,
    FunctionLike,
    Instance,
    Overloaded,
    Parameters,
    ParamSpecType,
    TupleType,
    Type,
    TypeOfAny,
    UnionType,
    UnpackType,
    get_proper_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TASK: Final = "cascade.spec.task.Task"
LAZY: Final = "cascade.spec.lazy_types.LazyResult"
FUNCTION_ATTRIBUTE: Final = "__cascade_function"
"""Where the type of a task keeps a generic or overloaded function, which no `Task[P, R]` can express."""

_MOST_PARTS: Final = 64


def plugin(version: str) -> type[Plugin]:  # noqa: ARG001 - mypy passes its version
    """Give mypy the plugin; the entry point that it looks for."""
    return CascadePlugin


class CascadePlugin(Plugin):
    """Hooks for `task`, for the methods of tasks and for parts of lazy values."""

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return _FUNCTION_HOOKS.get(fullname)

    def get_function_signature_hook(self, fullname: str) -> Callable[[FunctionSigContext], FunctionLike] | None:
        return accept_overloaded if fullname == "cascade.spec.task.task" else None

    def get_method_signature_hook(self, fullname: str) -> Callable[[MethodSigContext], FunctionLike] | None:
        return accept_anything if fullname in (f"{TASK}.__call__", f"{TASK}.map") else None

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return _METHOD_HOOKS.get(fullname)


def accept_overloaded(ctx: FunctionSigContext) -> FunctionLike:
    """Let `task` take an overloaded function: mypy finds no one signature for some of them, and need not."""
    signature = ctx.default_signature
    result = get_proper_type(signature.ret_type)
    makes_task = isinstance(result, Instance) and result.type.fullname == TASK
    if not makes_task or not ctx.args[0] or not isinstance(ctx.api, TypeChecker):
        return signature
    if not isinstance(get_proper_type(_type_of(ctx.args[0][0], ctx.api)), Overloaded):
        return signature
    return signature.copy_modified(arg_types=[AnyType(TypeOfAny.special_form), *signature.arg_types[1:]])


def remember_function(ctx: FunctionContext | MethodContext) -> Type:
    """Keep a generic or overloaded function in the type of the task that is made from it."""
    made = get_proper_type(ctx.default_return_type)
    if not ctx.arg_types or len(ctx.arg_types[0]) != 1 or not isinstance(made, Instance) or made.type.fullname != TASK:
        return made
    function = get_proper_type(ctx.arg_types[0][0])
    if not isinstance(function, Overloaded) and not (isinstance(function, CallableType) and function.variables):
        return made
    anything = AnyType(TypeOfAny.special_form)
    parameters = Parameters(
        [anything, anything], [ArgKind.ARG_STAR, ArgKind.ARG_STAR2], [None, None], is_ellipsis_args=True
    )
    return made.copy_modified(args=[parameters, anything]).copy_with_extra_attr(FUNCTION_ATTRIBUTE, function)


def accept_anything(ctx: MethodSigContext) -> FunctionLike:
    """Leave the arguments to `check_call` and `check_map`, which report once and tell what is wrong."""
    if _signature(ctx.type, None) is None:
        return ctx.default_signature
    anything = AnyType(TypeOfAny.special_form)
    return ctx.default_signature.copy_modified(
        arg_types=[anything, anything],
        arg_kinds=[ArgKind.ARG_STAR, ArgKind.ARG_STAR2],
        arg_names=["args", "kwargs"],
    )


def check_call(ctx: MethodContext) -> Type:
    """Check a call of a task, and find what it gives."""
    signature = _signature(ctx.type, ctx.context)
    if signature is None:
        return ctx.default_return_type
    return _checked(ctx, _giving(signature, ctx.default_return_type))


def check_map(ctx: MethodContext) -> Type:
    """Check a `map`: an iterable for each parameter."""
    signature = _signature(ctx.type, ctx.context)
    if signature is None or not isinstance(ctx.context, CallExpr):
        return ctx.default_return_type
    named = {name for name in ctx.context.arg_names if name is not None}
    for item in signature.items:
        if None in item.arg_names and not named.issubset(set(item.arg_names)):
            # A map may name positional-only parameters, whose names a type does not keep.
            return ctx.default_return_type
    return _checked(ctx, _each_item(_giving(signature, ctx.default_return_type), ctx.api))


def check_partial(ctx: MethodContext) -> Type:
    """Check a `partial`, and find which parameters it leaves."""
    signature = _signature(ctx.type, ctx.context)
    call, made = ctx.context, get_proper_type(ctx.default_return_type)
    if not isinstance(signature, CallableType) or signature.variables or not isinstance(made, Instance):
        return made
    _checked(ctx, signature.copy_modified(arg_kinds=[_OPTIONAL.get(kind, kind) for kind in signature.arg_kinds]))
    if not isinstance(call, CallExpr) or not isinstance(ctx.api, TypeChecker):
        return made
    if ArgKind.ARG_STAR in call.arg_kinds or ArgKind.ARG_STAR2 in call.arg_kinds:
        return made
    return made.copy_modified(args=[_remaining(signature, call), made.args[1]])


def type_of_item(ctx: MethodContext) -> Type:
    """Find the type of `lazy[key]`."""
    value = _value_of(ctx.type)
    expression = ctx.context
    if value is None or not isinstance(expression, IndexExpr) or not isinstance(ctx.api, TypeChecker):
        return ctx.default_return_type
    if isinstance(get_proper_type(value), AnyType) or _mentions_lazy(expression.index, ctx.api):
        return ctx.default_return_type
    return _like(ctx.default_return_type, ctx.api.expr_checker.visit_index_with_type(value, expression))


def types_of_parts(ctx: MethodContext) -> Type:
    """Find the types of what `lazy.unpack(n)` gives."""
    value = get_proper_type(_value_of(ctx.type))
    count = ctx.args[0][0] if ctx.args and ctx.args[0] else None
    if not isinstance(count, IntExpr) or not isinstance(ctx.api, TypeChecker):
        return ctx.default_return_type
    if isinstance(value, TupleType) and not any(isinstance(item, UnpackType) for item in value.items):
        if len(value.items) != count.value:
            ctx.api.fail(f"unpack({count.value}) of a tuple of {len(value.items)} items", ctx.context)
            return ctx.default_return_type
        items = value.items
    elif isinstance(value, Instance) and value.type.has_base("typing.Iterable") and count.value <= _MOST_PARTS:
        items = [_argument_of_base(value, "typing.Iterable")] * count.value
    else:
        return ctx.default_return_type
    parts = get_proper_type(ctx.default_return_type)
    if not isinstance(parts, Instance) or not parts.args:
        return parts
    lazies = [_like(parts.args[0], item) for item in items]
    return TupleType(lazies, parts.copy_modified(args=[make_simplified_union(lazies)]) if lazies else parts)


def type_of_routed(ctx: FunctionContext) -> Type:
    """Find the type of a router's value where routes of several types leave mypy without one for them all."""
    routes = ctx.args[1][0] if len(ctx.args) == 2 and ctx.args[1] else None
    if not isinstance(routes, DictExpr) or not isinstance(ctx.api, TypeChecker):
        return ctx.default_return_type
    common = get_proper_type(_value_of(ctx.default_return_type))
    if isinstance(common, Instance) and common.type.fullname != "builtins.object":
        return ctx.default_return_type
    if not routes.items or any(key is None for key, _ in routes.items):
        return ctx.default_return_type
    values = [remove_instance_last_known_values(_resolved(_type_of(route, ctx.api))) for _, route in routes.items]
    return _like(ctx.default_return_type, make_simplified_union(values))


_FUNCTION_HOOKS: Final[dict[str, Callable[[FunctionContext], Type]]] = {
    "cascade.spec.task.task": remember_function,
    "cascade.spec.routing.Router": type_of_routed,
}

_METHOD_HOOKS: Final[dict[str, Callable[[MethodContext], Type]]] = {
    "cascade.spec.task.TaskDecorator.__call__": remember_function,
    f"{TASK}.__call__": check_call,
    f"{TASK}.map": check_map,
    f"{TASK}.partial": check_partial,
    f"{LAZY}.__getitem__": type_of_item,
    f"{LAZY}.unpack": types_of_parts,
}

_OPTIONAL: Final = {ArgKind.ARG_POS: ArgKind.ARG_OPT, ArgKind.ARG_NAMED: ArgKind.ARG_NAMED_OPT}
_BY_NAME: Final = {ArgKind.ARG_POS: ArgKind.ARG_NAMED, ArgKind.ARG_OPT: ArgKind.ARG_NAMED_OPT}


def _signature(task: Type, context: object) -> CallableType | Overloaded | None:
    """What a task's function takes; `None` where the type does not tell, as for `Task[..., R]`."""
    task = get_proper_type(task)
    if not isinstance(task, Instance) or task.type.fullname != TASK:
        return None
    if task.extra_attrs is not None and FUNCTION_ATTRIBUTE in task.extra_attrs.attrs:
        function = get_proper_type(task.extra_attrs.attrs[FUNCTION_ATTRIBUTE])
        return function if isinstance(function, (CallableType, Overloaded)) else None
    parameters, result = get_proper_type(task.args[0]), task.args[1]
    if not isinstance(parameters, Parameters) or parameters.is_ellipsis_args:
        return None
    if any(isinstance(get_proper_type(kind), ParamSpecType) for kind in parameters.arg_types):
        return None
    return CallableType(
        parameters.arg_types,
        parameters.arg_kinds,
        parameters.arg_names,
        result,
        fallback=Instance(task.type.mro[-1], []),
        name=_shown_name(context.callee) if isinstance(context, CallExpr) else None,
    )


def _shown_name(callee: object) -> str | None:
    """How errors name what is called: as the program does."""
    if isinstance(callee, NameExpr):
        return callee.name
    if isinstance(callee, MemberExpr):
        before = _shown_name(callee.expr)
        return callee.name if before is None else f"{before}.{callee.name}"
    if isinstance(callee, CallExpr):
        before = _shown_name(callee.callee)
        return None if before is None else f"{before}(...)"
    return None


def _giving(signature: CallableType | Overloaded, lazy: Type) -> CallableType | Overloaded:
    """The signature, giving a lazy value of the given kind of what the function returns in the end."""
    items = [item.copy_modified(ret_type=_like(lazy, _final_value(item.ret_type))) for item in signature.items]
    return items[0] if len(items) == 1 else Overloaded(items)


def _like(lazy: Type, value: Type) -> Type:
    """`LazyResult[value]`, where `lazy` is some `LazyResult`."""
    proper = get_proper_type(lazy)
    return proper.copy_modified(args=[value]) if isinstance(proper, Instance) and proper.args else lazy


def _final_value(returned: Type) -> Type:
    """What is there when a coroutine has been awaited and a lazy value that it gave has been computed."""
    proper = get_proper_type(returned)
    if isinstance(proper, Instance) and proper.type.has_base("typing.Coroutine"):
        return _final_value(_argument_of_base(proper, "typing.Coroutine", 2))
    return _resolved(proper)


def _each_item(signature: CallableType | Overloaded, api: CheckerPluginInterface) -> CallableType | Overloaded:
    """The signature, taking an iterable of each argument."""
    items = [
        item.copy_modified(arg_types=[api.named_generic_type("typing.Iterable", [kind]) for kind in item.arg_types])
        for item in signature.items
    ]
    return items[0] if len(items) == 1 else Overloaded(items)


def _checked(ctx: MethodContext, signature: CallableType | Overloaded) -> Type:
    """What the call gives, checked by mypy against a signature with lazy values standing for their values."""
    call = ctx.context
    if not isinstance(call, CallExpr) or not isinstance(ctx.api, TypeChecker):
        return ctx.default_return_type
    args = [
        _standing_for_value(argument, ctx.api, star=kind.is_star())
        for argument, kind in zip(call.args, call.arg_kinds, strict=True)
    ]
    result, _ = ctx.api.expr_checker.check_call(signature, args, call.arg_kinds, call, call.arg_names)
    return ctx.default_return_type if isinstance(get_proper_type(result), AnyType) else result


def _remaining(signature: CallableType, call: CallExpr) -> Parameters:
    """The parameters that a `partial` leaves: what it fixed by name can still be given, by name."""
    actuals = map_actuals_to_formals(
        call.arg_kinds,
        call.arg_names,
        signature.arg_kinds,
        signature.arg_names,
        lambda _: AnyType(TypeOfAny.special_form),
    )
    types: list[Type] = []
    kinds: list[ArgKind] = []
    names: list[str | None] = []
    only_by_name = False
    for place, kind in enumerate(signature.arg_kinds):
        if not kind.is_star():
            fixed_by_name = any(call.arg_kinds[actual] is ArgKind.ARG_NAMED for actual in actuals[place])
            if actuals[place] and not fixed_by_name:
                continue
            # A place after one that is taken by name cannot be reached by counting.
            only_by_name = only_by_name or (fixed_by_name and kind.is_positional())
            if fixed_by_name:
                kind = _OPTIONAL.get(kind, kind)
            if only_by_name:
                kind = _BY_NAME.get(kind, kind)
        elif kind is ArgKind.ARG_STAR and only_by_name:
            continue
        types.append(signature.arg_types[place])
        kinds.append(kind)
        names.append(signature.arg_names[place])
    return Parameters(types, kinds, names)


def _standing_for_value(expression: Expression, api: TypeChecker, *, star: bool = False) -> Expression:
    """The expression as it will be when the lazy values in it are computed; itself where there are none.

    Literal containers are rebuilt, so that mypy still infers their types from what is expected of them.
    """
    if not _mentions_lazy(expression, api):
        return expression
    rebuilt: Expression
    if isinstance(expression, ListExpr):
        rebuilt = ListExpr([_standing_for_value(item, api) for item in expression.items])
    elif isinstance(expression, SetExpr):
        rebuilt = SetExpr([_standing_for_value(item, api) for item in expression.items])
    elif isinstance(expression, TupleExpr):
        rebuilt = TupleExpr([_standing_for_value(item, api) for item in expression.items])
    elif isinstance(expression, DictExpr):
        rebuilt = DictExpr(
            [(key, _standing_for_value(value, api, star=key is None)) for key, value in expression.items]
        )
    elif isinstance(expression, StarExpr):
        rebuilt = StarExpr(_standing_for_value(expression.expr, api, star=True))
        rebuilt.valid = expression.valid
    elif isinstance(expression, ConditionalExpr):
        rebuilt = ConditionalExpr(
            expression.cond,
            _standing_for_value(expression.if_expr, api),
            _standing_for_value(expression.else_expr, api),
        )
    else:
        kind = _type_of(expression, api)
        return TempNode(_resolved_members(kind) if star else _resolved(kind), context=expression)
    rebuilt.set_line(expression)
    return rebuilt


def _mentions_lazy(expression: Expression, api: TypeChecker) -> bool:
    if isinstance(expression, (ListExpr, SetExpr, TupleExpr)):
        return any(_mentions_lazy(item, api) for item in expression.items)
    if isinstance(expression, DictExpr):
        return any(_mentions_lazy(value, api) for _, value in expression.items)
    if isinstance(expression, StarExpr):
        return _mentions_lazy(expression.expr, api)
    if isinstance(expression, ConditionalExpr):
        return _mentions_lazy(expression.if_expr, api) or _mentions_lazy(expression.else_expr, api)
    return _holds_lazy(_type_of(expression, api))


def _type_of(expression: Expression, api: TypeChecker) -> Type:
    """The type by itself: what mypy has noted was inferred where anything was expected."""
    with api.msg.filter_errors():
        return api.expr_checker.accept(expression)


def _resolved(kind: Type) -> Type:
    """The type of the value that a value of this type stands for."""
    proper = get_proper_type(kind)
    if isinstance(proper, UnionType):
        return make_simplified_union([_resolved(item) for item in proper.items])
    value = _value_of(proper)
    return _forgiving(proper if value is None else value)


def _resolved_members(kind: Type) -> Type:
    """The same for what a `*` or `**` spreads: each member stands for its value."""
    proper = get_proper_type(kind)
    if _value_of(proper) is not None:
        # A lazy value cannot be spread: mypy says so.
        return proper
    if isinstance(proper, Instance):
        return proper.copy_modified(args=[_resolved(argument) for argument in proper.args])
    if isinstance(proper, TupleType):
        return proper.copy_modified(items=[_resolved(item) for item in proper.items])
    return _forgiving(proper)


def _forgiving(kind: Type) -> Type:
    """The type with `Any` in the place of lazy values: a list of them fits wherever some list does."""
    proper = get_proper_type(kind)
    if not _holds_lazy(proper):
        return kind
    if _value_of(proper) is not None:
        return AnyType(TypeOfAny.special_form)
    if isinstance(proper, Instance):
        return proper.copy_modified(args=[_forgiving(argument) for argument in proper.args])
    if isinstance(proper, TupleType):
        return proper.copy_modified(items=[_forgiving(item) for item in proper.items])
    return AnyType(TypeOfAny.special_form)


def _holds_lazy(kind: Type) -> bool:
    """Whether a lazy value is certain or possible here, at any depth."""
    proper = get_proper_type(kind)
    if _value_of(proper) is not None:
        return True
    if isinstance(proper, Instance):
        return any(_holds_lazy(argument) for argument in proper.args)
    if isinstance(proper, (UnionType, TupleType)):
        return any(_holds_lazy(item) for item in proper.items)
    return False


def _value_of(kind: Type) -> Type | None:
    """`X` for any kind of `LazyResult[X]`, `None` for all else."""
    proper = get_proper_type(kind)
    if isinstance(proper, Instance) and proper.type.has_base(LAZY):
        return _argument_of_base(proper, LAZY)
    return None


def _argument_of_base(kind: Instance, base: str, place: int = 0) -> Type:
    info = next(info for info in kind.type.mro if info.fullname == base)
    return map_instance_to_supertype(kind, info).args[place]
