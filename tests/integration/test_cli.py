"""A workflow as a program: options, help, messages and exit codes (S19, S22, S30)."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

import cascade as cs
from cascade.tools.report import failure_text

pytestmark = pytest.mark.needs_extra("cli")


class Color(Enum):
    RED = "r"
    BLUE = "b"


@cs.resource
def found_here() -> str:
    return "found"


@cs.resource(name="made_up")
def another() -> str:
    return "from the file"


@cs.task
def show(*values: Any) -> str:
    return " ".join(repr(value) for value in values)


@cs.task
def fail_unluckily(number: int) -> int:
    if number == 13:
        raise ValueError("an unlucky number\nof two lines")
    return number


def invoke(target: Any, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> Any:
    program = target if isinstance(target, typer.Typer) else cs.cli(target, **options)
    return CliRunner(env=env).invoke(program, list(arguments))


def words(text: str) -> str:
    """The text of a help page without its frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


def test_parameters_are_options() -> None:
    target = show(
        cs.Param("max_depth", default=8),
        cs.Param("root", type=Path),
        cs.Param("ratio", default=0.5),
        cs.Param("since", default=date(2024, 1, 2)),
        cs.Param("raw", default=None),
    )
    result = invoke(target, "--max-depth", "-3", "--root", "a", "--since", "2025-01-01", "--raw", "7")
    assert result.stdout == f"-3 {Path('a')!r} 0.5 {date(2025, 1, 1)!r} '7'\n"
    assert result.exit_code == 0


def test_the_application_is_a_typer_application() -> None:
    program = cs.cli(show(1), name="count")
    assert isinstance(program, typer.Typer)
    suite = typer.Typer()
    suite.add_typer(program, name="tools")
    assert CliRunner().invoke(suite, ["tools", "count"]).stdout == "1\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], "['x', 'y'] None"),
        (["--words", "a", "--words", "b,c", "--numbers", "1"], "['a', 'b', 'c'] [1]"),
        (["--words", '["a,b"]', "--numbers", "1", "--numbers", "2"], "['a,b'] [1, 2]"),
        (["--words", ""], "[] None"),
    ],
)
def test_list_options_are_repeatable(arguments: list[str], shown: str) -> None:
    target = show(
        cs.Param("words", default=["x", "y"], type=list[str]),
        cs.Param("numbers", default=None, type=list[int]),
    )
    assert invoke(target, *arguments).stdout == f"{shown}\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], "False None False"),
        (["--verbose", "--colors", "--no-cache"], "True True True"),
        (["--no-verbose", "--no-colors", "--cache"], "False False False"),
    ],
)
def test_a_bool_is_a_flag_and_its_opposite(arguments: list[str], shown: str) -> None:
    target = show(
        cs.Param("verbose", default=False),
        cs.Param("colors", default=None, type=bool),
        cs.Param("no_cache", default=False),
    )
    assert invoke(target, *arguments).stdout == f"{shown}\n"


def test_choices_and_json() -> None:
    target = show(
        cs.Param("color", default=Color.RED),
        cs.Param("mode", default="fast", type=Literal["fast", "slow"]),
        cs.Param("settings", default=None, type=dict[str, int]),
    )
    result = invoke(target, "--color", "BLUE", "--mode", "slow", "--settings", '{"a": 1}')
    assert result.stdout == f"{Color.BLUE!r} 'slow' {{'a': 1}}\n"


def test_help_tells_types_defaults_and_what_is_required() -> None:
    def workflow() -> Any:
        """Count [all] things."""
        return show(
            cs.Param("max_depth", default=8, description="how deep [to] look"),
            cs.Param("root", type=Path, description="where to look"),
            cs.Param("color", default=Color.RED),
            cs.Param("words", default=["x", "y"], type=list[str]),
            cs.Param("verbose", default=True),
            cs.Env("TOKEN", description="who asks"),
        )

    result = invoke(workflow, "--help")
    page = words(result.stdout)
    assert result.exit_code == 0
    for told in (
        "Count [all] things.",
        "--max-depth INT how deep [to] look [default: 8]",
        "* --root PATH where to look [required]",
        "--color [RED|BLUE] [default: RED]",
        "--words TEXT,... [default: x, y]",
        "--verbose --no-verbose",
        "[default: verbose]",
        "--log-level LEVEL",
        "[default: INFO]",
        "--log-format [human|json]",
        "Environment:",
        "TOKEN who asks [required]",
    ):
        assert told in page


