"""The pages link to what exists and load nothing from the network."""

import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import nbformat
import papermill
import pytest
import xarray as xr
import yaml
from bs4 import BeautifulSoup

from lib import results
from lib.notebooks import ROOT, chapters, notebooks

LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, BeautifulSoup]:
    """Every page of the site, read: that takes seconds."""
    return {page: BeautifulSoup(page.read_bytes(), "html.parser") for page in site.rglob("*.html")}


def test_first_page_leads_to_the_book(site: Path):
    assert 'url=book/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "book" / "index.html").is_file()


def test_links_lead_somewhere(site: Path, pages: dict[Path, BeautifulSoup]):
    anchors = {page: {tag["id"] for tag in soup.find_all(id=True)} for page, soup in pages.items()}
    broken = []
    for page, soup in pages.items():
        for link in soup.find_all("a", href=True):
            target = urlsplit(urljoin(page.as_uri(), link["href"]))
            path = Path(unquote(target.path))
            if target.scheme == "file" and not (
                path.is_file() and (not target.fragment or unquote(target.fragment) in anchors.get(path, ()))
            ):
                broken.append(f"{page.relative_to(site)}: {link['href']}")
    assert not broken


def test_pages_load_nothing_from_the_network(offline_site: Path, pages: dict[Path, BeautifulSoup]):
    loaded = [
        f"{page.relative_to(offline_site)}: {tag[attribute]}"
        for page, soup in pages.items()
        for name, attribute in LOADING.items()
        for tag in soup.find_all(name, {attribute: True})
        if urlsplit(tag[attribute]).netloc
    ]
    assert not loaded


def test_pictures_say_what_they_show(site: Path, pages: dict[Path, BeautifulSoup]):
    without = [
        f"{page.relative_to(site)}: {image['src']}"
        for page, soup in pages.items()
        for image in soup.select("article img")
        if not image.get("alt", "").strip() or "/" in image["alt"]
    ]
    assert not without, "set mystnb: {image: {alt: …}} in the metadata of the cell"


def test_each_figure_of_a_chapter_has_a_caption_of_its_own(site: Path, pages: dict[Path, BeautifulSoup]):
    for notebook in notebooks():
        page = pages[site / notebook.with_suffix(".html")]
        figures = [image.find_parent("figure") for image in page.select(".cell_output img:not(.widget-image)")]
        assert all(figures), f"{notebook}: set mystnb: {{figure: {{caption: …}}}} in the metadata of each cell"
        captions = [figure.figcaption.get_text().strip() for figure in figures]
        assert all(captions) and len(set(captions)) == len(captions), f"{notebook}: one figure a cell"


def test_citations_say_what_they_cite_under_the_pointer(site: Path, pages: dict[Path, BeautifulSoup]):
    cited = [
        (page.relative_to(site), link.get_text(), link.get("title", ""))
        for page, soup in pages.items()
        for link in soup.select("article a.reference.internal[href^='02-related-work.html#id']")
    ]
    assert cited and not [(page, text) for page, text, title in cited if len(title) < 30]


def test_each_notebook_page_says_how_to_run_it_and_offers_it(site: Path, pages: dict[Path, BeautifulSoup]):
    for notebook in notebooks():
        page = pages[site / notebook.with_suffix(".html")]
        (line,) = re.findall(r"^papermill .*$", page.find("article").get_text(), flags=re.MULTILINE)
        program, read, written, option, setting, *value = shlex.split(line)
        assert (program, read, written) == ("papermill", str(notebook), f"build/{notebook.name}")
        asked = {setting: value} if option == "-p" else yaml.safe_load(setting)
        assert (option, len(value)) in (("-p", 1), ("-y", 0))
        assert asked.keys() <= papermill.inspect_notebook(ROOT / notebook).keys()
        assert all(isinstance(each, list) and each for each in asked.values()), asked
        (download,) = page.select("a.btn-download-source-button")
        offered = (site / notebook).parent / download["href"]
        cells = nbformat.read(offered.resolve(), as_version=4).cells
        assert {cell.id for cell in cells} > {cell.id for cell in nbformat.read(ROOT / notebook, 4).cells}


def test_each_page_has_search_and_a_switch_for_dark_mode(site: Path, pages: dict[Path, BeautifulSoup]):
    for chapter in chapters():
        page = pages[site / chapter.with_suffix(".html")]
        assert page.select("form.bd-search input[type=search]") and page.select("button.theme-switch-button")


def test_library_page_has_every_module(site: Path, pages: dict[Path, BeautifulSoup]):
    page = pages[site / "book" / "api.html"]
    found = {heading.get_text().rstrip("#") for heading in page.select("article h2")}
    assert found == {f"lib.{path.stem}" for path in (ROOT / "lib").glob("[!_]*.py")}
    assert page.find(id="lib.estimators.order_means")


def test_no_page_shows_where_an_object_lies_in_memory(pages: dict[Path, BeautifulSoup]):
    assert not [path.name for path, page in pages.items() if re.search(r" at 0x[0-9a-f]{6}", page.get_text())]


def test_tables_hold_every_published_number(site: Path, pages: dict[Path, BeautifulSoup]):
    page = pages[site / "book" / "data.html"]
    tables = {Path(link["href"]).name: site / "book" / link["href"] for link in page.select("a.download")}
    wanted = set()
    for *_, path in results.published():
        with xr.open_dataset(path, engine="scipy") as measured:
            name = "-".join(path.relative_to(results.PUBLISHED).with_suffix("").parts)
            wanted |= {
                (f"{name}-{'-'.join(variable.dims) or 'values'}.csv", variable.size)
                for variable in measured.data_vars.values()
            }
    assert {name for name, _ in wanted} == set(tables)
    for name, size in wanted:
        assert len(tables[name].read_text().splitlines()) == size + 1


def test_running_times_of_every_notebook(site: Path):
    text = (site / "book" / "runtimes.html").read_text(encoding="utf-8")
    assert all(str(notebook) in text for notebook in notebooks())
