"""Estimators: unbiased, with honest errors, at the cost they state; against exact values by enumeration."""

import itertools

import pytest
import torch
from scipy.stats import chi2

from lib import designs, estimators, game, interactions, players, sampling
from tests.helpers import close


def consistent(sampled, truth, *, at_most=4.0):
    """Whether the means of independent estimates (repeats, ...) lie within sampling error of the exact values (...)."""
    z = (sampled.mean(0) - truth) / (sampled.std(0) / len(sampled) ** 0.5)
    assert z.abs().max() < at_most, z
    assert chi2.sf(z.square().sum().item(), z.numel()) > 1e-3, z


def table_game(values):
    """The game of a table (2^n), the same for every image."""
    n = values.shape[-1].bit_length() - 1
    return lambda coalitions: values[(coalitions * 2 ** torch.arange(n)).sum(-1)]


def smooth_game(n, *, seed=0):
    """A game of many players with interactions of every order, cheap to evaluate on any coalition."""
    generator = torch.Generator().manual_seed(seed)
    linear, other = torch.randn(2, n, generator=generator, dtype=torch.float64)
    quadratic = torch.randn(n, n, generator=generator, dtype=torch.float64)

    def v(coalitions):
        kept = coalitions.double()
        return ((kept @ quadratic) * kept).sum(-1) / n + torch.tanh(kept @ linear / 3) * torch.tanh(kept @ other / 3)

    return v


def generators(seed, images):
    return [sampling.generator(seed, image) for image in range(images)]


class Recorder:
    """A game that remembers the coalitions that it was asked for, one call an order."""

    def __init__(self, v):
        self.v = v
        self.asked = []

    def __call__(self, coalitions):
        self.asked.append(coalitions.clone())
        return self.v(coalitions)


def test_estimates_are_unbiased(table):
    """4,000 repeats with two contexts each: mean estimates lie within sampling error of the exact values."""
    pairs, repeats = torch.tensor([[0, 1], [5, 2], [3, 4]]), 4000
    estimate = estimators.own_contexts(
        table_game(table),
        n=6,
        pairs=pairs.expand(repeats, 3, 2),
        orders=[0, 1, 2, 3, 4],
        contexts=2,
        generators=generators(1, repeats),
    )
    assert estimate.interaction.shape == estimate.strength.shape == (repeats, 3, 5)
    for sampled, exact in (
        (estimate.interaction, interactions.exact_interactions(table)),
        (estimate.strength, interactions.exact_strengths(table)),
    ):
        truth = exact[:, pairs[:, 0], pairs[:, 1]].T
        one_context = [0, 4]
        close(sampled.mean(0)[:, one_context], truth[:, one_context], 1e-9)
        consistent(sampled[..., 1:4], truth[:, 1:4])


def test_many_contexts_converge_to_the_exact_values(table):
    every = torch.combinations(torch.arange(6))
    estimate = estimators.own_contexts(
        table_game(table), n=6, pairs=every[None], orders=[4, 2, 0], contexts=20_000, generators=generators(2, 1)
    )
    for sampled, exact in (
        (estimate.interaction, interactions.exact_interactions(table)),
        (estimate.strength, interactions.exact_strengths(table)),
    ):
        truth = exact[[4, 2, 0]][:, every[:, 0], every[:, 1]].T
        torch.testing.assert_close(sampled[0], truth, rtol=0, atol=0.06)
        close(sampled[0][:, [0, 2]], truth[:, [0, 2]], 1e-9)
    upper = interactions.exact_interactions(table)[[4, 2, 0]][:, every[:, 0], every[:, 1]]
    torch.testing.assert_close(estimate.interaction[0].mean(0), upper.mean(1), rtol=0, atol=0.02)
    exact = interactions.exact_disentanglement(table)[[4, 2, 0]]
    torch.testing.assert_close(estimate.disentanglement(estimate="upper")[0], exact, rtol=0, atol=0.03)


