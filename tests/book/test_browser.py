"""The pages in a browser without a network: no error, mathematics typeset, widgets alive."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from lib import book

CHAPTERS = [chapter.with_suffix(".html") for chapter in book.chapters()]
WIDGET_PAGE = Path("book/04-1-attacks.html")
PATIENCE = 120_000  # milliseconds, for a busy machine
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def faults() -> list[str]:
    """What went wrong on the page: requests that leave this machine, and errors."""
    return []


@pytest.fixture
def page(browser: Browser, faults: list[str]) -> Iterator[Page]:
    def local_only(route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"request: {route.request.url}")
            route.abort()

    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.route("**/*", local_only)
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    yield page
    page.close()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_page_opens_offline_without_an_error(offline_site: Path, page: Page, faults: list[str], chapter: Path):
    page.goto((offline_site / chapter).as_uri(), wait_until="networkidle")
    assert not faults


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_mathematics_is_typeset(offline_site: Path, page: Page, chapter: Path):
    page.goto((offline_site / chapter).as_uri())
    formulas = page.locator(".math").count()
    expect(page.locator(".math mjx-container")).to_have_count(formulas)
    expect(page.locator("mjx-merror, mjx-mtext[style*=red]")).to_have_count(0)


def picture(output: Locator) -> list[bytes]:
    """The pixels of the images that an output shows now."""
    return [image.screenshot() for image in output.locator("img:visible").all()]


def becomes_other_than(before: list[bytes], output: Locator) -> bool:
    """Whether the picture changes within half a minute; views are drawn some time after a key is pressed."""
    for _ in range(150):
        if picture(output) != before:
            return True
        output.page.wait_for_timeout(200)
    return False


def test_each_slider_changes_the_figure(offline_site: Path, page: Page, faults: list[str]):
    page.goto((offline_site / WIDGET_PAGE).as_uri())
    handles = page.locator(".widget-slider [role=slider]")
    expect(handles).not_to_have_count(0)
    for handle in handles.all():
        output = page.locator(".cell_output", has=handle)
        handle.press("Home")
        page.wait_for_timeout(1000)
        before = picture(output)
        assert before, "the widget shows no image"
        handle.press("End")
        assert becomes_other_than(before, output), "the slider does not change the figure"
    assert not faults
