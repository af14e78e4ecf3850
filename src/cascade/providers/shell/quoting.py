"""Command lines for the shell: text with placeholders, each replaced by a quoted value.

Quoting a value is safe only where the shell expects a plain word. Inside quotes, comments or here-documents
the added quotes would be text, and the value would be code. So the text around the placeholders is read as a
shell would read it, and a placeholder that stands anywhere else, or where this cannot be told for sure, is
refused.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from cascade.spec.exceptions import DeclarationError

_SEPARATORS: Final = frozenset(" \t\n;|&()<>")
_PLAIN_EXPANSION: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@*#?!:=+%/.,~^-")
_PLAIN_SUBSTITUTION: Final = re.compile(r"[\w \t./:+%,=@|&;>*?~^-]*")


class Placeholder(NamedTuple):
    """The place of a value.

    Attributes:
        name: the name of the value.
        alone: whether it is a word of its own, so that a list may stand there as several words.
    """

    name: str
    alone: bool


class CommandLine(NamedTuple):
    """A command line taken apart.

    Attributes:
        parts: text and placeholders, in order.
        names: the names of all placeholders.
    """

    parts: tuple[str | Placeholder, ...]
    names: frozenset[str]

    def fill(self, values: Mapping[str, Any]) -> str:
        """Put quoted values into their places.

        Raises:
            DeclarationError: a value cannot be a word of a command.
        """
        return "".join(part if isinstance(part, str) else _quoted(part, values[part.name]) for part in self.parts)


def word(value: object, label: str) -> str:
    """A value as one word of a command.

    Args:
        value: text, a path, or a number.
        label: how errors name it.

    Raises:
        DeclarationError: it is anything else.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, os.PathLike):
        text = os.fsdecode(cast(os.PathLike[str], value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        text = str(value)
    else:
        raise DeclarationError(
            f"{label} is a {type(value).__name__}, but a word of a command is text, a path or a number; "
            "turn it into the text that the command expects"
        )
    if "\0" in text:
        raise DeclarationError(f"{label} contains a null character, which no command can be given: {text!r}")
    return text


@functools.lru_cache(maxsize=256)
def parse_command_line(template: str) -> CommandLine:
    """Find the placeholders of a command line.

    Raises:
        DeclarationError: a brace is neither doubled nor part of a placeholder, or a placeholder stands where
            a quoted value would not stay one word.
    """
    parts: list[str | Placeholder] = []
    text: list[str] = []
    reader = _ShellReader()
    place = 0
    while place < len(template):
        character = template[place]
        if character in "{}" and template[place : place + 2] == character * 2:
            place += 2
        elif character == "{":
            name, place = _placeholder(template, place)
            problem = reader.why_no_word()
            if problem is not None:
                raise DeclarationError(f"the placeholder {{{name}}} {problem}; in the command {template!r}")
            ends = place == len(template) or template[place] in _SEPARATORS
            parts += ["".join(text), Placeholder(name, reader.at_start_of_word and ends)]
            text.clear()
            reader.pass_word()
            continue
        elif character == "}":
            raise DeclarationError(f"a '}}' without its '{{' in the command {template!r}; write '}}}}' for a brace")
        else:
            place += 1
        text.append(character)
        reader.read(character)
    parts.append("".join(text))
    names = frozenset(part.name for part in parts if isinstance(part, Placeholder))
    return CommandLine(tuple(part for part in parts if part != ""), names)


def _placeholder(template: str, start: int) -> tuple[str, int]:
    """The name in the braces that open at `start`, and where the text goes on."""
    end = template.find("}", start)
    name = template[start + 1 : end]
    if end < 0 or not name.isidentifier():
        shown = template[start : end + 1] if end >= 0 else template[start:]
        raise DeclarationError(
            f"{shown!r} is no placeholder in the command {template!r}: a placeholder is a plain {{name}}, "
            "without index, attribute, conversion or format; write '{{' and '}}' for braces of the shell"
        )
    return name, end + 1


def _quoted(placeholder: Placeholder, value: Any) -> str:
    label = f"the value of {{{placeholder.name}}}"
    if not isinstance(value, (list, tuple)):
        return shlex.quote(word(value, label))
    items = cast(Sequence[Any], value)
    if not placeholder.alone:
        raise DeclarationError(
            f"{label} is a {type(items).__name__}, which becomes several words, but the placeholder is part "
            "of a word; put blanks around it, or give one text"
        )
    return " ".join(shlex.quote(word(item, f"{label}[{index}]")) for index, item in enumerate(items))


class _ShellReader:
    """Follows the shell's reading of a text, as far as it takes to know where a quoted word stays one word.

    Where the shells differ or the matter is hard (here-documents, backticks, arithmetic, quotes within
    substitutions within quotes), it becomes blind for the rest of the text: rather refuse too much than once
    too little.
    """

    def __init__(self) -> None:
        self._quote = ""
        self._escaped = False
        self._comment = False
        self._previous = "\n"
        self._less_signs = 0
        self._inside = ""
        self._content = ""
        self._blind = ""

    def why_no_word(self) -> str | None:
        """Why a quoted value must not stand here, or `None` where it may."""
        if self._blind or self._is_here_document():
            reason = self._blind or "a here-document"
            return (
                f"comes after {reason}, where it cannot be told for sure what the shell makes of it; give "
                'the value in env={"NAME": value} and write "$NAME"'
            )
        if self._comment:
            return "stands in a comment, where a line break in its value would begin a command"
        if self._quote or self._inside:
            where = "quotes" if self._quote else "an expansion"
            return f"stands inside {where}, but it is quoted by itself; take it out of them"
        if self._escaped:
            return "follows a backslash, which would undo its quoting"
        if self._previous == "$":
            return "follows a '$'; write '{name}' for a value, and '${{NAME}}' for a variable of the shell"
        return None

    @property
    def at_start_of_word(self) -> bool:
        return self._previous in _SEPARATORS

    def pass_word(self) -> None:
        self._less_signs = 0
        self._previous = "x"

    def read(self, character: str) -> None:
        if self._blind:
            return
        if self._comment:
            self._comment = character != "\n"
        elif self._quote == "'":
            self._quote = "" if character == "'" else "'"
        elif self._escaped:
            self._escaped = False
            # An escaped line break is as if it were not there; any other escaped character begins nothing.
            if character != "\n":
                self.pass_word()
            return
        elif self._inside:
            self._read_inside(character)
        elif character == "\\":
            self._escaped = True
            return
        elif character == "`":
            self._blind = "a backtick"
        elif self._previous == "$" and character in "{(":
            self._open(character)
        elif self._quote:
            self._quote = "" if character == '"' else '"'
        else:
            self._read_plain(character)
        self._less_signs = self._less_signs + 1 if character == "<" and not self._quote else 0
        self._previous = character

    def _read_plain(self, character: str) -> None:
        if self._is_here_document() and character != "<":
            self._blind = "a here-document"
        elif character == "'" and self._previous == "$":
            self._blind = "$'...'"
        elif character in "'\"":
            self._quote = character
        elif (character == "(" and self._previous == "(") or (character == "[" and self._previous == "$"):
            self._blind = "arithmetic"
        elif character == "#" and self.at_start_of_word:
            self._comment = True

    def _is_here_document(self) -> bool:
        return self._less_signs == 2

    def _open(self, character: str) -> None:
        # Outside quotes, `$(` holds plain commands, whose quotes are read like all others.
        if character == "{" or self._quote:
            self._inside, self._content = character, ""

    def _read_inside(self, character: str) -> None:
        """Within `${...}`, or within `$(...)` inside double quotes: only what is plain is understood."""
        if character == {"{": "}", "(": ")"}[self._inside]:
            if "case" in self._content:
                self._blind = "case in a substitution"
            self._inside = ""
            return
        self._content += character
        if self._inside == "{" and character not in _PLAIN_EXPANSION:
            self._blind = "an expansion with more than a name in it"
        elif self._inside == "(" and not _PLAIN_SUBSTITUTION.fullmatch(character):
            self._blind = "a substitution with quotes or brackets inside quotes"
