"""Texts made from values as tasks."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

from cascade.spec.exceptions import CascadeError, DeclarationError, MissingExtraError
from cascade.spec.policy import is_lazy
from cascade.spec.task import Task

if TYPE_CHECKING:
    from types import TracebackType

    from jinja2 import Environment, Template

P = ParamSpec("P")
R = TypeVar("R")

_MOST_SHOWN: Final = 80
_IN_MEMORY: Final = "<template>"
_MARKUP: Final = (".html", ".htm", ".xhtml", ".xml", ".svg")
_UNDEFINED: Final = re.compile(r"'(?P<name>[^']*)' is undefined|has no (?:attribute|element) '?(?P<member>[^']*)'?")


class TemplateError(CascadeError, ValueError):
    """A template cannot be read, or not be filled with the values given.

    Attributes:
        template: its file, or `<template>` for one given as text.
        line: where in it, from 1 on; `None` where that is not known.
        problem: what is wrong.
        undefined: the name for which there is no value, if that is it.
    """

    def __init__(self, template: str, line: int | None, problem: str, undefined: str | None = None) -> None:
        super().__init__(template, line, problem, undefined)
        self.template = template
        self.line = line
        self.problem = problem
        self.undefined = undefined

    def __str__(self) -> str:
        place = self.template if self.line is None else f"{self.template}, line {self.line}"
        return f"{place}: {self.problem}"


class FormatTask(Task[P, R]):
    """The task `format`: a field without a value is reported at the call."""

    __slots__ = ()
    checks_calls = True

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not is_lazy(args[0]):
            _check_fields(args[0], len(args) - 1, kwargs)


class TemplateTask(Task[P, R]):
    """A task that needs Jinja2: where that is missing, the call says so."""

    __slots__ = ()
    checks_calls = True

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        _require_jinja(self.name)


def _checks_fields(function: Callable[P, R]) -> Task[P, R]:
    return FormatTask(function, name=function.__name__, executor="inline")


def _needs_jinja(function: Callable[P, R]) -> Task[P, R]:
    return TemplateTask(function, name=function.__name__)


@_checks_fields
def format(template: str, /, *args: Any, **values: Any) -> str:  # noqa: A001 - the task that does what str.format does
    """Fill a text as `str.format` does.

    Args:
        template: the text, with fields as `{name}`, `{}` or `{total:.2f}`.
        args: values for fields without a name or with a number.
        values: values for fields with a name.

    Raises:
        TemplateError: a field has no value, or the text cannot be read; at the call if the text is known
            there.

    >>> import cascade as cs
    >>> cs.run(cs.format("{} costs {price:.2f}", "tea", price=cs.task(sum)([1, 2])))
    'tea costs 3.00'
    """
    _check_fields(template, len(args), values)
    return template.format(*args, **values)


def _check_fields(template: Any, count: int, values: Mapping[str, Any]) -> None:
    if not isinstance(template, str):
        raise DeclarationError(f"format takes a text to fill, got {type(template).__name__} {template!r}")
    try:
        fields = list(_fields(template))
    except ValueError as error:
        raise TemplateError(_shown(template), None, f"{error}; write {{{{ and }}}} for braces") from None
    # Fields without a number count up over the whole text, those in format specs included.
    unnumbered = 0
    for field in fields:
        if field == "":
            field, unnumbered = str(unnumbered), unnumbered + 1
        if field.isdecimal():
            if int(field) >= count:
                problem = f"needs at least {int(field) + 1} values by position, got {count}"
                raise TemplateError(_shown(template), None, problem, field)
        elif field not in values:
            problem = f"no value for '{field}'{_given(field, values)}"
            raise TemplateError(_shown(template), None, problem, field)


def _shown(template: str) -> str:
    return repr(template) if len(template) <= _MOST_SHOWN else f"{template[:_MOST_SHOWN]!r}..."


def _fields(template: str) -> Iterator[str]:
    """The first part of each field's name, in order."""
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is not None:
            yield re.split(r"[.\[]", name, maxsplit=1)[0]
            yield from _fields(spec or "")


