"""Interactions from few values: exact cases, the closed form against enumeration, and the error against shapiq's."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapiq import approximator

from lib import interactions, sampling, surrogate


def random_table(n, seed=0):
    return torch.randn(2**n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(coalitions):
    """Where the coalitions (…, n) stand in a table of values."""
    return (coalitions * 2 ** torch.arange(coalitions.shape[-1])).sum(-1)


def draw(n, count, seed=0):
    return surrogate.draw_coalitions(n, count, generator=sampling.generator(seed))


def sigmoid_table(n, seed=0):
    """log σ of a game of degree 2, the form of a log-probability."""
    generator = torch.Generator().manual_seed(seed)
    single = torch.randn(n, generator=generator, dtype=torch.float64)
    double = torch.randn(n, n, generator=generator, dtype=torch.float64)
    inside = interactions.all_coalitions(n).double()
    return torch.nn.functional.logsigmoid(inside @ single + ((inside @ double) * inside).sum(1))


def root_mean_square(error):
    return error[..., torch.ones(error.shape[-2:], dtype=torch.bool).triu(1)].square().mean(-1).sqrt()


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# Exact cases.


@pytest.mark.parametrize("n", [2, 3, 6, 9])
@pytest.mark.parametrize("kernel", [None, (0.5, 1e-3), (0.9, 0.1)])
def test_exact_with_every_coalition(n, kernel):
    """Any game, any order of the coalitions, any kernel: the surrogate passes through the values."""
    values = random_table(n)
    coalitions = interactions.all_coalitions(n)[torch.randperm(2**n, generator=torch.Generator().manual_seed(1))]
    if kernel is not None:
        kernel = surrogate.geometric_kernel(n, *kernel)
    actual = surrogate.kernel_interactions(values[number(coalitions)], coalitions, kernel=kernel)
    close(actual, interactions.exact_interactions(values), 1e-8)


@given(st.integers(2, 8), st.integers(0, 1000))
def test_the_interactions_of_a_kernel_are_those_of_its_table(n, seed):
    """Any κ whatever, T any coalition: the closed form against enumeration of κ(|S △ T|) over every S."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(n + 1, generator=generator, dtype=torch.float64)
    held = torch.rand(n, generator=generator) < torch.rand(1, generator=generator)
    exact = interactions.exact_interactions(kernel[(interactions.all_coalitions(n) ^ held).sum(1)])
    curvature = surrogate.mean_curvature(kernel)
    for i, j in itertools.permutations(range(n), 2):
        sign = 1 if held[i] == held[j] else -1
        close(sign * curvature[:, held.sum() - held[i].int() - held[j].int()], exact[:, i, j])


def test_the_interactions_are_those_of_the_posterior_mean():
    """The posterior mean at every coalition, by the textbook: universal kriging with the additive games as its trend.

    Solved as one bordered system, then its interactions by enumeration.
    """
    n, count = 7, 40
    coalitions, every = draw(n, count), interactions.all_coalitions(n)
    values = random_table(n)[number(coalitions)]
    kernel = surrogate.geometric_kernel(n, 0.8, 0.05)

    def covariance(s, t):
        return kernel[(s[:, None] ^ t).sum(-1)]

    def trend(s):
        return torch.cat([torch.ones(len(s), 1, dtype=torch.float64), s.double()], 1)

    border = trend(coalitions)
    system = torch.cat(
        [
            torch.cat([covariance(coalitions, coalitions), border], 1),
            torch.cat([border.T, torch.zeros(n + 1, n + 1, dtype=torch.float64)], 1),
        ]
    )
    weights = torch.linalg.solve(system, torch.cat([values, torch.zeros(n + 1, dtype=torch.float64)]))
    posterior = torch.cat([covariance(every, coalitions), trend(every)], 1) @ weights
    close(posterior[number(coalitions)], values)
    actual = surrogate.kernel_interactions(values, coalitions, kernel=kernel)
    close(actual, interactions.exact_interactions(posterior))


@pytest.mark.parametrize("count", [24, 60])
def test_additive_games_have_no_interactions(count):
    coalitions = draw(10, count)
    values = coalitions.double() @ torch.linspace(-3, 5, 10, dtype=torch.float64) + 2
    close(surrogate.kernel_interactions(values, coalitions), torch.zeros(9, 10, 10, dtype=torch.float64))


