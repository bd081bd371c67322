"""Defences: which pixels go and what fills them, pixel by pixel; draws; dropout's theorem by brute force; recovery."""

import itertools
from functools import partial

import pytest
import torch
import torchattacks
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

from lib import attacks, defenses, interactions, sampling
from lib.defense_experiments import full_attack
from tests.helpers import close


class Counting(nn.Module):
    """Counts the images that pass through the model, and says whether gradients were asked for."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.count = 0
        self.graphs = False
        self.eval()

    def forward(self, images):
        self.count += len(images)
        self.graphs |= torch.is_grad_enabled()
        return self.model(images)


def generators(count, seed=0):
    return [sampling.generator(seed, image) for image in range(count)]


def random_images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def changed(before, after):
    return (before != after).any(1)


# Dropout.


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    kernel=st.sampled_from([3, 5, 9]),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 1000),
)
def test_the_fill_is_the_mean_of_the_kept_neighbours(height, width, kernel, share, seed):
    images = random_images(2, 3, height, width, seed=seed)
    kept = random_images(2, 1, height, width, seed=seed + 1) < share
    kept[:, :, 0, 0] = True
    filled = defenses.neighbour_fill(images, kept, kernel=kernel)
    reach = kernel // 2
    for b, c, y, x in itertools.product(range(2), range(3), range(height), range(width)):
        everywhere = list(itertools.product(range(height), range(width)))
        near = [(v, u) for v, u in everywhere if abs(v - y) <= reach and abs(u - x) <= reach and kept[b, 0, v, u]]
        source = near or [(v, u) for v, u in everywhere if kept[b, 0, v, u]]
        expected = sum(images[b, c, v, u].item() for v, u in source) / len(source)
        if kept[b, 0, y, x]:
            assert filled[b, c, y, x] == images[b, c, y, x]
        else:
            assert filled[b, c, y, x].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("rate", "dropped"), [(0.0, 0), (0.1, 6), (0.25, 16), (0.29, 19), (0.5, 32), (0.999, 63)])
def test_dropout_drops_exactly_its_share_of_all_channels(rate, dropped):
    images = random_images(4, 3, 8, 8)
    before = images.clone()
    result = defenses.dropout(images, generators(4), rate=rate)
    assert (changed(images, result).sum((1, 2)) == dropped).all()
    assert torch.equal(images, before)
    assert ((result != images).all(1) == changed(images, result)).all()


def test_dropout_is_the_fill_of_what_it_drops():
    images = random_images(3, 2, 8, 8)
    for kernel in (3, 5):
        result = defenses.dropout(images, generators(3), rate=0.6, kernel=kernel)
        kept = ~changed(images, result)[:, None]
        close(result, defenses.neighbour_fill(images, kept, kernel=kernel))


def test_every_pixel_is_dropped_equally_often_and_every_image_on_its_own():
    images = random_images(2, 1, 4, 4)
    common = generators(2)
    drops = torch.stack([changed(images, defenses.dropout(images, common, rate=0.3)) for _ in range(1500)]).flatten(2)
    assert chisquare(drops[:, 0].sum(0)).pvalue > 1e-3
    both = (drops[:, 0] & drops[:, 1]).double().mean().item()
    assert both == pytest.approx((5 / 16) ** 2, abs=0.01)


def test_rates_drop_nested_pixels():
    images = random_images(2, 1, 8, 8)
    drops = [changed(images, defenses.dropout(images, generators(2), rate=rate)) for rate in (0.1, 0.2, 0.3)]
    assert (drops[0] <= drops[1]).all() and (drops[1] <= drops[2]).all()


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 100))
def test_dropped_images_stay_images(rate, seed):
    """In single precision too: means of values in [0, 1] do not round past it."""
    images = torch.ones(1, 3, 7, 7)
    images[:, :, 3] = random_images(1, 3, 7, seed=seed).float()
    result = defenses.dropout(images, generators(1, seed), rate=rate, kernel=5)
    assert result.dtype == torch.float32 and result.min() >= 0 and result.max() <= 1


# Cutout.


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 9), (2, 2), (3, 6)])
def test_cutout_masks_one_square_of_half_the_side(height, width):
    images, baseline = 0.5 + 0.5 * random_images(20, 3, height, width), 0.4 * random_images(3, height, width)
    before = images.clone()
    result = defenses.cutout(images, generators(20), baseline=baseline)
    assert torch.equal(images, before)
    masked = changed(images, result)
    for image, mask in zip(result, masked, strict=True):
        rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
        assert len(rows) == height // 2 == rows[-1] - rows[0] + 1
        assert len(columns) == width // 2 == columns[-1] - columns[0] + 1
        assert mask.sum() == len(rows) * len(columns)
        assert torch.equal(image[:, mask], baseline[:, mask])


def test_the_square_stands_anywhere_inside_equally_often():
    images = torch.ones(1, 1, 6, 6)
    own = generators(1)
    corners = [
        int(changed(images, defenses.cutout(images, own, baseline=torch.zeros(1, 6, 6))).flatten().nonzero()[0])
        for _ in range(1600)
    ]
    counts = torch.bincount(torch.tensor(corners), minlength=36).view(6, 6)
    assert counts[4:].sum() == counts[:, 4:].sum() == 0
    assert chisquare(counts[:4, :4].flatten()).pvalue > 1e-3


# Seeds and batches.


DEFENSES = {
    "dropout": partial(defenses.dropout, rate=0.3),
    "cutout": partial(defenses.cutout, baseline=torch.zeros(3, 8, 8)),
}


@pytest.mark.parametrize("defense", DEFENSES.values(), ids=DEFENSES)
def test_an_image_does_not_depend_on_its_batch(defense):
    images = random_images(5, 3, 8, 8)
    together = defense(images, generators(5))
    for rows in ([1], [3, 4], [4, 0]):
        drawn = [generators(5)[row] for row in rows]
        assert torch.equal(defense(images[rows], drawn), together[rows])
    assert torch.equal(defense(images, generators(5)), together)
    assert (defense(images, generators(5, seed=1)) != together).flatten(1).any(1).all()


# The share that is recognised.


def test_recognised_counts_draws_image_by_image(network, pictures):
    model, (images, labels) = Counting(network(3, dtype=torch.float64, sharpness=20.0)), pictures(7, 3)
    images, defense = images.double(), DEFENSES["dropout"]
    shares = defenses.recognised(model, images, labels, defense, draws=9, generators=generators(7))
    assert model.count == 9 * 7 and not model.graphs
    for row, generator in enumerate(generators(7)):
        hits = 0
        for _ in range(9):
            hits += model(defense(images[[row]], [generator])).argmax().item() == labels[row].item()
        assert shares[row].item() == pytest.approx(hits / 9)
    assert not set(shares.tolist()) <= {0.0, 1.0}


def test_without_dropout_the_share_is_whether_the_model_is_right(network, pictures):
    model, (images, labels) = network(), pictures(8)
    shares = defenses.recognised(
        model, images, labels, partial(defenses.dropout, rate=0.0), draws=2, generators=generators(8)
    )
    assert torch.equal(shares, (model(images).argmax(1) == labels).float())
    assert not shares.requires_grad and 0 < shares.sum() < 8


# Dropout's theorem.


@given(st.integers(2, 7), st.integers(0, 1000))
def test_dropout_mean_is_the_mean_over_all_sets_of_its_size(n, seed):
    """Three games at once, every k: from φ^(0) and I^(m) alone, against the mean of the table of values."""
    table = torch.randn(3, 2**n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    interaction = interactions.exact_interactions(table)
    spectrum = interaction.sum((-1, -2)) / (n * (n - 1))
    single = interactions.exact_shapley(table)[:, 0].mean(-1)
    size = interactions.all_coalitions(n).sum(1)
    for kept in range(n + 1):
        close(defenses.dropout_mean(table[:, 0], single, spectrum, kept=kept), table[:, size == kept].mean(1))


def test_dropout_mean_is_the_sum_of_the_paper(table):
    """S-H as it is written, over players and ordered pairs, and with k/n for 1 − α."""
    n, singles, interaction = 6, interactions.exact_shapley(table)[0], interactions.exact_interactions(table)
    spectrum = interaction.sum((-1, -2)) / (n * (n - 1))
    for k in range(n + 1):
        expected = table[0] + k / n * singles.sum()
        for m, i, j in itertools.product(range(k - 1), range(n), range(n)):
            if i != j:
                expected = expected + (k - 1 - m) / (n * (n - 1)) * interaction[m, i, j]
        close(defenses.dropout_mean(table[0], singles.mean(), spectrum, kept=k), expected)


def test_orders_above_k_minus_2_do_not_count():
    zero, spectrum = torch.zeros(()), torch.tensor([1.0, 10.0, 100.0, 1000.0])
    found = [defenses.dropout_mean(zero, zero, spectrum, kept=k).item() for k in range(6)]
    assert found == [0, 0, 1, 12, 123, 1234]


# Recovery.


def test_recovery_is_one_attack_after_another(network, pictures):
    """Against torchattacks: untargeted from x, then targeted at the truth from x_adv, in the ball around x_adv."""
    model, (images, labels) = network(3), pictures(4, 3)
    adversarial = full_attack(model, images, labels)
    away = torchattacks.PGD(model, eps=16 / 255, alpha=2 / 255, steps=10, random_start=False)
    back = torchattacks.PGD(model, eps=16 / 255, alpha=2 / 255, steps=10, random_start=False)
    back.set_mode_targeted_by_function(lambda images, labels: labels)
    assert torch.equal(adversarial, away(images, labels))
    assert torch.equal(defenses.recover(model, adversarial, labels), back(adversarial, labels))


@given(epsilon=st.floats(0, 0.2), step_size=st.floats(0.001, 0.1), steps=st.integers(1, 3), seed=st.integers(0, 100))
def test_recovery_stays_in_its_two_balls(epsilon, step_size, steps, seed, network, pictures):
    model, (images, labels) = network(), pictures(2, seed=seed)
    pace = {"epsilon": epsilon, "step_size": step_size, "steps": steps}
    adversarial = attacks.pgd(model, images, labels, **pace)
    recovered = defenses.recover(model, adversarial, labels, **pace)
    assert (adversarial - images).abs().max() <= epsilon + 1e-6
    assert (recovered - adversarial).abs().max() <= epsilon + 1e-6
    assert recovered.min() >= 0 and recovered.max() <= 1


def test_the_second_ball_is_that_of_the_adversarial_image():
    """Every pixel falls and rises by ε, but those that were stopped by 0: they end ε above 0, wherever they began."""

    class Brightness(nn.Module):
        def forward(self, images):
            bright = (images.mean((1, 2, 3)) - 0.5) * 10
            return torch.stack([bright, -bright], 1)

    images = torch.full((1, 1, 4, 4), 0.5)
    images[0, 0, 0] = 0.02
    pace = {"epsilon": 0.1, "step_size": 0.1, "steps": 2}
    adversarial = attacks.pgd(Brightness().eval(), images, torch.tensor([0]), **pace)
    recovered = defenses.recover(Brightness().eval(), adversarial, torch.tensor([0]), **pace)
    assert (recovered - images)[0, 0, 0] == pytest.approx(0.08)
    close(recovered[:, :, 1:], images[:, :, 1:], 1e-6)


def test_passes_of_recovery(network, pictures):
    model, (images, labels) = Counting(network()), pictures(3)
    defenses.recover(model, images, labels, steps=4)
    assert model.count == 4 * 3


# Errors.


GOOD = random_images(2, 3, 4, 4)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_wrong_rate(rate, empty_folder):
    with pytest.raises(ValueError, match=rf"rate is the share of the pixels .* in \[0, 1\); got {rate}"):
        defenses.dropout(GOOD, generators(2), rate=rate)


@pytest.mark.parametrize("kernel", [2, 4, 1, 0, -3])
def test_a_wrong_kernel(kernel, empty_folder):
    with pytest.raises(ValueError, match=f"kernel is the odd side, at least 3, .*; got {kernel}"):
        defenses.dropout(GOOD, generators(2), rate=0.1, kernel=kernel)


def test_nothing_kept(empty_folder):
    kept = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    kept[1] = False
    with pytest.raises(ValueError, match="no pixel is kept cannot be filled: keep at least one"):
        defenses.neighbour_fill(GOOD, kept)


@pytest.mark.parametrize("size", [(1, 4), (4, 1), (1, 1)])
def test_an_image_too_small_for_cutout(size, empty_folder):
    images = random_images(1, 3, *size)
    message = rf"cutout masks half of each side: images need 2×2 pixels at least; got {size[0]}×{size[1]}"
    with pytest.raises(ValueError, match=message):
        defenses.cutout(images, generators(1), baseline=images[0])


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (GOOD, r"baseline must have the shape of an image, \(3, 4, 4\); got \(2, 3, 4, 4\)"),
        (torch.zeros(1, 4, 4), r"baseline must have the shape of an image, \(3, 4, 4\); got \(1, 4, 4\)"),
        (2 + GOOD[0], r"images must lie in \[0, 1\]; got values from 2\.\d* to 2\.\d*"),
    ],
)
def test_a_wrong_baseline(baseline, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        defenses.cutout(GOOD, generators(2), baseline=baseline)


@pytest.mark.parametrize(
    "call",
    [
        lambda images, few: defenses.dropout(images, few, rate=0.1),
        lambda images, few: defenses.cutout(images, few, baseline=images[0]),
        lambda images, few: defenses.recognised(
            nn.Identity(), images, torch.zeros(2).long(), DEFENSES["dropout"], draws=1, generators=few
        ),
    ],
    ids=["dropout", "cutout", "recognised"],
)
def test_one_generator_an_image(call, empty_folder):
    with pytest.raises(ValueError, match="one generator an image is needed; got 3 for 2 images"):
        call(GOOD, generators(3))


@pytest.mark.parametrize("call", [partial(defenses.dropout, rate=0.1), DEFENSES["cutout"]], ids=["dropout", "cutout"])
def test_images_must_be_images(call, empty_folder):
    with pytest.raises(ValueError, match=r"images must be a float tensor \(B, C, H, W\); got \(3, 4, 4\)"):
        call(GOOD[0], generators(3))


@pytest.mark.parametrize(
    ("labels", "draws", "message"),
    [
        ([0, 1], 0, "draws must be at least 1; got 0"),
        ([0], 1, r"labels must be 2 integers, one an image; got \(1,\)"),
        ([0, 4], 1, r"labels must lie in 0\.\.3 .*; got values from 0 to 4"),
    ],
)
def test_recognised_one_clear_error(labels, draws, message, network, empty_folder):
    labels = torch.tensor(labels)
    with pytest.raises(ValueError, match=message):
        defenses.recognised(
            network(3), GOOD.float(), labels, DEFENSES["dropout"], draws=draws, generators=generators(2)
        )


@pytest.mark.parametrize("kept", [-1, 6, 1.5])
def test_too_many_kept_players(kept, empty_folder):
    with pytest.raises(ValueError, match=rf"kept players are 0\.\.5 of the 5, a whole number; got {kept}"):
        defenses.dropout_mean(torch.zeros(()), torch.zeros(()), torch.zeros(4), kept=kept)


def test_recovery_checks_its_options_as_the_attack_does(network, pictures, empty_folder):
    with pytest.raises(ValueError, match=r"epsilon must be at least 0, .*; got -1"):
        defenses.recover(network(), *pictures(2), epsilon=-1)
