"""Pages: what is added to a copy of the book before it is built."""

from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import book, pages

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
    assert pages._example({"attack": {"default": '"untargeted 8"'}}) == " -p attack 'untargeted 8'"
    assert pages._example({"lines": {"default": "["}, "seed": {"default": "0"}}) == " -p seed 0"
    assert pages._example({"epsilon": {"default": "32 / 255"}}) == ""


def test_docstrings_keep_their_bars_and_stars():
    lines = ["mean of |Δv| and a* of x_ij and I_", "``|code*|_`` stays"]
    pages._escape(None, "function", "f", None, None, lines)
    assert lines == [r"mean of \|Δv\| and a\* of x_ij and I\_", "``|code*|_`` stays"]
