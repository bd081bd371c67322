"""Every notebook follows the conventions of a chapter, is stored as it was executed, and runs as a reader asks."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest

from lib import datasets, key_numbers
from lib.notebooks import ROOT, held, notebooks, widget_state

WIDGET_BYTES = 600_000
OWN = {
    "datasets": ["modelnet10"],
    "epsilon": 0.0314,
    "utility": 2.0,
    "fractions": [0.2, 0.9],
    "sampling": "uniform",
    "iterations": [4, 8],
    "rates": [0.2],
    "images": 6,
    "few": 2,
    "draws": 2,
    "pairs": 3,
    "contexts": 4,
    "replicates": 4,
    "seed": 1,
}
"""What a reader might set, of which a chapter takes the parameters that it has."""
PRESS = """
from ipywidgets import Button, HBox
from ipywidgets.widgets.widget import _instances

for row in [each for each in _instances.values() if isinstance(each, HBox) and isinstance(each.children[1], Button)]:
    own, button, state = row.children
    own.value = own.max if own.max < 255 else 12
    button.click()
    assert state.value == "", state.value
    print("pressed", own.description)
"""
"""What a reader does with a kernel: every button of the chapter, for the last of its images and an ε of one's own."""
each_notebook = pytest.mark.parametrize("notebook", notebooks(), ids=str)


def code_cells(notebook: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_every_notebook_is_a_chapter():
    assert sorted(ROOT.glob("book/*.ipynb")) == sorted(ROOT / path for path in notebooks())


@each_notebook
def test_widgets_weigh_no_more_than_a_photograph(notebook: Path):
    """What a page holds of each widget shown: itself and all that it is made of, pictures included."""
    state = widget_state(nbformat.read(ROOT / notebook, as_version=4))
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        assert sum(len(json.dumps(state[model])) for model in held(state, json.dumps(output))) <= WIDGET_BYTES


@each_notebook
def test_one_cell_holds_the_parameters_and_says_what_each_is(notebook: Path):
    tags = [cell.metadata.get("tags", []) for cell in code_cells(notebook)]
    assert sum("parameters" in tag for tag in tags) == 1
    assert all(about["help"] for about in papermill.inspect_notebook(ROOT / notebook).values())


@each_notebook
def test_tracked_notebook_holds_outputs_but_no_trace_of_the_machine(notebook: Path):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = (ROOT / notebook).read_text(encoding="utf-8")
    assert "papermill" not in nbformat.reads(text, as_version=4).metadata
    assert str(Path.home()) not in text and str(ROOT) not in text


def test_stored_chapters_glue_the_pinned_numbers():
    """The executed cells are held against the same numbers by conftest.py."""
    pinned = key_numbers.pinned_numbers()
    found = key_numbers.found_numbers(ROOT)
    assert found.keys() == pinned.keys()
    assert not key_numbers.astray(found, pinned)


@each_notebook
def test_chapter_runs_with_parameters_of_a_readers_own(notebook: Path, tmp_path: Path):
    """At the end of the chapter the parameters are still those that were asked for, and each widget draws anew."""
    dataset = "cifar10" if any(place.is_dir() for place in datasets.places("cifar10")) else "photos"
    known, asking, out = papermill.inspect_notebook(ROOT / notebook), tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    taken = {name: value for name, value in {"dataset": dataset, **OWN}.items() if name in known}
    assert taken
    chapter = nbformat.read(ROOT / notebook, as_version=4)
    unchanged = f"assert {{name: globals()[name] for name in {list(taken)}}} == {taken}"
    chapter.cells += [nbformat.v4.new_code_cell(source) for source in (unchanged, PRESS)]
    nbformat.write(chapter, asking)
    papermill.execute_notebook(asking, out, parameters=taken, cwd=ROOT, kernel_name="python3", progress_bar=False)
    pressed = json.dumps(code_cells(out)[-1].outputs).count("pressed own")
    shown = "".join(cell.source for cell in code_cells(ROOT / notebook))
    assert pressed == shown.count("widgets.chooser(") + shown.count("widgets.epsilon_order(")
    if "datasets" in taken:
        told = json.dumps([cell.outputs for cell in code_cells(out)])
        assert "C19" in told and "C03" not in told and "not run" not in told
    if "photos/resnet18-standard" in (ROOT / notebook).read_text(encoding="utf-8"):
        assert f"{dataset}/resnet18-standard" in out.read_text(encoding="utf-8")
