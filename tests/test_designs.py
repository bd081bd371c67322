"""Designs: the coalitions they play, what surrounds a pair in them, the orders they average, what they refuse."""

import pytest
import torch
from scipy import stats

from lib import designs, interactions, players
from lib.sampling import generator

GRID = players.grid(16, 16, side=4)


def differing(corners):
    """The players of A and of B in corners (count, 4, n): those that tell S∪A∪B from S∪B, and from S∪A."""
    return corners[:, 0] ^ corners[:, 2], corners[:, 0] ^ corners[:, 1]


@pytest.mark.parametrize("how", ["neighbours", "uniform"])
def test_four_point_plays_one_pair_in_a_context_of_its_order(how):
    corners, scale = designs.four_point(GRID, sampling=how)(5, 3000, generator(0))
    assert corners.shape == (3000, 4, 16) and corners.dtype == torch.bool and (scale == 1).all()
    assert corners.sum(-1).unique(dim=0).tolist() == [[7, 6, 6, 5]]
    a, b = differing(corners)
    assert (a.sum(1) == 1).all() and (b.sum(1) == 1).all() and not (corners[:, 3] & (a | b)).any()
    played = {tuple(sorted(pair)) for pair in zip(a.int().argmax(1).tolist(), b.int().argmax(1).tolist(), strict=True)}
    wanted = GRID.neighbours if how == "neighbours" else torch.combinations(torch.arange(16))
    assert played == set(map(tuple, wanted.tolist()))


@pytest.mark.parametrize("order", [1, 3, 5, 7, 9, 12, 13])
def test_every_pair_of_signed_groups_sees_independent_players(order):
    """Eight disjoint pairs: where the first takes part, all others are kept by p, any two of them independently.

    Over the four coalitions together: in one of them the players of another pair that takes part are alike, or not.
    """
    disjoint = players.Players(16, torch.arange(16)[None], torch.arange(16).view(8, 2))
    corners, _ = designs.signed_groups(disjoint, group=3)(order, 100_000, generator(2))
    a, _ = differing(corners)
    seen = corners[a[:, :2].any(1), :, 2:].double()
    p, count = order / 14, len(seen)
    assert count > 1000
    centred = seen - p
    assert (centred.mean((0, 1)).abs() < 4.5 * (p * (1 - p) / count) ** 0.5).all()
    covariance = torch.einsum("rci,rcj->ij", centred, centred)[~torch.eye(14, dtype=torch.bool)] / (4 * count)
    # a product of two independent centred indicators has the standard deviation p(1 − p)
    assert (covariance.abs() < 5 * p * (1 - p) / count**0.5).all()


@pytest.mark.parametrize("group", [1, 2, 100])
@pytest.mark.parametrize("order", [1, 3, 5, 9, 11, 13])
def test_signed_groups_are_unbiased_where_a_third_difference_is_all_there_is(group, order):
    """v = |S|³/6 has Δv(i,j,S) = |S| + 1, so that I^(m) = m + 1, and nothing between three pairs at once."""
    corners, scale = designs.signed_groups(GRID, group=group)(order, 100_000, generator(7))
    values = corners.sum(-1, dtype=torch.float64) ** 3 / 6
    contrasts = scale * interactions.delta_v(*values.unbind(-1))
    error = contrasts.std().item() / len(contrasts) ** 0.5
    assert error < 0.1
    assert contrasts.mean().item() == pytest.approx(order + 1, abs=4 * error)


@pytest.mark.parametrize("group", [1, 2, 5])
def test_at_most_a_group_of_pairs_takes_part_and_its_mean_number_sets_the_scale(group):
    for order in (2, 7, 12):
        corners, scale = designs.signed_groups(GRID, group=group)(order, 20_000, generator(6))
        a, _ = differing(corners)
        playing = a.sum(1).double()
        assert playing.min() >= 1 and playing.max() <= group
        assert (scale * playing).mean().item() == pytest.approx(1, abs=0.02)
        assert len(scale.unique()) <= len({len(pairs) for pairs in designs.matchings(GRID.neighbours)})


