"""A book of one notebook: executed, stored, built, and left as it was when something fails."""

from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from lib import book

CHAPTER = Path("book/chapter.ipynb")
SLIDER = """
from pathlib import Path
from ipywidgets import IntSlider, Stack, VBox, jslink
slider, stack = IntSlider(), Stack([IntSlider()], selected_index=0)
link = jslink((slider, "value"), (stack, "selected_index"))
print(Path("here").resolve())
VBox([slider, stack])
"""


def write(root: Path, source: str) -> None:
    """Make a book whose one notebook has one cell."""
    (root / "book").mkdir(exist_ok=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\n")
    (root / "_config.yml").write_text("title: A book\nexecute: {execute_notebooks: 'off'}\nsphinx: {config: {}}\n")
    nbformat.write(new_notebook(cells=[new_code_cell(source, id="only")]), root / CHAPTER)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a book, on a machine without npm."""
    monkeypatch.setenv("PATH", "")
    return tmp_path


def test_executing_and_storing_leave_no_trace_of_the_run(root: Path):
    write(root, SLIDER)
    tracked, stored = (root / CHAPTER).read_bytes(), []
    for _ in range(2):
        book.execute(root / "_build", root)
        assert (root / CHAPTER).read_bytes() == (stored[-1] if stored else tracked)
        assert book.store(root / "_build", root) == [root / CHAPTER]
        stored.append((root / CHAPTER).read_bytes())
    assert stored[0] == stored[1]
    notebook = nbformat.read(root / CHAPTER, as_version=4)
    (cell,) = notebook.cells
    assert cell.outputs[0].text == "here\n"
    assert set(notebook.metadata) == {"language_info", "widgets"} and not cell.metadata


def test_failing_notebook_leaves_the_last_execution(root: Path):
    write(root, "print(1)")
    source = book.execute(root / "_build", root)
    before = (source / CHAPTER).read_bytes()
    write(root, "1 / 0")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        book.execute(root / "_build", root)
    assert (source / CHAPTER).read_bytes() == before
    assert [path.name for path in (root / "_build").iterdir()] == ["source"]


def test_warning_while_building_leaves_the_last_pages(root: Path):
    write(root, "print(1)")
    book.stage(root / "_build", root)
    with pytest.raises(RuntimeError, match="WARNING"):
        book.build(root / "_build")
    assert [path.name for path in (root / "_build").iterdir()] == ["source"]


def test_without_npm_the_pages_use_the_network(root: Path, capsys: pytest.CaptureFixture[str]):
    write(root, "print(1)")
    settings = yaml.safe_load((book.stage(root / "_build", root) / "_config.yml").read_text())
    assert settings["sphinx"]["config"] == {}
    assert "npm is not installed" in capsys.readouterr().err
    assert not any((root / "_offline").iterdir())
