from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.tools.report_page import write_report

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

HOSTILE = [
    "<img src=x onerror=hit()>",
    "</script><script>hit()</script>",
    "<!--<script>",
    '\' onmouseover=\'hit()\' " onfocus="hit()" autofocus="',
    "$title ${policy} $$",
    "\x1b[31m\0\ud800\u202e\u2028",
    "x" * 10_000,
]


def written(tmp_path: Path, target: Any, *, draws: bool = False) -> str:
    from cascade.stores import open_store

    url = f"sqlite:///{tmp_path / 'runs.db'}"
    run_id = "".join(HOSTILE)[:300]
    try:
        cs.run(target, run_id=run_id, store=url, on_failure="continue", log_level="CRITICAL")
    except* ValueError:
        pass
    store = open_store(url)
    try:
        write_report(store, run_id, tmp_path / "page.html", target=target if draws else None)
    finally:
        store.close()
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def hostile_target() -> list[Any]:
    def fail(text: str) -> str:
        raise ValueError(text)

    fine = [cs.task(lambda text: text, name=text)(text) for text in HOSTILE]
    return [*fine, *(cs.task(fail, name=text)(text) for text in HOSTILE)]


class Elements(HTMLParser):
    """Counts elements, and finds those that must balance."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[str, int] = {}
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened[tag] = self.opened.get(tag, 0) + 1
        self.attributes.update(name for name, _ in attrs)


@pytest.mark.parametrize("draws", [False, True])
def test_hostile_names_add_no_element_and_no_handler(tmp_path: Path, draws: bool) -> None:
    page = written(tmp_path, hostile_target(), draws=draws)
    elements = Elements()
    elements.feed(page)
    assert elements.opened["script"] == 2
    assert "img" not in elements.opened
    assert not any(name.startswith("on") or name == "autofocus" or name == "style" for name in elements.attributes)
    assert "\x1b" not in page
    assert "\0" not in page
    assert "\u202e" not in page
    assert "$title ${policy} $$" in page


def test_the_data_can_be_read_back_and_cannot_end_its_element(tmp_path: Path) -> None:
    page = written(tmp_path, hostile_target())
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert not set("<>&") & set(found[1])
    assert "</script><script>hit()</script>" in json.loads(found[1])["texts"]


def test_the_page_allows_itself_nothing_but_its_own_style_and_script(tmp_path: Path) -> None:
    page = written(tmp_path, cs.task(lambda: 1, name="one")())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert "http" not in policy[1]
    assert set(re.findall(r'(?:src|href)="(.)', page)) == {"#"}


def test_an_unknown_run_is_an_error_and_no_file(tmp_path: Path) -> None:
    from cascade.stores import open_store

    store = open_store(tmp_path / "runs.db")
    with pytest.raises(cs.CascadeError, match="no run 'nobody'"):
        write_report(store, "nobody", tmp_path / "page.html")
    store.close()
    assert not (tmp_path / "page.html").exists()


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    from cascade.stores import open_store
    from cascade.testing import MockClock

    url = f"sqlite:///{tmp_path / 'runs.db'}"
    cs.run(cs.task(lambda: 1, name="one")(), run_id="r", store=url, log_level="CRITICAL")
    store = open_store(url)
    clock = MockClock()
    for name in ("a", "b"):
        write_report(store, "r", tmp_path / name, clock=clock)
    store.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_run_of_which_nothing_has_ended_has_a_page_too(tmp_path: Path) -> None:
    from cascade.spec.records import RunRow
    from cascade.stores import open_store

    store = open_store(tmp_path / "runs.db")
    store.claim(RunRow("r", "running", 0, "", "somebody", 0.0, 100.0, 100.0, "t", b"", None, None), over=None)
    write_report(store, "r", tmp_path / "page.html")
    store.close()
    page = (tmp_path / "page.html").read_text()
    assert "Nothing has ended yet" in page
    assert ">interrupted<" in page
