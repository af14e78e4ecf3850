"""What a value looks like once it is taken apart: a label, and the values that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cascade.graph.atoms import composite, sized, text

DEEPEST = 400_000
"""Levels of a value, beyond any real one: an object whose state makes a new object for ever is met here."""

ENDLESS = "it goes on for ever, or deeper than any value should"

Step = Callable[[int], str]
"""How a person reaches the part with this index, as `['key']` or `.name`."""


class Refusal(Exception):
    """A value has no sure content; the text says why, and what to do.

    Attributes:
        value: the value, and
        path: how it is reached from the root, both added by the walk that met it.
    """

    value: object = None
    path: str = ""


class Parts:
    """A value taken apart.

    Invariant: two values are equal inputs if and only if their labels are equal and their children are equal
    inputs, one by one, or, where `unordered`, as bags.
    """

    __slots__ = ("children", "label", "step", "unordered")

    def __init__(
        self, label: bytes, children: Sequence[object], step: Step = "[{}]".format, unordered: bool = False
    ) -> None:
        self.label = label
        self.children = children
        self.step = step
        self.unordered = unordered

    def token(self, tokens: Iterable[bytes]) -> bytes:
        """The token of the value, from the tokens of its children in their order."""
        if self.unordered:
            tokens = sorted(tokens)
        return composite(sized(b"L", self.label) + b"".join(tokens))


def shown(key: object) -> str:
    """A short `repr` that never raises."""
    try:
        written = repr(key)
    except Exception:
        written = f"<{type(key).__name__}>"
    return written if len(written) <= 60 else written[:57] + "..."


def joined(steps: Sequence[str]) -> str:
    """A path from its steps, without the middle of a long one."""
    if len(steps) > 20:
        steps = [*steps[:10], " ... ", *steps[-10:]]
    return "".join(steps)


class Attributes:
    """Values by name where the order of the names says nothing, unlike a dict's."""

    __slots__ = ("form", "values")

    def __init__(self, values: Mapping[str, object], form: str = ".{}") -> None:
        self.values = values
        self.form = form

    def parts(self) -> Parts:
        names = sorted(self.values)
        form = self.form
        label = b"attributes" + b"".join(map(text, names))
        return Parts(label, [self.values[name] for name in names], lambda index: form.format(names[index]))