def test_the_estimate_is_the_mean_of_delta_v_over_its_own_contexts():
    """Rebuilt in plain Python from the coalitions that were asked for."""
    v, pairs = smooth_game(7), torch.tensor([[[0, 1], [6, 3]], [[2, 5], [1, 4]]])
    recorder = Recorder(v)
    estimate = estimators.own_contexts(
        recorder, n=7, pairs=pairs, orders=[1, 4], contexts=3, generators=generators(3, 2)
    )
    for m, (order, asked) in enumerate(zip([1, 4], recorder.asked, strict=True)):
        corners = asked.view(2, 4, 2, 3, 7)
        for image, p in itertools.product(range(2), range(2)):
            i, j = pairs[image, p].tolist()
            deltas = []
            for k in range(3):
                s = frozenset(corners[image, 3, p, k].nonzero().flatten().tolist())
                assert len(s) == order and not s & {i, j}
                sets = [frozenset(c.nonzero().flatten().tolist()) for c in corners[image, :, p, k]]
                assert sets == [s | {i, j}, s | {i}, s | {j}, s]
                v_ij, v_i, v_j, v_s = v(corners[image, :, p, k]).tolist()
                deltas.append(v_ij - v_i - v_j + v_s)
            assert estimate.interaction[image, p, m].item() == pytest.approx(sum(deltas) / 3, abs=1e-12)
            strength = sum(map(abs, deltas)) / 3
            assert estimate.strength[image, p, m].item() == pytest.approx(strength, abs=1e-12)


