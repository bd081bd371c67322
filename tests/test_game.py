"""Games: which pixels the model sees, the value functions, the order of results, and the count of passes."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import nn

from lib import attacks, datasets, experiments, game, models, players
from tests.helpers import close

LOGITS = [[0.3, -1.2, 2.0], [1.5, 0.0, -0.5]]


class Spy(nn.Module):
    """Remembers what it is shown; its logits are the mean of each quarter of the rows of an image."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.eval()

    def forward(self, images):
        self.seen.append(images.clone())
        return images.mean((1, 3)).unflatten(1, (4, -1)).mean(2)


def coalitions_of(images, each, n, *, seed=0):
    return torch.rand(images, each, n, generator=torch.Generator().manual_seed(seed)) < 0.5


@given(seed=st.integers(0, 1000), batch_size=st.integers(1, 8))
def test_masked_image_is_the_image_inside_and_the_baseline_outside(seed, batch_size):
    generator = torch.Generator().manual_seed(seed)
    images, baseline = torch.rand(2, 3, 8, 8, generator=generator), torch.rand(3, 8, 8, generator=generator)
    grid = players.grid(8, 8, side=4)
    spy = Spy()
    masking = game.MaskingGame(spy, grid, images, torch.tensor([0, 3]), baseline=baseline, batch_size=batch_size)
    coalitions = coalitions_of(2, 5, 16, seed=seed)
    spy.seen.clear()
    masking(coalitions)
    assert [len(batch) for batch in spy.seen[:-1]] == [batch_size] * (len(spy.seen) - 1)
    seen = torch.cat(spy.seen).view(2, 5, 3, 8, 8)
    for i in range(2):
        for b in range(5):
            for row in range(8):
                for column in range(8):
                    inside = coalitions[i, b, row // 2 * 4 + column // 2]
                    source = images[i] if inside else baseline
                    assert torch.equal(seen[i, b, :, row, column], source[:, row, column])


def test_predicted_entropy_is_a_value_of_a_game(network, pictures):
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = game.predicted_entropy(logits, torch.zeros(5, dtype=torch.int64))
    close(values, torch.from_numpy(entropy(logits.softmax(1).numpy(), axis=1)))
    model, (images, labels) = network(), pictures(2)
    masking = game.MaskingGame(
        model, players.grid(8, 8, side=8), images, labels, baseline=images.mean(0), value=game.predicted_entropy
    )
    played = masking(torch.ones(2, 1, 64, dtype=torch.bool))[:, 0]
    close(played, game.predicted_entropy(model(images), labels), 1e-5)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("row", [0, 1])
def test_value_functions_by_hand(row, label):
    h = LOGITS[row]
    others = [math.exp(h[y]) for y in range(3) if y != label]
    expected = {
        "log_probability": math.log(math.exp(h[label]) / (math.exp(h[label]) + sum(others))),
        "logit": h[label],
        "margin": h[label] - max(h[k] for k in range(len(h)) if k != label),
        "other_classes": math.log(sum(others)),
    }
    assert set(game.VALUES) == set(expected)
    labels = torch.full((2,), label)
    for name, value in game.VALUES.items():
        values = value(torch.tensor(LOGITS, dtype=torch.float64), labels)
        assert values.shape == (2,)
        assert values[row].item() == pytest.approx(expected[name], abs=1e-12)


def test_each_row_has_its_own_label():
    for value in game.VALUES.values():
        logits, labels = torch.tensor(LOGITS), torch.tensor([2, 0])
        alone = [value(logits[[k]], labels[[k]]) for k in (0, 1)]
        assert torch.equal(value(logits, labels), torch.cat(alone))


@pytest.mark.parametrize("value", list(game.VALUES.values()), ids=list(game.VALUES))
def test_everyone_is_the_unmasked_image_and_nobody_the_baseline(value, network, pictures):
    model, (images, labels) = network(3, dtype=torch.float64), pictures(3, 3, dtype=torch.float64)
    baseline = torch.full((3, 8, 8), 0.25, dtype=torch.float64)
    masking = game.MaskingGame(model, players.grid(8, 8, side=8), images, labels, baseline=baseline, value=value)
    coalitions = torch.tensor([True, False])[None, :, None].expand(3, 2, 64)
    values = masking(coalitions)
    assert not values.requires_grad
    torch.testing.assert_close(values[:, 0], value(model(images), labels), rtol=0, atol=1e-12)
    nobody = value(model(baseline.expand(3, 3, 8, 8)), labels)
    torch.testing.assert_close(values[:, 1], nobody, rtol=0, atol=1e-12)


def test_several_images_play_as_each_would_alone(network, pictures):
    model, (images, labels) = network(dtype=torch.float64), pictures(3, dtype=torch.float64)
    grid, baseline = players.grid(8, 8, side=2), images.mean(0)
    coalitions = coalitions_of(3, 6, 4)
    together = game.MaskingGame(model, grid, images, labels, baseline=baseline, batch_size=4)(coalitions)
    assert together.shape == (3, 6)
    for i in range(3):
        alone = game.MaskingGame(model, grid, images[[i]], labels[[i]], baseline=baseline)(coalitions[[i]])
        torch.testing.assert_close(together[[i]], alone, rtol=0, atol=1e-12)


def test_variants_are_separate_games_with_the_same_coalitions(network, pictures):
    model, (images, labels) = network(dtype=torch.float64), pictures(2, dtype=torch.float64)
    other, _ = pictures(2, seed=1, dtype=torch.float64)
    grid, coalitions = players.grid(8, 8, side=2), coalitions_of(2, 5, 4)
    options = {"baseline": torch.zeros(1, 8, 8), "value": game.logit}
    both = game.MaskingGame(model, grid, torch.stack([images, other]), labels, **options)
    first, second = (game.MaskingGame(model, grid, x, labels, **options) for x in (images, other))
    assert torch.equal(both(coalitions), torch.stack([first(coalitions), second(coalitions)]))
    assert both.passes == first.passes + second.passes == 20
    both(coalitions)
    assert both.passes == 40


def test_each_image_may_have_a_baseline_of_its_own(network, pictures):
    model, (images, labels) = network(dtype=torch.float64), pictures(3, dtype=torch.float64)
    grid, baselines = players.grid(8, 8, side=2), images.flip(-1)
    coalitions = coalitions_of(3, 5, 4)
    together = game.MaskingGame(model, grid, images, labels, baseline=baselines, batch_size=4)(coalitions)
    for i in range(3):
        alone = game.MaskingGame(model, grid, images[[i]], labels[[i]], baseline=baselines[i])(coalitions[[i]])
        torch.testing.assert_close(together[[i]], alone, rtol=0, atol=1e-12)
    with pytest.raises(
        ValueError, match=r"one an image; got \(2, 1, 8, 8\) of torch\.float64 for images \(3, 1, 8, 8\)"
    ):
        game.MaskingGame(model, grid, images, labels, baseline=baselines[:2])


def test_mean_baseline(pictures):
    images, _ = pictures(5, 3)
    for c, row, column in [(0, 0, 0), (1, 3, 5), (2, 7, 7)]:
        expected = sum(images[:, c, row, column].tolist()) / 5
        assert game.mean_baseline(images)[c, row, column].item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"float tensor.*got.*uint8"):
        game.mean_baseline((images * 255).to(torch.uint8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": torch.rand(1, 8, 8)},
            r"images must be a tensor \(I, C, H, W\) or \(V, I, C, H, W\); got \(1, 8, 8\) of torch\.float32",
        ),
        ({"images": np.zeros((2, 1, 8, 8))}, "images must be a tensor .*; got a ndarray"),
        ({"images": torch.rand(2, 1, 8, 8) + 0.5}, r"must lie in \[0, 1\]; got values from .* to 1\.\d"),
        ({"images": torch.rand(2, 1, 8, 8) - 0.5}, r"must lie in \[0, 1\]; got values from -0\.\d"),
        ({"images": torch.full((2, 1, 8, 8), torch.nan)}, r"must lie in \[0, 1\]; got values from nan"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, r"float tensor.*got .*uint8"),
        (
            {"images": torch.rand(2, 3, 8, 8)},
            r"baseline must be .*; got \(1, 8, 8\) of torch\.float32 for images \(2, 3, 8, 8\)",
        ),
        (
            {"images": torch.rand(2, 1, 8, 4)},
            r"baseline must be .*; got \(1, 8, 8\) of torch\.float32 for images \(2, 1, 8, 4\)",
        ),
        ({"baseline": torch.tensor(0.5)}, r"baseline must be .*; got \(\) of torch\.float32 for images \(2, 1, 8, 8\)"),
        ({"baseline": 0.5}, "baseline must be a tensor .*; got a float for images"),
        ({"baseline": torch.zeros(1, 8, 8, dtype=torch.uint8)}, r"baselines must be a float tensor .*uint8"),
        ({"baseline": torch.full((1, 8, 8), 255.0)}, r"baselines must lie in \[0, 1\]; got values from 255 to 255"),
        ({"players": players.grid(16, 16, side=2)}, r"partition .* \(16, 16\) pixels, the images have \(8, 8\)"),
        ({"labels": torch.tensor([0, 4])}, r"labels must lie in 0\.\.3 .* 4 classes; got values from 0 to 4"),
        ({"labels": torch.tensor([-1, 0])}, r"labels must lie in 0\.\.3 .*got values from -1 to 0"),
        ({"labels": torch.tensor([0])}, r"labels must be 2 integers, one an image; got \(1,\)"),
        ({"labels": torch.tensor([0.0, 1.0])}, r"labels must be 2 integers.*float32"),
        ({"batch_size": 0}, r"batch_size must be at least 1; got 0"),
    ],
)
def test_one_clear_error(changes, message, empty_folder):
    arguments = {
        "model": Spy(),
        "players": players.grid(8, 8, side=2),
        "images": torch.rand(2, 1, 8, 8),
        "labels": torch.tensor([0, 1]),
        "baseline": torch.zeros(1, 8, 8),
    }
    with pytest.raises(ValueError, match=message):
        game.MaskingGame(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("coalitions", "got"),
    [
        (torch.ones(2, 3, 5, dtype=torch.bool), r"\(2, 3, 5\) of torch\.bool"),
        (torch.ones(3, 4, dtype=torch.bool), r"\(3, 4\) of torch\.bool"),
        (torch.ones(2, 3, 4), r"\(2, 3, 4\) of torch\.float32"),
        (torch.ones(1, 5, 4, dtype=torch.bool), r"\(1, 5, 4\) of torch\.bool"),
        (torch.ones(3, 5, 4, dtype=torch.bool), r"\(3, 5, 4\) of torch\.bool"),
    ],
)
def test_coalitions_must_fit_images_and_players(coalitions, got, empty_folder):
    masking = game.MaskingGame(
        Spy(), players.grid(8, 8, side=2), torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), baseline=torch.zeros(1, 8, 8)
    )
    with pytest.raises(ValueError, match=rf"coalitions must be bool \(2 images, B, 4 players\); got {got}"):
        masking(coalitions)
    assert masking.passes == 0


