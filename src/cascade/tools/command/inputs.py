"""The values of parameters on a command line: `--param NAME=VALUE`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.adapters.telemetry.wording import harmless
from cascade.spec.exceptions import ParameterError
from cascade.spec.input import ParamSpec, resolve_inputs
from cascade.spec.kinds import ListOf, OptionalOf, Repeated
from cascade.spec.walk import inputs_of

if TYPE_CHECKING:
    from cascade.spec.input import InputSpec

Texts = Mapping[str, Sequence[str]]
"""What was given for each parameter: several texts where it was given several times."""


def texts_of(given: Sequence[str]) -> dict[str, list[str]]:
    """Take `NAME=VALUE` apart.

    Raises:
        ParameterError: names each of them that has not that form.
    """
    texts: dict[str, list[str]] = {}
    problems: list[str] = []
    for one in given:
        name, equals, value = one.partition("=")
        if equals and name:
            texts.setdefault(name, []).append(value)
        else:
            problems.append(f"--param '{harmless(one)}': expected NAME=VALUE")
    if problems:
        raise ParameterError(*problems)
    return texts


def values_of(target: Any, texts: Texts) -> dict[str, Any]:
    """The values of the parameters that were given, converted.

    Raises:
        ParameterError: lists everything that is missing, ill-typed or unknown, environment variables included.
    """
    specs = inputs_of(target)
    lists = {spec.name for spec in specs if isinstance(spec, ParamSpec) and _is_list(spec)}
    problems = [
        f"parameter {name!r}: given {len(several)} times, and it takes one value"
        for name, several in texts.items()
        if len(several) > 1 and name not in lists and any(spec.name == name for spec in specs)
    ]
    given: dict[str, Any] = {
        name: Repeated(several) if name in lists else several[-1] for name, several in texts.items()
    }
    try:
        values = resolve_inputs(specs, given, os.environ, label=_label)
    except ParameterError as error:
        raise ParameterError(*problems, *error.problems) from None
    if problems:
        raise ParameterError(*problems)
    return {spec.name: values[spec] for spec in specs if isinstance(spec, ParamSpec) and spec.name in given}


def storable(target: Any, texts: Texts) -> Texts:
    """What a store may keep of the texts that were given: not those of secrets, which are asked for again."""
    secret = {spec.name for spec in _secrets(target)}
    return {name: several for name, several in texts.items() if name not in secret}


def check_secrets(target: Any, texts: Texts) -> None:
    """Check that the secrets that a run cannot do without are given again.

    Raises:
        ParameterError: names those that are not.
    """
    problems = [
        f"--param {spec.name}: a secret is in no store; give it again with --param {spec.name}=VALUE"
        for spec in _secrets(target)
        if spec.required and spec.name not in texts
    ]
    if problems:
        raise ParameterError(*problems)


def given_again(texts: Texts) -> dict[str, Any]:
    """The texts that a run is given again; the run checks them, with the parameters that it has."""
    return {name: Repeated(several) for name, several in texts.items()}


def _secrets(target: Any) -> list[ParamSpec]:
    return [spec for spec in inputs_of(target) if isinstance(spec, ParamSpec) and spec.kind.hides]


def _is_list(spec: ParamSpec) -> bool:
    kind = spec.kind
    return isinstance(kind.inner if isinstance(kind, OptionalOf) else kind, ListOf)


def _label(spec: InputSpec) -> str:
    return f"--param {spec.name}" if isinstance(spec, ParamSpec) else f"{spec.word} {spec.name}"
