"""Values in command lines stay one word, wherever their place is accepted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.providers.shell.quoting import parse_command_line
from cascade.spec.exceptions import DeclarationError

HOSTILE = [
    "'; touch PWNED; '",
    "$(touch PWNED)",
    "`touch PWNED`",
    "\ntouch PWNED\n",
    '"; touch PWNED; "',
    "\\'; touch PWNED; \\'",
    ") ; touch PWNED; (",
    "E\ntouch PWNED\n",
    "a[$(touch PWNED)]",
]
PIECES = [
    "'",
    '"',
    "`",
    "\\",
    "$",
    "$(",
    "(",
    ")",
    "${{",
    "}}",
    "#",
    " ",
    "\n",
    "<<E\n",
    "E\n",
    "<<<",
    "case a in a)",
]
PIECES += [
    ";;",
    "esac",
    "echo ",
    "a",
    "{x}",
    ";",
    "|",
    "$((",
    "))",
    "\\\n",
    "=",
    "[[ ",
    " ]]",
    "$[",
    "]",
    "f() ",
    "<",
]


@pytest.mark.parametrize(
    "template",
    [
        "echo {x}",
        "echo a{x}b",
        "echo --name={x}",
        "echo 'a  b' \"c d\" {x}",
        'echo "$(date)" "${{HOME}}/x" {x}',
        "echo $(echo {x})",
        "echo ${{HOME}} {x}",
        "echo a#b {x}",
        "echo a # it's a comment\necho {x}",
        "cat <<<{x}",
        "for i in {x}; do echo $i; done",
        "awk '{{ print $1 }}' {x}",
    ],
)
def test_a_placeholder_may_stand_where_a_word_stands(template: str) -> None:
    assert parse_command_line(template).fill({"x": "a b"}).count("'a b'") == 1


@pytest.mark.parametrize(
    "template",
    [
        "echo '{x}'",
        'echo "{x}"',
        'echo "$(echo "{x}")"',
        "echo `echo {x}`",
        "echo ${{HOME:-{x}}}",
        "echo $((1 + {x}))",
        "echo $'a\\'{x}'",
        "cat <<E\n{x}\nE",
        "cat <<{x}",
        "echo # {x}",
        "echo \\{x}",
        "echo ${x}",
    ],
)
def test_a_placeholder_elsewhere_is_refused(template: str) -> None:
    with pytest.raises(DeclarationError, match=r"\{x\}"):
        parse_command_line(template)


@pytest.mark.parametrize("template", ["{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{a", "a}", "{ a; }", "{a,b}"])
def test_a_placeholder_is_a_plain_name(template: str) -> None:
    with pytest.raises(DeclarationError, match=r"brace|placeholder"):
        parse_command_line(template)


def test_a_list_becomes_several_words_where_it_stands_alone() -> None:
    assert parse_command_line("rm -- {xs};").fill({"xs": ["a b", Path("c"), 3]}) == "rm -- 'a b' c 3;"
    assert parse_command_line("ls {xs}").fill({"xs": []}) == "ls "
    with pytest.raises(DeclarationError, match="part of a word"):
        parse_command_line("--file={xs}").fill({"xs": ["a", "b"]})


@pytest.mark.parametrize("value", [None, True, b"bytes", {"a": 1}, ["a", None], "nul\0"])
def test_what_is_no_word_is_refused(value: object) -> None:
    with pytest.raises(DeclarationError, match=r"the value of \{x\}"):
        parse_command_line("echo {x}").fill({"x": value})


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8), st.sampled_from(HOSTILE))
def test_no_value_becomes_code_wherever_its_place_was_accepted(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], value: str
) -> None:
    template = "".join(pieces) + "{x}"
    try:
        line = parse_command_line(template)
    except DeclarationError:
        return
    folder = tmp_path_factory.getbasetemp()
    subprocess.run(
        ["/bin/sh", "-c", line.fill({"x": value})],
        cwd=folder,
        env={"PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not (folder / "PWNED").exists(), template
