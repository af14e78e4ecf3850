"""The page of a run in a real browser: Chromium, driven by Playwright."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cascade as cs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = [
    "<img src=x onerror=document.title='hit'>",
    "</script><script>document.title='hit'</script>",
    "<!--<script>",
    '\' onmouseover=\'document.title=1\' " onfocus="document.title=1" autofocus="',
    "\x1b[31mred\x1b]0;x\x07",
    "nul\0nul",
    "lone \ud800 half",
    "\u202egnp.exe",
    "שלום עולם",
    "日本語" * 400,
    "x" * 10_000,
    "${title} $$ {{7*7}} ]]>",
    "a\u0300" * 300,
    "__proto__",
]


@cs.task
def fetch(number: int) -> int:
    return number


@cs.task(retry=cs.Retry(2))
def clean(number: int) -> int:
    if cs.attempt() == 1:
        raise ValueError("once more")
    return number


@cs.task
def broken(number: int) -> int:
    raise ValueError(f"cannot use {number}")


@cs.task
def nested(number: int) -> Any:
    return fetch(clean(number))


@cs.task
def which(number: int) -> str:
    return "left"


@cs.task
async def on_loop(number: int) -> int:
    await asyncio.sleep(0)
    return number


@cs.task(executor="process")
def in_process(number: int) -> int:
    time.sleep(0.3)  # Longer than what runs beside it, so that its bar can be found.
    return number


@cs.task
def returning(number: int) -> Any:
    return fetch(number).named("unheard of")


def kinds() -> list[Any]:
    return [fetch.map(number=[1, 2, 3]), on_loop.map(number=[1, 2]), in_process(1), nested(1), returning(1)]


def workflow() -> list[Any]:
    one = fetch(1)
    chosen = cs.Router(which(one), {"left": clean(one), "right": fetch(one).named("other")})
    return [fetch.map(number=list(range(300))), chosen, nested(one), fetch(broken(one))]


def hostile_workflow() -> list[Any]:
    def fail(text: str) -> str:
        raise ValueError(text)

    fine = [cs.task(lambda text: text, name=text)(text) for text in HOSTILE]
    return [*fine, *(cs.task(fail, name=text)(text) for text in HOSTILE)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real runs, and the pages about them; made before a browser runs."""
    from cascade.stores import open_store
    from cascade.tools.report_page import write_report

    folder = tmp_path_factory.mktemp("pages")
    url = f"sqlite:///{folder / 'runs.db'}"
    hostile_id = "".join(HOSTILE[:8])
    targets = {"run": workflow(), hostile_id: hostile_workflow(), "wide": fetch.map(number=list(range(10_000)))}
    targets["kinds"] = kinds()
    for run_id, target in targets.items():
        try:
            cs.run(target, run_id=run_id, store=url, on_failure="continue", log_level="CRITICAL")
        except* ValueError:
            pass
    store = open_store(url)
    found: dict[str, Path] = {}
    for name, run_id, target in [
        ("run", "run", None),
        ("graph", "run", targets["run"]),
        ("hostile", hostile_id, None),
        ("hostile graph", hostile_id, targets[hostile_id]),
        ("wide", "wide", None),
        ("kinds", "kinds", targets["kinds"]),
    ]:
        found[name] = folder / f"{name}.html"
        write_report(store, run_id, found[name], target=target)
    store.close()
    return found


@pytest.fixture(scope="module")
def browser(pages: dict[str, Path]) -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="NOT TESTED: Playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("NOT TESTED: there is no Chromium; apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


Show = Callable[..., "Page"]


