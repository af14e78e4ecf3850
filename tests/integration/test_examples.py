"""Every example runs as people run it, in a process of its own, and does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED_APART = {"census"}

cli = pytest.mark.needs_extra("cli")
templates = pytest.mark.needs_extra("templates")


def run(name: str, *arguments: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run an example; warnings are errors there too."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "USER": "ada"},
        check=False,
    )
    assert finished.returncode == code, finished.stderr
    assert "Warning" not in finished.stderr, finished.stderr
    return finished


def test_every_example_has_a_test() -> None:
    names = {path.parent.stem if path.parent != EXAMPLES else path.stem for path in EXAMPLES.rglob("*.py")}
    source = Path(__file__).read_text()
    assert {name for name in names if f'run("{name}"' not in source} == TESTED_APART


@cli
def test_the_agent_stops_when_it_has_an_answer(tmp_path: Path) -> None:
    told = run("agent", folder=tmp_path).stdout
    assert told.startswith("11.0 times, because jupiter is 139820, earth is 12742")
    told = run("agent", "--question", "Is Venus wider than Mars?", folder=tmp_path).stdout
    assert told.startswith("1.8 times, because venus is 12104, mars is 6779")


@cli
def test_the_agent_stops_when_its_turns_are_used_up(tmp_path: Path) -> None:
    told = run("agent", "--turns", "2", folder=tmp_path).stdout
    assert told == "no answer within the turns allowed; so far jupiter is 139820\n"


@cli
def test_the_agent_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    assert run("agent", "--question", "Why?", folder=tmp_path).stdout.startswith("I can compare")


@cli
def test_invoices_have_the_discount_of_their_kind(tmp_path: Path) -> None:
    rows = [line.split() for line in run("invoices", folder=tmp_path).stdout.splitlines()]
    assert rows == [
        ["Grace", "partner", "3,000.00", "EUR"],
        ["Edsger", "school", "1,188.00", "EUR"],
        ["Ada", "retail", "92.50", "EUR"],
    ]
    assert list(tmp_path.iterdir()) == []


@cli
def test_invoices_are_converted_and_saved_if_asked_for(tmp_path: Path) -> None:
    orders = tmp_path / "orders.csv"
    orders.write_text("customer,kind,item,quantity,price\nZoë,retail,pen,3,2\n")
    finished = run(
        "invoices", "--orders", "orders.csv", "--currency", "CHF", "--rate", "0.5", "--save", "out.json",
        folder=tmp_path,
    )  # fmt: skip
    assert finished.stdout.split() == ["Zoë", "retail", "3.00", "CHF"]
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved == [{"customer": "Zoë", "kind": "retail", "total": 3.0, "currency": "CHF"}]


@cli
@pytest.mark.parametrize(
    ("orders", "problem"),
    [
        ("customer,kind,item,quantity,price\nZoë,retail,pen,three,2\n", "line 2 of the orders is no order"),
        ("customer,kind,item,quantity,price\nZoë,bishop,pen,3,2\n", "'bishop'"),
        (None, "orders.csv"),
    ],
)
def test_bad_orders_are_named_and_nothing_is_saved(tmp_path: Path, orders: str | None, problem: str) -> None:
    if orders is not None:
        (tmp_path / "orders.csv").write_text(orders)
    finished = run("invoices", "--orders", "orders.csv", "--save", "out.json", folder=tmp_path, code=1)
    assert problem in finished.stderr
    assert finished.stdout == ""
    assert not (tmp_path / "out.json").exists()


def test_downloads_go_on_and_never_ask_too_much(tmp_path: Path) -> None:
    told = run("downloads", folder=tmp_path).stdout
    match = re.fullmatch(
        r"served 32 requests, at most (\d) at once\n"
        r"23 of 24 pages, 263 words\n"
        r"lost: HTTP Error 404: Not Found, in task 'page 13' .*\n",
        told,
    )
    assert match is not None, told
    assert 1 <= int(match[1]) <= 4


@cli
@templates
def test_the_page_about_the_machine_takes_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / "$(touch gone) 'quoted'"
    folder.mkdir()
    (folder / "large").write_bytes(b"x" * 100_000)
    (folder / "small").write_bytes(b"x")
    told = run("machine", "--folder", str(folder), "--out", "pages/machine.md", folder=tmp_path).stdout
    page = (tmp_path / "pages/machine.md").read_text()
    assert told == f"{page}\nwritten to pages/machine.md\n"
    assert f"## {folder}\n\n2 files" in page
    assert re.search(rf"\n- \d+\t{re.escape(str(folder))}/large\n", page)
    assert "Shell of ada" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, "pages"])


@cli
@templates
def test_a_command_that_fails_tells_why(tmp_path: Path) -> None:
    finished = run("machine", "--folder", "nowhere", folder=tmp_path, code=1)
    assert "nowhere" in finished.stderr
    assert not (tmp_path / "machine.md").exists()
