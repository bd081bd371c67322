"""The pages link to what exists and load nothing from the network."""

from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup

LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


def read_pages(site: Path) -> dict[Path, BeautifulSoup]:
    return {page: BeautifulSoup(page.read_bytes(), "html.parser") for page in site.rglob("*.html")}


def test_first_page_leads_to_the_book(site: Path):
    assert 'url=book/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "book" / "index.html").is_file()


def test_links_lead_somewhere(site: Path):
    pages = read_pages(site)
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


def test_pages_load_nothing_from_the_network(offline_site: Path):
    loaded = [
        f"{page.relative_to(offline_site)}: {tag[attribute]}"
        for page, soup in read_pages(offline_site).items()
        for name, attribute in LOADING.items()
        for tag in soup.find_all(name, {attribute: True})
        if urlsplit(tag[attribute]).netloc
    ]
    assert not loaded