def test_batch_size_is_halved_where_memory_runs_out(network, pictures):
    """A model that can hold five images at once: 40 coalitions go through in fives, none twice, all values right."""
    model, (images, labels) = network(), pictures(2)
    seen = []

    class Small(nn.Module):
        def forward(self, batch):
            if len(batch) > 5:
                raise torch.OutOfMemoryError("no room")
            seen.append(len(batch))
            return model(batch)

    grid, baseline = players.grid(8, 8, side=4), torch.full((1, 8, 8), 0.5)
    coalitions = torch.rand(2, 20, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    small = game.MaskingGame(models.freeze(Small()), grid, images, labels, baseline=baseline)
    seen.clear()
    values = small(coalitions)
    assert seen == [5] * 8 and small.passes == 40 and small.batch_size == 5
    torch.testing.assert_close(values, game.MaskingGame(model, grid, images, labels, baseline=baseline)(coalitions))


def test_batch_size_is_halved_where_memory_runs_out_in_masking(network, pictures, monkeypatch):
    """Masks and masked images are as large as what the model makes of them."""
    model, (images, labels) = network(), pictures(2)
    where = torch.where

    def small(kept, shown, hidden):
        if len(kept) > 5:
            raise torch.OutOfMemoryError("no room")
        return where(kept, shown, hidden)

    coalitions = torch.rand(2, 20, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    grid, baseline = players.grid(8, 8, side=4), torch.full((1, 8, 8), 0.5)
    masking = game.MaskingGame(model, grid, images, labels, baseline=baseline)
    expected = masking(coalitions)
    monkeypatch.setattr(torch, "where", small)
    torch.testing.assert_close(masking(coalitions), expected)
    assert masking.batch_size == 5 and masking.passes == 80


def test_a_single_image_that_does_not_fit_is_an_error(pictures):
    class Full(nn.Module):
        def forward(self, batch):
            if len(batch) > 1 or batch.std() > 0:
                raise torch.OutOfMemoryError("no room")
            return torch.zeros(len(batch), 4)

    images, labels = pictures(1)
    baseline = torch.full((1, 8, 8), 0.5)
    full = game.MaskingGame(models.freeze(Full()), players.grid(8, 8, side=4), images, labels, baseline=baseline)
    with pytest.raises(torch.OutOfMemoryError):
        full(torch.ones(1, 3, 16, dtype=torch.bool))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_each_image_may_have_players_of_its_own(batch_size):
    """Three clouds with different regions: what the model sees is what masking by hand gives, point by point."""
    clouds = torch.rand(3, 3, 40, 1, generator=torch.Generator().manual_seed(0))
    own = [players.regions(cloud, n=4) for cloud in clouds]
    assert not torch.equal(own[0].partition, own[1].partition)
    spy, origin = Spy(), torch.full((3, 40, 1), 0.5)
    masking = game.MaskingGame(
        spy, own, clouds, torch.tensor([0, 3, 1]), baseline=origin, value=game.logit, batch_size=batch_size
    )
    coalitions = coalitions_of(3, 5, 4)
    spy.seen.clear()
    values = masking(coalitions)
    seen = torch.cat(spy.seen).view(3, 5, 3, 40, 1)
    for i in range(3):
        for b in range(5):
            by_hand = clouds[i].clone()
            for point in range(40):
                if not coalitions[i, b, own[i].partition[point, 0]]:
                    by_hand[:, point] = 0.5
            assert torch.equal(seen[i, b], by_hand)
            expected = Spy()(by_hand[None])[0, [0, 3, 1][i]]
            assert values[i, b].item() == pytest.approx(expected.item(), abs=1e-6)


def test_players_of_each_image_that_are_all_the_same(network, pictures):
    model, (images, labels) = network(), pictures(2)
    grid, coalitions, baseline = players.grid(8, 8, side=2), coalitions_of(2, 5, 4), torch.zeros(1, 8, 8)
    one, each = (game.MaskingGame(model, of, images, labels, baseline=baseline) for of in (grid, [grid, grid]))
    assert torch.equal(one(coalitions), each(coalitions))
    assert len(each.partitions) == 1, "no copy for each image"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            torch.zeros(2, 5).long(),
            r"a float tensor \(\.\.\., 2, 5\), a value for each coalition .*; got \(2, 5\) of torch\.int64",
        ),
        (torch.zeros(2, 4), r"got \(2, 4\) of torch\.float32"),
        (np.zeros((2, 5)), "got a ndarray"),
        (torch.full((3, 2, 5), torch.nan), "v is not a finite number in some coalition"),
    ],
)
def test_what_a_game_gives_is_checked_where_it_is_played(values, message):
    coalitions = coalitions_of(2, 5, 4)
    assert torch.equal(game.play(lambda _: torch.ones(3, 2, 5), coalitions), torch.ones(3, 2, 5))
    with pytest.raises(ValueError, match=message):
        game.play(lambda _: values, coalitions)


