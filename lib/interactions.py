"""Multi-order interactions: exact by enumeration, and estimated by the paper's four-point sampling (§3, Eq. 2–5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from lib.game import Game
from lib.sampling import check_orders, context_ranks

MOST_PLAYERS = 16
"""Enumeration visits 2^n coalitions; beyond this many players it is refused."""


def delta_v(v_ij: Tensor, v_i: Tensor, v_j: Tensor, v: Tensor) -> Tensor:
    """Δv(i,j,S) = v(S∪{i,j}) − v(S∪{i}) − v(S∪{j}) + v(S) (Eq. 2)."""
    return v_ij - v_i - v_j + v


def j_weight(n: int, m: int) -> float:
    """J_ij^(m) = (n−1−m) / (n(n−1)) · I_ij^(m): the weight of order m in v(N), ordered pairs (§3, efficiency)."""
    return (n - 1 - m) / (n * (n - 1))


def shapley_interaction_index(interaction: Tensor) -> Tensor:
    """I(i,j), the mean of I_ij^(m) (..., n−1, n, n) over all orders m (Eq. 2)."""
    return interaction.mean(-3)


# Exact, by enumeration. A table of values (..., 2^n) holds v(S) at the number whose bit i says that i is in S.


def all_coalitions(n: int) -> Tensor:
    """Every coalition of n players, bool (2^n, n), in the order of the table of values."""
    if not 2 <= n <= MOST_PLAYERS:
        raise ValueError(f"enumeration takes 2 to {MOST_PLAYERS} players; got {n}: use four_point for more")
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1


def exact_interactions(values: Tensor) -> Tensor:
    """I_ij^(m) (..., n−1, n, n), every order and pair, from a table of values (..., 2^n); zero where i = j (Eq. 2)."""
    return _exact_pairs(values, absolute=False)


def exact_strengths(values: Tensor) -> Tensor:
    """E_S |Δv(i,j,S)| (..., n−1, n, n), the denominator of the disentanglement, from a table of values (Eq. 4)."""
    return _exact_pairs(values, absolute=True)


def _exact_pairs(values: Tensor, *, absolute: bool) -> Tensor:
    coalitions, n = _table(values)
    result = values.new_zeros(*values.shape[:-1], n - 1, n, n)
    number = torch.arange(len(coalitions))
    size = coalitions.sum(1)
    for i in range(n):
        for j in range(i):
            s = number[~coalitions[:, i] & ~coalitions[:, j]]
            i_bit, j_bit = 2**i, 2**j
            delta = delta_v(
                values[..., s + i_bit + j_bit], values[..., s + i_bit], values[..., s + j_bit], values[..., s]
            )
            mean = _mean_by_size(delta.abs() if absolute else delta, size[s], n - 2)
            result[..., i, j] = result[..., j, i] = mean
    return result


def exact_shapley(values: Tensor) -> Tensor:
    """φ^(m)(i) (..., n, n): the order m = 0..n−1 first, then the player i, of a table of values (..., 2^n) (§4.3)."""
    coalitions, n = _table(values)
    number = torch.arange(len(coalitions))
    size = coalitions.sum(1)
    result = values.new_zeros(*values.shape[:-1], n, n)
    for i in range(n):
        s = number[~coalitions[:, i]]
        result[..., i] = _mean_by_size(values[..., s + 2**i] - values[..., s], size[s], n - 1)
    return result


def exact_effects(interaction: Tensor) -> Tensor:
    """J_ij^(m) (..., n−1, n, n) of I_ij^(m): what order m and the ordered pair (i, j) add to v(N) (§3)."""
    n = interaction.shape[-1]
    weights = torch.tensor([j_weight(n, m) for m in range(n - 1)], dtype=interaction.dtype)
    return interaction * weights[:, None, None]


def exact_disentanglement(values: Tensor) -> Tensor:
    """D^(m) (..., n−1), mean over pairs of |I_ij^(m)| / E_S |Δv|; pairs that never interact are left out (Eq. 4)."""
    _, n = _table(values)
    upper = torch.ones(n, n, dtype=torch.bool).triu(1)
    ratio = exact_interactions(values).abs()[..., upper] / exact_strengths(values)[..., upper]
    return ratio.nanmean(-1)


def _table(values: Tensor) -> tuple[Tensor, int]:
    n = values.shape[-1].bit_length() - 1
    if values.shape[-1] != 2**n:
        raise ValueError(f"a table of values has 2^n entries, one a coalition; got {values.shape[-1]}")
    return all_coalitions(n), n


def _mean_by_size(terms: Tensor, size: Tensor, largest: int) -> Tensor:
    """Means (..., largest + 1) of the terms (..., B) over the coalitions of each size."""
    sums = terms.new_zeros(*terms.shape[:-1], largest + 1).index_add_(-1, size, terms)
    return sums / torch.tensor([comb(largest, m) for m in range(largest + 1)], dtype=terms.dtype)


# Estimated, by sampling pairs and contexts.


@dataclass(frozen=True)
class Estimate:
    """Sampled interactions of I images, P pairs and M orders, and what they cost.

    ``interaction`` (..., I, P, M) is the mean of Δv over the contexts, ``strength`` the mean of |Δv|, in units of v;
    ``pairs`` is (I, P, 2); ``passes`` counts evaluations of v, over all variants.
    """

    n: int
    orders: list[int]
    contexts: int
    pairs: Tensor
    interaction: Tensor
    strength: Tensor
    passes: int

    def mean(self) -> Tensor:
        """I^(m) of each image (..., I, M): the mean over its pairs."""
        return self.interaction.mean(-2)

    def standard_error(self) -> Tensor:
        """Sampling error of ``mean`` (..., I, M), of pairs and contexts together."""
        return standard_error(self.interaction)

    def disentanglement(self) -> Tensor:
        """D^(m) of each image (..., I, M), plug-in: the mean over pairs of |mean Δv| / mean |Δv| (Eq. 4).

        Biased upward: with K contexts pure noise gives about 1/√K instead of 0. Pairs that never interact are left out.
        """
        return (self.interaction.abs() / self.strength).nanmean(-2)


def standard_error(interaction: Tensor) -> Tensor:
    """Standard error (..., M) of the mean over the pairs of (..., P, M), from the spread between pairs."""
    return interaction.std(-2) / interaction.shape[-2] ** 0.5


def four_point(
    game: Game,
    *,
    n: int,
    pairs: Tensor,
    orders: list[int],
    contexts: int,
    generators: Sequence[torch.Generator],
) -> Estimate:
    """Estimate I_ij^(m) by the mean of Δv over random contexts, four evaluations of v each (Eq. 2, as the paper).

    ``pairs`` is (I, P, 2), with one generator an image; the contexts are common to all variants that the game plays,
    and nested over the orders. Costs exactly 4 · P · contexts · len(orders) passes an image and variant.
    Raises ValueError for an order outside 0..n−2, or fewer than one context.
    """
    check_orders(orders, n)
    if contexts < 1:
        raise ValueError(f"contexts must be at least 1; got {contexts}")
    if pairs.ndim != 3 or not ((pairs >= 0) & (pairs < n)).all() or (pairs[..., 0] == pairs[..., 1]).any():
        raise ValueError(f"pairs must be (images, P, 2), each pair two different players in 0..{n - 1}")
    if len(generators) != len(pairs):
        raise ValueError(f"one generator an image is needed; got {len(generators)} for {len(pairs)} images")
    ranks = torch.stack([context_ranks(p, contexts, n, generator=g) for p, g in zip(pairs, generators, strict=True)])
    interaction, strength = [], []
    passes = 0
    for order in orders:
        delta = contextual_delta_v(game, pairs, ranks < order)
        passes += 4 * delta.numel()
        interaction.append(delta.mean(-1).cpu())
        strength.append(delta.abs().mean(-1).cpu())
    return Estimate(n, list(orders), contexts, pairs, torch.stack(interaction, -1), torch.stack(strength, -1), passes)


def contextual_delta_v(game: Game, pairs: Tensor, context: Tensor) -> Tensor:
    """Δv(i,j,S) (..., I, P, K) of the pairs (I, P, 2) in the contexts S bool (I, P, K, n), by four passes each."""
    i, j = (torch.zeros_like(context[:, :, :1]).scatter_(3, pairs[:, :, None, [k]], True) for k in (0, 1))
    corners = torch.stack([context | i | j, context | i, context | j, context], 1)
    values = game(corners.flatten(1, 3))
    return delta_v(*values.unflatten(-1, corners.shape[1:4]).unbind(-3))


def strong_contexts(delta: Tensor, context: Tensor, *, share: float = 0.1) -> Tensor:
    """How often each player stands in the contexts that matter (P, n), for Figure 2 (S-I.1).

    Of the K contexts S bool (P, K, n) of each pair, with their Δv (P, K), those among the ``share`` strongest whose Δv
    has the sign of the mean are averaged with the weights |Δv|. A pair without such a context gives NaN.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1]; got {share}")
    strength = delta.abs()
    least = strength.quantile(1 - share, dim=1, keepdim=True)
    chosen = (strength >= least) & (delta.sign() == delta.mean(1, keepdim=True).sign())
    weights = (strength * chosen)[:, :, None]
    return (weights * context).sum(1) / weights.sum(1)