def test_signed_groups_toggle_disjoint_neighbours():
    corners, scale = designs.signed_groups(GRID, group=5)(7, 200, generator(3))
    a, b = differing(corners)
    assert not (a & b).any() and (a.sum(1) == b.sum(1)).all() and (a.sum(1) >= 1).all()
    assert (scale > 0).all()
    neighbours = set(map(tuple, GRID.neighbours.tolist()))
    for first, second in zip(a[:20], b[:20], strict=True):
        ends = {*first.nonzero().flatten().tolist()}, {*second.nonzero().flatten().tolist()}
        touching = [(i, j) for i in ends[0] for j in ends[1] if (min(i, j), max(i, j)) in neighbours]
        assert {i for i, _ in touching} == ends[0] and {j for _, j in touching} == ends[1]


def test_at_half_all_pairs_of_a_class_take_part():
    corners, _ = designs.signed_groups(GRID, group=100)(7, 500, generator(4))
    a, _ = differing(corners)
    sizes = {len(pairs) for pairs in designs.matchings(GRID.neighbours)}
    assert set(a.sum(1).tolist()) == sizes


@pytest.mark.parametrize(("group", "order"), [(1, 0), (3, 6), (5, 4), (8, 7)])
def test_curvature_plays_two_groups_in_a_context(group, order):
    corners, scale = designs.curvature(16, group=group)(order, 500, generator(5))
    start = order - group + 1
    assert corners.sum(-1).unique(dim=0).tolist() == [[start + 2 * group, start + group, start + group, start]]
    a, b = differing(corners)
    assert not (a & b).any() and (scale == 1 / group**2).all()
    assert ((corners[:, 3] ^ corners[:, 0]) == (a | b)).all()


@pytest.mark.parametrize("n", [2, 3, 4, 9, 32, 256])
def test_a_fitted_group_reaches_every_order_as_wide_as_signed_groups_do(n):
    numbers = torch.arange(n - 1, dtype=torch.float64)
    for order in range(n - 1):
        group = designs.fitted_group(n, order)
        corners, _ = designs.curvature(n)(order, 1, generator(6))
        assert corners[0].sum(-1).diff().tolist() == [-group, 0, -group]
        spread = designs.order_weights("curvature", n, order) @ (numbers - order).square()
        p = order / max(n - 2, 1)
        binomial = (n - 2) * p * (1 - p)
        assert spread <= binomial + 1e-9
        at_an_end = group == min(order + 1, n - 1 - order)
        assert at_an_end or ((group + 1) ** 2 - 1) / 6 > binomial


def test_fitted_groups_of_256_players():
    orders = [int(254 * fraction) for fraction in (0, 0.1, 0.5, 0.9, 0.95, 1)]
    assert [designs.fitted_group(256, order) for order in orders] == [1, 11, 19, 11, 8, 1]


@pytest.mark.parametrize("side", [2, 3, 4, 16])
def test_matchings_hold_every_pair_once_and_no_player_twice(side):
    neighbours = players.grid(side, side, side=side).neighbours
    classes = designs.matchings(neighbours)
    assert torch.equal(torch.cat(classes).unique(dim=0), neighbours.unique(dim=0))
    assert sum(map(len, classes)) == len(neighbours)
    assert all(len(pairs.unique()) == 2 * len(pairs) for pairs in classes)
    assert len(classes) <= 8 or side == 3


@pytest.mark.parametrize(
    ("name", "order", "group"),
    [("four_point", 3, 1), ("signed_groups", 3, 1), ("curvature", 3, 1), ("curvature", 5, 4)],
)
def test_order_weights_sum_to_one_around_the_order(name, order, group):
    weights = designs.order_weights(name, 12, order, group=group)
    assert weights.shape == (11,) and weights.sum().item() == pytest.approx(1)
    assert (weights @ torch.arange(11, dtype=torch.float64)).item() == pytest.approx(order)


def test_order_weights_by_hand():
    assert designs.order_weights("four_point", 6, 2).tolist() == [0, 0, 1, 0, 0]
    assert designs.order_weights("curvature", 8, 3, group=2).tolist() == [0, 0, 0.25, 0.5, 0.25, 0, 0]
    expected = [stats.binom.pmf(m, 4, 0.25) for m in range(5)]
    assert designs.order_weights("signed_groups", 6, 1).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("n", [4, 7])
