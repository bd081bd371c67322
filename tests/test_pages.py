"""Pages: what is added to a copy of the book before it is built."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import book, pages
from lib.notebooks import ROOT, notebooks

CHAPTER = Path("book/chapter.ipynb")


def test_notebook_says_how_to_run_it_and_its_figures_have_a_text(write: Callable[[str], None], root: Path):
    write("print(1)")
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
    assert "papermill book/chapter.ipynb build/chapter.ipynb -p epsilon 0.1\n" in run.source
    assert "| `epsilon` | `0.1` | greatest change |" in run.source
    assert plain.metadata.mystnb.image.alt == "Figure of the section “Section x”"
    assert named.metadata.mystnb.image.alt == "a curve that rises"
    assert (root / CHAPTER).read_bytes() == tracked


def test_parameters_are_set_as_papermill_reads_them():
    """Its ``-p`` would make a string of a list; an expression, and None, cannot be set to themselves by either."""
    defaults = {
        "epsilon": "32 / 255",
        "twin": "None",
        "lines": "[",
        "names": "['a b', 'c']",
        "seed": "0",
        "dataset": '"photos"',
        "attack": '"untargeted 8"',
    }
    options = pages._options({name: {"default": default} for name, default in defaults.items()})
    assert list(options.values()) == [
        """-y 'names: ["a b", "c"]'""",
        "-p seed 0",
        "-p dataset photos",
        "-p attack 'untargeted 8'",
    ]
    assert list(options) == ["names", "seed", "dataset", "attack"]  # the first is the example, so that order counts


@pytest.mark.parametrize("chapter", notebooks(), ids=str)
def test_what_a_chapter_says_of_its_parameters_sets_one_that_it_has(chapter: Path):
    parameters = papermill.inspect_notebook(ROOT / chapter)
    told = pages._run_it_yourself(ROOT / chapter, chapter)
    words, lists = re.findall(r" -p (\w+) ", told), re.findall(r"-y '(\w+): \[", told)
    assert {*words, *lists} <= parameters.keys()
    assert bool(words or lists) == bool(parameters)
    assert bool(lists) == any(about["default"].startswith("[") for about in parameters.values())


def test_docstrings_keep_their_bars_and_stars():
    lines = ["mean of |Δv| and a* of x_ij and I_", "``|code*|_`` stays"]
    pages._escape(None, "function", "f", None, None, lines)
    assert lines == [r"mean of \|Δv\| and a\* of x_ij and I\_", "``|code*|_`` stays"]