@pytest.fixture
def show(browser: Browser, pages: dict[str, Path]) -> Iterator[Show]:
    """Opens a page; whatever it complains about or asks the network for fails the test."""
    problems: list[str] = []
    opened: list[Any] = []

    def show(name: str, width: int = 1200, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        url = pages[name].as_uri()
        page.on("request", lambda request: problems.append(request.url) if request.url != url else None)
        page.goto(url)
        return page

    yield show
    for context in opened:
        context.close()
    assert problems == []


def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def test_a_page_shows_how_the_run_stands_its_tasks_and_its_errors(show: Show) -> None:
    page = show("run")
    assert texts(page, "h1") == ["run failed"]
    rows = {cells[0]: cells[1:] for cells in (row.split("\t") for row in texts(page, "tbody tr"))}
    assert rows["broken"][:5] == ["1", "0", "1", "0", "1"]
    assert rows["clean"][:5] == ["2", "2", "0", "0", "4"]
    assert "1 UpstreamFailed" in rows["fetch"][3]
    assert texts(page, ".failures pre") == ["ValueError: cannot use 1"]


def test_without_javascript_tasks_errors_and_graph_are_there(show: Show) -> None:
    page = show("graph", java_script_enabled=False)
    assert page.locator("tbody tr").count() >= 4
    assert page.locator(".failures li").count() == 1
    assert page.locator("svg .box").count() >= 6
    assert page.get_by_text("need JavaScript").is_visible()


def test_the_graph_shows_states_and_what_needs_what(show: Show) -> None:
    page = show("graph")
    box = page.locator("svg .box")
    named = {label.partition(",")[0] for label in (each.get_attribute("aria-label") or "" for each in box.all())}
    assert {"fetch", "broken", "router", "nested", "other"} <= named
    assert page.locator("svg .box.s-failed").count() == 1
    assert page.locator("svg .box.s-skipped").count() == 2
    assert page.locator("svg path.k-router-route").count() == 2


def test_what_is_too_long_for_a_box_of_the_graph_ends_with_an_ellipsis(show: Show) -> None:
    script = """texts => texts.map(text => {
        const style = getComputedStyle(text), box = text.closest(".box").querySelector("rect").getBoundingClientRect();
        const {left, right, top, bottom} = text.getBoundingClientRect();
        return {
            isTooLong: text.scrollWidth > text.clientWidth,
            isCut: style.textOverflow === "ellipsis" && style.overflowX === "hidden" && style.whiteSpace === "nowrap",
            isInside: left > box.left && right < box.right && top > box.top && bottom < box.bottom
        };
    })"""
    found = show("hostile graph").locator(".graph .title, .graph .told").evaluate_all(script)
    assert any(text["isTooLong"] for text in found)
    assert all(text["isCut"] and text["isInside"] for text in found)


def test_with_the_keyboard_alone_one_gets_from_a_box_to_its_place_and_what_is_inside(show: Show) -> None:
    page = show("run")
    page.locator("svg .box[aria-label*='300 inside']").focus()
    page.keyboard.press("Enter")
    row = page.locator(".row.chosen")
    assert row.evaluate("row => row === document.activeElement")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    opener = row.locator(".opener")
    assert opener.get_attribute("aria-expanded") == "true"
    assert page.locator("#tree ul .row").count() == 100
    page.get_by_role("button", name="Show 100 of 200 more").press("Enter")
    assert page.locator("#tree ul .row").count() == 200
    opener.press("Enter")
    assert not page.locator("#tree ul").is_visible()


def test_an_error_leads_to_its_place(show: Show) -> None:
    page = show("run")
    page.get_by_role("button", name="show place").click()
    assert "cannot use 1" in page.locator(".row.chosen").inner_text()


def test_tasks_can_be_sorted_and_filtered(show: Show) -> None:
    page = show("run")
    assert texts(page, "th[aria-sort]") == ["Total"]
    page.get_by_role("button", name="Calls").click()
    counts = [int(text) for text in texts(page, "tbody td:nth-child(2)")]
    assert counts == sorted(counts, reverse=True)
    page.get_by_role("button", name="Calls").click()
    assert [int(text) for text in texts(page, "tbody td:nth-child(2)")] == sorted(counts)
    page.get_by_role("button", name="Task", exact=True).click()
    names = texts(page, "tbody th")
    assert names == sorted(names)
    page.get_by_label("Filter").fill("LEA")
    assert texts(page, "tbody tr:not([hidden]) th") == ["clean"]
    page.get_by_label("Filter").fill("")
    page.get_by_label("with failures only").check()
    assert texts(page, "tbody tr:not([hidden]) th") == ["broken"]
    assert "1 of" in page.locator("#filtered").inner_text()


def test_ten_thousand_calls_are_drawn_as_no_more_bars_than_can_be_seen(show: Show) -> None:
    page = show("wide")
    assert "10,000 calls" in page.locator("#window").inner_text()
    canvas = page.locator("#chart")

    def bars() -> int:
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return int(canvas.get_attribute("data-bars") or "")

    lanes = int(canvas.get_attribute("data-lanes") or "")
    most = 1200 * lanes
    assert 0 < bars() < min(10_000, most)
    whole = page.locator("#window").inner_text()
    canvas.focus()
    for key in ("+", "+", "ArrowRight", "ArrowLeft", "-"):
        page.keyboard.press(key)
        assert 0 <= bars() < min(10_000, most)
    assert page.locator("#window").inner_text() != whole
    page.keyboard.press("0")
    assert bars() > 0
    assert page.locator("#window").inner_text() == whole


def test_the_timeline_tells_on_what_calls_ran_and_what_its_rows_mean(show: Show) -> None:
    page = show("kinds")
    canvas = page.locator("#chart")
    assert canvas.get_attribute("data-parts") == "event loop, worker processes, worker threads, not known"
    told = page.locator("#window").inner_text()
    assert "1 row of worker processes" in told
    assert "1 row of what is not known" in told
    assert "A row is no thread" in page.locator("#timeline-help").inner_text()
    assert "as the tasks in the workflow say it" in page.locator("#timeline-help").inner_text()
    box = canvas.bounding_box()
    assert box is not None
    seen: set[str] = set()
    for share, y in itertools.product((0.5, 0.7, 0.3, 0.9), range(24, int(box["height"]), 6)):
        canvas.hover(position={"x": box["width"] * share, "y": y})
        if page.locator("#tip").is_visible():
            seen.add(page.locator("#tip").inner_text())
    assert any("in_process" in tip and "on: worker processes" in tip for tip in seen), seen


def test_without_the_workflow_the_timeline_says_that_it_does_not_know(show: Show) -> None:
    page = show("run")
    assert page.locator("#chart").get_attribute("data-parts") == "not known"
    assert "--graph tells it" in page.locator("#timeline-help").inner_text()
    assert re.search(r"calls in [\d,]+ rows?$", page.locator("#window").inner_text())


def test_a_bar_tells_about_its_call_and_leads_to_it(show: Show) -> None:
    page = show("wide")
    canvas = page.locator("#chart")
    canvas.hover(position={"x": 1, "y": 28})
    assert "fetch" in page.locator("#tip").inner_text()
    canvas.click(position={"x": 1, "y": 28})
    assert page.locator(".row.chosen").inner_text().startswith("✓ done")


@pytest.mark.parametrize("name", ["hostile", "hostile graph"])
@pytest.mark.parametrize("width", [1200, 390])
def test_hostile_names_are_shown_and_do_nothing(show: Show, name: str, width: int) -> None:
    page = show(name, width)
    assert page.title().startswith("<img src=x onerror=document.title='hit'></script>")
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == 0
    shown = texts(page, "tbody th")
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[8], HOSTILE[11], HOSTILE[13]):
        assert text in shown
    assert "nul\\x00nul" in shown
    assert "lone \\ud800 half" in shown
    assert "\\u202egnp.exe" in shown
    for row in page.locator("#tree .row").all():
        row.hover()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_browser_refuses_all_network_and_foreign_script(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["hostile"].as_uri())
    refused = page.evaluate(
        """async () => {
            const seen = [];
            document.addEventListener("securitypolicyviolation", event => seen.push(event.effectiveDirective));
            await fetch("http://127.0.0.1:9/").catch(() => null);
            document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/x.png"}));
            document.body.append(Object.assign(document.createElement("script"), {textContent: "window.ran = 1"}));
            document.body.insertAdjacentHTML("beforeend", "<b onclick='window.ran = 1'>x</b>");
            document.body.lastChild.click();
            await new Promise(done => setTimeout(done, 50));
            return [window.ran === undefined, ...new Set(seen)];
        }"""
    )
    page.close()
    assert refused[0] is True
    assert {"connect-src", "img-src", "script-src-elem", "script-src-attr"} <= set(refused[1:])