def test_delta_v_in_given_contexts():
    """Of two images with a pair each: Δv of any contexts, which need not be of one size."""
    v, pairs = smooth_game(6), torch.tensor([[[0, 1]], [[5, 2]]])
    context = torch.rand(2, 1, 7, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    context.scatter_(3, pairs[:, :, None].expand(2, 1, 7, 2), False)
    sampled = estimators.contextual_delta_v(v, pairs, context)
    assert sampled.shape == (2, 1, 7)
    values = v(interactions.all_coalitions(6))
    for image, k in itertools.product(range(2), range(7)):
        s = int((context[image, 0, k] * 2 ** torch.arange(6)).sum())
        i, j = (2**player for player in pairs[image, 0].tolist())
        expected = (values[s + i + j] - values[s + i] - values[s + j] + values[s]).item()
        assert sampled[image, 0, k].item() == pytest.approx(expected, abs=1e-12)


def test_contexts_of_lower_orders_are_subsets_of_those_of_higher_orders():
    recorder = Recorder(smooth_game(9))
    pairs = torch.tensor([[[0, 8], [3, 4]]])
    orders = [0, 2, 3, 7]
    estimators.own_contexts(recorder, n=9, pairs=pairs, orders=orders, contexts=5, generators=generators(4, 1))
    contexts = [asked.view(4, 2, 5, 9)[3] for asked in recorder.asked]
    for lower, higher in itertools.pairwise(contexts):
        assert not (lower & ~higher).any()
    assert [context.sum(-1).unique().tolist() for context in contexts] == [[order] for order in orders]


def test_disentanglement_by_hand():
    interaction = torch.tensor([[[1.0, 0.0], [-3.0, 2.0], [5.0, 0.0]]])
    strength = torch.tensor([[[2.0, 0.0], [3.0, 4.0], [5.0, 0.0]]])
    agreement = torch.tensor([[[1.0, 0.0], [3.0, -2.0], [-5.0, 0.0]]])
    estimate = estimators.PairEstimate(interaction, strength, agreement, 48)
    close(estimate.disentanglement(estimate="upper"), torch.tensor([[(0.5 + 1 + 1) / 3, 0.5]]), 1e-6)
    close(estimate.disentanglement(estimate="lower"), torch.tensor([[(0.5 + 1 - 1) / 3, -0.5]]), 1e-6)
    close(estimate.disentanglement(), torch.tensor([[(0.5 + 1 + 0) / 3, 0.0]]), 1e-6)
    by_hand = torch.tensor([[0.5 / 3**0.5, torch.nan]])  # of 1/2, 1 and 0; a single pair has no error
    torch.testing.assert_close(estimate.disentanglement_error(), by_hand, equal_nan=True)
    with pytest.raises(ValueError, match="unknown estimate 'best': choose one of upper, lower, midpoint"):
        estimate.disentanglement(estimate="best")


# Sampled interactions of a network.


def three_pairs(seed, count):
    """Three pairs an image of 4 × 4 players (I, 3, 2), each from a generator of its own."""
    draws = [sampling.generator(seed, image, 1) for image in range(count)]
    grid = players.grid(8, 8, side=4)
    return torch.stack([sampling.pairs(grid, 3, sampling="neighbours", generator=draw) for draw in draws])


def measure(model, images, labels, *, seed=0, batch_size=256, orders=(0, 3, 14)):
    """Three pairs and two contexts an image of 4 × 4 players; images (I, …) or variants (V, I, …)."""
    grid = players.grid(8, 8, side=4)
    count = images.shape[-4]
    pairs = three_pairs(seed, count)
    masking = game.MaskingGame(model, grid, images, labels, baseline=torch.full((1, 8, 8), 0.5), batch_size=batch_size)
    estimate = estimators.own_contexts(
        masking, n=16, pairs=pairs, orders=list(orders), contexts=2, generators=generators(seed, count)
    )
    return estimate, masking


def test_passes_are_counted_exactly(network, pictures):
    model, seen = network(), []
    handle = model.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    (images, labels), (other, _) = pictures(2), pictures(2, seed=1)
    try:
        estimate, masking = measure(model, torch.stack([images, other, images]), labels)
    finally:
        handle.remove()
    assert estimate.interaction.shape == (3, 2, 3, 3)
    assert estimate.passes == masking.passes == 4 * 3 * 2 * 3 * 2 * 3
    assert sum(seen) == masking.passes + 1, "all but the one that asks for the number of classes"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_same_seed_gives_the_same_numbers_at_any_batch_size(dtype, tolerance, network, pictures):
    model, (images, labels) = network(dtype=dtype), pictures(2, dtype=dtype)
    one, seven, many = (measure(model, images, labels, batch_size=size)[0] for size in (1, 7, 512))
    for other in (seven, many):
        torch.testing.assert_close(other.interaction, one.interaction, rtol=0, atol=tolerance)
        torch.testing.assert_close(other.strength, one.strength, rtol=0, atol=tolerance)
    again, _ = measure(model, images, labels, batch_size=7)
    assert torch.equal(again.interaction, seven.interaction)


def test_different_seeds_give_different_numbers(network, pictures):
    model, (images, labels) = network(), pictures(2)
    first, second = (measure(model, images, labels, seed=seed)[0] for seed in (0, 1))
    assert not torch.allclose(first.interaction[..., 1], second.interaction[..., 1])


def test_the_global_random_state_does_not_matter(network, pictures):
    model, (images, labels) = network(), pictures(1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, _ = measure(model, images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(measure(model, images, labels)[0].interaction, first.interaction)


def test_identical_variants_do_not_differ_at_all(network, pictures):
    """What ε = 0 must give: contexts are common, so the difference is identically 0."""
    model, (images, labels) = network(), pictures(2)
    estimate, _ = measure(model, torch.stack([images, images.clone()]), labels)
    assert torch.equal(estimate.interaction[0], estimate.interaction[1])
    assert estimate.interaction.any()


@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 3, 4, 2)])
def test_a_change_is_between_two_variants_at_least(shape):
    """And not between the first image and the others."""
    means = estimators.OrderMeans([0, 1], torch.zeros(shape), 0)
    with pytest.raises(
        ValueError, match=r"a change is between variants: measure two at least.*got replicates of shape"
    ):
        means.change()


def test_variants_are_measured_with_common_contexts(network, pictures):
    model = network(dtype=torch.float64)
    (images, labels), (other, _) = pictures(2, dtype=torch.float64), pictures(2, seed=1, dtype=torch.float64)
    both, _ = measure(model, torch.stack([images, other]), labels)
    alone = torch.stack([measure(model, x, labels)[0].interaction for x in (images, other)])
    torch.testing.assert_close(both.interaction, alone, rtol=0, atol=1e-12)


