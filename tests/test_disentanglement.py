"""D^(m) of a model: labelled, costed, resumed, bounded, equal to the estimator on the same draws, and refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.backends import cudnn

from lib import disentanglement, estimators, experiments, game, models, players, results, sampling

CPU = torch.device("cpu")
ASKED = disentanglement.Disentanglement(dataset="tiny", images=12, pairs=3, contexts=5, fractions=(0.2, 0.6), grid=4)


def test_result_is_labelled_and_costs_what_it_says(tiny):
    found = disentanglement.disentanglement(ASKED, device=CPU)
    assert dict(found.sizes) == {"estimate": 3, "image": 12, "order": 2}
    assert found.order.values.tolist() == [2, 8]
    most = 1 + 2 * 3 + 3  # the context, six players, three pairs
    assert 0 < found.attrs["passes"] <= 12 * 2 * 5 * most
    assert found.attrs["command"].startswith("python -m lib disentanglement --dataset tiny")
    lower, midpoint, upper = (found.disentanglement.sel(estimate=name).values for name in disentanglement.ESTIMATES)
    assert (lower <= midpoint + 1e-6).all() and (midpoint <= upper + 1e-6).all() and (upper <= 1 + 1e-6).all()


def test_it_is_the_estimator_on_draws_of_seed_and_row(tiny):
    found = disentanglement.disentanglement(ASKED, device=CPU).isel(image=7)
    row = int(found.image)
    of = players.grid(16, 16, side=4)
    image, label = tiny.batch(torch.tensor([row]))
    baseline = experiments.baseline("mean", tiny)
    played = game.MaskingGame(models.load("tiny", "resnet18-standard"), of, image, label, baseline=baseline)
    draw = sampling.generator(0, row)
    pairs = sampling.pairs(of, 3, sampling="neighbours", generator=draw)[None]
    estimate = estimators.shared_contexts(played, n=16, pairs=pairs, orders=[2, 8], contexts=5, generators=[draw])
    expected = estimate.disentanglement(estimate="upper")[0]
    assert np.allclose(found.disentanglement.sel(estimate="upper"), expected, atol=1e-3)
    assert np.allclose(found.strength, estimate.strength[0].mean(0), atol=1e-5)
    assert np.allclose(found.sampling_error, estimate.disentanglement_error()[0], atol=1e-3)


def test_interrupted_run_resumes_and_batch_size_changes_no_number(tiny, anew, monkeypatch):
    whole = disentanglement.disentanglement(ASKED, device=CPU, batch_size=7)
    again = anew(disentanglement.disentanglement, ASKED, device=CPU, batch_size=512)
    assert np.allclose(whole.disentanglement, again.disentanglement, atol=1e-3)
    monkeypatch.setattr(estimators, "shared_contexts", lambda *a, **k: pytest.fail("measured again"))
    assert disentanglement.disentanglement(ASKED, device=CPU).disentanglement.equals(whole.disentanglement)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "entropy"}, "unknown value 'entropy': choose one of log_probability"),
        ({"baseline": "blue"}, "unknown baseline 'blue': choose one of mean, zero"),
        ({"pairs": 999}, "999 neighbours pairs were asked for; 16 players have 42"),
        ({"contexts": 1}, "whether a pair keeps its sign takes 2 contexts at least; got 1"),
        ({"grid": 5}, "a grid of 5×5 players does not divide an image of 16×16"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny, change, message):
    with pytest.raises(ValueError, match=message):
        disentanglement.disentanglement(replace(ASKED, **change), device=CPU)
    assert not results.WORK.exists()


def test_a_gpu_measures_without_tf32_and_otherwise_as_set(tiny, monkeypatch):
    seen = []

    def spied(*given, **options):
        seen.append((cudnn.allow_tf32, cudnn.deterministic))
        return measured(*given, **options)

    measured, before = results.measured, cudnn.allow_tf32
    monkeypatch.setattr(results, "measured", spied)
    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=before):
        disentanglement.disentanglement(ASKED, device=CPU)
    assert seen == [(False, True)] and cudnn.allow_tf32 == before
