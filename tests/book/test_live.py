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
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, Page, expect

from lib.notebooks import ROOT, notebooks

PATIENCE = 300_000  # milliseconds: the chapter runs meanwhile
SMALL = {"images": 3, "replicates": 4}
CHAPTER = next(chapter for chapter in notebooks() if "widgets" in nbformat.read(ROOT / chapter, as_version=4).metadata)

SLIDERS = """
import io
from PIL import Image
from lib import widgets

def draw(epsilons):
    pictures = []
    for epsilon in epsilons:
        pictures.append([io.BytesIO() for _ in range(3)])
        for order, png in enumerate(pictures[-1]):
            Image.new("RGB", (20, 20), (round(255 * epsilon), 100 * order, 0)).save(png, "png")
    return [[png.getvalue() for png in column] for column in pictures]

widgets.epsilon_order(draw, epsilons=[0, 8 / 255], orders=[1, 2, 3], n=16)
"""
"""A notebook of the sliders alone, over squares that tell ε by their red and the order by their green."""


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
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    sliders = new_notebook(cells=[new_code_cell(SLIDERS)], metadata=kernel)
    nbformat.write(sliders, tmp_path / "book" / "sliders.ipynb")
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


def opened(lab: str, browser: Browser, notebook: Path) -> tuple[Page, Locator]:
    """The page of a notebook whose cells have all run, and the output that has its first slider."""
    page = browser.new_page(viewport={"width": 1440, "height": 1200})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{lab}/lab/tree/{notebook}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-OutputArea .widget-slider [role=slider]").first.wait_for(timeout=PATIENCE)
    page.get_by_text("| Idle").wait_for()  # what runs moves the page about
    return page, page.locator(".jp-OutputArea-output", has=page.locator(".widget-slider")).first


def test_chapter_runs_in_jupyterlab_and_its_widget_moves_the_figure(lab: str, browser: Browser):
    page, output = opened(lab, browser, CHAPTER)
    slider, picture = output.locator("[role=slider]").first, output.locator("img:visible").first
    before = picture.get_attribute("src")
    slider.scroll_into_view_if_needed()
    slider.focus()
    slider.press("Home")
    expect(picture).not_to_have_attribute("src", before or "none", timeout=30_000)
    of_first = picture.get_attribute("src")
    output.get_by_role("button", name="Recompute").click()
    expect(picture).not_to_have_attribute("src", of_first or "none", timeout=60_000)
    expect(output.get_by_text("(needs a running kernel)")).to_have_count(0)
    expect(page.locator(".jp-OutputArea-output[data-mime-type*=stderr]")).to_have_count(0)
    page.close()


def test_an_epsilon_of_ones_own_has_its_place_on_the_slider(lab: str, browser: Browser):
    page, output = opened(lab, browser, Path("book/sliders.ipynb"))
    epsilon, order = (output.locator(".widget-hslider").nth(k) for k in range(2))

    def color() -> list[int]:
        """Red and green of the square that is shown."""
        (shown,) = output.locator("img:visible").all()
        return shown.evaluate(
            """image => {
                const canvas = document.createElement("canvas").getContext("2d");
                canvas.drawImage(image, 0, 0);
                return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 2);
            }"""
        )

    assert color() == [8, 200]
    order.locator("[role=slider]").press("Home")
    for own in ("12", "33"):
        output.get_by_role("spinbutton").fill(own)
        output.get_by_role("spinbutton").press("Enter")
        output.get_by_role("button", name="Recompute").click()
        expect(epsilon).to_contain_text(f"own: {own}/255")
        assert color() == [int(own), 0]
    order.locator("[role=slider]").press("End")
    expect(order).to_contain_text("3 (")
    assert color() == [33, 200]
    epsilon.locator("[role=slider]").press("Home")
    expect(epsilon).to_contain_text("0/255")
    assert color() == [0, 200]
    page.close()