def test_an_image_is_measured_alike_in_any_company(network, pictures):
    """Its pairs and contexts come from its own generator, so the other images and their order do not matter."""
    model, (images, labels) = network(dtype=torch.float64), pictures(3, dtype=torch.float64)
    together, _ = measure(model, images, labels)
    first, _ = measure(model, images[:1], labels[:1])
    torch.testing.assert_close(first.interaction, together.interaction[:1], rtol=0, atol=1e-12)
    order = [2, 0, 1]
    estimate = estimators.own_contexts(
        game.MaskingGame(
            model,
            players.grid(8, 8, side=4),
            images[order],
            labels[order],
            baseline=torch.full((1, 8, 8), 0.5),
        ),
        n=16,
        pairs=three_pairs(0, 3)[order],
        orders=[0, 3, 14],
        contexts=2,
        generators=[sampling.generator(0, image) for image in order],
    )
    torch.testing.assert_close(estimate.interaction, together.interaction[order], rtol=0, atol=1e-12)


def test_sampled_and_exact_interactions_of_a_network_agree(network, pictures):
    """2 × 2 players: orders 0 and 2 have one context, so sampling is exact; order 1 has two."""
    model, (images, labels) = network(dtype=torch.float64, sharpness=10), pictures(1, dtype=torch.float64)
    grid = players.grid(8, 8, side=2)
    masking = game.MaskingGame(model, grid, images, labels, baseline=torch.zeros(1, 8, 8))
    exact = interactions.exact_interactions(masking(interactions.all_coalitions(4)[None])[0])
    every = torch.combinations(torch.arange(4))
    estimate = estimators.own_contexts(
        masking, n=4, pairs=every[None], orders=[0, 1, 2], contexts=64, generators=generators(0, 1)
    )
    truth = exact[:, every[:, 0], every[:, 1]].T
    close(estimate.interaction[0][:, [0, 2]], truth[:, [0, 2]], 1e-12)
    torch.testing.assert_close(estimate.interaction[0][:, 1], truth[:, 1], rtol=0, atol=0.3 * truth.abs().max().item())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": [0, 5]}, r"6 players has an order that is an integer in 0\.\.4; got 5"),
        ({"orders": [-1]}, r"6 players has an order that is an integer in 0\.\.4; got -1"),
        ({"orders": torch.tensor([2])}, r"an order that is an integer in 0\.\.4; got tensor\(2\)"),
        ({"orders": []}, "at least one order is needed; got none"),
        ({"pairs": torch.tensor([[[0, 1, 2]]])}, r"must be \(images, P, 2\), at least one an image; got \(1, 1, 3\)"),
        ({"pairs": torch.zeros(1, 0, 2).long()}, r"at least one an image; got \(1, 0, 2\)"),
        ({"pairs": torch.tensor([[[0, 6]]])}, r"each pair two different players in 0\.\.5"),
        ({"pairs": torch.tensor([[[2, 2]]])}, r"each pair two different players in 0\.\.5"),
        ({"pairs": torch.tensor([[[-1, 0]]])}, r"each pair two different players in 0\.\.5"),
        ({"contexts": 0}, r"contexts must be at least 1; got 0"),
        ({"generators": []}, r"one generator an image is needed; got 0 for 1 images"),
    ],
)
def test_one_clear_error(changes, message, table, empty_folder):
    recorder = Recorder(table_game(table))
    arguments = {
        "n": 6,
        "pairs": torch.tensor([[[0, 1]]]),
        "orders": [2],
        "contexts": 2,
        "generators": generators(0, 1),
    }
    with pytest.raises(ValueError, match=message):
        estimators.own_contexts(recorder, **{**arguments, **changes})
    assert not recorder.asked


# Pairs in shared contexts.