def test_an_additive_game_on_top_changes_nothing():
    coalitions = draw(8, 80)
    values = random_table(8)[number(coalitions)]
    shift = 100 + coalitions.double() @ torch.linspace(-30, 50, 8, dtype=torch.float64)
    close(surrogate.kernel_interactions(values + shift, coalitions), surrogate.kernel_interactions(values, coalitions))


def test_symmetry():
    """Renaming the players renames the interactions; scaling v scales them; I_ij = I_ji and I_ii = 0."""
    coalitions, renamed = draw(8, 80), torch.tensor([3, 0, 7, 1, 2, 6, 5, 4])
    values = sigmoid_table(8)[number(coalitions)]
    result = surrogate.kernel_interactions(values, coalitions)
    assert result.shape == (7, 8, 8)
    close(surrogate.kernel_interactions(values, coalitions[:, renamed]), result[:, renamed][:, :, renamed])
    close(surrogate.kernel_interactions(-7 * values, coalitions), -7 * result)
    close(result.mT, result)
    assert not result.diagonal(dim1=1, dim2=2).any()


def test_the_first_and_the_last_order_have_one_context_and_are_exact():
    """∅ and N with all single players and all but one or two are drawn: m = 0 and n − 2 need no others."""
    n = 6
    every = interactions.all_coalitions(n)
    coalitions = every[(every.sum(1) <= 2) | (every.sum(1) >= n - 2)]
    values = random_table(n)
    actual = surrogate.kernel_interactions(values[number(coalitions)], coalitions)
    exact = interactions.exact_interactions(values)
    close(actual[[0, -1]], exact[[0, -1]])
    assert root_mean_square(actual - exact)[1:-1].min() > 0.01


def test_single_precision():
    coalitions = draw(8, 100)
    values = sigmoid_table(8)[number(coalitions)]
    single = surrogate.kernel_interactions(values.float(), coalitions)
    assert single.dtype == torch.float32
    close(single.double(), surrogate.kernel_interactions(values, coalitions), 1e-4)


# The kernel.


def test_the_likelihood_is_that_of_the_values_without_their_additive_part():
    """Against a normal density: of contrasts orthogonal to the additive games, at the likeliest scale."""
    coalitions = draw(6, 30)
    values = random_table(6)[number(coalitions)]
    trend = torch.cat([torch.ones(30, 1, dtype=torch.float64), coalitions.double()], 1)
    contrasts = torch.linalg.qr(trend, mode="complete").Q[:, 7:]
    likelihoods = []
    kernels = [surrogate.geometric_kernel(6, 0.5, 1e-3), surrogate.geometric_kernel(6, 0.9, 0.1)]
    for kernel in kernels:
        covariance = contrasts.T @ kernel[(coalitions[:, None] ^ coalitions).sum(-1)] @ contrasts
        residual = contrasts.T @ values
        scale = residual @ torch.linalg.solve(covariance, residual) / 23
        normal = torch.distributions.MultivariateNormal(torch.zeros(23, dtype=torch.float64), scale * covariance)
        likelihoods.append(normal.log_prob(residual).item())
    actual = [surrogate._fit(values, coalitions, kernel)[1] for kernel in kernels]
    assert actual[1] - actual[0] == pytest.approx(likelihoods[1] - likelihoods[0], rel=1e-9)


def test_the_likeliest_kernel_finds_what_made_the_game():
    """Games drawn from a kernel, at the corners of the choice."""
    every = interactions.all_coalitions(8)
    for options in itertools.product((0.5, 0.9), (1e-3, 1e-1)):
        kernel = surrogate.geometric_kernel(8, *options)
        root = torch.linalg.cholesky(kernel[(every[:, None] ^ every).sum(-1)])
        assert torch.equal(surrogate.likeliest_kernel(root @ random_table(8), every), kernel)


def test_a_geometric_kernel_by_hand():
    close(surrogate.geometric_kernel(3, 0.5, 0.1), torch.tensor([1.1, 0.5, 0.25, 0.125], dtype=torch.float64))


# The coalitions.


@given(st.integers(2, 10), st.integers(0, 1000), st.data())
def test_coalitions_are_different_and_come_with_their_complements(n, seed, data):
    count = 2 * data.draw(st.integers(1, 2 ** (n - 1)))
    coalitions = draw(n, count, seed)
    assert coalitions.shape == (count, n) and coalitions.dtype == torch.bool
    numbers = number(coalitions)
    assert len(numbers.unique()) == count
    assert set(numbers.tolist()) == set(number(~coalitions).tolist())
    assert {0, 2**n - 1} <= set(numbers.tolist())


