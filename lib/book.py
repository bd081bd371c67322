"""The book: fetch the scripts its pages need, execute its notebooks, build the pages, store the outputs.

Everything is made in a folder ``out`` (``_build`` by default): ``source/`` is a copy of the book, executed
there, ``html/`` holds the pages and ``book.pdf`` the printed book. The tracked notebooks are only read, except by
``store``.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import yaml

from lib.files import console, replacing, tracked
from lib.notebooks import BUILD, ROOT, RUNTIMES, notebooks, tidy
from lib.pages import dress

WIDGETS = "@jupyter-widgets/html-manager@1.0.15"
MATHJAX = "mathjax@3.2.2"
VENDOR = {
    WIDGETS: ["dist/embed.js", "dist/*.woff2"],
    MATHJAX: ["es5/tex-mml-chtml.js", "es5/input/tex/*", "es5/output/chtml/*", "es5/a11y/*", "es5/sre/*"],
}
"""The npm packages whose scripts the pages load, each with the files kept of it besides its licence."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LAUNCH = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}


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
            with tracked(as_completed(jobs.values()), "Executing the notebooks", total=len(jobs)) as shown:
                for job in shown:
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
    tidy(source / notebook, root)
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


def store(out: Path = BUILD, root: Path = ROOT) -> list[Path]:
    """Copy the executed notebooks of ``out/source`` over the tracked ones, and how long they took; returns these."""
    stored = [RUNTIMES] if (out / "source" / RUNTIMES).is_file() else []
    for name in [*stored, *notebooks(root)]:
        with replacing(root / name) as fresh:
            shutil.copyfile(out / "source" / name, fresh)
    return [root / notebook for notebook in notebooks(root)]


def fetch(package: str, patterns: Sequence[str], folder: Path) -> None:
    """Download one npm package and keep its licence and the files that match."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", package], cwd=scratch, check=True, capture_output=True, text=True)
        (tarball,) = Path(scratch).glob("*.tgz")
        with tarfile.open(tarball) as archive:
            for member in archive:
                name = PurePosixPath(member.name).relative_to("package")
                if ".." in name.parts:
                    raise ValueError(f"{package} holds {member.name}, which would be written elsewhere: it is not used")
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