def test_flags_show_no_value_in_help() -> None:
    page = words(invoke(show(cs.Param("verbose", default=True)), "--help").stdout)
    assert "<bool>" not in page
    assert "BOOLEAN" not in page
    assert "--help -h Show this" in page


def test_paragraphs_of_the_description_flow_and_lists_keep_their_lines() -> None:
    def workflow() -> Any:
        """Count things
        of all kinds.

        A second paragraph that
        is broken.

        - one
          more
        - two
        """
        return show(1)

    page = [line.strip() for line in invoke(workflow, "--help").stdout.splitlines()]
    assert "Count things of all kinds." in page
    assert "A second paragraph that is broken." in page
    start = page.index("- one")
    assert page[start : start + 3] == ["- one", "more", "- two"]


def test_help_needs_no_graph_and_runs_nothing() -> None:
    ran: list[int] = []
    route = cs.Router(cs.Param("kind"), {"a": cs.task(ran.append)(cs.Param("on_a_route", type=int))})
    result = invoke(cs.sequence([route]), "--help")
    assert "--on-a-route" in result.stdout
    assert ran == []


def test_all_bad_input_is_told_at_once_and_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_MISSING_VARIABLE", raising=False)
    ran: list[Any] = []
    target = cs.task(ran.append)(
        [
            cs.Param("root", type=Path),
            cs.Param("max_depth", default=8),
            cs.Param("mode", default="fast", type=Literal["fast", "slow"]),
            cs.Param("agree", type=bool),
            cs.Env("A_MISSING_VARIABLE"),
        ]
    )
    result = invoke(
        target, "--max-dept", "3", "--max-depth", "x", "--mode=quick", "stray", "--log-level", "loud",
    )  # fmt: skip
    assert result.exit_code == 2
    assert result.stdout == ""
    problems = result.stderr.split("nothing was run:\n")[1].splitlines()
    assert problems == [
        "  --max-dept: no such option; did you mean --max-depth?",
        "  'stray': unexpected; values are given by options, as --name VALUE",
        "  --root: required, expected Path, got nothing",
        "  --max-depth: expected int, got 'x'",
        "  --mode: expected one of 'fast', 'slow', got 'quick'",
        "  --agree: required, expected bool (true/false, yes/no, on/off, 1/0), got nothing",
        "  environment variable A_MISSING_VARIABLE: required, expected str, got nothing",
        "  --log-level: expected one of 'DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL', got 'LOUD'",
    ]
    assert "Traceback" not in result.stderr
    assert ran == []


def test_an_option_without_its_value_is_bad_input() -> None:
    result = invoke(show(cs.Param("n", default=1)), "--n")
    assert result.exit_code == 2
    assert "requires an argument" in result.stderr


def test_variables_come_from_the_environment() -> None:
    result = invoke(show(cs.Env("CASCADE_TEST_VALUE")), env={"CASCADE_TEST_VALUE": "7"})
    assert result.stdout == "'7'\n"


def test_a_failure_is_told_shortly_with_exit_code_1() -> None:
    result = invoke(fail_unluckily(cs.Param("number", type=int)), "--number", "13")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "error: ValueError: an unlucky number\n  of two lines\n" in result.stderr
    assert f"raised at {__file__}:" in result.stderr
    assert "fail_unluckily" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failure_is_told_in_full_to_those_who_debug() -> None:
    result = invoke(fail_unluckily(cs.Param("number", type=int)), "--number", "13", "--log-level", "debug")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr


@cs.task(executor="inline")
def nothing_in_particular() -> object:
    return object()


@pytest.mark.parametrize("target", [nothing_in_particular()["a"], cs.read("no/such/file")])
def test_where_a_failure_was_raised_is_left_out_unless_it_is_in_code_of_the_user(target: Any) -> None:
    result = invoke(target)
    assert result.exit_code == 1
    assert "raised at" not in result.stderr
    assert f"declared at {__file__}:" in result.stderr


