"""A book of one notebook: executed, stored, built, and left as it was when something fails."""

import json
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import book, key_numbers, pages

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


def test_lines_printed_around_glued_numbers_make_one_block(root: Path):
    write(root, "from myst_nb import glue\nfor i in range(3):\n    print(i)\n    glue(f'n{i}', i, display=False)")
    (cell,) = nbformat.read(book.execute(root / "_build", root) / CHAPTER, as_version=4).cells
    first, *glued = cell.outputs
    assert first.text == "0\n1\n2\n"
    assert [output.metadata.scrapbook.name for output in glued] == ["n0", "n1", "n2"]


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
    with pytest.raises(ChildProcessError, match="WARNING"):
        book.build(root / "_build")
    assert [path.name for path in (root / "_build").iterdir()] == ["source"]


def test_without_npm_the_pages_use_the_network(root: Path, capsys: pytest.CaptureFixture[str]):
    write(root, "print(1)")
    settings = yaml.safe_load((book.stage(root / "_build", root) / "_config.yml").read_text())
    assert settings["sphinx"]["config"] == {}
    assert "npm is not installed" in capsys.readouterr().err
    assert not any((root / "_offline").iterdir())


def test_execution_is_timed_and_the_times_are_stored(root: Path):
    write(root, "import time; time.sleep(1)")
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
def test_launch_buttons_only_where_there_is_a_repository(root: Path, url: str):
    write(root, "print(1)")
    with (root / "_config.yml").open("a") as settings:
        settings.write(f"repository: {{url: '{url}'}}\n")
    settings = yaml.safe_load((book.stage(root / "_build", root) / "_config.yml").read_text())
    assert settings.get("launch_buttons") == (book.LAUNCH if url else None)


def test_notebook_says_how_to_run_it_and_its_figures_have_a_text(root: Path):
    write(root, "print(1)")
    picture = new_output("display_data", data={"image/png": ""})
    parameters = new_code_cell("epsilon = 0.1  # greatest change", metadata={"tags": ["parameters"]})
    named = new_code_cell("", outputs=[picture], metadata={"mystnb": {"image": {"alt": "a curve that rises"}}})
    cells = [new_markdown_cell("# Title\n\n## Section $x$"), parameters, new_code_cell("", outputs=[picture]), named]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), root / CHAPTER)
    source = book.stage(root / "_build", root)
    tracked = (root / CHAPTER).read_bytes()
    pages.dress(source)
    title, run, _, plain, named = nbformat.read(source / CHAPTER, as_version=4).cells
    assert title.source.startswith("# Title")
    assert "papermill book/chapter.ipynb build/chapter.ipynb -p epsilon 0.1" in run.source
    assert "| `epsilon` | `0.1` | greatest change |" in run.source
    assert plain.metadata.mystnb.image.alt == "Figure of the section “Section x”"
    assert named.metadata.mystnb.image.alt == "a curve that rises"
    assert (root / CHAPTER).read_bytes() == tracked


def test_a_parameter_that_is_a_list_is_set_as_one():
    """Papermill's ``-p`` would make a string of it; an expression cannot be set to itself by either."""
    lists = {"epsilon": {"default": "32 / 255"}, "names": {"default": "['a b', 'c']"}, "seed": {"default": "0"}}
    assert pages._example(lists) == """ -y 'names: ["a b", "c"]'"""
    assert pages._example({"dataset": {"default": '"photos"'}}) == " -p dataset photos"
    assert pages._example({"epsilon": {"default": "32 / 255"}}) == ""


def test_docstrings_keep_their_bars_and_stars():
    lines = ["mean of |Δv| and a* of x_ij and I_", "``|code*|_`` stays"]
    pages._escape(None, "function", "f", None, None, lines)
    assert lines == [r"mean of \|Δv\| and a\* of x_ij and I\_", "``|code*|_`` stays"]


def test_printing_without_a_browser(root: Path):
    write(root, "print(1)")
    with pytest.raises(FileNotFoundError, match="printing the book needs one of chromium"):
        book.pdf(root / "_build", root)


@pytest.fixture
def numbers(root: Path) -> Path:
    """A book of two executed chapters, which glue a number each, and a table; the folder of its pinned numbers."""
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/one\nchapters: [{file: book/two}]\n")
    for folder in (root / "book", root / "_build" / "source" / "book", root / "data" / "key_numbers"):
        folder.mkdir(parents=True)
    for chapter, text in {"one": "0.25", "two": "-1e-05"}.items():
        outputs = [
            new_output(
                "display_data",
                data={"application/papermill.record/text/plain": content},
                metadata={"scrapbook": {"name": name}},
            )
            for name, content in {f"{chapter}_number": text, f"{chapter}_table": "<Table>"}.items()
        ]
        nbformat.write(new_notebook(), root / "book" / f"{chapter}.ipynb")
        executed = new_notebook(cells=[new_code_cell("", id="only", outputs=outputs)])
        nbformat.write(executed, root / "_build" / "source" / "book" / f"{chapter}.ipynb")
    return root / "data" / "key_numbers"


def pinned(what: str) -> dict[str, object]:
    return {"value": 0.1, "tolerance": 0.02, "what": what}


def test_pinning_renews_the_values_alone(numbers: Path, root: Path):
    (numbers / "a.json").write_text(json.dumps({"one_number": pinned("Δ of one")}))
    (numbers / "b.json").write_text(json.dumps({"two_number": pinned("two")}))
    assert key_numbers.found_numbers(root / "_build" / "source", root) == {"one_number": 0.25, "two_number": -1e-5}
    key_numbers.pin(root / "_build", root)
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in numbers.iterdir()}
    assert found == {
        "a.json": {"one_number": {**pinned("Δ of one"), "value": 0.25}},
        "b.json": {"two_number": {**pinned("two"), "value": -1e-5}},
    }
    assert "Δ of one" in (numbers / "a.json").read_text(encoding="utf-8"), "the files are for people"


def test_a_pinned_number_that_no_chapter_glues(numbers: Path, root: Path):
    (numbers / "a.json").write_text(json.dumps({"one_number": pinned("one")}))
    (numbers / "b.json").write_text(json.dumps({"lost": pinned("gone"), "two_number": pinned("two")}))
    before = {path: path.read_bytes() for path in numbers.iterdir()}
    with pytest.raises(ValueError, match=r"the notebooks in .*source glue no lost: glue each in a chapter, or take"):
        key_numbers.pin(root / "_build", root)
    assert {path: path.read_bytes() for path in numbers.iterdir()} == before


def test_a_number_that_is_not_the_pinned_one_is_named(numbers: Path, root: Path):
    (numbers / "a.json").write_text(json.dumps({"one": pinned("Δ of one"), "two": pinned("two")}))
    entries = key_numbers.pinned_numbers(root)
    assert not key_numbers.astray({"one": 0.119, "two": 0.081}, entries)
    assert key_numbers.astray({"two": 0.1, "one": 0.121}, entries) == [
        "one, found 0.121, is pinned as 0.1 ± 0.02 (Δ of one)"
    ]
    assert key_numbers.astray({"one": float("nan")}, entries) == ["one, found nan, is pinned as 0.1 ± 0.02 (Δ of one)"]
    assert key_numbers.astray({"three": 0.1}, entries) == ["three, found 0.1, is not in data/key_numbers"]
