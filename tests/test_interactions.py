"""Interactions: exact ones against brute force, shapiq, closed forms and the paper's identities."""

import itertools
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapiq import ExactComputer

from lib import interactions
from tests.helpers import close

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


def test_a_game_without_interactions_has_no_disentanglement():
    """Worths that do not add up exactly: what rounding leaves of Δv is no interaction."""
    worths = [0.1, 0.7, -0.3, 1.1, 0.9, -0.6]
    values = as_table(lambda s: float(sum(worths[i] for i in sorted(s))), N)
    assert 0 < interactions.exact_strengths(values).max() < 1e-14
    assert interactions.exact_disentanglement(values).isnan().all()


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
    with pytest.raises(ValueError, match=rf"enumeration takes 2 to 16 players; got {n}: sample more"):
        interactions.all_coalitions(n)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_a_table_of_integers_is_refused(dtype, empty_folder):
    """Their means would be cut down to integers."""
    for of in (interactions.exact_interactions, interactions.exact_shapley, interactions.exact_disentanglement):
        with pytest.raises(ValueError, match=rf"holds floats, of which means are taken; got {dtype}"):
            of(torch.ones(8, dtype=dtype))


@pytest.mark.parametrize("entries", [5, 63, 65])
def test_a_table_has_2_to_the_n_entries(entries, empty_folder):
    with pytest.raises(ValueError, match=rf"table of values has 2\^n entries.*got {entries}"):
        interactions.exact_interactions(torch.zeros(entries))
