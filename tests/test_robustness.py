"""Robust accuracies and certified radii: against exact formulas, a classifier whose radius is known, and refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchattacks
from scipy import stats
from torch import nn

from lib import datasets, experiments, models, results, robustness, sampling

CPU = torch.device("cpu")
ASKED = robustness.Robustness(dataset="tiny", model="resnet18-standard", images=12)


@pytest.mark.parametrize(("hits", "draws"), [(990, 1000), (700, 1000), (1000, 1000), (51, 100), (3, 100)])
def test_radius_is_sigma_times_the_quantile_of_clopper_and_pearson(hits, draws):
    least = stats.beta.ppf(0.001, hits, draws - hits + 1)
    expected = max(0.0, 0.25 * stats.norm.ppf(least))
    assert robustness.certified_radius(hits, draws, noise=0.25) == pytest.approx(expected, abs=1e-9)


class HalfSpace(nn.Module):
    """Class 1 where the mean of the image is above 1/2."""

    def forward(self, images):
        above = images.flatten(1).mean(1) - 0.5
        return torch.stack([-above, above], 1)


def test_radius_of_a_half_space_is_just_below_the_distance_to_its_edge():
    """The smoothed half-space is the half-space: √(pixels) · |mean − 1/2| away, minus what few draws cannot know."""
    images = torch.full((4, 1, 8, 8), 0.5) + torch.tensor([0.02, 0.04, -0.04, 0.04]).view(-1, 1, 1, 1)
    labels = torch.tensor([1, 1, 0, 0])
    options = {"noise": 0.25, "draws": 4000}
    found = robustness.certified_radii(
        HalfSpace().eval(), images, labels, **options, generators=[sampling.generator(0, k) for k in range(4)]
    )
    distance = torch.tensor([0.16, 0.32, 0.32])
    assert (found[:3] < distance).all() and (found[:3] > 0.8 * distance).all()
    assert found[3] == 0, "the label is wrong"
    alone = robustness.certified_radii(
        HalfSpace().eval(), images[[1]], labels[[1]], **options, generators=[sampling.generator(0, 1)]
    )
    assert torch.equal(alone, found[[1]])


class OneAfterAnother(nn.Module):
    """Class 1 for the first images that it sees, class 0 from then on."""

    def __init__(self, first):
        super().__init__()
        self.left = first

    def forward(self, images):
        ones = torch.arange(len(images)) < self.left
        self.left -= len(images)
        return nn.functional.one_hot(ones.long(), 2).float()


def test_the_draws_that_choose_the_class_do_not_certify_it():
    """Chosen by the first draws, found in none of the others: nothing is certified."""
    images = torch.full((1, 1, 8, 8), 0.5)
    options = {"noise": 0.25, "draws": 80, "generators": [sampling.generator(0)]}
    model = OneAfterAnother(robustness.SELECTION).eval()
    assert robustness.certified_radii(model, images, torch.tensor([1]), **options).item() == 0
    model = OneAfterAnother(robustness.SELECTION + 80).eval()
    assert robustness.certified_radii(model, images, torch.tensor([1]), **options).item() > 0.3


def test_result_is_what_the_model_does(tiny, monkeypatch):
    found = robustness.robustness(ASKED, device=CPU)
    assert found.under.values.tolist() == ["clean", "PGD-20"] and found.sizes["image"] == 12
    assert found.right.sel(under="clean").values.all(), "the labels of tiny are the model's own"
    assert found.radius.isnull().all() and found.attrs["passes"] == 12 * 22
    monkeypatch.setattr(robustness, "pgd", lambda *a, **k: pytest.fail("measured again"))
    assert robustness.robustness(ASKED, device=CPU).right.equals(found.right)


def test_other_images_or_labels_are_measured_anew(tiny, anew, monkeypatch):
    before = robustness.robustness(ASKED, device=CPU)
    last = int(before.image[-1])
    black, other = tiny.images.clone(), (tiny.labels + 1) % 3
    black[last] = 0
    for data in (replace(tiny, images=black), replace(tiny, labels=other)):
        monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root, data=data: data)
        again = robustness.robustness(ASKED, device=CPU)
        assert again.right.equals(anew(robustness.robustness, ASKED, device=CPU).right)
    assert not again.right.sel(under="clean").any() and (again.label != before.label).all()


def test_pgd_is_twenty_steps_of_2_in_8_of_255(tiny, monkeypatch):
    class Bright(torch.nn.Module):
        """Knows the one label of tiny where an image is not black."""

        def forward(self, images):
            right = torch.nn.functional.one_hot(tiny.labels[:1], 3) * images.flatten(1).mean(1, keepdim=True)
            return right + torch.nn.functional.one_hot((tiny.labels[:1] + 1) % 3, 3) * 0.01

    asked = []
    darkening = torch.arange(12.0)[:, None, None, None] % 2  # of every other image
    monkeypatch.setattr(models, "load", lambda *_, **__: Bright().eval())
    monkeypatch.setattr(robustness, "pgd", lambda _, images, labels, **how: asked.append(how) or images * darkening)
    found = robustness.robustness(ASKED, device=CPU)
    assert asked == [{"epsilon": 8 / 255, "step_size": 2 / 255, "steps": 20}]
    assert found.right.sel(under="clean").values.all()
    assert found.right.sel(under="PGD-20").values.tolist() == [False, True] * 6


def test_autoattack_is_the_standard_one_of_its_authors(tiny, monkeypatch):
    """Their 100 iterations of APGD and FAB, where torchattacks' own AutoAttack makes 10, and 5000 queries of Square."""
    asked = []

    def fake(attacks):
        asked.append(attacks)
        return lambda images, labels: 1 - images

    monkeypatch.setattr(torchattacks, "MultiAttack", fake)
    found = robustness.robustness(replace(ASKED, autoattack=True, seed=3), device=CPU)
    ((apgd, targeted, fab, square),) = asked
    assert [part.attack for part in (apgd, targeted, fab, square)] == ["APGD", "APGDT", "FAB", "Square"]
    assert {(part.eps, part.seed, part.norm, part.n_restarts) for part in asked[0]} == {(8 / 255, 3, "Linf", 1)}
    assert apgd.loss == "ce" and fab.multi_targeted
    assert apgd.steps == targeted.steps == fab.steps == 100 and targeted.n_target_classes == fab.n_target_classes == 2
    assert square.n_queries == 5000 and not square.rescale_schedule
    assert "--autoattack" in found.attrs["command"]
    images, labels = tiny.batch(torch.tensor(found.image.values))
    expected = models.load("tiny", "resnet18-standard")(1 - images).argmax(1) == labels
    assert (found.right.sel(under="AutoAttack").values == expected.numpy()).all()


