"""Notebooks: executed, they hold nothing that differs from run to run."""

from collections.abc import Callable
from pathlib import Path

import nbformat

from lib import book

CHAPTER = Path("book/chapter.ipynb")
SLIDER = """
from pathlib import Path
from ipywidgets import IntSlider, Stack, VBox, jslink
slider, stack = IntSlider(), Stack([IntSlider()], selected_index=0)
link = jslink((slider, "value"), (stack, "selected_index"))
print(Path("here").resolve(), object())
VBox([slider, stack])
"""


def test_executing_and_storing_leave_no_trace_of_the_run(write: Callable[[str], None], root: Path):
    write(SLIDER)
    tracked, stored = (root / CHAPTER).read_bytes(), []
    for _ in range(2):
        book.execute(root / "_build", root)
        assert (root / CHAPTER).read_bytes() == (stored[-1] if stored else tracked)
        assert book.store(root / "_build", root) == [root / CHAPTER]
        stored.append((root / CHAPTER).read_bytes())
    assert stored[0] == stored[1]
    notebook = nbformat.read(root / CHAPTER, as_version=4)
    (cell,) = notebook.cells
    assert cell.outputs[0].text == "here <object object>\n"
    assert set(notebook.metadata) == {"language_info", "widgets"} and not cell.metadata


def test_lines_printed_around_glued_numbers_make_one_block(write: Callable[[str], None], root: Path):
    write("from myst_nb import glue\nfor i in range(3):\n    print(i)\n    glue(f'n{i}', i, display=False)")
    (cell,) = nbformat.read(book.execute(root / "_build", root) / CHAPTER, as_version=4).cells
    first, *glued = cell.outputs
    assert first.text == "0\n1\n2\n"
    assert [output.metadata.scrapbook.name for output in glued] == ["n0", "n1", "n2"]
