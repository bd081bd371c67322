"""Key numbers: what the notebooks glue, pinned in ``data/key_numbers`` with a tolerance and a word on what it is."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from lib.files import replacing
from lib.notebooks import BUILD, ROOT, notebooks


def glued(outputs: Sequence[nbformat.NotebookNode]) -> dict[str, float]:
    """The numbers that outputs of cells glue, by name; glued tables and figures are left out."""
    found = {}
    for output in outputs:
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        text = output.get("data", {}).get("application/papermill.record/text/plain", "")
        number = re.fullmatch(r"(?:np\.\w+\()?(-?[\d.]+(?:e[+-]?\d+)?|-?inf|nan)\)?", text)
        if name is not None and number:
            found[name] = float(number[1])
    return found


def found_numbers(source: Path, root: Path = ROOT) -> dict[str, float]:
    """The numbers that the executed notebooks in ``source`` glued, by name, of all chapters together."""
    executed = [nbformat.read(source / notebook, as_version=4) for notebook in notebooks(root)]
    return glued([output for each in executed for cell in each.cells for output in cell.get("outputs", [])])


def pinned_numbers(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """The pinned key numbers by name, each a value, a tolerance and what it is."""
    files = (root / "data" / "key_numbers").glob("*.json")
    return {name: entry for path in files for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}


def astray(found: dict[str, float], pinned: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong with the found numbers that are not pinned, or not within the tolerance of what is pinned."""
    wrong = [
        f"{name}, found {value}, is not in data/key_numbers" for name, value in found.items() if name not in pinned
    ]
    for name in found.keys() & pinned.keys():
        entry = pinned[name]
        if not abs(found[name] - entry["value"]) <= entry["tolerance"]:
            what = f"{entry['value']} ± {entry['tolerance']} ({entry['what']})"
            wrong.append(f"{name}, found {found[name]}, is pinned as {what}")
    return sorted(wrong)


def pin(out: Path = BUILD, root: Path = ROOT) -> None:
    """Take the values of the pinned key numbers from the executed notebooks; what they are and how exact stays.

    Raises ValueError, and writes nothing, where the notebooks lack a pinned number.
    """
    found = found_numbers(out / "source", root)
    paths = sorted((root / "data" / "key_numbers").glob("*.json"))
    files = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    missing = [name for pinned in files.values() for name in pinned if name not in found]
    if missing:
        raise ValueError(
            f"the notebooks in {out / 'source'} glue no {', '.join(missing)}: "
            "glue each in a chapter, or take it out of data/key_numbers"
        )
    for path, pinned in files.items():
        for name, entry in pinned.items():
            entry["value"] = found[name]
        with replacing(path) as fresh:
            fresh.write_text(json.dumps(pinned, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
