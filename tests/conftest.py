"""Small fixtures that the tests of several modules share. Everything is seeded; nothing needs a network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from lib import models

settings.register_profile("tests", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def network() -> Callable[..., nn.Module]:
    """Makes a tiny random ResNet-18 of width 4 and four classes, frozen; ``sharpness`` multiplies its logits."""

    def make(channels: int = 1, *, dtype: torch.dtype = torch.float32, sharpness: float = 1.0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = models.build("resnet18", classes=4, mean=[0.5] * channels, deviation=[0.25] * channels, width=4)
        with torch.no_grad():
            model[-1].weight *= sharpness
        return models.freeze(model).to(dtype)

    return make


@pytest.fixture(scope="session")
def pictures() -> Callable[..., tuple[Tensor, Tensor]]:
    """Makes random images (count, channels, side, side) in [0, 1] with labels of four classes."""

    def make(
        count: int, channels: int = 1, *, side: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(count, channels, side, side, generator=generator, dtype=dtype)
        return images, torch.randint(0, 4, (count,), generator=generator)

    return make


@pytest.fixture(scope="session")
def table() -> Tensor:
    """A generic random game of 6 players: a float64 table of values in which nothing is zero or symmetric."""
    return torch.randn(2**6, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory that must still be empty when the test ends: errors write nothing."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert not [str(path.relative_to(folder)) for path in folder.rglob("*")], "something was written"