def test_a_game_of_no_image(network):
    model, grid = network(), players.grid(8, 8, side=2)
    for of in (grid, []):
        with pytest.raises(ValueError, match="a game is of at least one image; got none"):
            game.MaskingGame(model, of, torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), baseline=torch.zeros(1, 8, 8))


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ([2], r"a sequence of players has one an image; got 1 for 2 images"),
        ([2, 2, 2], r"a sequence of players has one an image; got 3 for 2 images"),
        ([2, 4], r"every image must have the same number of players; got 4 and 16"),
    ],
)
def test_players_must_fit_the_images(sides, message, empty_folder):
    own = [players.grid(8, 8, side=side) for side in sides]
    with pytest.raises(ValueError, match=message):
        game.MaskingGame(Spy(), own, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), baseline=torch.zeros(1, 8, 8))


def to_tf32(values):
    """The nearest numbers with ten bits of mantissa, what a GPU's TF32 convolutions make of their inputs."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("training", ["standard", "adversarial"])
def test_tf32_is_far_below_the_sampling_error(training):
    data = datasets.load("photos")
    exact, rounded = (models.load("photos", f"resnet18-{training}") for _ in range(2))
    for layer in rounded.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = to_tf32(layer.weight.data)
            layer.register_forward_pre_hook(lambda _, inputs: (to_tf32(inputs[0]),))
    rows, images, labels = experiments.correct_images(exact, data, 4, seed=0)
    asked = {"baseline": experiments.baseline("mean", data), "orders": [50, 127, 241], "rows": rows.tolist()}
    one, other = (
        experiments.measure(model, images, labels, **asked, replicates=12).replicates for model in (exact, rounded)
    )
    change = (one - other).std(1).square().mean(0) / one.std(1).square().mean(0)
    assert (change > 0).all() and (change < 1e-3).all(), "it adds less than a thousandth to the sampling variance"


@pytest.mark.parametrize("value", [lambda logits, _: logits.mean(), lambda logits, _: logits[:, :1]])
def test_a_value_that_is_not_one_number_a_row_is_refused(value, network, pictures):
    (images, labels), grid = pictures(2), players.grid(8, 8, side=2)
    played = game.MaskingGame(network(), grid, images, labels, baseline=images.mean(0), value=value)
    with pytest.raises(ValueError, match=r"v must be \(6,\), one value a row of logits; got "):
        played(torch.ones(2, 3, 4, dtype=torch.bool))


def test_what_is_no_module_is_refused(network, pictures):
    (images, labels), model = pictures(2), network()
    ways = (
        lambda: game.MaskingGame(lambda x: model(x), players.grid(8, 8, side=2), images, labels, baseline=images[0]),
        lambda: attacks.pgd(lambda x: model(x), images, labels, epsilon=0.1, step_size=0.1, steps=1),
        lambda: models.logits(lambda x: model(x), images),
    )
    for way in ways:
        with pytest.raises(ValueError, match=r"a model is a torch\.nn\.Module; got a function: wrap it in one"):
            way()


def test_a_model_in_training_mode_is_refused(network, pictures):
    """Its batch normalisation would see the other images, and what it drops is chance, be it by a layer or a call."""
    (images, labels), grid = pictures(2), players.grid(8, 8, side=2)
    dropping = nn.Sequential(nn.Flatten(), torchvision.ops.StochasticDepth(0.5, "row"), nn.Linear(64, 4))
    a_part = nn.Sequential(dropping).eval()
    dropping.train()
    for model in (network().train(), dropping, a_part):
        with pytest.raises(
            ValueError, match="in training mode, where its numbers may depend on the batch or on chance"
        ):
            game.MaskingGame(model, grid, images, labels, baseline=images.mean(0))
        for refusing in (models.logits, partial(attacks.calibrated_pgd, labels=labels)):
            with pytest.raises(ValueError, match="in training mode"):
                refusing(model, images)
    assert game.MaskingGame(a_part.eval(), grid, images, labels, baseline=images.mean(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_values_of_images_of_low_precision_are_no_coarser_than_float32(dtype):
    """v is of the model's logits; rounded to the images' precision it could not show a Δv of a thousandth."""
    images, grid = torch.full((1, 1, 8, 8), 0.5, dtype=dtype), players.grid(8, 8, side=2)
    logits = torch.tensor([[0.0, 1e-4, 0.3, 0.7]])

    class Fixed(nn.Module):
        def forward(self, images):
            return logits.expand(len(images), -1)

    played = game.MaskingGame(Fixed().eval(), grid, images, torch.tensor([1]), baseline=images[0])
    values = played(torch.zeros(1, 2, 4, dtype=torch.bool))
    assert values.dtype == torch.float32
    assert torch.equal(values[0], logits.log_softmax(1)[0, 1].expand(2))
