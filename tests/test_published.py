"""Published results: each is measured again, two images of it, by the command that it records."""

import re
import shlex
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

from lib import datasets, results
from lib.__main__ import app

FILES = results.published()
load = cache(datasets.load)  # unpacking CIFAR-10 takes longer than measuring two images


@pytest.mark.parametrize("path", [path for *_, path in FILES], ids=lambda path: path.stem)
def test_two_images_measured_again_are_inside_their_interval(path, tmp_path, monkeypatch):
    """With fewer replicates, on the same seeds: the difference is a matter of the sampling errors."""
    published = results.read(path)
    if "interaction" not in published and "disentanglement" not in published:
        pytest.skip("re-measured by the tests of its own experiment")
    if not (datasets.LOCAL_DATA / published.attrs["dataset"]).exists():
        pytest.skip(f"{published.attrs['dataset']} is not here")
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    monkeypatch.setattr(datasets, "load", lambda name, split="test", *, root=None: load(name, split))
    words = shlex.split(re.sub(r"--errors \S+", "", published.attrs["command"]))[3:]
    fewer = ["--replicates", "12"] if "interaction" in published else []
    done = CliRunner().invoke(app, [*words, "--images", "2", *fewer, "--out", str(tmp_path / "again.nc")])
    assert done.exit_code == 0, done.output
    again = results.read(tmp_path / "again.nc")
    two = published.isel(image=slice(2))
    assert again.image.values.tolist() == two.image.values.tolist(), "the seed chooses the same images"
    if "disentanglement" in published:
        assert np.allclose(again.disentanglement, two.disentanglement, atol=0.01)
        return
    error = np.hypot(again.sampling_error, two.sampling_error)
    apart = abs(again.interaction - two.interaction) / error
    assert float((apart < 3).mean()) > 0.97 and float(apart.max()) < 6
    assert np.allclose(again.utility, two.utility, atol=0.05)


def test_a_published_name_is_its_model_and_experiment(tmp_path):
    for dataset, model, experiment, path in FILES:
        assert path == results.PUBLISHED / dataset / f"{model}-{experiment}.nc"
        assert results.read(path).attrs["model"] == model
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "resnet18-standard-disentanglement-uniform.nc").touch()
    ((dataset, model, experiment, _),) = results.published(tmp_path)
    assert (dataset, model, experiment) == ("toy", "resnet18-standard", "disentanglement-uniform")
