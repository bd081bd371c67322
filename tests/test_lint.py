"""The code has one style and its types fit: ``make lint`` runs this alone, and among the tests no processor waits."""

import subprocess
import sys

import pytest

from lib.notebooks import ROOT


@pytest.mark.parametrize("tool", [["ruff", "check"], ["mypy"]], ids=" ".join)
def test_code_passes(tool: list[str]):
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
