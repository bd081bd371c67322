"""The book: fetch the scripts its pages need, execute its notebooks, build the pages, store the outputs.

Everything is made in a folder ``out`` (``_build`` by default): ``source/`` is a copy of the book, executed
there, ``html/`` holds the pages and ``book.pdf`` the printed book. The tracked notebooks are only read, except by
``store``. What no author needs to write is added to a copy of the source when the pages are built: see ``dress``.
"""

import ast
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
import yaml
from nbformat.v4 import new_markdown_cell
from rich.progress import track
from sphinx_external_toc.parsing import parse_toc_yaml

from lib import results
from lib.files import console, replacing

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
WIDGETS = "@jupyter-widgets/html-manager@1.0.15"
MATHJAX = "mathjax@3.2.2"
VENDOR = {
    WIDGETS: ["dist/embed.js", "dist/*.woff2"],
    MATHJAX: ["es5/tex-mml-chtml.js", "es5/input/tex/*", "es5/output/chtml/*", "es5/a11y/*", "es5/sre/*"],
}
"""The npm packages whose scripts the pages load, each with the files kept of it besides its licence."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RUNTIMES = Path("book/runtimes.json")
LAUNCH = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}


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
                fetch(package, patterns, fresh / package)
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
    """Copy the book to ``out/source`` with its notebooks executed, their kernels started in ``root``.

    As many run at once as there are processor cores, those first that took longest when the book was last stored.
    Raises ChildProcessError, with what papermill said, for the first notebook that fails.
    """
    cores, chosen = os.cpu_count() or 1, notebooks(root)
    before = json.loads((root / RUNTIMES).read_text(encoding="utf-8"))["seconds"] if (root / RUNTIMES).is_file() else {}
    with replacing(out / "source") as source:
        _copy(root, source)
        threads, pool = max(1, cores // len(chosen)), ThreadPoolExecutor(cores)
        longest_first = sorted(chosen, key=lambda notebook: -before.get(str(notebook), 0))
        jobs = {notebook: pool.submit(_execute, notebook, source, root, threads) for notebook in longest_first}
        try:
            for job in track(as_completed(jobs.values()), "Executing the notebooks", total=len(jobs), console=console):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
        seconds = {str(notebook): jobs[notebook].result() for notebook in chosen}
        machine = f"{platform.machine()}, {cores} processor cores"
        took = {"machine": machine, "date": datetime.now(UTC).date().isoformat(), "seconds": seconds}
        (source / RUNTIMES).write_text(json.dumps(took, indent=1) + "\n", encoding="utf-8")
    return out / "source"


def _execute(notebook: Path, source: Path, root: Path, threads: int) -> int:
    """Execute a notebook of ``root`` into ``source``, its kernel on so many threads; returns the seconds it took."""
    started = time.monotonic()
    command = [sys.executable, "-m", "papermill", str(root / notebook), str(source / notebook), "--kernel", "python3"]
    command += ["--cwd", str(root), "--no-progress-bar", "--log-level", "ERROR"]
    _run(command, f"{notebook} could not be executed", OMP_NUM_THREADS=str(threads))
    _tidy(source / notebook, root)
    return round(time.monotonic() - started)


def build(out: Path = BUILD) -> Path:
    """Build the pages of ``out/source`` into ``out/html``, any warning an error; returns the first page."""
    with tempfile.TemporaryDirectory(dir=out) as scratch, replacing(out / "html") as html:
        shutil.copytree(_pages(out / "source", Path(scratch), "html"), html)
    return out / "html" / "index.html"


def pdf(out: Path = BUILD, root: Path = ROOT) -> Path:
    """Print the whole book of ``out/source``, or where there is none the stored one, to ``out/book.pdf``."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"printing the book needs one of {', '.join(BROWSERS)}: install one")
    if not (out / "source").is_dir():
        stage(out, root)
    with tempfile.TemporaryDirectory(dir=out) as scratch, replacing(out / "book.pdf") as printed:
        pages = _pages(out / "source", Path(scratch), "singlehtml")
        (nested,) = (pages / "book").glob("*.html")
        page = nested.rename(pages / "book.html")  # its links are relative to that folder
        options = ["--headless", "--no-sandbox", "--no-pdf-header-footer", "--virtual-time-budget=120000"]
        command = [browser, *options, f"--print-to-pdf={printed.resolve()}", page.resolve().as_uri()]
        _run(command, f"{out / 'book.pdf'} could not be printed")
    return out / "book.pdf"


