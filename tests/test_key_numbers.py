"""Key numbers: those of executed notebooks are found, pinned, and named where they are astray."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lib import key_numbers


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
