"""The book, executed once and built once for every test of this folder, and a browser to open it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from lib import book

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]


def without(program: str) -> None:
    """Skip what needs a program that is missing here; where everything is to be checked, fail."""
    message = f"{program} is not installed"
    pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the book's sources with every notebook executed."""
    return book.execute(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="session")
def site(executed: Path) -> Path:
    """The folder of the pages built from them; building fails at any warning."""
    return book.build(executed.parent).parent


@pytest.fixture(scope="session")
def offline_site(site: Path) -> Path:
    """The pages, with the scripts that npm brings."""
    if shutil.which("npm") is None:
        without("npm")
    return site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a window. Its event loop must end before other modules start kernels."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        without(" or ".join(BROWSERS))
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