def dress(source: Path) -> None:
    """Add to a copy of the book what follows from its files.

    Each notebook loses the marks that nbval reads, and gets the command that runs it and an alternative text for every
    figure that has none in its cell's metadata (``mystnb: {image: {alt: …}}``); the comments ``<!-- modules -->``,
    ``<!-- results -->`` and ``<!-- runtimes -->`` of the other pages are replaced by what they name.
    """
    for chapter in chapters(source):
        path = source / chapter
        if chapter.suffix == ".ipynb":
            notebook = nbformat.read(path, as_version=4)
            _describe_figures(notebook)
            for cell in notebook.cells:
                cell.source = cell.source.replace("  # NBVAL_CHECK_OUTPUT", "")
            notebook.cells.insert(1, new_markdown_cell(_run_it_yourself(path, chapter), id="run-this-chapter"))
            nbformat.write(notebook, path)
            continue
        text = path.read_text(encoding="utf-8")
        for marker, content in (("modules", _modules), ("results", _results), ("runtimes", _runtimes)):
            if f"<!-- {marker} -->" in text:
                text = text.replace(f"<!-- {marker} -->", content(source))
        path.write_text(text, encoding="utf-8")


def key_numbers(outputs: Sequence[nbformat.NotebookNode]) -> dict[str, float]:
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
    return key_numbers([output for each in executed for cell in each.cells for output in cell.get("outputs", [])])


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


def store(out: Path = BUILD, root: Path = ROOT) -> list[Path]:
    """Copy the executed notebooks of ``out/source`` over the tracked ones, and how long they took; returns these."""
    stored = [RUNTIMES] if (out / "source" / RUNTIMES).is_file() else []
    for name in [*stored, *notebooks(root)]:
        with replacing(root / name) as fresh:
            shutil.copyfile(out / "source" / name, fresh)
    return [root / notebook for notebook in notebooks(root)]


def setup(app: "Sphinx") -> None:
    """Make this module an extension of Sphinx, which reads the docstrings of ``lib`` for the page on it."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _escape)


def fetch(package: str, patterns: Sequence[str], folder: Path) -> None:
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
    if settings.get("repository", {}).get("url"):
        settings["launch_buttons"] = LAUNCH
        settings.setdefault("html", {})["use_repository_button"] = True
    if offline(root):
        settings["sphinx"]["config"] |= {
            "html_extra_path": [str(root / "_offline")],
            "mathjax_path": f"../vendor/{MATHJAX}/es5/tex-mml-chtml.js",
            "nb_ipywidgets_js": {f"../vendor/{WIDGETS}/dist/embed.js": {}},
        }
    (source / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def _pages(source: Path, scratch: Path, builder: str) -> Path:
    """Build the dressed pages of ``source`` in the folder ``scratch``; returns the folder of the pages."""
    dressed = scratch / "source"
    shutil.copytree(source, dressed)
    dress(dressed)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(dressed)]
    command += ["--path-output", str(scratch), "--builder", builder, "-W", "-n", "--keep-going", "--quiet"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with console.status("Building the pages"):
        _run(command, "the pages could not be built", PYTHONPATH=path)
    return scratch / "_build" / builder


def _run(command: list[str], failure: str, **environment: str) -> None:
    """Run a command with more in its environment; where it fails, ChildProcessError says so and what it printed."""
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if result.returncode:
        raise ChildProcessError(f"{failure}:\n{result.stderr}")


def _describe_figures(notebook: nbformat.NotebookNode) -> None:
    """Name the section as the alternative text of every figure that has none of its own."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ +(.+)$", cell.source, flags=re.MULTILINE) or [heading])[-1]
        if any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {})):
            image = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
            image.setdefault("alt", f"Figure of the section “{heading.replace('$', '')}”")


