"""Small fixtures that the tests of several modules share. They are seeded, and need no network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from hypothesis import settings
from nbformat.v4 import new_code_cell, new_notebook
from torch import Tensor, nn
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from lib import datasets, models, results, training

settings.register_profile("tests", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("tests")


class ByFile(LoadFileScheduling):
    """Gives the tests of a file, and all that read the pages, to one process: what they share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/book" if nodeid.startswith("tests/book/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


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


@pytest.fixture
def anew(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Calls a measurement where no earlier run has left a block of it."""

    def call(measurement: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(results, "WORK", tmp_path_factory.mktemp("work"))
            return measurement(*arguments, **options)

    return call


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes every convolution run out of memory where it has more images than so many."""
    forward = nn.Conv2d.forward

    def limit(room: int) -> None:
        def short_of_memory(layer: nn.Conv2d, images: Tensor) -> Tensor:
            if len(images) > room:
                raise torch.OutOfMemoryError(f"{room} images are the most")
            return forward(layer, images)

        monkeypatch.setattr(nn.Conv2d, "forward", short_of_memory)

    return limit


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


@pytest.fixture(scope="session")
def tiny_and_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[datasets.Dataset, Path]:
    """Sixty images, and the folder of a network that classifies them all correctly."""
    folder = tmp_path_factory.mktemp("tiny")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 16, 16), generator=generator).to(torch.uint8)
    torch.manual_seed(0)
    network = models.build("resnet18", classes=3, mean=[0.5], deviation=[0.25], width=4).eval()
    labels = network(images.float() / 255).argmax(1)
    data = datasets.Dataset("tiny", "test", images, labels, ("a", "b", "c"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "CHECKPOINTS", folder)
        training.save(network, data, data, training.Recipe(width=4), seconds=0.0, device=torch.device("cpu"))
    return data, folder


@pytest.fixture
def tiny(
    tiny_and_checkpoints: tuple[datasets.Dataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> datasets.Dataset:
    """A dataset and a checkpoint of its own, and a folder for results, for the length of a test."""
    data, folder = tiny_and_checkpoints
    shutil.copytree(folder, tmp_path / "checkpoints")
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root: data)
    return data


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/datasets in an empty folder, no environment variable: only what a test puts there can be found."""
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(datasets, "LOCAL_DATA", tmp_path / "local")
    return tmp_path / "local"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a book, on a machine without npm."""
    monkeypatch.setenv("PATH", "")
    return tmp_path


@pytest.fixture
def write(root: Path) -> Callable[[str], None]:
    """Makes a book whose one notebook, book/chapter.ipynb, has one cell."""

    def make(source: str) -> None:
        (root / "book").mkdir(exist_ok=True)
        (root / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\n")
        (root / "_config.yml").write_text("title: A book\nexecute: {execute_notebooks: 'off'}\nsphinx: {config: {}}\n")
        nbformat.write(new_notebook(cells=[new_code_cell(source, id="only")]), root / "book" / "chapter.ipynb")

    return make
