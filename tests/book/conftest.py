"""The pages of the book, built once for every test of this folder, and a browser to open them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from lib import book

AXE = "axe-core@4.10.2"


def without(needed: str) -> None:
    """Skip what needs a program, or the network, that is missing here; where everything is to be checked, fail."""
    message = f"{needed} is missing here"
    pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages, built from the stored outputs, which nbval checks; building fails at any warning."""
    out = tmp_path_factory.mktemp("book")
    book.stage(out)
    return book.build(out).parent


@pytest.fixture(scope="session")
def offline_site(site: Path) -> Path:
    """The pages, with the scripts that npm brings."""
    if not book.offline():
        without("npm, or its registry,")
    return site


@pytest.fixture(scope="session")
def axe(offline_site: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script that checks a page for what keeps people with disabilities from reading it."""
    folder = tmp_path_factory.mktemp("axe")
    try:
        book.fetch(AXE, ["axe.min.js"], folder)
    except subprocess.CalledProcessError:
        without("npm's registry")
    return (folder / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    executable = next(filter(None, map(shutil.which, book.BROWSERS)), None)
    if executable is None:
        without(" or ".join(book.BROWSERS))
    return executable


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser without a window. Its event loop must end before other modules start kernels."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