def test_shared_contexts_are_unbiased_and_cost_what_they_say():
    """Three pairs of a game of 7, two sharing a player; orders between the ends have binomial weights."""
    n, repeats = 7, 4000
    table = torch.randn(2**n, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    pairs = torch.tensor([[0, 1], [1, 6], [3, 4]])
    orders = [0, 1, 3, 5]
    estimate = estimators.shared_contexts(
        table_game(table),
        n=n,
        pairs=pairs.expand(repeats, 3, 2),
        orders=orders,
        contexts=2,
        generators=generators(8, repeats),
    )
    exact = interactions.exact_interactions(table)[:, pairs[:, 0], pairs[:, 1]]
    weights = torch.stack([designs.order_weights("signed_groups", n, order) for order in orders])
    truth = (weights @ exact).T
    close(estimate.interaction[0][:, [0, 3]], truth[:, [0, 3]], 1e-9)
    for name in ("lower", "midpoint", "upper"):  # the one context of orders 0 and n − 2 leaves nothing to sample
        close(estimate.disentanglement(estimate=name)[:, [0, 3]], torch.ones(repeats, 2, dtype=torch.float64), 1e-9)
    consistent(estimate.interaction[..., 1:3], truth[:, 1:3])
    assert estimate.passes == repeats * (1 + 5 + 3) * (1 + 2 + 2 + 1)


def test_shared_contexts_are_four_evaluations_a_pair(network, pictures):
    """Each Δv of a network is that of its own four corners, images with different numbers of players included."""
    model, (images, labels) = network(dtype=torch.float64), pictures(2, dtype=torch.float64)
    masking = game.MaskingGame(model, players.grid(8, 8, side=4), images, labels, baseline=torch.zeros(1, 8, 8))
    pairs = torch.tensor([[[0, 1], [1, 2]], [[3, 9], [5, 12]]])
    contexts = (
        torch.rand(2, 16, generator=sampling.generator(0, 0)),
        torch.rand(2, 16, generator=sampling.generator(0, 1)),
    )
    estimate = estimators.shared_contexts(
        masking, n=16, pairs=pairs, orders=[7], contexts=2, generators=[sampling.generator(0, k) for k in (0, 1)]
    )
    context = torch.stack(contexts)[:, None].repeat(1, 2, 1, 1) < 7 / 14
    for k in (0, 1):
        context.scatter_(3, pairs[:, :, None, [k]].expand(2, 2, 2, 1), False)
    close(estimate.interaction[..., 0], estimators.contextual_delta_v(masking, pairs, context).mean(-1), 1e-12)


def test_of_pure_noise_the_lower_estimate_leaves_nothing():
    """The upper one leaves 0.8/√contexts of 0.8, the spread of |Δv|; a steady Δv gives 1 by both."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 1, 16, generator=generator, dtype=torch.float64)
    summary = estimators._summary([noise, torch.ones_like(noise)], passes=0)
    upper, lower = summary.disentanglement(estimate="upper"), summary.disentanglement(estimate="lower")
    assert upper[:, 0].mean().item() == pytest.approx(1 / 16**0.5, rel=0.05)
    consistent(lower[:, :1], torch.zeros(1, dtype=torch.float64))
    close(upper[:, 1], torch.ones(4000, dtype=torch.float64))
    close(lower[:, 1], torch.ones(4000, dtype=torch.float64))


def test_upper_and_lower_disentanglement_enclose_the_exact_one_and_the_midpoint_is_near_it():
    table = torch.randn(2**8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    every = torch.combinations(torch.arange(8))
    sampled = estimators.own_contexts(
        table_game(table),
        n=8,
        pairs=every.expand(200, -1, 2),
        orders=[2, 3, 4],
        contexts=16,
        generators=generators(9, 200),
    )
    exact = interactions.exact_disentanglement(table)[[2, 3, 4]]
    upper, lower, midpoint = (
        sampled.disentanglement(estimate=estimate).mean(0) for estimate in ("upper", "lower", "midpoint")
    )
    assert (lower < exact - 0.05).all() and (exact + 0.05 < upper).all()
    assert ((midpoint - exact).abs() < 0.25 * (upper - exact)).all()


def test_error_of_disentanglement_is_that_of_the_draw_of_pairs_with_contexts_of_their_own():
    table = torch.randn(2**8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    every, draw = torch.combinations(torch.arange(8)), torch.Generator().manual_seed(4)
    drawn = every[torch.randint(len(every), (1000, 6), generator=draw)]
    sampled = estimators.own_contexts(
        table_game(table), n=8, pairs=drawn, orders=[2, 4], contexts=6, generators=generators(10, 1000)
    )
    expected = sampled.disentanglement().std(0)
    close(sampled.disentanglement_error().square().mean(0).sqrt() / expected, torch.ones_like(expected), 0.1)


# Means over the pairs.

NINE = players.grid(9, 9, side=3)
"""Nine players, 20 neighbour pairs, 36 pairs in all."""
TABLE = torch.randn(2**9, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def exact_mean(name, order, *, pairs, group):
    """Σ_m w_m I^(m) of the game ``TABLE`` by enumeration, averaged over the pairs."""
    exact = interactions.exact_interactions(TABLE)[:, pairs[:, 0], pairs[:, 1]].mean(-1)
    return designs.order_weights(name, 9, order, group=group) @ exact


CASES = [
    ("four_point", "neighbours", None, [0, 2, 5, 7]),
    ("four_point", "uniform", None, [0, 4, 7]),
    ("signed_groups", "neighbours", 1, [1, 4, 6]),
    ("signed_groups", "neighbours", 2, [1, 2, 3, 4, 6]),
    ("curvature", "uniform", 1, [0, 3, 7]),
    ("curvature", "uniform", 2, [1, 4, 6]),
    ("curvature", "uniform", 4, [3, 4]),
    ("curvature", "uniform", None, [0, 2, 3, 6, 7]),
]


@pytest.mark.parametrize(("name", "how", "group", "orders"), CASES)
def test_designs_are_unbiased(name, how, group, orders):
    """20,000 replicates of each design against the exact weighted mean over the pairs: a z-test."""
    design = designs.design(NINE, sampling=how, name=name, group=group)
    estimate = estimators.order_means(table_game(TABLE), design, orders=orders, replicates=20_000, seeds=[(1, 2)])
    pairs = NINE.neighbours if how == "neighbours" else torch.combinations(torch.arange(9))
    truth = torch.stack([exact_mean(name, order, pairs=pairs, group=group) for order in orders])
    consistent(estimate.replicates[0], truth)
    assert estimate.passes == 4 * 20_000 * len(orders)


@pytest.mark.parametrize(("name", "how", "group", "orders"), CASES)
def test_95_percent_intervals_hold_the_truth_in_95_percent_of_repeats(name, how, group, orders):
    design = designs.design(NINE, sampling=how, name=name, group=group)
    repeats, order = 4000, orders[len(orders) // 2]
    estimate = estimators.order_means(
        table_game(TABLE), design, orders=[order], replicates=100, seeds=[(3, repeat) for repeat in range(repeats)]
    )
    pairs = NINE.neighbours if how == "neighbours" else torch.combinations(torch.arange(9))
    truth = exact_mean(name, order, pairs=pairs, group=group)
    inside = (estimate.mean()[:, 0] - truth).abs() < 1.96 * estimate.standard_error()[:, 0]
    assert 0.93 < inside.double().mean() < 0.97


@pytest.mark.parametrize(("group", "biased"), [(1, False), (2, False), (3, True)])
def test_what_is_between_three_pairs_biases_groups_of_more_than_two(group, biased):
    """A game of the parity of six players, three disjoint neighbour pairs: no interaction at p = 1/2, on the mean."""
    six = torch.tensor([0, 1, 3, 4, 6, 7])
    game_of_three = lambda coalitions: (1 - 2 * (coalitions[..., six].sum(-1) % 2)).double()  # noqa: E731
    line = players.Players(9, torch.arange(9)[None], six.view(3, 2))
    exact = interactions.exact_interactions(game_of_three(interactions.all_coalitions(9)))
    truth = designs.order_weights("signed_groups", 9, 3) @ exact[:, six.view(3, 2)[:, 0], six.view(3, 2)[:, 1]].mean(-1)
    found = estimators.order_means(
        game_of_three, designs.signed_groups(line, group=group), orders=[3], replicates=20_000, seeds=[(8, 0)]
    ).replicates[0, :, 0]
    z = (found.mean() - truth) / (found.std() / len(found) ** 0.5)
    assert (z.abs() > 6) == biased, z


def test_an_order_out_of_reach_is_refused_before_any_other_is_played():
    design = designs.signed_groups(players.grid(4, 4, side=4), group=2)
    with pytest.raises(ValueError, match=r"reach orders in 1\.\.13; got 14"):
        estimators.order_means(pytest.fail, design, orders=[3, 14], replicates=9, seeds=[(0, 0)])


def test_wanted_errors_are_reached_by_as_many_replicates_as_they_take():
    design = designs.design(NINE, sampling="neighbours", name="four_point")
    wanted, seeds = [0.2, 0.05, 10.0, 1e-200], [(4, image) for image in range(20)]
    estimate = estimators.order_means(
        table_game(TABLE), design, orders=[3, 3, 3, 3], replicates=3000, seeds=seeds, errors=wanted
    )
    reached = estimate.standard_error().square().mean(0).sqrt()
    counts = estimate.replicates.isfinite().sum(1)
    assert (counts == counts[0]).all()
    assert reached[:2].tolist() == pytest.approx(wanted[:2], rel=0.15)
    assert counts[0, 2:].tolist() == [estimators.PILOT, 3000]
    assert estimate.passes == 4 * 20 * (4 * estimators.PILOT + int(counts[0].sum()))
    assert estimate.replicates.shape == (20, 3000, 4)
    spread = [estimate.replicates[0, : counts[0, k], k] for k in range(4)]
    close(estimate.mean()[0], torch.stack([values.mean() for values in spread]))
    close(estimate.standard_error()[0], torch.stack([values.std() / len(values) ** 0.5 for values in spread]))


def test_every_image_order_and_stage_has_draws_of_its_own():
    draw, seeds = designs.design(NINE, sampling="neighbours", name="four_point"), []

    def spied(order, count, generator):
        seeds.append(generator.initial_seed())
        return draw(order, count, generator)

    options = {"orders": [2, 3], "replicates": 20, "seeds": [(5, 0), (5, 1), (6, 0)], "errors": [1.0, 1.0]}
    estimators.order_means(table_game(TABLE), spied, **options)
    played = seeds[-2 * 2 * 3 :]  # before them, whether the orders are in reach is asked
    assert len(set(played)) == len(played)


def test_wanted_errors_hold_for_every_variant_and_change():
    """Of v and 3v the second variant is the noisiest, of v and −v their difference, 2v."""
    v = table_game(TABLE)
    design = designs.design(NINE, sampling="neighbours", name="four_point")
    arguments = {"orders": [3], "replicates": 100_000, "seeds": [(5, 0), (5, 1)], "errors": [0.05]}
    both = estimators.order_means(lambda c: torch.stack([v(c), 3 * v(c)]), design, **arguments)
    alone = estimators.order_means(v, design, **arguments)
    assert both.replicates.shape[-2] == pytest.approx(9 * alone.replicates.shape[-2], rel=1e-3)
    opposite = estimators.order_means(lambda c: torch.stack([v(c), -v(c)]), design, **arguments)
    assert opposite.replicates.shape[-2] == pytest.approx(4 * alone.replicates.shape[-2], rel=1e-3)
    close(both.change().mean(), both.mean()[:1] - both.mean()[1:])


@pytest.mark.parametrize(("name", "how", "group", "orders"), CASES)
def test_additive_games_have_no_interaction_in_any_design(name, how, group, orders):
    worth = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    design = designs.design(NINE, sampling=how, name=name, group=group)
    estimate = estimators.order_means(
        lambda coalitions: coalitions.double() @ worth, design, orders=orders, replicates=50, seeds=[(6, 0)]
    )
    close(estimate.replicates, torch.zeros_like(estimate.replicates))


def test_means_of_a_network_do_not_depend_on_batch_size_or_company(network, pictures):
    model, (images, labels) = network(dtype=torch.float64), pictures(3, dtype=torch.float64)
    grid = players.grid(8, 8, side=4)

    def measured(rows, batch_size, replicates=6):
        masking = game.MaskingGame(
            model,
            grid,
            images[rows],
            labels[rows],
            baseline=torch.full((1, 8, 8), 0.5, dtype=torch.float64),
            batch_size=batch_size,
        )
        design = designs.design(grid, sampling="neighbours", name="signed_groups", group=1)
        return estimators.order_means(
            masking, design, orders=[3, 11], replicates=replicates, seeds=[(0, row) for row in rows]
        ), masking

    (one, masking), (seven, _), (many, _) = (measured([0, 1, 2], size) for size in (1, 7, 512))
    assert one.passes == masking.passes == 4 * 6 * 2 * 3
    for other in (seven, many):
        close(other.replicates, one.replicates, 1e-12)
    close(measured([2, 0], None)[0].replicates, one.replicates[[2, 0]], 1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicates": 1}, "at least 2 replicates are needed for an error, a whole number of them; got 1"),
        ({"replicates": 4.5}, r"at least 2 replicates are needed for an error, a whole number of them; got 4\.5"),
        ({"errors": "1"}, "errors are a list, one for each of 1 orders; got '1'"),
        ({"errors": [0.1, 0.1]}, r"one for each of 1 orders; got \[0.1, 0.1\]"),
        ({"errors": 0.1}, r"errors are a list, one for each of 1 orders; got 0\.1"),
        ({"errors": [0.0]}, r"errors must be positive, one for each of 1 orders; got \[0.0\]"),
        ({"errors": [0.1], "replicates": 4}, "wanted errors take 16 replicates at least"),
        ({"orders": [8]}, r"9 players has an order that is an integer in 0\.\.7; got 8"),
        ({"orders": []}, "at least one order is needed; got none"),
        ({"seeds": [0]}, r"seeds have one tuple an image, such as \(seed, row\); got \[0\]"),
        ({"design": []}, "a sequence of designs has one an image; got 0 for 1 images"),
        ({"seeds": 0}, "seeds have one tuple an image, .*; got 0"),
        ({"seeds": []}, r"seeds have one tuple an image, .*; got \[\]"),
    ],
)
def test_order_means_one_clear_error(changes, message, empty_folder):
    recorder = Recorder(table_game(TABLE))
    design = designs.design(NINE, sampling="neighbours", name="four_point")
    with pytest.raises(ValueError, match=message):
        estimators.order_means(
            recorder, **{"design": design, "orders": [2], "replicates": 4, "seeds": [(0, 0)], **changes}
        )
    assert not recorder.asked


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda values: values.long(), r"a float tensor \(\.\.\., 1, 16\), .*; got \(1, 16\) of torch\.int64"),
        (lambda values: values > 0, r"got \(1, 16\) of torch\.bool"),
        (lambda values: values.numpy(), "got a ndarray"),
        (lambda values: values[0], r"got \(16,\) of torch\.float64"),
        (lambda values: values[:, 1:], r"got \(1, 15\) of torch\.float64"),
        (lambda values: values.where(values > 0, torch.nan), "v is not a finite number in some coalition"),
        (lambda values: values.where(values > 0, -torch.inf), "v is not a finite number in some coalition"),
    ],
)
def test_a_game_that_gives_something_else_is_refused(made, message):
    """By each estimator that asks it: contrasts of groups, of pairs, and shared contexts."""
    own = table_game(TABLE)
    design = designs.design(NINE, sampling="neighbours", name="four_point")
    pairs = torch.tensor([[[0, 1], [2, 3]]])
    with pytest.raises(ValueError, match=message):
        estimators.order_means(lambda c: made(own(c)), design, orders=[2], replicates=4, seeds=[(0, 0)])
    kind = "v is not a finite number" if "finite" in message else "a game gives a float tensor"
    for estimator in (estimators.own_contexts, estimators.shared_contexts):
        options = {"n": 9, "orders": [2], "contexts": 3, "generators": generators(0, 1)}
        with pytest.raises(ValueError, match=kind):
            estimator(lambda c: made(own(c)), pairs=pairs, **options)


def test_two_players_have_one_context():
    table = torch.randn(4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    estimate = estimators.shared_contexts(
        table_game(table), n=2, pairs=torch.tensor([[[0, 1]]]), orders=[0], contexts=3, generators=generators(0, 1)
    )
    assert estimate.interaction.item() == pytest.approx((table[3] - table[1] - table[2] + table[0]).item())
    assert designs.order_weights("signed_groups", 2, 0).tolist() == [1.0]
