"""The reference is written by hand: it must name everything public, and show the signatures that there are."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cascade
from cascade.runtime import events
from cascade.runtime.constraints.manager import ConstraintManager
from cascade.runtime.plan import Lane
from cascade.spec import protocols

DOCUMENTS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCUMENTS / "reference"
PAGES = {path.name: path.read_text() for path in sorted(REFERENCE.glob("*.md"))}
OWNERS: dict[str, Any] = {
    "cs": cascade,
    "ConstraintManager": ConstraintManager,
    "testing": importlib.import_module("cascade.testing"),
}
SHOWN_BY_ARGUMENTS = {"override_resource"}
"""What takes its arguments in two ways, so that no single signature says it."""


def public_names() -> list[str]:
    """What `cascade` offers: neither its folders nor what it imports for itself."""
    found: list[str] = []
    for name in dir(cascade):
        value = None if name in cascade._LAZY else getattr(cascade, name)
        own = name in cascade._LAZY or getattr(value, "__module__", "").startswith("cascade")
        if own and not name.startswith("_") and not isinstance(value, ModuleType):
            found.append(name)
    return found


def shown_signatures() -> list[tuple[str, str]]:
    """Every line of the reference that shows how something is called, with its page."""
    return [
        (page, line)
        for page, text in PAGES.items()
        for block in re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def find(dotted: str) -> Any:
    """What a signature in the reference is the signature of."""
    if dotted.startswith("cascade."):
        module, _, name = dotted.rpartition(".")
        return getattr(import_module(module), name)
    first, *rest = dotted.split(".")
    value = OWNERS.get(first)
    if value is None:
        value = getattr(cascade, first, None) or getattr(OWNERS["testing"], first)
    for name in rest:
        value = getattr(value, name)
    return value


def test_the_reference_names_everything_public() -> None:
    everything = "\n".join(PAGES.values())
    missing = [name for name in public_names() if not re.search(rf"\bcs\.{name}\b", everything)]
    assert not missing, f"docs/reference does not name {missing}"


def test_the_reference_names_nothing_that_is_not_there() -> None:
    for path in [*DOCUMENTS.rglob("*.md"), DOCUMENTS.parent / "README.md"]:
        named = set(re.findall(r"\bcs\.([A-Za-z_]\w*)", path.read_text()))
        wrong = sorted(name for name in named if name not in dir(cascade))
        assert not wrong, f"{path.name} names {wrong}, which cascade does not have"


@pytest.mark.parametrize(("page", "shown"), shown_signatures(), ids=lambda text: text.partition("(")[0])
def test_signatures_in_the_reference_are_those_of_the_code(page: str, shown: str) -> None:
    dotted, _, arguments = shown.partition("(")
    value = find(dotted)
    if dotted in SHOWN_BY_ARGUMENTS:
        return
    definition = ast.parse(f"def shown({arguments}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    assert described(definition.args) == described_signature(value), f"{page}: {dotted}"


def described(arguments: ast.arguments) -> list[tuple[str, str, object]]:
    """Name, kind and default of each argument; `...` stands for a default that is not shown."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    found = [
        (argument.arg, "only" if argument in arguments.posonlyargs else "any", default_of(default))
        for argument, default in zip(positional, defaults, strict=True)
    ]
    if arguments.vararg is not None:
        found.append((arguments.vararg.arg, "*", inspect.Parameter.empty))
    found += [
        (argument.arg, "named", default_of(default))
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg is not None:
        found.append((arguments.kwarg.arg, "**", inspect.Parameter.empty))
    return found


class AnyDefault:
    """Equal to every default: the page describes it in words."""

    def __eq__(self, other: object) -> bool:
        return other is not inspect.Parameter.empty

    __hash__ = None  # type: ignore[assignment]


def default_of(node: ast.expr | None) -> object:
    if node is None:
        return inspect.Parameter.empty
    if isinstance(node, ast.Name):
        return {"Exception": Exception}[node.id]
    value = ast.literal_eval(node)
    return AnyDefault() if value is ... else value


def described_signature(value: Any) -> list[tuple[str, str, object]]:
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: "only",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "any",
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.KEYWORD_ONLY: "named",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    return [
        (parameter.name, kinds[parameter.kind], parameter.default)
        for parameter in inspect.signature(value).parameters.values()
        if parameter.name not in ("self", "cls")
    ]


def test_every_event_is_there_with_all_its_fields() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", PAGES["events.md"], re.MULTILINE))
    inherited = {each.name for each in (*fields(events.Event), *fields(events.TaskEvent))}
    for kind in kinds:
        assert kind.__name__ in rows, f"docs/reference/events.md has no row for {kind.__name__}"
        base = kind in (events.Event, events.TaskEvent)
        own = {each.name for each in fields(kind)} - (inherited if not base else set())
        if kind is events.TaskEvent:
            own -= {each.name for each in fields(events.Event)}
        missing = [name for name in own if f"`{name}`" not in rows[kind.__name__]]
        assert not missing, f"the row of {kind.__name__} does not tell {missing}"


def test_every_reason_of_a_skip_is_there() -> None:
    told = re.findall(r"`([A-Z]\w+)`", inspect.getdoc(events.TaskSkipped) or "")
    missing = [reason for reason in told if f"| `{reason}` |" not in PAGES["events.md"]]
    assert told
    assert not missing


def test_every_error_and_warning_is_there() -> None:
    source = Path(cascade.__file__).parent
    declared = {
        name
        for path in source.rglob("*.py")
        if not path.is_relative_to(source / "testing" / "contracts")
        for name in re.findall(r"^class ([A-Z]\w*(?:Error|Warning|Group))\b", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(?:cs\.)?(\w+)`", PAGES["errors.md"]))
    assert "CascadeError" in declared
    assert declared <= named


def test_every_port_is_there() -> None:
    kinds = [name for name, value in vars(protocols).items() if getattr(value, "_is_protocol", False)]
    exchangeable = set(kinds) - {"Protocol", "Timer", "WorkerPool", "LendsThreads"}
    named = set(re.findall(r"`(\w+)`", PAGES["ports.md"]))
    assert exchangeable <= named


def test_links_between_documents_lead_somewhere() -> None:
    for path in [*DOCUMENTS.rglob("*.md"), DOCUMENTS.parent / "README.md"]:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)", path.read_text()):
            assert not link or (path.parent / link).exists(), f"{path.name} links to {link}, which is not there"


def test_links_to_sections_lead_somewhere() -> None:
    for path in [*DOCUMENTS.rglob("*.md"), DOCUMENTS.parent / "README.md"]:
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)]*)\)", path.read_text()):
            text = (path.parent / link).read_text() if link else path.read_text()
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{path.name} links to the section {anchor} of {link}"


def test_the_architecture_names_files_and_classes_that_are_there() -> None:
    text = (DOCUMENTS / "explanation" / "architecture.md").read_text()
    package = Path(cascade.__file__).parent
    sources = "\n".join(path.read_text() for path in package.rglob("*.py"))
    for name in set(re.findall(r"`([a-z_/]+\.py)`", text)):
        assert any((root / name).exists() for root in (package, package.parent, DOCUMENTS.parent)), name
    for name in set(re.findall(r"^\| `([A-Z]\w+)`", text, re.MULTILINE)) - {
        name for name in dir(Lane) if name.isupper()
    }:
        assert f"class {name}" in sources, name