def test_a_failure_in_an_installed_package_names_its_line() -> None:
    result = invoke(cs.task(typer.style, name="style")("text", fg="no such colour"))
    assert result.exit_code == 1
    assert "raised at " in result.stderr
    assert "site-packages" in result.stderr


def test_all_failures_are_told_where_a_run_goes_on_after_the_first() -> None:
    target = [fail_unluckily(13), fail_unluckily(cs.Param("number", default=13))]
    result = invoke(target, on_failure="continue")
    assert result.exit_code == 1
    assert "  1. ValueError: an unlucky number" in result.stderr
    assert "  2. ValueError: an unlucky number" in result.stderr


def test_many_failures_stay_on_one_screen() -> None:
    errors = [ValueError(f"number {number}") for number in range(100)]
    text = failure_text(ExceptionGroup("they failed", [ExceptionGroup("some", errors[:50]), *errors[50:]]))
    assert text.splitlines()[0] == "error: ExceptionGroup: they failed (51 sub-exceptions)"
    assert text.splitlines()[20:] == [
        "  20. ValueError: number 19",
        "  and 80 more; --log-level DEBUG shows all",
    ]


def test_the_message_of_a_group_is_told_without_secrets() -> None:
    secret = cs.Secret("hunter2 and more")
    group = ExceptionGroup(f"refused {secret.reveal()}", [ValueError("no")])
    assert "refused ***" in failure_text(group, whole_traceback=True)


def test_an_input_missing_in_a_returned_graph_is_bad_input() -> None:
    @cs.task
    def grow() -> Any:
        return show(cs.Param("late", type=int))

    result = invoke(grow())
    assert result.exit_code == 2
    assert "parameter 'late': required, expected int, got nothing" in result.stderr


@cs.task
def refuse(*problems: str) -> None:
    raise cs.ParameterError(*problems)


def test_a_task_can_say_that_the_input_is_bad() -> None:
    result = invoke(refuse("--root: no such folder", "--out: a file\nof two lines"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: ")
    told = "error: bad input in 2 places:\n  --root: no such folder\n  --out: a file\n    of two lines\n"
    assert result.stderr.endswith(told)
    in_full = invoke(refuse("--root: no such folder"), "--log-level", "DEBUG")
    assert in_full.exit_code == 2
    assert "Traceback (most recent call last)" in in_full.stderr


def test_bad_input_found_by_several_tasks_is_told_once_each() -> None:
    target = [refuse("--root: bad"), refuse("--root: bad", "--out: bad")]
    result = invoke(target, on_failure="continue")
    assert result.exit_code == 2
    assert result.stderr.endswith("error: bad input in 2 places:\n  --root: bad\n  --out: bad\n")


def test_bad_input_beside_a_failure_is_a_failure() -> None:
    result = invoke([refuse("--root: bad"), fail_unluckily(13)], on_failure="continue")
    assert result.exit_code == 1
    assert "ParameterError: --root: bad" in result.stderr
    assert "ValueError: an unlucky number" in result.stderr


def test_an_exit_of_a_task_is_the_exit_of_the_program() -> None:
    assert invoke(cs.task(sys.exit)(cs.Param("code", default=7))).exit_code == 7


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, ""),
        ("text as it is", "text as it is\n"),
        (b"bytes as they are", "bytes as they are\n"),
        (Path("a"), "a\n"),
        (3, "3\n"),
        (True, "true\n"),
        ({"a": ["ä"]}, '{\n  "a": [\n    "ä"\n  ]\n}\n'),
        ({1, 2}, "{1, 2}\n"),
        (1 + 2j, "(1+2j)\n"),
    ],
)
def test_the_result_goes_to_stdout(value: Any, printed: str) -> None:
    result = invoke(cs.task(lambda: value, name="value")())
    assert result.stdout == printed
    assert result.exit_code == 0


def test_a_function_is_called_when_the_program_is() -> None:
    called: list[str] = []

    def workflow() -> Any:
        called.append("now")
        return show(cs.Param("n", default=1))

    program = cs.cli(workflow)
    assert called == []
    assert invoke(program, "--n", "2").stdout == "2\n"
    assert invoke(program).stdout == "1\n"
    assert called == ["now"]


