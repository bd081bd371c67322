"""Every notebook runs, follows the conventions of a chapter, and is stored as it was executed."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest

from lib import book

WIDGET_BYTES = 600_000
each_notebook = pytest.mark.parametrize("notebook", book.notebooks(), ids=str)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_every_notebook_is_a_chapter():
    assert sorted(book.ROOT.glob("book/*.ipynb")) == sorted(book.ROOT / path for path in book.notebooks())


@each_notebook
def test_every_cell_runs(executed: Path, notebook: Path):
    cells = code_cells(executed / notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@each_notebook
def test_widgets_weigh_no_more_than_a_photograph(executed: Path, notebook: Path):
    """What a page holds of each widget shown: itself and all that it is made of, pictures included."""
    state = book.widget_state(nbformat.read(executed / notebook, as_version=4))
    for output in (output for cell in code_cells(executed / notebook) for output in cell.outputs):
        assert sum(len(json.dumps(state[model])) for model in book.held(state, json.dumps(output))) <= WIDGET_BYTES


@each_notebook
def test_one_cell_holds_the_parameters(notebook: Path):
    tags = [cell.metadata.get("tags", []) for cell in code_cells(book.ROOT / notebook)]
    assert sum("parameters" in tag for tag in tags) == 1


@each_notebook
def test_tracked_notebook_holds_outputs_but_no_trace_of_the_machine(notebook: Path):
    cells = code_cells(book.ROOT / notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = (book.ROOT / notebook).read_text(encoding="utf-8")
    assert "papermill" not in nbformat.reads(text, as_version=4).metadata
    assert str(Path.home()) not in text and str(book.ROOT) not in text


@pytest.mark.skipif(not Path("data/datasets/cifar10").is_dir(), reason="CIFAR-10 is not in data/datasets")
def test_chapter_runs_on_another_dataset_and_epsilon(tmp_path: Path):
    few = {"dataset": "cifar10", "epsilon": 0.0314, "images": 3, "pairs": 3, "fractions": [0.1, 0.95]}
    papermill.execute_notebook(
        "book/04-1-attacks.ipynb", tmp_path / "out.ipynb", parameters=few, kernel_name="python3", progress_bar=False
    )
    assert "cifar10/resnet18-standard" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
