"""Texts are filled completely, or the error names what is missing and where."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from cascade.providers import text as provided
from cascade.providers.text import TemplateError, template, template_file
from cascade.spec.exceptions import DeclarationError, MissingExtraError

format_text = provided.format
needs_templates = pytest.mark.needs_extra("templates")


def test_format_does_what_str_format_does() -> None:
    assert format_text.function(
        "{} {0[a]!r} {x.real:>{w}}".replace("{0[a]!r}", "{y[a]!r}"), 1, x=2, w=3, y={"a": "b"}
    ) == ("1 'b'   2")
    assert format_text("{template} {x}", template=1, x=format_text("a")).name == "format"
    assert format_text.map(["{x}", "{x}!"], x=[1, 2]).name == "format"


@pytest.mark.parametrize(
    ("text", "args", "values", "expected"),
    [
        ("{usr}", (), {"user": 1}, "no value for 'usr'; there are values for 'user'; did you mean 'user'"),
        ("{} {}", (1,), {}, "at least 2 values by position, got 1"),
        ("{:{width}}", (1,), {}, "no value for 'width'"),
        ("{", (), {}, "write {{ and }} for braces"),
    ],
)
def test_a_field_without_a_value_is_reported_at_the_call(text: str, args: Any, values: Any, expected: str) -> None:
    with pytest.raises(TemplateError, match=expected.replace("{", r"\{")):
        format_text(text, *args, **values)
    with pytest.raises(TemplateError):
        format_text.function(text, *args, **values)
    with pytest.raises(DeclarationError):
        format_text(3)


@needs_templates
def test_templates_are_filled() -> None:
    assert template.function("{% for x in xs %}{{ x }},{% endfor %}\n", xs=[1, 2]) == "1,2,\n"
    assert template.function("{{ x }}{{ source }}", x="<", source=1) == "<1"
    assert template.function("{{ x }}", x="<", autoescape=True) == "&lt;"


@needs_templates
@pytest.mark.parametrize(
    ("source", "line", "undefined", "expected"),
    [
        ("a\n\n{{ usr }}", 3, "usr", "did you mean 'user'"),
        ("\n{{ user.name }}", 2, "name", "no attribute 'name'"),
        ("\n{% for %}", 2, None, "Expected an expression"),
        ("{{ user|shout }}", 1, None, "No filter named 'shout'"),
        ("\n\n{{ user.__class__.__mro__ }}", 3, None, "unsafe"),
        ("\n{% include 'other' %}", 2, None, "no template other"),
    ],
)
def test_template_errors_name_the_line(source: str, line: int, undefined: str | None, expected: str) -> None:
    with pytest.raises(TemplateError, match=expected) as caught:
        template.function(source, user={})
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.template, error.line, error.undefined) == ("<template>", line, undefined)


@needs_templates
def test_the_failure_of_a_value_keeps_its_type_and_tells_the_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        template.function("\n{{ 1 // x }}", x=0)
    assert caught.value.__notes__ == ["in the template <template>, line 2"]


@needs_templates
def test_templates_from_files(tmp_path: Path) -> None:
    (tmp_path / "base.html").write_text("<h1>{% block b %}{% endblock %}</h1>")
    (tmp_path / "page.html.j2").write_text("{% extends 'base.html' %}{% block b %}{{ x }}{% endblock %}")
    (tmp_path / "plain.txt").write_text("\n{{ x }}")
    assert template_file.function(tmp_path / "page.html.j2", x="<") == "<h1>&lt;</h1>"
    assert template_file.function(tmp_path / "plain.txt", x="<") == "\n<"
    assert template_file.function(tmp_path / "page.html.j2", autoescape=False, x="<") == "<h1><</h1>"
    with pytest.raises(TemplateError, match=r"plain\.txt, line 2: 'x' is undefined"):
        template_file.function(tmp_path / "plain.txt")
    with pytest.raises(FileNotFoundError):
        template_file.function(tmp_path / "nothing.txt")


def test_a_missing_extra_is_told_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert importlib.util.find_spec("jinja2") is None
    for declare in (template, template_file, template.function, template_file.function):
        with pytest.raises(MissingExtraError, match=r"pip install 'cascade-py\[templates\]'"):
            declare("x")