@pytest.mark.parametrize(("classes", "targets"), [(3, 2), (10, 9), (1000, 9)])
def test_autoattack_aims_at_nine_classes_at_most(classes, targets, monkeypatch):
    aims = []

    def fake(attacks):
        aims.extend(part.n_target_classes for part in attacks[1:3])
        return lambda images, _: images

    monkeypatch.setattr(torchattacks, "MultiAttack", fake)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).eval()
    robustness._autoattack(network, torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), 0)
    assert aims == [targets, targets]


def test_certificates_of_a_model_trained_with_noise(tiny, monkeypatch):
    card = models.card("tiny", "resnet18-standard")
    card["recipe"]["noise"] = 0.25
    monkeypatch.setattr(robustness.models, "card", lambda *a: card)
    with monkeypatch.context() as patched, pytest.raises(ValueError, match="radius takes at least 1 draw; got 0"):
        patched.setattr(robustness, "pgd", lambda *_, **__: pytest.fail("attacked before"))
        robustness.robustness(replace(ASKED, certified=5, draws=0), device=CPU)
    with monkeypatch.context() as patched:
        patched.setitem(robustness.AT_ONCE, "cpu", 2)  # the five lie in three blocks of six, one of them by half
        found = robustness.robustness(replace(ASKED, certified=5, draws=50), device=CPU)
    assert np.isfinite(found.radius[:5]).all() and found.radius[5:].isnull().all()
    assert found.attrs["passes"] == 12 * 22 + 5 * (robustness.SELECTION + 50)
    drawn = []
    monkeypatch.setattr(
        robustness,
        "certified_radii",
        lambda *_, generators, **__: drawn.append([g.initial_seed() for g in generators]) or torch.zeros(60),
    )
    for seed in (0, 1):
        robustness.robustness(replace(ASKED, images=60, certified=60, seed=seed), device=CPU)
    assert len(set(drawn[0])) == 60 and not set(drawn[0]) & set(drawn[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certified": 3}, "resnet18-standard was trained without noise"),
        ({"images": 61}, "61 images and 0 certified were asked for; tiny has 60"),
        ({"images": 0}, "0 images and 0 certified were asked for; tiny has 60"),
        ({"model": "vgg"}, "unknown model 'vgg'"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        robustness.robustness(replace(ASKED, **change), device=CPU)
    with pytest.raises(ValueError, match="noise above 0 and at least one draw; got 0 and 5"):
        robustness.certified_radii(HalfSpace().eval(), *tiny.batch(slice(0, 1)), noise=0, draws=5, generators=[None])
    assert not results.WORK.exists()


def test_a_folder_of_some_classes_is_refused(tiny, monkeypatch):
    """Its labels are not the model's."""
    monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root: replace(tiny, classes=("a", "c")))
    with pytest.raises(ValueError, match=r"the model tells 3 classes apart, tiny has 2 \(a, c\): give a folder of"):
        robustness.robustness(ASKED, device=CPU)
    with pytest.raises(ValueError, match="the model tells 3 classes apart"):
        experiments.correct_images(models.load("tiny", "resnet18-standard"), replace(tiny, classes=("a",)), 2, seed=0)
