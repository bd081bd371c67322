"""The book: fetch the scripts its pages need, execute its notebooks, build the pages, store the outputs.

Everything is made in a folder ``out`` (``_build`` by default): ``source/`` is a copy of the book, executed
there, and ``html/`` holds the pages. The tracked notebooks are only read, except by ``store``.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import nbformat
import papermill
import yaml
from rich.console import Console
from rich.progress import track
from sphinx_external_toc.parsing import parse_toc_yaml

from lib.files import replacing

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
WIDGETS = "@jupyter-widgets/html-manager@1.0.15"
MATHJAX = "mathjax@3.2.2"
VENDOR = {
    WIDGETS: ["dist/embed.js", "dist/*.woff2"],
    MATHJAX: ["es5/tex-mml-chtml.js", "es5/input/tex/*", "es5/output/chtml/*", "es5/a11y/*", "es5/sre/*"],
}
"""The npm packages whose scripts the pages load, each with the files kept of it besides its licence."""

console = Console(stderr=True)


def chapters(root: Path = ROOT) -> list[Path]:
    """The files that ``_toc.yml`` lists, in reading order, relative to ``root``."""
    names = list(parse_toc_yaml(root / "_toc.yml"))
    files = [Path(name + suffix) for name in names for suffix in (".md", ".ipynb")]
    return [file for file in files if (root / file).is_file()]


def notebooks(root: Path = ROOT) -> list[Path]:
    """Those chapters that are notebooks."""
    return [chapter for chapter in chapters(root) if chapter.suffix == ".ipynb"]


def offline(root: Path = ROOT) -> bool:
    """Fill ``_offline/vendor`` with the packages of ``VENDOR``, once; False, and a note, where npm cannot."""
    vendor = root / "_offline" / "vendor"
    if all((vendor / package).is_dir() for package in VENDOR):
        return True
    try:
        with replacing(vendor) as fresh:
            for package, patterns in VENDOR.items():
                _fetch(package, patterns, fresh / package)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "npm is not installed")
        console.out(f"The pages will load MathJax and the widgets from the network: {reason}")
        return False
    return True


def stage(out: Path = BUILD, root: Path = ROOT) -> Path:
    """Copy the book, its outputs as stored, to ``out/source``; returns that folder."""
    with replacing(out / "source") as source:
        _copy(root, source)
    return out / "source"


def execute(out: Path = BUILD, root: Path = ROOT) -> Path:
    """Copy the book to ``out/source`` with its notebooks executed, their kernels started in ``root``."""
    with replacing(out / "source") as source:
        _copy(root, source)
        for notebook in track(notebooks(root), "Executing the notebooks", console=console):
            papermill.execute_notebook(
                root / notebook,
                source / notebook,
                kernel_name="python3",
                cwd=root,
                progress_bar=False,
                extra_arguments=["--log-level=ERROR"],
            )
            _tidy(source / notebook, root)
    return out / "source"


def build(out: Path = BUILD) -> Path:
    """Build the pages of ``out/source`` into ``out/html``, any warning an error; returns the first page."""
    with tempfile.TemporaryDirectory(dir=out) as scratch, console.status("Building the pages"):
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
        command += [str(out / "source"), "--path-output", scratch, "-W", "-n", "--keep-going", "--quiet"]
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if result.returncode:
            raise RuntimeError(f"the pages could not be built:\n{result.stderr}")
        with replacing(out / "html") as html:
            shutil.copytree(Path(scratch, "_build", "html"), html)
    return out / "html" / "index.html"


def key_numbers(notebook: Path) -> dict[str, float]:
    """The numbers that an executed notebook glued, by name; glued tables and figures are left out."""
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = output.get("data", {}).get("application/papermill.record/text/plain", "")
            if name is not None and re.fullmatch(r"-?[\d.]+(e-?\d+)?|nan", text):
                found[name] = float(text)
    return found


def found_numbers(source: Path, root: Path = ROOT) -> dict[str, float]:
    """The numbers that the executed notebooks in ``source`` glued, by name, of all chapters together."""
    return {name: value for notebook in notebooks(root) for name, value in key_numbers(source / notebook).items()}


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


def store(out: Path = BUILD, root: Path = ROOT) -> list[Path]:
    """Copy the executed notebooks of ``out/source`` over the tracked ones; returns these."""
    return [Path(shutil.copyfile(out / "source" / notebook, root / notebook)) for notebook in notebooks(root)]


def _fetch(package: str, patterns: Sequence[str], folder: Path) -> None:
    """Download one npm package and keep its licence and the files that match."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", package], cwd=scratch, check=True, capture_output=True, text=True)
        (tarball,) = Path(scratch).glob("*.tgz")
        with tarfile.open(tarball) as archive:
            for member in archive:
                name = PurePosixPath(member.name).relative_to("package")
                content = archive.extractfile(member)
                if content and any(fnmatch(str(name), pattern) for pattern in [*patterns, "LICENSE"]):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(content.read())


def _copy(root: Path, source: Path) -> None:
    """Copy the book to ``source``, its settings pointing at the offline scripts where there are any."""
    shutil.copytree(root / "book", source / "book", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(root / "_toc.yml", source)
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    if offline(root):
        settings["sphinx"]["config"] |= {
            "html_extra_path": [str(root / "_offline")],
            "mathjax_path": f"../vendor/{MATHJAX}/es5/tex-mml-chtml.js",
            "nb_ipywidgets_js": {f"../vendor/{WIDGETS}/dist/embed.js": {}},
        }
    (source / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def _tidy(path: Path, root: Path) -> None:
    """Take out of an executed notebook what differs from run to run: times, paths, random widget ids."""
    notebook = nbformat.read(path, as_version=4)
    for part in [notebook, *notebook.cells]:
        for key in ("papermill", "execution"):
            part.metadata.pop(key, None)
        if not part.metadata.get("tags", True):
            del part.metadata["tags"]
    notebook.metadata.language_info.pop("version", None)
    text = nbformat.writes(notebook).replace(f"{root}/", "")
    for number, model in enumerate(_widget_ids(notebook)):
        text = text.replace(model, f"{number:032x}")
    nbformat.write(nbformat.reads(text, as_version=4), path)


def _widget_ids(notebook: nbformat.NotebookNode) -> list[str]:
    """The ids of a notebook's widgets: those shown and what they hold, then the links between these."""
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    state = widgets.get("state", {})
    holds = {model: re.findall(r"IPY_MODEL_(\w+)", json.dumps(state[model])) for model in state}
    rank: dict[str, int] = {}
    waiting = re.findall(r'"model_id": "(\w+)"', json.dumps(notebook.cells))
    while waiting:
        model = waiting.pop(0)
        if model in holds and model not in rank:
            rank[model] = len(rank)
            waiting += holds[model]
    links = [model for model in holds if model not in rank]
    return [*rank, *sorted(links, key=lambda link: [rank[model] for model in holds[link] if model in rank])]