def _run_it_yourself(path: Path, chapter: Path) -> str:
    """How to run the notebook at ``path``, the file ``chapter`` of the repository, with parameters of one's own."""
    parameters = papermill.inspect_notebook(path)
    lines = ["::::{admonition} Run this chapter yourself", ":class: tip dropdown", ""]
    lines += ["In the root folder of the repository, with the environment active:", "", "```bash"]
    lines += ["mkdir -p build", f"papermill {chapter.as_posix()} build/{chapter.name}{_example(parameters)}", "```", ""]
    if parameters:
        lines += ["`-p` sets a parameter to a word or a number, a decimal one (8/255 is 0.0314); `-y` to a list, as"]
        lines += ["`-y 'orders: [0.5, 0.95]'`:", ""]
        lines += ["| parameter | default | meaning |", "|---|---|---|"]
        for name, about in parameters.items():
            lines.append(f"| `{name}` | `{about['default']}` | {about['help'] or ''} |")
    return "\n".join([*lines, "::::"])


def _example(parameters: dict[str, Any]) -> str:
    """Options of papermill that set the first parameter whose default is a number, a word or a list to just that."""
    for name, about in parameters.items():
        with suppress(ValueError):  # an expression, as 32 / 255
            value = ast.literal_eval(about["default"])
            plain = isinstance(value, int | float | str)
            return f" -p {name} {value}" if plain else f" -y {shlex.quote(f'{name}: {json.dumps(value)}')}"
    return ""


def _modules(source: Path) -> str:
    """A section for each module of ``lib``, made from its docstrings."""
    names = [path.stem for path in sorted((ROOT / "lib").glob("*.py")) if path.stem != "__init__"]
    names.sort(key=lambda name: name == "__main__")
    return "\n".join(
        f"## `lib.{name}`\n\n```{{eval-rst}}\n.. automodule:: lib.{name}\n   :members:\n```\n" for name in names
    )


def _results(source: Path) -> str:
    """The published results, each written beside the page as tables, one for all variables of the same dimensions."""
    (source / "book" / "data").mkdir(exist_ok=True)
    lines = []
    for *_, path in results.published():
        measured = results.read(path)
        name = path.relative_to(results.PUBLISHED).with_suffix("").as_posix()
        lines += [f"## {name}", ""]
        for dimensions in sorted({variable.dims for variable in measured.data_vars.values()}, key=str):
            same = [key for key, variable in measured.data_vars.items() if variable.dims == dimensions]
            file = f"data/{name.replace('/', '-')}-{'-'.join(map(str, dimensions)) or 'values'}.csv"
            table = measured[same].to_dataframe() if dimensions else measured[same].to_pandas().to_frame("value")
            table.to_csv(source / "book" / file, float_format="%.6g")
            each = f"by {', '.join(map(str, dimensions))}" if dimensions else "single values"
            lines.append(f"- [{', '.join(map(str, same))}]({file}), {each}")
        lines += ["", "```bash", str(measured.attrs.get("command", "# no command is recorded")), "```", ""]
    return "\n".join(lines)


def _runtimes(source: Path) -> str:
    """How long each notebook took when it was last executed and stored."""
    if not (source / RUNTIMES).is_file():
        return "*No execution has been recorded yet: `python -m lib book --keep` records one.*"
    took = json.loads((source / RUNTIMES).read_text(encoding="utf-8"))
    lines = [f"Executed on {took['date']}, {took['machine']}.", "", "| notebook | seconds |", "|---|---:|"]
    lines += [f"| `{notebook}` | {seconds} |" for notebook, seconds in took["seconds"].items()]
    return "\n".join([*lines, f"| sum | {sum(took['seconds'].values())} |"])


def _escape(app: "Sphinx", what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Let |Δv|, a* and x_ stand in a docstring as they are, outside of ``code``."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [re.sub(r"([|*]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def _tidy(path: Path, root: Path) -> None:
    """Take out of an executed notebook what differs from run to run: times, paths, random widget ids.

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
    text = nbformat.writes(notebook).replace(f"{root}/", "")
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