def test_sizes_are_drawn_with_their_weights():
    """The first pair after ∅ and N, of 4000 draws: its smaller size s with the chance 2/(s(n−s)), halved at n/2."""
    n, repeats = 6, 4000
    sizes = torch.stack([draw(n, 4, seed)[1].sum() for seed in range(repeats)])
    smaller = torch.minimum(sizes, n - sizes)
    weights = torch.tensor([2 / 5, 2 / 8, 1 / 9], dtype=torch.float64)
    chance = weights / weights.sum()
    counts = torch.bincount(smaller, minlength=4)[1:].double()
    assert ((counts - repeats * chance) / (repeats * chance * (1 - chance)).sqrt()).abs().max() < 4


def test_the_same_seed_gives_the_same_numbers():
    table = sigmoid_table(8)
    first, again, other = (draw(8, 60, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    results = [surrogate.kernel_interactions(table[number(c)], c) for c in (first, again, other)]
    assert torch.equal(results[0], results[1]) and not torch.allclose(results[0], results[2])


# The error.


@pytest.mark.parametrize("budget", [100, 200, 400])
def test_a_smaller_error_than_kernel_shap_iq(budget):
    """Of the Shapley interaction index of four games of 10 players, for as many values."""
    n, ours, theirs = 10, [], []
    for seed in range(4):
        table = sigmoid_table(n, seed)
        exact = interactions.shapley_interaction_index(interactions.exact_interactions(table))
        coalitions = draw(n, budget, seed)
        estimate = surrogate.kernel_interactions(table[number(coalitions)], coalitions)
        ours.append(root_mean_square(interactions.shapley_interaction_index(estimate) - exact))
        peer = approximator.KernelSHAPIQ(n, max_order=2, index="SII", pairing_trick=True, random_state=seed)
        values = peer.approximate(budget, lambda rows, table=table: table.numpy()[rows @ 2 ** np.arange(n)])
        theirs.append(root_mean_square(torch.from_numpy(values.get_n_order_values(2)) - exact))
    assert sum(ours) < 0.7 * sum(theirs)


def test_the_error_falls_with_the_number_of_coalitions():
    table = sigmoid_table(10)
    exact = interactions.exact_interactions(table)
    errors = []
    for count in (50, 150, 450, 1000):
        coalitions = draw(10, count)
        estimate = surrogate.kernel_interactions(table[number(coalitions)], coalitions)
        errors.append(root_mean_square((estimate - exact).mean(0)).item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10


# Errors.


@pytest.mark.parametrize("count", [0, 7, 18, -2])
def test_coalitions_are_drawn_in_pairs(count, empty_folder):
    with pytest.raises(ValueError, match=rf"count must be even in 2\.\.16; got {count}"):
        draw(4, count)


def test_too_many_players_to_draw_from(empty_folder):
    with pytest.raises(ValueError, match="enumeration takes 2 to 16 players; got 17"):
        draw(17, 100)


GOOD = interactions.all_coalitions(4)


@pytest.mark.parametrize(
    ("values", "coalitions", "options", "message"),
    [
        (torch.zeros(15), GOOD, {}, r"one value each \(B,\); got \(16, 4\) of torch\.bool and values \(15,\)"),
        (torch.zeros(16), GOOD.int(), {}, r"coalitions must be bool .* of torch\.int32"),
        (torch.zeros(4), GOOD[0], {}, r"coalitions must be bool \(B, n\)"),
        (torch.zeros(2), GOOD[:2, :1], {}, "at least 2 players; got 1"),
        (torch.tensor([torch.nan, torch.inf] + [0.0] * 14), GOOD, {}, "2 of 16 values are infinite or not a number"),
        (torch.ones(16, dtype=torch.long), GOOD, {}, r"floating point, or interactions are rounded; got torch\.int64"),
        (torch.zeros(16), GOOD[[0, *range(15)]], {}, "given once; 1 of 16 are repetitions"),
        (torch.zeros(5), GOOD[[0, 1, 2, 4, 8]], {}, "5 coalitions of 4 players do not fix an additive game"),
        (torch.zeros(8), GOOD[:8], {}, "8 coalitions of 4 players do not fix an additive game"),
        (torch.zeros(16), GOOD, {"kernel": torch.ones(4)}, r"4 players has 5 values, one a distance; got \(4,\)"),
    ],
)
def test_one_clear_error(values, coalitions, options, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        surrogate.kernel_interactions(values, coalitions, **options)
