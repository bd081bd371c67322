"""The tutorial's code runs as printed, on a model and a folder of images that the library has never seen."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.notebooks import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight random colour images of 16 × 16 pixels in two classes."""
    rng = np.random.default_rng(0)
    for number in range(8):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def test_a_dozen_lines_lead_from_a_model_and_a_folder_to_a_curve(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "book/your-own-model.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) == 13
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 2)).eval()
    names = {"model": model.requires_grad_(False), "folder": folder}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    right = int(names["correct"].sum())
    assert 0 < right < 8, "the fixture should have both"
    assert names["measured"].mean().shape == (2, right, 5) and names["change"].mean.shape == (5,)
    assert np.isfinite(names["change"].mean).all()
    with Image.open("order-curve.png") as picture:
        assert picture.size == (640, 480)
