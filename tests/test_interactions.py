"""Interactions: exact ones against brute force, shapiq, closed forms and the paper's identities; sampled ones."""

import itertools
import math
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from shapiq import ExactComputer

from lib import game, interactions, players, sampling

TOLERANCE = 1e-10


# Brute force in plain Python: a game is a dict from frozenset to float.


def subsets(members, size):
    return [frozenset(s) for s in itertools.combinations(sorted(members), size)]


def as_dict(values):
    """The game of a table of values: v(S) stands at the number whose bit i says that i is in S."""
    n = len(values).bit_length() - 1
    return {frozenset(i for i in range(n) if number >> i & 1): value for number, value in enumerate(values.tolist())}, n


def as_table(v, n):
    """The table of values of a game given as a function of a frozenset."""
    return torch.tensor(
        [v(frozenset(i for i in range(n) if number >> i & 1)) for number in range(2**n)], dtype=torch.float64
    )


def delta(v, i, j, s):
    return v[s | {i, j}] - v[s | {i}] - v[s | {j}] + v[s]


def brute_interaction(v, n, i, j, m, *, absolute=False):
    deltas = [delta(v, i, j, s) for s in subsets(set(range(n)) - {i, j}, m)]
    return sum(abs(d) if absolute else d for d in deltas) / len(deltas)


def brute_shapley(v, n, i, m):
    gains = [v[s | {i}] - v[s] for s in subsets(set(range(n)) - {i}, m)]
    return sum(gains) / len(gains)


@st.composite
def tables(draw, least=2, most=6, count=None):
    """One or ``count`` tables of values of the same n."""
    n = draw(st.integers(least, most))
    shape = (2**n,) if count is None else (count, 2**n)
    seed, scale = draw(st.integers(0, 10_000)), draw(st.sampled_from([1e-3, 1.0, 30.0]))
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected, tolerance=TOLERANCE):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def players_of(values):
    return values.shape[-1].bit_length() - 1


# Exact interactions.


@given(tables())
def test_exact_interactions_and_strengths_are_brute_force(values):
    v, n = as_dict(values)
    interaction, strength = interactions.exact_interactions(values), interactions.exact_strengths(values)
    assert interaction.shape == strength.shape == (n - 1, n, n)
    for m, i, j in itertools.product(range(n - 1), range(n), range(n)):
        expected = brute_interaction(v, n, i, j, m) if i != j else 0.0
        assert interaction[m, i, j].item() == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
        expected = brute_interaction(v, n, i, j, m, absolute=True) if i != j else 0.0
        assert strength[m, i, j].item() == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


@given(tables())
def test_exact_shapley_is_brute_force(values):
    v, n = as_dict(values)
    shapley = interactions.exact_shapley(values)
    assert shapley.shape == (n, n)
    for m, i in itertools.product(range(n), range(n)):
        assert shapley[m, i].item() == pytest.approx(brute_shapley(v, n, i, m), rel=TOLERANCE, abs=TOLERANCE)


@given(tables())
def test_exact_disentanglement_is_the_mean_ratio_of_pairs(values):
    v, n = as_dict(values)
    disentanglement = interactions.exact_disentanglement(values)
    assert disentanglement.shape == (n - 1,)
    for m in range(n - 1):
        ratios = [
            abs(brute_interaction(v, n, i, j, m)) / brute_interaction(v, n, i, j, m, absolute=True)
            for i, j in itertools.combinations(range(n), 2)
        ]
        assert disentanglement[m].item() == pytest.approx(sum(ratios) / len(ratios), rel=1e-9)


@given(tables(count=3))
def test_tables_can_be_batched(values):
    for exact in (
        interactions.exact_interactions,
        interactions.exact_strengths,
        interactions.exact_shapley,
        interactions.exact_disentanglement,
    ):
        close(exact(values), torch.stack([exact(each) for each in values]))