@_needs_jinja
def template(source: str, /, *, autoescape: bool = False, **values: Any) -> str:
    """Fill a Jinja2 template; needs `pip install 'cascade-py[templates]'`.

    A name without a value is an error. Templates run in Jinja2's sandbox, so that one that comes from
    elsewhere does not get at the insides of the values.

    Args:
        source: the text of the template. A line break at its end stays.
        autoescape: whether values are escaped for HTML.
        values: what the template can use.

    Raises:
        MissingExtraError: Jinja2 is not installed; at the call.
        TemplateError: the template cannot be read or filled; says in which line, and for which name.

    >>> import cascade as cs
    >>> cs.run(cs.template("{% for x in xs %}<{{ x }}>{% endfor %}", xs=["a", "b"]))
    '<a><b>'
    """
    _require_jinja("template")
    if not isinstance(source, str):
        raise DeclarationError(f"template takes the text of a template, got {type(source).__name__} {source!r}")
    return _rendered(lambda: _from_text(source, bool(autoescape)), _IN_MEMORY, values)


@_needs_jinja
def template_file(path: str | os.PathLike[str], /, *, autoescape: bool | None = None, **values: Any) -> str:
    """Fill a Jinja2 template from a file, which may include and extend others in its folder.

    Args:
        path: the file.
        autoescape: whether values are escaped for HTML; by default where the name ends in `.html`, `.htm`,
            `.xhtml`, `.xml` or `.svg`, before a `.j2` or `.jinja` if there is one.
        values: what the template can use.

    Raises:
        MissingExtraError: Jinja2 is not installed; at the call.
        TemplateError: the template cannot be read or filled; says in which line, and for which name.
        OSError: the file cannot be read.

    >>> import cascade as cs
    >>> cs.run(cs.template_file(cs.write("page.html", "<p>{{ text }}</p>"), text="1 < 2"))
    '<p>1 &lt; 2</p>'
    """
    _require_jinja("template_file")
    folder, name = os.path.split(os.path.abspath(path))
    # Jinja2 says of every problem with a file that there is no such template.
    with open(path, "rb"):
        pass
    if autoescape is None:
        autoescape = name.lower().removesuffix(".j2").removesuffix(".jinja").endswith(_MARKUP)
    environment = _environment(autoescape, folder)
    return _rendered(lambda: environment.get_template(name), os.fspath(path), values)


def _require_jinja(feature: str) -> None:
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtraError(feature, "Jinja2", "templates")


@functools.lru_cache(maxsize=64)
def _environment(autoescape: bool, folder: str | None) -> Environment:
    from jinja2 import DictLoader, FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=autoescape,
        keep_trailing_newline=True,
        loader=DictLoader({}) if folder is None else FileSystemLoader(folder),
    )


@functools.lru_cache(maxsize=64)
def _from_text(source: str, autoescape: bool) -> Template:
    return _environment(autoescape, None).from_string(source)


def _rendered(load: Callable[[], Template], label: str, values: Mapping[str, Any]) -> str:
    import jinja2

    try:
        return load().render(values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(error.filename or label, error.lineno, error.message or "syntax error") from None
    except jinja2.UndefinedError as error:
        _raise_undefined(error, error.message or "", label, values)
    except jinja2.TemplateError as error:
        file, line = _place(error.__traceback__, label)
        problem = f"no template {error.message}" if isinstance(error, jinja2.TemplateNotFound) else str(error)
        raise TemplateError(file, line, problem) from None
    except Exception as error:
        # The value's own failure keeps its type; the template is only where it happened.
        file, line = _place(error.__traceback__, label)
        if line is not None:
            error.add_note(f"in the template {file}, line {line}")
        raise


def _raise_undefined(error: Exception, message: str, label: str, values: Mapping[str, Any]) -> NoReturn:
    file, line = _place(error.__traceback__, label)
    match = _UNDEFINED.search(message)
    name = None if match is None else match["name"] or match["member"]
    given = _given(name, values) if match is not None and match["name"] else ""
    raise TemplateError(file, line, f"{message}{given}", name) from None


def _place(traceback: TracebackType | None, label: str) -> tuple[str, int | None]:
    """The innermost line of a template in a traceback, where Jinja2 puts lines of templates for its own."""
    place: tuple[str, int | None] = (label, None)
    while traceback is not None:
        if "__jinja_exception__" in traceback.tb_frame.f_globals:
            file = traceback.tb_frame.f_code.co_filename
            place = (label if file == _IN_MEMORY else file, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def _given(name: str | None, values: Iterable[str]) -> str:
    known = sorted(values)
    close = difflib.get_close_matches(name or "", known, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"; there are values for {', '.join(map(repr, known)) or 'nothing'}{hint}"
