"""The pages of the book: what no author needs to write is added to a copy of its source before they are built."""

import ast
import json
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
from nbformat.v4 import new_markdown_cell

from lib import results
from lib.notebooks import ROOT, RUNTIMES, chapters

if TYPE_CHECKING:
    from sphinx.application import Sphinx


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


def setup(app: "Sphinx") -> None:
    """Make this module an extension of Sphinx, which reads the docstrings of ``lib`` for the page on it."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _escape)


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
    options = _options(parameters)
    example = next(iter(options.values()), "")
    lines = ["::::{admonition} Run this chapter yourself", ":class: tip dropdown", ""]
    lines += ["In the root folder of the repository, with the environment active:", "", "```bash"]
    lines += ["mkdir -p build", f"papermill {chapter.as_posix()} build/{chapter.name} {example}".rstrip(), "```", ""]
    if parameters:
        lists = [f"; `-y` to a list, as `{option}`" for option in options.values() if option.startswith("-y ")]
        lines += [f"`-p` sets a parameter to a word or a number, a decimal one (8/255 is 0.0314){''.join(lists[:1])}."]
        lines += ["What is live is then yours; the text goes on about the run shown here.", ""]
        lines += ["| parameter | default | meaning |", "|---|---|---|"]
        for name, about in parameters.items():
            lines.append(f"| `{name}` | `{about['default']}` | {about['help'] or ''} |")
    return "\n".join([*lines, "::::"])


def _options(parameters: dict[str, Any]) -> dict[str, str]:
    """Options of papermill that set each parameter whose default is a number, a word or a list to just that."""
    options = {}
    for name, about in parameters.items():
        with suppress(ValueError, SyntaxError):  # an expression, as 32 / 255, or a list of several lines
            value = ast.literal_eval(about["default"])
            if isinstance(value, list):
                options[name] = f"-y {shlex.quote(f'{name}: {json.dumps(value)}')}"
            elif value is not None:
                options[name] = f"-p {name} {shlex.quote(str(value))}"
    return options


def _modules(source: Path) -> str:
    """A section for each module of ``lib``, made from its docstrings; what a command takes, its own help says."""
    names = [path.stem for path in sorted((ROOT / "lib").glob("*.py")) if not path.stem.startswith("__")]
    names.sort(key=lambda name: name == "command_line")
    members = {name: "" if name == "command_line" else "   :members:\n" for name in names}
    return "\n".join(
        f"## `lib.{name}`\n\n```{{eval-rst}}\n.. automodule:: lib.{name}\n{members[name]}```\n" for name in names
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