@given(n=st.integers(2, 8))
def test_all_coalitions_stand_in_the_order_of_the_table(n):
    coalitions = interactions.all_coalitions(n)
    assert coalitions.dtype == torch.bool
    assert coalitions.tolist() == [[bool(number >> i & 1) for i in range(n)] for number in range(2**n)]


@pytest.mark.parametrize("n", [3, 5, 8])
def test_exact_interactions_agree_with_shapiq(n):
    """shapiq's Shapley interaction index and, through its Möbius transform, every order of ours."""
    values = torch.randn(2**n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    numbers = 2 ** torch.arange(n).numpy()
    computer = ExactComputer(lambda coalitions: values.numpy()[(coalitions @ numbers).astype(int)], n_players=n)
    index, moebius = computer("SII", order=2), computer("Moebius", order=n)
    ours = interactions.exact_interactions(values)
    mean = interactions.shapley_interaction_index(ours)
    close(mean, ours.sum(0) / (n - 1))
    for i, j in itertools.combinations(range(n), 2):
        assert mean[i, j].item() == pytest.approx(index[(i, j)], abs=TOLERANCE)
        others = sorted(set(range(n)) - {i, j})
        for m in range(n - 1):
            expected = sum(
                moebius[tuple(sorted((i, j, *rest)))] * comb(m, size) / comb(n - 2, size)
                for size in range(m + 1)
                for rest in itertools.combinations(others, size)
            )
            assert ours[m, i, j].item() == pytest.approx(expected, abs=TOLERANCE)


# The paper's properties.


@given(tables(count=2), st.floats(-3, 3), st.floats(-3, 3))
def test_linearity(values, a, b):
    combined = a * values[0] + b * values[1]
    for exact in (interactions.exact_interactions, interactions.exact_shapley):
        close(exact(combined), a * exact(values[0]) + b * exact(values[1]), 1e-9)


@given(tables(least=3), st.floats(-3, 3), st.data())
def test_nullity(values, worth, data):
    """A player who adds the same to every coalition has no interactions, and that as every φ^(m)."""
    v, n = as_dict(values)
    dummy = data.draw(st.integers(0, n - 1))
    constant = as_table(lambda s: v[s - {dummy}] + (worth if dummy in s else 0.0), n)
    interaction, shapley = interactions.exact_interactions(constant), interactions.exact_shapley(constant)
    close(interaction[:, dummy], torch.zeros(n - 1, n, dtype=torch.float64), 1e-9)
    close(interaction[:, :, dummy], torch.zeros(n - 1, n, dtype=torch.float64), 1e-9)
    close(shapley[:, dummy], torch.full((n,), worth, dtype=torch.float64), 1e-9)


@given(tables())
def test_commutativity(values):
    interaction = interactions.exact_interactions(values)
    assert torch.equal(interaction, interaction.mT)
    assert not interaction.diagonal(dim1=-2, dim2=-1).any()


@given(tables(least=3), st.data())
def test_symmetry(values, data):
    """Two players who can be exchanged have the same interactions with all others, and the same φ^(m)."""
    v, n = as_dict(values)
    i, j = data.draw(st.permutations(range(n)))[:2]

    def exchanged(s):
        return frozenset({i: j, j: i}.get(player, player) for player in s)

    symmetric = as_table(lambda s: v[s] + v[exchanged(s)], n)
    interaction, shapley = interactions.exact_interactions(symmetric), interactions.exact_shapley(symmetric)
    others = [k for k in range(n) if k not in (i, j)]
    close(interaction[:, i, others], interaction[:, j, others])
    close(shapley[:, i], shapley[:, j])


@given(tables(), st.data())
def test_renaming_the_players_renames_the_results(values, data):
    v, n = as_dict(values)
    name = data.draw(st.permutations(range(n)))
    renamed = as_table(lambda s: v[frozenset(name.index(player) for player in s)], n)
    interaction, shapley = interactions.exact_interactions(values), interactions.exact_shapley(values)
    close(interactions.exact_interactions(renamed)[:, name][:, :, name], interaction)
    close(interactions.exact_shapley(renamed)[:, name], shapley)


@given(tables())
def test_efficiency(values):
    """v(N) = v(∅) + Σ_i φ^(0)(i) + Σ_{i≠j} Σ_m J_ij^(m), over ordered pairs; and v(N) − v(∅) = mean_m-sum of φ^(m)."""
    n = players_of(values)
    shapley = interactions.exact_shapley(values)
    effects = interactions.exact_effects(interactions.exact_interactions(values))
    close(values[0] + shapley[0].sum() + effects.sum(), values[-1])
    close(shapley.sum() / n, values[-1] - values[0])


@given(tables(count=2))
def test_decomposition_of_what_an_attack_changes(values):
    """Eq. 3: Δv(N) = Δv(∅) + Σ_i Δφ^(0)(i) + Σ_{i≠j} Σ_m ΔJ_ij^(m), Δ = normal − adversarial."""
    shapley = interactions.exact_shapley(values)
    effects = interactions.exact_effects(interactions.exact_interactions(values))
    change_v, change_shapley, change_effects = (x[0] - x[1] for x in (values, shapley[:, 0], effects))
    close(change_v[0] + change_shapley.sum() + change_effects.sum(), change_v[-1])


@given(tables())
def test_effects_weigh_interactions(values):
    interaction = interactions.exact_interactions(values)
    n = players_of(values)
    effects = interactions.exact_effects(interaction)
    for m in range(n - 1):
        assert interactions.j_weight(n, m) == (n - 1 - m) / (n * (n - 1))
        close(effects[m], interaction[m] * (n - 1 - m) / (n * (n - 1)))


@given(tables())
def test_marginal_attribution_and_accumulation(values):
    """φ^(m+1)(i) − φ^(m)(i) = mean_j I_ij^(m); Eq. 5: φ^(m)(i) = mean_j Σ_{k<m} I_ij^(k) + φ^(0)(i)."""
    n = players_of(values)
    shapley, interaction = interactions.exact_shapley(values), interactions.exact_interactions(values)
    mean_over_others = interaction.sum(-1) / (n - 1)
    close(shapley.diff(dim=0), mean_over_others)
    for m in range(n):
        close(shapley[m], mean_over_others[:m].sum(0) + shapley[0])


@given(tables())
def test_mean_interaction_is_the_second_difference_of_the_mean_output(values):
    """Averaged over all pairs, I^(m) = V_{m+2} − 2 V_{m+1} + V_m, V_k the mean of v over coalitions of size k."""
    v, n = as_dict(values)
    mean_v = torch.tensor(
        [sum(v[s] for s in subsets(range(n), k)) / comb(n, k) for k in range(n + 1)], dtype=torch.float64
    )
    interaction = interactions.exact_interactions(values)
    close(interaction.sum((1, 2)) / (n * (n - 1)), mean_v.diff().diff())


@given(tables())
def test_dropout_removes_high_orders(values):
    """S-H, exact for a kept set of k players: E v(K) holds no order above k − 2."""
    v, n = as_dict(values)
    shapley, interaction = interactions.exact_shapley(values), interactions.exact_interactions(values)
    for k in range(n + 1):
        kept = sum(v[s] for s in subsets(range(n), k)) / comb(n, k)
        orders = sum((k - 1 - m) / (n * (n - 1)) * interaction[m].sum().item() for m in range(k - 1))
        expected = v[frozenset()] + k / n * shapley[0].sum().item() + orders
        assert kept == pytest.approx(expected, rel=1e-9, abs=1e-9)


# Games with closed forms, n = 6.

N = 6


@pytest.mark.parametrize("k", range(2, N + 1))
def test_and_of_k_players(k):
    """v = 1 if all k are there: Δv = 1 where the other k − 2 are in the context, never for an outsider."""
    interaction = interactions.exact_interactions(as_table(lambda s: float(set(range(k)) <= s), N))
    for m, i, j in itertools.product(range(N - 1), range(N), range(N)):
        inside = i != j and max(i, j) < k and m >= k - 2
        expected = comb(N - k, m - (k - 2)) / comb(N - 2, m) if inside else 0.0
        assert interaction[m, i, j].item() == pytest.approx(expected, abs=TOLERANCE)


def test_additive_game_has_no_interactions():
    worth = [0.3, -1.0, 2.5, 0.0, 4.0, -0.7]
    values = as_table(lambda s: 1.5 + sum(worth[i] for i in s), N)
    zeros = torch.zeros(N - 1, N, N, dtype=torch.float64)
    close(interactions.exact_interactions(values), zeros)
    close(interactions.exact_strengths(values), zeros)
    close(interactions.exact_shapley(values), torch.tensor(worth, dtype=torch.float64).expand(N, N))


def test_pairs_that_never_interact_are_left_out_of_the_disentanglement():
    """v = 2·[0, 1 ∈ S] + Σ (1 or 2 each): all but one pair have Δv = 0 exactly; that one always has Δv = 2."""
    values = as_table(lambda s: 2.0 * ({0, 1} <= s) + len(s) + (2 in s), N)
    close(interactions.exact_disentanglement(values), torch.ones(N - 1, dtype=torch.float64))


@pytest.mark.parametrize("quota", range(1, N + 1))
def test_majority(quota):
    """v = [|S| ≥ q]: +1 at order q − 2, −1 at order q − 1, 0 elsewhere."""
    interaction = interactions.exact_interactions(as_table(lambda s: float(len(s) >= quota), N))
    expected = [float(m == quota - 2) - float(m == quota - 1) for m in range(N - 1)]
    off_diagonal = 1 - torch.eye(N, dtype=torch.float64)
    close(interaction, torch.tensor(expected, dtype=torch.float64)[:, None, None] * off_diagonal)


def test_product_game():
    """v = Π_{i∈S} a_i: I_ij^(m) = (a_i − 1)(a_j − 1) · the mean of Π_{S} a over |S| = m."""
    a = [0.5, 2.0, -1.0, 3.0, 1.0, 0.1]

    def product(s):
        return float(torch.tensor([a[i] for i in s], dtype=torch.float64).prod())

    interaction = interactions.exact_interactions(as_table(product, N))
    for m, (i, j) in itertools.product(range(N - 1), itertools.combinations(range(N), 2)):
        contexts = subsets(set(range(N)) - {i, j}, m)
        expected = (a[i] - 1) * (a[j] - 1) * sum(map(product, contexts)) / len(contexts)
        assert interaction[m, i, j].item() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("n", [1, 17])
def test_enumeration_is_refused(n, empty_folder):
    with pytest.raises(ValueError, match=rf"enumeration takes 2 to 16 players; got {n}: use four_point"):
        interactions.all_coalitions(n)


@pytest.mark.parametrize("entries", [5, 63, 65])
def test_a_table_has_2_to_the_n_entries(entries, empty_folder):
    with pytest.raises(ValueError, match=rf"table of values has 2\^n entries.*got {entries}"):
        interactions.exact_interactions(torch.zeros(entries))


# Sampled interactions.


def table_game(values):
    """The game of a table (2^n), the same for every image."""
    n = players_of(values)
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
    estimate = interactions.four_point(
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
        error, spread = sampled.mean(0) - truth, sampled.std(0) / repeats**0.5
        one_context = [0, 4]
        close(error[:, one_context], torch.zeros(3, 2, dtype=torch.float64), 1e-9)
        z = error[:, 1:4] / spread[:, 1:4]
        assert z.abs().max() < 4
        assert chi2.sf(z.square().sum().item(), z.numel()) > 1e-3


def test_many_contexts_converge_to_the_exact_values(table):
    every = torch.combinations(torch.arange(6))
    estimate = interactions.four_point(
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
    torch.testing.assert_close(estimate.mean()[0], upper.mean(1), rtol=0, atol=0.02)
    exact = interactions.exact_disentanglement(table)[[4, 2, 0]]
    torch.testing.assert_close(estimate.disentanglement()[0], exact, rtol=0, atol=0.03)


def test_the_estimate_is_the_mean_of_delta_v_over_its_own_contexts():
    """Rebuilt in plain Python from the coalitions that were asked for."""
    v, pairs = smooth_game(7), torch.tensor([[[0, 1], [6, 3]], [[2, 5], [1, 4]]])
    recorder = Recorder(v)
    estimate = interactions.four_point(
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
    sampled = interactions.contextual_delta_v(v, pairs, context)
    assert sampled.shape == (2, 1, 7)
    values, _ = as_dict(v(interactions.all_coalitions(6)))
    for image, k in itertools.product(range(2), range(7)):
        s = frozenset(context[image, 0, k].nonzero().flatten().tolist())
        expected = delta(values, *pairs[image, 0].tolist(), s)
        assert sampled[image, 0, k].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("share", "chosen"), [(0.1, 2), (0.5, 10), (1.0, 20)])
def test_strong_contexts(share, chosen):
    """The mean of the strongest contexts whose Δv has the sign of the mean, weighted by |Δv|, in plain Python."""
    generator = torch.Generator().manual_seed(0)
    changes = torch.randn(3, 20, generator=generator, dtype=torch.float64) + torch.tensor([[0.5], [-0.5], [0.0]])
    context = torch.rand(3, 20, 5, generator=generator) < 0.5
    maps = interactions.strong_contexts(changes, context, share=share)
    assert maps.shape == (3, 5)
    for p in range(3):
        sign = 1 if sum(changes[p].tolist()) > 0 else -1
        strongest = sorted(range(20), key=lambda k: -abs(changes[p, k].item()))[:chosen]
        kept = [k for k in strongest if sign * changes[p, k].item() > 0]
        weights = [abs(changes[p, k].item()) for k in kept]
        for player in range(5):
            total = sum(w for k, w in zip(kept, weights, strict=True) if context[p, k, player])
            expected = total / sum(weights) if kept else math.nan
            assert maps[p, player].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_pair_without_a_strong_context_gives_nan():
    """The mean is positive, the one strongest context negative; and a pair that never interacts at all."""
    changes = torch.tensor([[-2.0, *[1.0] * 9], [0.0] * 10])
    maps = interactions.strong_contexts(changes, torch.ones(2, 10, 4, dtype=torch.bool))
    assert maps.isnan().all()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_outside_0_to_1(share, empty_folder):
    with pytest.raises(ValueError, match=rf"share must lie in \(0, 1\]; got {share}"):
        interactions.strong_contexts(torch.ones(1, 4), torch.ones(1, 4, 3, dtype=torch.bool), share=share)


def test_contexts_of_lower_orders_are_subsets_of_those_of_higher_orders():
    recorder = Recorder(smooth_game(9))
    pairs = torch.tensor([[[0, 8], [3, 4]]])
    orders = [0, 2, 3, 7]
    interactions.four_point(recorder, n=9, pairs=pairs, orders=orders, contexts=5, generators=generators(4, 1))
    contexts = [asked.view(4, 2, 5, 9)[3] for asked in recorder.asked]
    for lower, higher in itertools.pairwise(contexts):
        assert not (lower & ~higher).any()
    assert [context.sum(-1).unique().tolist() for context in contexts] == [[order] for order in orders]


def test_standard_error_is_the_spread_of_repeated_estimates():
    """A game of 30 players: the SD of 600 estimates, pairs drawn anew each time, against the errors they state."""
    grid = players.Players(30, torch.arange(30)[None], torch.empty(0, 2))
    repeats, orders = 600, [0, 5, 15, 28]
    pairs = [
        sampling.pairs(grid, 12, sampling="uniform", generator=sampling.generator(5, repeat, 1))
        for repeat in range(repeats)
    ]
    estimate = interactions.four_point(
        smooth_game(30),
        n=30,
        pairs=torch.stack(pairs),
        orders=orders,
        contexts=2,
        generators=generators(5, repeats),
    )
    spread = estimate.mean().std(0)
    stated = estimate.standard_error().square().mean(0).sqrt()
    assert estimate.standard_error().shape == (repeats, 4)
    assert ((spread / stated - 1).abs() < 0.12).all(), spread / stated


def test_mean_standard_error_and_disentanglement_by_hand():
    interaction = torch.tensor([[[1.0, 0.0], [-3.0, 2.0], [5.0, 0.0]]])
    strength = torch.tensor([[[2.0, 0.0], [3.0, 4.0], [5.0, 0.0]]])
    pairs = torch.tensor([[[0, 1], [0, 2], [1, 2]]])
    estimate = interactions.Estimate(4, [0, 1], 2, pairs, interaction, strength, 48)
    close(estimate.mean(), torch.tensor([[1.0, 2 / 3]]), 1e-6)
    close(estimate.disentanglement(), torch.tensor([[(0.5 + 1 + 1) / 3, 0.5]]), 1e-6)
    close(estimate.standard_error(), torch.tensor([[4 / 3**0.5, (4 / 3) ** 0.5 / 3**0.5]]), 1e-6)


def test_the_estimate_says_what_it_is(table):
    pairs = torch.tensor([[[0, 1], [4, 2]]])
    estimate = interactions.four_point(
        table_game(table), n=6, pairs=pairs, orders=[3, 1], contexts=5, generators=generators(6, 1)
    )
    assert (estimate.n, estimate.orders, estimate.contexts) == (6, [3, 1], 5)
    assert torch.equal(estimate.pairs, pairs)
    assert estimate.passes == 4 * 2 * 5 * 2


# Sampled interactions of a network.


def measure(model, images, labels, *, seed=0, batch_size=256, orders=(0, 3, 14)):
    """Three pairs and two contexts an image of 4 × 4 players; images (I, …) or variants (V, I, …)."""
    grid = players.grid(8, 8, side=4)
    count = images.shape[-4]
    pairs = torch.stack(
        [sampling.pairs(grid, 3, sampling="neighbours", generator=sampling.generator(seed, i, 1)) for i in range(count)]
    )
    masking = game.MaskingGame(model, grid, images, labels, baseline=torch.full((1, 8, 8), 0.5), batch_size=batch_size)
    estimate = interactions.four_point(
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
        assert torch.equal(other.pairs, one.pairs)
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
    assert not (estimate.mean()[0] - estimate.mean()[1]).any()
    assert estimate.interaction.any()


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
    estimate = interactions.four_point(
        game.MaskingGame(
            model,
            players.grid(8, 8, side=4),
            images[order],
            labels[order],
            baseline=torch.full((1, 8, 8), 0.5),
        ),
        n=16,
        pairs=together.pairs[order],
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
    estimate = interactions.four_point(
        masking, n=4, pairs=every[None], orders=[0, 1, 2], contexts=64, generators=generators(0, 1)
    )
    truth = exact[:, every[:, 0], every[:, 1]].T
    close(estimate.interaction[0][:, [0, 2]], truth[:, [0, 2]], 1e-12)
    torch.testing.assert_close(estimate.interaction[0][:, 1], truth[:, 1], rtol=0, atol=0.3 * truth.abs().max().item())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": [0, 5]}, r"6 players has an order in 0\.\.4; got 5"),
        ({"orders": [-1]}, r"6 players has an order in 0\.\.4; got -1"),
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
        interactions.four_point(recorder, **{**arguments, **changes})
    assert not recorder.asked


@pytest.mark.parametrize("pair", [[2, 2], [0, 6], [-1, 0]])
def test_a_pair_is_two_different_players(pair, table, empty_folder):
    with pytest.raises(ValueError, match=r"pair"):
        interactions.four_point(
            table_game(table),
            n=6,
            pairs=torch.tensor([[pair]]),
            orders=[2],
            contexts=2,
            generators=generators(0, 1),
        )
