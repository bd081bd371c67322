"""On a GPU: the numbers of the CPU. Skipped where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_experiments import ASKED
from test_training import ADVERSARIAL, FAST, SMOOTHED, STANDARD, same_weights, toy

from lib import experiments, models, training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return models.device("cuda")


def test_curves_are_those_of_the_cpu(tiny, anew, cuda):
    on_gpu, on_cpu = (anew(experiments.order_curves, ASKED, device=device) for device in (cuda, torch.device("cpu")))
    assert on_gpu.image.values.tolist() == on_cpu.image.values.tolist()
    assert np.allclose(on_gpu.utility, on_cpu.utility, atol=1e-3)
    assert abs(on_cpu.interaction).max() > 5e-4
    assert np.allclose(on_gpu.interaction, on_cpu.interaction, atol=2e-5)
    assert on_gpu.passes.values.tolist() == on_cpu.passes.values.tolist()


def test_memory_that_runs_out_halves_the_batch(tiny, anew, cuda, memory_for):
    whole = anew(experiments.order_curves, ASKED, device=cuda)
    memory_for(100)
    halved = anew(experiments.order_curves, ASKED, device=cuda)
    assert np.allclose(halved.interaction, whole.interaction, atol=2e-5)


@pytest.mark.parametrize(
    "about", [STANDARD, ADVERSARIAL, FAST, SMOOTHED], ids=["standard", "pgd", "n-fgsm", "smoothed"]
)
@pytest.mark.parametrize("precision", training.PRECISIONS)
def test_training_learns_and_is_not_done_again(cuda, about, precision, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STATES", tmp_path)
    about = replace(about, precision=precision, epochs=8)
    model, seconds = training.train(toy(), about, device=cuda)
    again, same_seconds = training.train(toy(), about, device=cuda)
    assert same_weights(model, again) and seconds == same_seconds
    images, labels = (part.to(cuda) for part in toy(seed=1).batch(slice(None)))
    assert training.accuracy(model, images, labels) > 0.8
