"""A chapter in JupyterLab, as a reader opens it: it runs, and its widget moves the figure through the kernel."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import papermill
import pytest
from playwright.sync_api import Browser, expect

from lib.notebooks import ROOT, notebooks

PATIENCE = 300_000  # milliseconds: the chapter runs meanwhile
SMALL = {"images": 3, "replicates": 4}
CHAPTER = next(chapter for chapter in notebooks() if "widgets" in nbformat.read(ROOT / chapter, as_version=4).metadata)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like the repository's, with a chapter whose outputs are gone and whose run is short."""
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "book").mkdir()
    notebook = nbformat.read(ROOT / CHAPTER, as_version=4)
    del notebook.metadata["widgets"]
    small = {name: value for name, value in SMALL.items() if name in papermill.inspect_notebook(ROOT / CHAPTER)}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{name} = {value}" for name, value in small.items())
    nbformat.write(notebook, tmp_path / CHAPTER)
    return tmp_path


@pytest.fixture
def lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab of that folder."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--ServerApp.token=", "--allow-root"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None", "--LabApp.check_for_updates_class="]
    rendering = folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    rendering.parent.mkdir(parents=True)
    rendering.write_text(json.dumps({"windowingMode": "none"}))  # cells out of sight are drawn too
    settings = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "PYTHONPATH": str(ROOT),
    }
    log = folder / "log.txt"
    with log.open("w") as writing:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stderr=writing)
    try:
        for _ in range(600):
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+", log.read_text())
            if found:
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield found[0]
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_chapter_runs_in_jupyterlab_and_its_widget_moves_the_figure(lab: str, browser: Browser):
    page = browser.new_page(viewport={"width": 1440, "height": 1200})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{lab}/lab/tree/{CHAPTER}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    slider = page.locator(".jp-OutputArea .widget-slider [role=slider]").first
    slider.wait_for(timeout=PATIENCE)
    output = page.locator(".jp-OutputArea-output", has=page.locator(".widget-slider")).first
    page.get_by_text("| Idle").wait_for()  # what runs moves the page about
    picture = output.locator("img:visible").first
    before = picture.get_attribute("src")
    slider.scroll_into_view_if_needed()
    slider.focus()
    slider.press("Home")
    expect(picture).not_to_have_attribute("src", before or "none", timeout=30_000)
    expect(page.locator(".jp-OutputArea-output[data-mime-type*=stderr]")).to_have_count(0)
    page.close()
