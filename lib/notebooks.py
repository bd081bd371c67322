"""The notebooks of the book: which there are, the widgets they hold, and what differs from run to run taken out."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
RUNTIMES = Path("book/runtimes.json")
"""How long each notebook took when the book was last executed and stored."""


def chapters(root: Path = ROOT) -> list[Path]:
    """The files that ``_toc.yml`` lists, in reading order, relative to ``root``."""
    names = list(parse_toc_yaml(root / "_toc.yml"))
    files = [Path(name + suffix) for name in names for suffix in (".md", ".ipynb")]
    return [file for file in files if (root / file).is_file()]


def notebooks(root: Path = ROOT) -> list[Path]:
    """Those chapters that are notebooks."""
    return [chapter for chapter in chapters(root) if chapter.suffix == ".ipynb"]


def tidy(path: Path, root: Path) -> None:
    """Take out of an executed notebook what differs from run to run: times, paths, addresses, random widget ids.

    What a cell glues for another page without showing it comes last: the lines printed around it make one block.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _in_blocks(cell.outputs)
    for part in [notebook, *notebook.cells]:
        for key in ("papermill", "execution"):
            part.metadata.pop(key, None)
        if not part.metadata.get("tags", True):
            del part.metadata["tags"]
    notebook.metadata.language_info.pop("version", None)
    text = re.sub(r" at 0x[0-9a-f]+>", ">", nbformat.writes(notebook).replace(f"{root}/", ""))
    for number, model in enumerate(_widget_ids(notebook)):
        text = text.replace(model, f"{number:032x}")
    nbformat.write(nbformat.reads(text, as_version=4), path)


def _in_blocks(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    shown: list[nbformat.NotebookNode] = []
    unseen = []
    for output in outputs:
        if all(kind.startswith("application/papermill.record/") for kind in output.get("data", ["shown"])):
            unseen.append(output)
        elif shown and output.output_type == "stream" and output.get("name") == shown[-1].get("name"):
            shown[-1].text += output.text
        else:
            shown.append(output)
    return shown + unseen


def _widget_ids(notebook: nbformat.NotebookNode) -> list[str]:
    """The ids of a notebook's widgets: those shown and what they hold, then the links between these."""
    state = widget_state(notebook)
    rank = {model: place for place, model in enumerate(held(state, json.dumps(notebook.cells)))}
    links = [model for model in state if model not in rank]
    return [*rank, *sorted(links, key=lambda link: [rank[model] for model in _parts(state[link]) if model in rank])]


def widget_state(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """The widgets stored with a notebook, by id."""
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    return widgets.get("state", {})


def held(state: dict[str, Any], text: str) -> list[str]:
    """The ids of the widgets that the JSON text of a notebook's cells or outputs shows, and of what these hold."""
    found: dict[str, None] = {}
    waiting = re.findall(r'"model_id": "(\w+)"', text)
    while waiting:
        model = waiting.pop(0)
        if model in state and model not in found:
            found[model] = None
            waiting += _parts(state[model])
    return list(found)


def _parts(widget: dict[str, Any]) -> list[str]:
    return re.findall(r"IPY_MODEL_(\w+)", json.dumps(widget))
