"""What the README says is so: its commands run, its picture and its numbers are those of the published results.

``make`` and ``papermill`` are too heavy to run here: the target, or the parameters, are looked up instead. The
notebooks and the pages are executed and built by the tests in ``tests/book``.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from papermill import inspect_notebook
from PIL import Image

from lib import claims, results
from lib.notebooks import ROOT
from lib.results import reached

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    command
    for block in BLOCKS
    for command in ([block] if "<<'END'" in block else re.sub(r" +#.*", "", block).splitlines())
    if command
]
PICTURE = "book/order-curves.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's, in which the commands may write."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("lib", "data"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "book").mkdir()
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.splitlines()[0])
def test_command(command: str, folder: Path):
    words = shlex.split(command.splitlines()[0])
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    elif words[0] == "papermill":
        parameters = {words[at + 1] for at, word in enumerate(words) if word == "-p"}
        assert parameters and parameters <= set(inspect_notebook(ROOT / words[1]))
    else:
        run(command, folder)


def run(command: str, folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_inline_targets_exist():
    targets = set(re.findall(r"`make (\w+)`", README))
    assert targets
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_picture_is_that_of_the_published_results(folder: Path):
    """Made by its command, which the test above has run where it was asked too. Renew it by that command."""
    if not (folder / PICTURE).exists():
        (command,) = (each for each in COMMANDS if PICTURE in each)
        run(command, folder)
    with Image.open(folder / PICTURE) as made, Image.open(ROOT / PICTURE) as stored:
        fresh, shown = (np.asarray(image.convert("RGB"), float) for image in (made, stored))
    assert fresh.shape == shown.shape and np.abs(fresh - shown).mean() < 0.02
    assert (ROOT / PICTURE).stat().st_size < 100_000


def results_table() -> str:
    """Results at a glance: a line a claim, a column a pair sampling."""
    cells: dict[tuple[str, str], list[str]] = {}
    for pairs in ("neighbours", "uniform"):
        standard, adversarial = (
            results.read(results.PUBLISHED / "cifar10" / f"resnet18-{which}-{pairs}.nc")
            for which in ("standard", "adversarial")
        )
        strong, equal = "untargeted 8", "untargeted 2"
        on_both = [reached(standard, equal), reached(adversarial, equal)]
        for network, verdicts in (
            ("standard", claims.c03(reached(standard, strong), strong)),
            ("both", claims.c04(*on_both, equal)),
            ("standard", claims.c05(reached(standard, strong), strong)),
            ("adversarially trained", claims.c05(on_both[1], equal)),
        ):
            for verdict in verdicts:
                claim = verdict.claim.replace("|", "\\|")
                cell = f"{verdict.verdict}: {verdict.effect.text(5)}"
                cells.setdefault((f"{verdict.id}: {claim}", network), []).append(cell)
    lines = ["| claim | network | neighbouring pairs | random pairs |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join([*claim, *effects])} |" for claim, effects in cells.items()])


def test_results_at_a_glance():
    assert results_table() in README, f"the table of the published results is\n{results_table()}"


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:md|cff))`", README):
        assert (ROOT / name).is_file(), name
