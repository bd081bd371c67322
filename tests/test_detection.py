"""Detection: sampled attributions against exact ones, dispersion against its definition, detectors on known data."""

import itertools
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lib import detection, game, interactions, players, sampling
from tests.helpers import close


class Table:
    """Games of I images and V variants given as tables of values (V, I, 2^n); remembers the coalitions."""

    def __init__(self, values):
        self.values = values
        self.seen = []

    def __call__(self, coalitions):
        self.seen.append(coalitions)
        number = (coalitions * 2 ** torch.arange(coalitions.shape[-1])).sum(-1)
        return self.values.gather(-1, number.expand(*self.values.shape[:-1], -1))


def generators(count, seed=0):
    return [sampling.generator(seed, image) for image in range(count)]


def random_tables(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Attributions.


@given(st.integers(2, 6), st.integers(0, 1000))
def test_an_order_with_no_more_contexts_than_asked_is_exact(n, seed):
    """The first and the last one always; the second and the last but one from n − 1 contexts a player on."""
    tables = random_tables(2, 3, 2**n, seed=seed)
    for contexts, orders in ((1, [0, n - 1]), (n - 1, sorted({0, 1, max(n - 2, 0), n - 1}))):
        found = detection.sample_attributions(
            Table(tables), n=n, orders=orders, contexts=contexts, generators=generators(3)
        )
        close(found, interactions.exact_shapley(tables)[:, :, orders])


@given(st.integers(5, 7), st.integers(1, 3), st.integers(0, 1000), st.data())
def test_each_gain_is_that_of_one_context_of_the_right_size(n, contexts, seed, data):
    """The attribution is the mean gain of each player over the first m of the others, in a random order of players."""
    order = data.draw(st.integers(1, n - 2))
    tables = random_tables(1, 2**n, seed=seed)
    orders = [order]
    found = detection.sample_attributions(
        Table(tables), n=n, orders=orders, contexts=contexts, generators=generators(1, seed)
    )
    ranks = torch.rand(contexts, n, generator=generators(1, seed)[0]).argsort(1).tolist()
    for i in range(n):
        gains = []
        for rank in ranks:
            others = sorted((player for player in range(n) if player != i), key=lambda player: rank[player])
            number = sum(2**player for player in others[:order])
            gains.append((tables[0, number + 2**i] - tables[0, number]).item())
        assert found[0, 0, i].item() == pytest.approx(statistics.fmean(gains), abs=1e-12)


def test_attributions_converge_to_the_exact_ones():
    """Every order and player, within four standard errors of the exact one and close to it."""
    tables, n, contexts = random_tables(2, 2**12), 12, 300
    found = detection.sample_attributions(
        Table(tables), n=n, orders=list(range(n)), contexts=contexts, generators=generators(2)
    )
    error = found - interactions.exact_shapley(tables)
    assert error[:, [0, 1, 2, 3, 8, 9, 10, 11]].abs().max() < 1e-10
    assert error.abs().max() < 4 * 2**0.5 * tables.std() / contexts**0.5
    assert error[:, 4:8].std() > 1e-3


@pytest.mark.parametrize(("order", "contexts", "passes"), [(0, 4, 7), (5, 4, 7), (2, 4, 28), (3, 1, 7), (4, 5, 21)])
def test_passes(order, contexts, passes, network, pictures):
    """n + 1 an image, variant and context; where all contexts are played, every coalition of either size."""
    images, labels = pictures(3, side=6)
    partition = torch.arange(36).view(6, 6) // 6
    six = players.Players(6, partition, torch.tensor([[0, 1]]))
    masking = game.MaskingGame(
        network(), six, torch.stack([images, images.flip(2)]), labels, baseline=images.mean(0), batch_size=5
    )
    found = detection.sample_attributions(masking, n=6, orders=[order], contexts=contexts, generators=generators(3))
    assert masking.passes == passes * 3 * 2
    assert found.shape == (2, 3, 1, 6)


def test_the_last_order_is_leaving_one_out(network, pictures):
    """ML-LOO, of the class that the model predicts: v(N) − v(N∖i), image by image."""
    model, (images, _) = network(dtype=torch.float64), pictures(2, dtype=torch.float64)
    classes, four, baseline = model(images).argmax(1), players.grid(8, 8, side=2), images.mean(0)
    masking = game.MaskingGame(model, four, images, classes, baseline=baseline)
    found = detection.sample_attributions(masking, n=4, orders=[3], contexts=9, generators=generators(2))
    for image, i in itertools.product(range(2), range(4)):
        without = torch.where(four.partition == i, baseline, images[image])
        gain = [game.log_probability(model(x[None]), classes[[image]]) for x in (images[image], without)]
        assert found[image, 0, i].item() == pytest.approx((gain[0] - gain[1]).item(), abs=1e-12)


def test_contexts_are_common_to_games_of_the_same_seed_and_do_not_depend_on_the_batch():
    tables = random_tables(3, 2**5)
    options = {"n": 5, "orders": [1, 3], "contexts": 3}
    game_of_all, again, other = Table(tables), Table(-tables), Table(tables)
    together = detection.sample_attributions(game_of_all, generators=generators(3), **options)
    mirrored = detection.sample_attributions(again, generators=generators(3), **options)
    detection.sample_attributions(other, generators=generators(3, seed=1), **options)
    assert all(torch.equal(a, b) for a, b in zip(game_of_all.seen, again.seen, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(game_of_all.seen, other.seen, strict=True))
    close(mirrored, -together)
    alone = detection.sample_attributions(Table(tables[[2]]), generators=generators(3)[2:], **options)
    assert torch.equal(alone[0], together[2])


@pytest.mark.parametrize(
    ("orders", "contexts", "message"),
    [
        ([0, 5], 1, r"an attribution of 5 players has an order that is an integer in 0\.\.4; got 5"),
        ([-1], 1, r"has an order that is an integer in 0\.\.4; got -1"),
        ([1.5], 1, r"has an order that is an integer in 0\.\.4; got 1\.5"),
        ([2.0], 1, r"has an order that is an integer in 0\.\.4; got 2\.0"),
        ([], 1, "at least one order is needed; got none"),
        ([1], 0, "contexts must be at least 1; got 0"),
    ],
)
def test_attributions_one_clear_error(orders, contexts, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        detection.sample_attributions(
            Table(random_tables(1, 32)), n=5, orders=orders, contexts=contexts, generators=generators(1)
        )


@pytest.mark.parametrize("contexts", [2, 10], ids=["sampled", "exact"])
def test_a_game_that_is_not_finite_is_refused(contexts):
    tables = random_tables(1, 32)
    tables[0, -1] = torch.nan
    with pytest.raises(ValueError, match="v is not a finite number in some coalition"):
        detection.sample_attributions(Table(tables), n=5, orders=[1, 4], contexts=contexts, generators=generators(1))


# Dispersion.


def quantile(values, q):
    """By linear interpolation between the sorted values."""
    place = q * (len(values) - 1)
    below = sorted(values)[int(place) : int(place) + 2]
    return below[0] + (place - int(place)) * (below[-1] - below[0])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_dispersion_is_that_of_the_definitions(values):
    middle = statistics.median(values)
    expected = [
        statistics.pstdev(values),
        statistics.median([abs(value - middle) for value in values]),
        quantile(values, 0.75) - quantile(values, 0.25),
    ]
    assert detection.dispersion(values) == pytest.approx(expected, abs=1e-9)


def test_dispersion_of_many_players_at_once():
    attribution = random_tables(2, 3, 4, 50)
    found = detection.dispersion(attribution)
    assert found.shape == (2, 3, 4, len(detection.DISPERSIONS))
    assert found[1, 2, 3] == pytest.approx(detection.dispersion(attribution[1, 2, 3]))
    assert detection.dispersion(3 * attribution + 7) == pytest.approx(3 * found)


# Detectors.


def features(shift, *, images=200, seed=0):
    """Three features: each image has its own level, which its twins share, and its own noise."""
    rng = np.random.default_rng([seed, round(10 * shift)])
    level = np.random.default_rng([seed, 999]).normal(size=(images, 1))
    return level + shift + rng.normal(size=(images, 3))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_area_under_roc_is_that_of_scikit_learn_and_of_counting(pairs):
    normal, adversarial = np.array(pairs, dtype=float).T
    found = detection.area_under_roc(normal, adversarial)
    wins = [(a > b) + (a == b) / 2 for a in adversarial for b in normal]
    assert found == pytest.approx(statistics.fmean(wins))
    truth = np.repeat([0, 1], len(pairs))
    assert found == pytest.approx(roc_auc_score(truth, np.concatenate([normal, adversarial])))


def test_a_known_difference_is_detected_as_well_as_it_can_be():
    """Normal samples a known distance apart: the best detector has AUC Φ(d/√2)."""
    rng = np.random.default_rng(0)
    normal, adversarial = rng.normal(size=(4000, 1)), rng.normal(1.5, 1, size=(4000, 1))
    found = detection.detect(normal, {"pgd": adversarial}, seen="pgd").auc("pgd")
    best = statistics.NormalDist().cdf(1.5 / 2**0.5)
    assert found.mean == pytest.approx(best, abs=0.015)
    assert found.low < best < found.high and found.images == 2000


def test_no_difference_is_not_detected():
    """With as many features as images: a detector that had met its test images would do far better."""
    rng = np.random.default_rng(1)
    normal, adversarial = rng.normal(size=(2, 200, 100))
    found = detection.detect(normal, {"pgd": adversarial}, seen="pgd").auc("pgd")
    assert found.low < 0.5 < found.high


def test_twins_stay_together_and_the_split_is_by_the_seed():
    """The scores are those of a regression on the images that are not held out, and of no others."""
    normal, twins = features(0), {"pgd": features(1), "other": features(2)}
    found = detection.detect(normal, twins, seen="pgd", share=0.3, seed=5)
    assert len(found.tested) == 140 and len(set(found.tested)) == 140
    train = np.setdiff1d(np.arange(200), found.tested)
    rows = np.concatenate([normal[train], twins["pgd"][train]])
    mean, deviation = rows.mean(0), rows.std(0)
    regression = LogisticRegression().fit((rows - mean) / deviation, np.repeat([0, 1], len(train)))
    for scores, each in [(found.normal, normal), *((found.adversarial[name], twins[name]) for name in twins)]:
        assert scores == pytest.approx(regression.decision_function((each[found.tested] - mean) / deviation))
    again = detection.detect(normal, twins, seen="pgd", share=0.3, seed=5)
    other = detection.detect(normal, twins, seen="pgd", share=0.3, seed=6)
    assert np.array_equal(found.tested, again.tested) and not np.array_equal(found.tested, other.tested)
    assert np.array_equal(found.normal, again.normal)


def test_held_out_images_do_not_reach_the_detector():
    normal, twins = features(0), {"pgd": features(1), "unseen": features(2)}
    found = detection.detect(normal, twins, seen="pgd")
    twins["unseen"][:] = 0
    twins["pgd"][found.tested[0]] = 1e6
    altered = detection.detect(normal, twins, seen="pgd")
    assert np.array_equal(found.normal, altered.normal)
    assert np.array_equal(found.adversarial["pgd"][1:], altered.adversarial["pgd"][1:])


def test_seen_and_unseen_attacks_have_their_own_areas():
    normal, twins = features(0), {"weak": features(0.5), "strong": features(3), "none": features(0, seed=2)}
    found = detection.detect(normal, twins, seen="weak")
    areas = {attack: found.auc(attack) for attack in twins}
    assert areas["none"].mean < areas["weak"].mean < areas["strong"].mean
    for attack, area in areas.items():
        assert area.mean == detection.area_under_roc(found.normal, found.adversarial[attack])
        assert area.low < area.mean < area.high
        flagged_normal, flagged_adversarial = found.roc(attack)
        assert flagged_normal[0] == flagged_adversarial[0] == 0 and flagged_normal[-1] == flagged_adversarial[-1] == 1
        assert np.trapezoid(flagged_adversarial, flagged_normal) == pytest.approx(area.mean)


def test_intervals_are_over_pairs_of_twins():
    """A level that twins share adds to the spread of images, not to that of their differences."""
    level = np.random.default_rng(3).normal(size=300)
    twin = level + 1e-3
    paired = detection.Detection(np.arange(300), level, {"pgd": twin}).auc("pgd")
    apart = detection.Detection(np.arange(300), level, {"pgd": np.random.default_rng(4).permutation(twin)}).auc("pgd")
    assert paired.mean == pytest.approx(apart.mean) and paired.high - paired.low < 0.1 * (apart.high - apart.low)


GOOD = features(0, images=6)


@pytest.mark.parametrize(
    ("normal", "adversarial", "options", "message"),
    [
        (GOOD, {"pgd": GOOD, "fgsm": GOOD}, {"seen": "cw"}, "the attack 'cw' to be seen is not given: .* pgd, fgsm"),
        (GOOD, {"pgd": GOOD[:5]}, {"seen": "pgd"}, r"the same for all; got \(5, 3\) of 'pgd' .* and \(6, 3\) of 'norm"),
        (
            GOOD[:, 0],
            {"pgd": GOOD[:, 0]},
            {"seen": "pgd"},
            r"must be finite and \(images, F\).*; got \(6,\) of 'normal'",
        ),
        (GOOD, {"pgd": GOOD * np.nan}, {"seen": "pgd"}, r"got \(6, 3\) of 'pgd' with 18 infinite or not a number"),
        (
            GOOD,
            {"pgd": GOOD},
            {"seen": "pgd", "share": 0.1},
            "tested on at least 2 others; got 1 and 5 of 6 images at a",
        ),
        (GOOD, {"pgd": GOOD}, {"seen": "pgd", "share": 0.9}, "got 5 and 1 of 6 images at a share of 0.9"),
    ],
)
def test_detectors_one_clear_error(normal, adversarial, options, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        detection.detect(normal, adversarial, **options)


@pytest.mark.parametrize(
    ("normal", "adversarial"), [([np.nan, 1.0], [2.0]), ([1.0], [np.nan, 2.0]), ([], [1.0]), ([1.0], [])]
)
def test_an_area_of_no_scores_is_refused(normal, adversarial):
    with pytest.raises(ValueError, match="takes scores, each a number; got"):
        detection.area_under_roc(normal, adversarial)