def test_a_task_without_parameters_is_such_a_function() -> None:
    @cs.task
    def whole() -> Any:
        return show(1)

    assert invoke(whole).stdout == "1\n"


def test_a_function_with_parameters_is_refused() -> None:
    def workflow(depth: int = 3) -> Any:
        return show(depth)

    with pytest.raises(ValueError, match=r"workflow\).*'depth'.*cs.Param\('depth'\)"):
        cs.cli(workflow)
    with pytest.raises(ValueError, match="call it with them"):
        invoke(fail_unluckily)


def test_a_function_that_gives_no_workflow_is_refused() -> None:
    async def workflow() -> Any:
        return show(1)

    with pytest.raises(ValueError, match="plain function"):
        cs.cli(workflow)
    with pytest.raises(ValueError, match="is a return missing"):
        invoke(lambda: None)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["log_level"], "the option --log-level"),
        (["help"], "the option --help"),
        (["max_depth", "max-depth"], "the option --max-depth"),
        (["***"], "no letter"),
    ],
)
def test_two_parameters_cannot_be_one_option(names: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        invoke(show(*[cs.Param(name, default=1) for name in names]))


def test_options_of_run_are_checked_where_the_program_is_made() -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        cs.cli(show(1), no_such_option=1)
    with pytest.raises(TypeError, match="command line"):
        cs.cli(show(1), params={"a": 1})


def test_resources_at_the_top_level_of_the_file_are_found() -> None:  # S22
    @cs.task
    def use(value: str = cs.inject("found_here"), other: str = cs.inject("made_up")) -> str:
        return f"{value}, {other}"

    assert invoke(use()).stdout == "found, from the file\n"


def test_a_given_resource_comes_before_one_found_by_the_same_name() -> None:  # S22
    @cs.resource(name="made_up")
    def given() -> str:
        return "given"

    @cs.task
    def use(value: str = cs.inject("found_here"), other: str = cs.inject("made_up")) -> str:
        return f"{value}, {other}"

    assert invoke(use(), resources=[given]).stdout == "found, given\n"


def test_without_typer_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    for module in ("cascade.tools.program", "cascade.tools.options"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=r"pip install 'cascade-py\[cli\]'"):
        cs.cli(show(1))


def test_a_target_without_its_library_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def workflow() -> Any:
        raise cs.MissingExtraError("template", "Jinja2", "templates")

    program = cs.cli(workflow)
    with pytest.raises(SystemExit) as end:
        program([])
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: template needs Jinja2: pip install 'cascade-py[templates]'\n"
    with pytest.raises(cs.MissingExtraError):
        program([], standalone_mode=False)


def run_python(source: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    file = folder / "program.py"
    file.write_text(textwrap.dedent(source))
    return subprocess.Popen(
        [sys.executable, str(file), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_file_is_a_program(tmp_path: Path) -> None:
    source = '''
        """Say hello."""
        import cascade as cs

        @cs.resource
        def word():
            yield "hello"

        @cs.task
        def greet(name: str, word=cs.inject("word")) -> str:
            return f"{word} {name}"

        if __name__ == "__main__":
            cs.cli(greet(cs.Param("name", type=str)))()
    '''
    with run_python(source, "--name", "world", "--log-level", "CRITICAL", folder=tmp_path) as program:
        output, errors = program.communicate(timeout=60)
    assert (output, errors, program.returncode) == ("hello world\n", "", 0)
    with run_python(source, "--help", folder=tmp_path) as program:
        output, _ = program.communicate(timeout=60)
    assert "Say hello." in output


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal of POSIX")
def test_ctrl_c_ends_the_program_with_130(tmp_path: Path) -> None:  # S20
    source = """
        import asyncio
        import cascade as cs

        @cs.task
        async def wait() -> None:
            print("waiting", flush=True)
            await asyncio.Event().wait()

        cs.cli(wait())()
    """
    with run_python(source, folder=tmp_path) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert output == ""
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_importing_cascade_imports_no_typer() -> None:
    check = "import sys, cascade; sys.exit('typer' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
