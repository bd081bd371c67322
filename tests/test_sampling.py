"""Random draws: their distribution, that contexts are nested and leave the pair out, and what they depend on."""

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lib import players, sampling


def draw(seed, *keys):
    return torch.rand(4, generator=sampling.generator(seed, *keys)).tolist()


def test_a_generator_depends_on_seed_and_keys_alone():
    torch.manual_seed(1)
    first = draw(3, 5)
    torch.manual_seed(2)
    assert draw(3, 5) == first


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_no_result_could_hold_is_refused(seed):
    with pytest.raises(ValueError, match=rf"a seed is an integer from 0 to 2\^31 − 1; got {seed}"):
        sampling.generator(seed)


def test_contexts_of_more_players_than_16_bits_count():
    n = 40_000
    ranks = sampling.context_ranks(torch.tensor([[0, 1]]), 1, n, generator=sampling.generator(0))[0, 0]
    assert ranks.sort().values.equal(torch.arange(n, dtype=ranks.dtype)) and ranks[:2].sort().values[0] == n - 2


def test_generators_of_different_seeds_and_keys_differ():
    drawn = [draw(seed, key) for seed, key in itertools.product(range(20), range(20))]
    assert len({tuple(d) for d in drawn}) == 400
    assert draw(1, 2) != draw(2, 1)


@pytest.mark.parametrize("keys", [((0, 1), (1, 0)), ((1,), (1, 1)), ((0, 3, 0), (0, 3, 1))], ids=str)
def test_generators_of_different_keys_differ(keys):
    assert draw(*keys[0]) != draw(*keys[1])


@pytest.mark.parametrize("name", sampling.SAMPLINGS)
@given(side=st.integers(2, 4), seed=st.integers(0, 1000), data=st.data())
def test_pairs_are_distinct_and_of_the_kind_asked_for(name, side, seed, data):
    grid = players.grid(side, side, side=side)
    neighbours = {frozenset(pair) for pair in grid.neighbours.tolist()}
    every = {frozenset(pair) for pair in itertools.combinations(range(grid.n), 2)}
    possible = neighbours if name == "neighbours" else every
    count = data.draw(st.integers(1, len(possible)))
    drawn = sampling.pairs(grid, count, sampling=name, generator=sampling.generator(seed))
    assert drawn.shape == (count, 2)
    chosen = {frozenset(pair) for pair in drawn.tolist()}
    assert len(chosen) == count and chosen <= possible
    if count == len(possible):
        assert chosen == possible


@pytest.mark.parametrize("name", sampling.SAMPLINGS)
def test_every_pair_is_equally_likely(name):
    grid = players.grid(3, 3, side=3)
    drawn = Counter(
        frozenset(pair)
        for seed in range(1500)
        for pair in sampling.pairs(grid, 3, sampling=name, generator=sampling.generator(seed)).tolist()
    )
    assert len(drawn) == {"neighbours": 20, "uniform": 36}[name]
    assert chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("neighbours", 43, r"43 neighbours pairs were asked for; 16 players have 42: choose between 1 and 42"),
        ("uniform", 121, r"121 uniform pairs were asked for; 16 players have 120: choose between 1 and 120"),
        ("uniform", 0, r"0 uniform pairs were asked for; .*choose between 1 and 120"),
        ("uniform", -1, r"-1 uniform pairs were asked for"),
        ("random", 5, r"unknown pair sampling 'random': choose one of neighbours, uniform"),
    ],
)
def test_pairs_one_clear_error(name, count, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        sampling.pairs(players.grid(4, 4, side=4), count, sampling=name, generator=sampling.generator(0))


@given(seed=st.integers(0, 1000), n=st.integers(2, 12), contexts=st.integers(1, 4))
def test_ranks_are_orders_of_all_players_with_the_pair_last(seed, n, contexts):
    generator = sampling.generator(seed)
    pairs = torch.stack([torch.randperm(n, generator=generator)[:2] for _ in range(3)])
    ranks = sampling.context_ranks(pairs, contexts, n, generator=generator)
    assert ranks.shape == (3, contexts, n)
    for p, k in itertools.product(range(3), range(contexts)):
        rank = ranks[p, k].tolist()
        assert sorted(rank) == list(range(n))
        assert {rank[player] for player in pairs[p].tolist()} == {n - 2, n - 1}


def test_contexts_are_uniform_among_all_subsets_of_their_size():
    """n = 6: each of the C(4, m) contexts of the pair (4, 1), and each player in them, equally often."""
    ranks = sampling.context_ranks(torch.tensor([[4, 1]]), 6000, 6, generator=sampling.generator(7))[0]
    for m in range(1, 4):
        drawn = Counter(tuple((rank < m).nonzero().flatten().tolist()) for rank in ranks)
        assert set(drawn) == set(itertools.combinations([0, 2, 3, 5], m))
        assert chisquare(list(drawn.values())).pvalue > 1e-3
        members = Counter(player for context, times in drawn.items() for player in context for _ in range(times))
        assert members.total() == 6000 * m
        assert chisquare([members[player] for player in (0, 2, 3, 5)]).pvalue > 1e-3


def test_chains_of_nested_contexts_are_uniform():
    """The order in which players join the contexts of one chain: all 4! orders equally often."""
    ranks = sampling.context_ranks(torch.tensor([[0, 3]]), 6000, 6, generator=sampling.generator(8))[0]
    drawn = Counter(tuple(rank.argsort().tolist()[:4]) for rank in ranks)
    assert len(drawn) == 24
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_each_pair_has_its_own_contexts():
    ranks = sampling.context_ranks(torch.tensor([[0, 1], [0, 1]]), 4, 20, generator=sampling.generator(9))
    assert len({tuple(rank.tolist()) for rank in ranks.flatten(0, 1)}) == 8


def test_orders_of_fractions():
    assert sampling.orders(256, [0, 0.1, 0.5, 0.95, 1]) == [0, 25, 127, 241, 254]
    assert sampling.orders(12, [0.05, 0.55, 0.99]) == [0, 5, 9]


def test_one_fraction_is_no_list_of_them(empty_folder):
    with pytest.raises(ValueError, match=r"a list of fractions of n−2, as \[0\.5, 0\.95\]; got 0\.5: papermill sets"):
        sampling.orders(256, 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.01, 25, float("nan")])
def test_a_fraction_outside_0_to_1(fraction, empty_folder):
    with pytest.raises(ValueError, match=rf"fraction of n−2 in \[0, 1\]; got {fraction}"):
        sampling.orders(256, [0.5, fraction])


def test_an_order_given_twice(empty_folder):
    with pytest.raises(
        ValueError,
        match=r"0\.8 and 0\.85 of n−2 are both the order 11 of 16 players: leave one out, or take more players",
    ):
        sampling.orders(16, [0.1, 0.8, 0.85, 0.9])


@pytest.mark.parametrize("order", [-1, 5, 6, 2.5])
def test_an_order_outside_0_to_n_minus_2(order, empty_folder):
    with pytest.raises(
        ValueError, match=rf"interaction of 6 players has an order that is an integer in 0\.\.4; got {order}"
    ):
        sampling.check_orders([0, order], 6)


def test_every_order_inside_is_accepted():
    sampling.check_orders([0, 1, 2, 3, 4], 6)
