"""A book of one notebook: executed, stored, built, and left as it was when something fails."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lib import book, pages

CHAPTER = Path("book/chapter.ipynb")


def test_failing_notebook_leaves_the_last_execution(write: Callable[[str], None], root: Path):
    write("print(1)")
    source = book.execute(root / "_build", root)
    before = (source / CHAPTER).read_bytes()
    write("1 / 0")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        book.execute(root / "_build", root)
    assert (source / CHAPTER).read_bytes() == before
    assert [path.name for path in (root / "_build").iterdir()] == ["source"]


def test_warning_while_building_leaves_the_last_pages(write: Callable[[str], None], root: Path):
    write("print(1)")
    book.stage(root / "_build", root)
    with pytest.raises(ChildProcessError, match="WARNING"):
        book.build(root / "_build")
    assert [path.name for path in (root / "_build").iterdir()] == ["source"]


def test_without_npm_the_pages_use_the_network(
    write: Callable[[str], None], root: Path, capsys: pytest.CaptureFixture[str]
):
    write("print(1)")
    settings = yaml.safe_load((book.stage(root / "_build", root) / "_config.yml").read_text())
    assert settings["sphinx"]["config"] == {}
    assert "npm is not installed" in capsys.readouterr().err
    assert not any((root / "_offline").iterdir())


def test_a_package_that_would_write_elsewhere_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch):
    def pack(command: list[str], cwd: str, **_: object) -> None:
        with tarfile.open(Path(cwd) / "one.tgz", "w:gz") as archive:
            for name in ("package/LICENSE", "package/dist/one.js", "package/dist/../../../escaped.js"):
                member = tarfile.TarInfo(name)
                member.size = 2
                archive.addfile(member, io.BytesIO(b"hi"))

    monkeypatch.setattr(subprocess, "run", pack)
    with pytest.raises(ValueError, match=r"one@1 holds package/dist/\.\./.*escaped\.js, which would be written"):
        book.fetch("one@1", ["dist/*.js"], root / "a" / "b")
    assert not list(root.rglob("escaped.js"))


def test_execution_is_timed_and_the_times_are_stored(write: Callable[[str], None], root: Path):
    write("import time; time.sleep(1)")
    source = book.execute(root / "_build", root)
    book.store(root / "_build", root)
    took = json.loads((root / book.RUNTIMES).read_text())
    assert took["seconds"][str(CHAPTER)] >= 1 and took["machine"] and took["date"]
    page = source / "book" / "times.md"
    page.write_text("<!-- runtimes -->")
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\nchapters: [{file: book/times}]\n")
    pages.dress(source)
    assert f"| `{CHAPTER}` | {took['seconds'][str(CHAPTER)]} |" in page.read_text()


@pytest.mark.parametrize("url", ["", "https://example.org/me/book"])
def test_launch_buttons_only_where_there_is_a_repository(write: Callable[[str], None], root: Path, url: str):
    write("print(1)")
    with (root / "_config.yml").open("a") as settings:
        settings.write(f"repository: {{url: '{url}'}}\n")
    settings = yaml.safe_load((book.stage(root / "_build", root) / "_config.yml").read_text())
    assert settings.get("launch_buttons") == (book.LAUNCH if url else None)


def test_printing_without_a_browser(write: Callable[[str], None], root: Path):
    write("print(1)")
    with pytest.raises(FileNotFoundError, match="printing the book needs one of chromium"):
        book.pdf(root / "_build", root)
