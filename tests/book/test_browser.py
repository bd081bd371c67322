"""The pages in a browser without a network: no error, mathematics typeset, readable by all, widgets alive."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from lib.notebooks import ROOT, chapters, notebooks

PAGES = [*(chapter.with_suffix(".html") for chapter in chapters()), Path("search.html")]
WIDGET_PAGES = [
    notebook.with_suffix(".html")
    for notebook in notebooks()
    if "widgets" in nbformat.read(ROOT / notebook, as_version=4).metadata
]
PATIENCE = 120_000  # milliseconds, for a busy machine
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
TYPESET = """async () => {
    await window.MathJax?.startup?.promise
    return !window.MathJax || window.MathJax.startup?.promise !== undefined
}"""
ONE_OF_A_KIND = """() => {
    const seen = new Set()
    const path = (element) => element ? `${path(element.parentElement)} > ${element.tagName} ${element.className}` : ""
    for (const token of [...document.querySelectorAll("pre span, code span, .sig span, .sig em")].reverse()) {
        const kind = path(token)
        if (token.children.length) continue
        seen.has(kind) ? token.replaceWith(token.textContent) : seen.add(kind)
    }
}"""  # a page has thousands of tokens of code in a few kinds of places: two thirds of the time went there
MODES = {"light": {}, "dark": {"runOnly": ["color-contrast", "link-in-text-block"]}}  # colours alone change
BARRIERS = """async (rules) => (await axe.run({resultTypes: ["violations"], ...rules})).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => `${found.id}: ${found.nodes.map(node => node.html).join(" ")}`)"""
CUT_OFF = """() => [...document.querySelectorAll("article pre")]
    .filter(code => code.scrollWidth > code.clientWidth).length"""
expect.set_options(timeout=PATIENCE)


@contextmanager
def opened(browser: Browser, path: Path, faults: list[str]) -> Iterator[Page]:
    """A page of the site, what goes wrong on it written down: requests that leave this machine, and errors."""

    def local_only(route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"request: {route.request.url}")
            route.abort()

    page = browser.new_page(color_scheme="light", viewport=DESK)
    page.set_default_timeout(PATIENCE)
    page.route("**/*", local_only)
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.goto(path.as_uri(), wait_until="networkidle")
    yield page
    page.close()


def picture(output: Locator) -> list[bytes]:
    """The pixels of the images that an output shows now."""
    return [image.screenshot() for image in output.locator("img:visible").all()]


def stuck(handle: Locator) -> str:
    """What a slider leaves as it is within half a minute of going from where it stands to an end; empty for nothing.

    Views are drawn, and named, some time after a key is pressed.
    """
    output = handle.locator("xpath=ancestor::div[contains(@class, 'cell_output')]")
    before, name = picture(output), output.locator("img:visible").first.get_attribute("alt")
    assert before, "the widget shows no image"
    at_the_first = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemin")
    handle.press("End" if at_the_first else "Home")
    for _ in range(150):
        same = picture(output) == before
        if not same and output.locator("img:visible").first.get_attribute("alt") != name:
            return ""
        output.page.wait_for_timeout(200)
    return "the figure" if same else "its name"


@dataclass(frozen=True)
class Visit:
    """What one visit to a page found; opening a page takes seconds, so that the tests share it."""

    faults: list[str]
    cut_off: int
    stuck_sliders: list[str]
    untypeset: int
    wrong_formulas: int
    barriers: dict[str, list[str]]
    folded_in_print: int
    width_on_phone: int


@pytest.fixture(scope="module", params=PAGES, ids=str)
def visit(request: pytest.FixtureRequest, browser: Browser, offline_site: Path, axe: str) -> Visit:
    """A visit to each page: its sliders moved, printed, at the width of a phone, in light and in dark mode."""
    faults: list[str] = []
    with opened(browser, offline_site / request.param, faults) as page:
        page.wait_for_function(TYPESET)
        handles = page.locator(".widget-slider [role=slider]")
        if request.param in WIDGET_PAGES:
            expect(handles).not_to_have_count(0)
        cut_off, stuck_sliders = page.evaluate(CUT_OFF), [stuck(handle) for handle in handles.all()]
        found_faults = list(faults)
        page.emulate_media(media="print")
        folded_in_print = sum(not text.is_visible() for text in page.locator("article details pre").all())
        page.emulate_media(media="screen")
        page.set_viewport_size(PHONE)
        width_on_phone = page.evaluate("document.documentElement.scrollWidth")
        page.set_viewport_size(DESK)
        page.evaluate(axe)
        page.add_style_tag(content="* { transition: none !important; }")  # else colours fade while they are looked at
        page.evaluate(ONE_OF_A_KIND)
        barriers = {}
        for mode, rules in MODES.items():
            page.emulate_media(color_scheme=mode)
            expect(page.locator("html")).to_have_attribute("data-theme", mode)
            barriers[mode] = page.evaluate(BARRIERS, rules)
        return Visit(
            faults=found_faults,
            cut_off=cut_off,
            stuck_sliders=stuck_sliders,
            untypeset=page.locator(".math:not(:has(mjx-container))").count(),
            wrong_formulas=page.locator("mjx-merror, mjx-mtext[style*=red]").count(),
            barriers=barriers,
            folded_in_print=folded_in_print,
            width_on_phone=width_on_phone,
        )


def test_page_opens_offline_without_an_error(visit: Visit):
    assert not visit.faults


def test_no_line_of_code_is_cut_off(visit: Visit):
    assert visit.cut_off == 0


def test_each_slider_changes_the_figure_and_its_name(visit: Visit):
    assert not any(visit.stuck_sliders), visit.stuck_sliders


def test_mathematics_is_typeset(visit: Visit):
    assert visit.untypeset == 0 and visit.wrong_formulas == 0


def test_page_has_no_serious_barrier_in_light_and_dark(visit: Visit):
    assert visit.barriers == {"light": [], "dark": []}


def test_what_is_folded_on_the_screen_is_printed(visit: Visit):
    assert visit.folded_in_print == 0


def test_page_fits_a_phone(visit: Visit):
    assert visit.width_on_phone <= PHONE["width"]


def test_an_interval_in_a_table_with_room_stays_on_one_line(offline_site: Path, browser: Browser):
    with opened(browser, offline_site / "book/04-1-attacks.html", []) as page:
        field = page.locator("table.dataframe td", has_text="[").first
        table, height = field.locator("xpath=ancestor::table"), "field => field.getBoundingClientRect().height"
        expect(table).to_have_class("dataframe unbroken")
        on_the_desk = field.evaluate(height)
        page.set_viewport_size(PHONE)
        expect(table).to_have_class("dataframe")
        on_the_phone = field.evaluate(height)
    assert on_the_phone > 2 * on_the_desk


def test_there_is_a_widget_to_drag():
    assert WIDGET_PAGES


def test_search_finds_a_chapter(offline_site: Path, browser: Browser):
    faults: list[str] = []
    query = (offline_site / "search.html").as_uri() + "?q=perturbation"
    with opened(browser, offline_site / "search.html", faults) as page:
        page.goto(query)
        expect(page.locator("#search-results li")).not_to_have_count(0)
    assert not faults