CONTRAST = """() => {
    const light = color => {
        const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = color.map(part => linear(part / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const poor = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
        if (!own || !node.checkVisibility() || node.closest("svg, script, canvas")) continue;
        let behind = node;
        let ground = [0, 0, 0, 0];
        while (behind && ground.length === 4 && ground[3] === 0) {
            ground = parse(getComputedStyle(behind).backgroundColor);
            behind = behind.parentElement;
        }
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground)].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${node.tagName}.${node.className}: ${(a + 0.05) / (b + 0.05)}`);
    }
    return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(show: Show, scheme: str) -> None:
    page = show("run", color_scheme=scheme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(247, 248, 250)" if scheme == "light" else "rgb(15, 20, 27)"
    )
    assert page.evaluate(CONTRAST) == []


def test_who_cannot_see_the_page_finds_names_for_its_parts(show: Show) -> None:
    page = show("run")
    for name in ("Errors", "Graph", "Timeline", "Tasks", "Places"):
        assert page.get_by_role("heading", name=name, level=2).count() == 1
        assert page.get_by_role("region", name=name).count() >= 1
    assert page.get_by_role("img", name="Timeline").count() == 1
    assert page.get_by_role("table", name="Calls by the name of their task").count() == 1
    buttons = page.get_by_role("button")
    assert buttons.count() == page.get_by_role("button", name=re.compile(r"\w")).count() > 10