def test_curvature_identities_hold_exactly(n):
    """With V_k the mean of v over k players: I^(m) is its second difference; a band of orders telescopes."""
    values = torch.randn(2**n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    size = interactions.all_coalitions(n).sum(1)
    mean_output = torch.stack([values[size == k].mean() for k in range(n + 1)])
    upper = torch.ones(n, n, dtype=torch.bool).triu(1)
    uniform = interactions.exact_interactions(values)[:, upper].mean(-1)
    gain = mean_output.diff()
    for a in range(n - 1):
        for b in range(a + 1, n):
            band = uniform[a:b].mean()
            torch.testing.assert_close(band, (gain[b] - gain[a]) / (b - a), rtol=1e-12, atol=1e-12)
    for group in range(1, n // 2 + 1):
        for order in range(group - 1, n - group):
            start, strided = order - group + 1, mean_output
            second = (strided[start + 2 * group] - 2 * strided[start + group] + strided[start]) / group**2
            weighted = designs.order_weights("curvature", n, order, group=group) @ uniform
            torch.testing.assert_close(weighted, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: designs.design(GRID, sampling="neighbours", name="stars", group=1),
            "unknown design 'stars': choose one of",
        ),
        (lambda: designs.design(GRID, sampling="all", name="four_point"), "unknown pair sampling 'all'"),
        (lambda: designs.design(GRID, sampling="neighbour", group=12), "unknown pair sampling 'neighbour'"),
        (
            lambda: designs.design(GRID, sampling="uniform", name="four_point", group=5),
            "one pair at a time; got a group of 5",
        ),
        (
            lambda: designs.design(GRID, sampling="neighbours", name="curvature", group=1),
            "use 'signed_groups' or 'four_p",
        ),
        (
            lambda: designs.design(GRID, sampling="uniform", name="signed_groups", group=1),
            "use 'curvature' or 'four_point'",
        ),
        (
            lambda: designs.design(GRID, sampling="uniform", name="curvature", group=0),
            "a group must be at least 1, a whole number; got 0",
        ),
        (
            lambda: designs.design(GRID, sampling="uniform", name="curvature", group=2.5),
            r"a group must be at least 1, a whole number; got 2\.5",
        ),
        (
            lambda: designs.design(GRID, sampling="neighbours", name="signed_groups", group=0),
            "a group must be at least 1, a whole number; got 0",
        ),
        (
            lambda: designs.design(GRID, sampling="neighbours", name="signed_groups", group=2.5),
            r"a group must be at least 1, a whole number; got 2\.5",
        ),
        (
            lambda: designs.curvature(16, group=3)(1, 2, generator(0)),
            r"reaches the orders 2\.\.12; got 1: choose a sma",
        ),
        (lambda: designs.curvature(16, group=2)(3.5, 2, generator(0)), r"an integer in 0\.\.14; got 3\.5"),
        (lambda: designs.curvature(16, group=3)(13, 2, generator(0)), r"reaches the orders 2\.\.12; got 13"),
        (
            lambda: designs.signed_groups(GRID, group=5)(0, 2, generator(0)),
            r"reach orders in 1\.\.13; got 0: leave that order out, or use",
        ),
        (
            lambda: designs.signed_groups(GRID, group=5)(14, 2, generator(0)),
            r"reach orders in 1\.\.13; got 14: leave that order out, or use",
        ),
        (
            lambda: designs.four_point(GRID, sampling="uniform")(15, 2, generator(0)),
            r"has an order that is an integer in 0\.\.14; got 15",
        ),
        (lambda: designs.fitted_group(16, 15), r"has an order that is an integer in 0\.\.14; got 15"),
        (
            lambda: designs.order_weights("curvature", 16, 3, group=5),
            r"reaches the orders 4\.\.10; got 3: choose a smaller",
        ),
        (lambda: designs.order_weights("curvature", 16, 3, group=9), "reaches the orders none; got 3"),
        (
            lambda: designs.order_weights("curvature", 16, 3, group=0),
            "a group must be at least 1, a whole number; got 0",
        ),
        (lambda: designs.order_weights("curvature", 16, 3, group=2.5), r"a whole number; got 2\.5"),
        (lambda: designs.order_weights("stars", 6, 1), "unknown design 'stars'"),
        (lambda: designs.order_weights("four_point", 6, 5), r"has an order that is an integer in 0\.\.4; got 5"),
    ],
)
def test_one_clear_error(call, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        call()
