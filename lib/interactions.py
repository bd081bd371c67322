"""Multi-order interactions: their definitions, and their exact values by enumeration (§3, Eq. 2–5)."""

from math import comb

import torch
from torch import Tensor

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
        raise ValueError(f"enumeration takes 2 to {MOST_PLAYERS} players; got {n}: sample more, with lib.estimators")
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1


def exact_interactions(values: Tensor) -> Tensor:
    """I_ij^(m) (..., n−1, n, n), every order and pair, from a table of values (..., 2^n); zero where i = j (Eq. 2)."""
    return _exact_pairs(values, absolute=False)


def exact_strengths(values: Tensor) -> Tensor:
    """E_S |Δv(i,j,S)| (..., n−1, n, n), the denominator of the disentanglement, from a table of values (Eq. 4)."""
    return _exact_pairs(values, absolute=True)


def _exact_pairs(values: Tensor, *, absolute: bool) -> Tensor:
    values, coalitions, n = _table(values)
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
    values, coalitions, n = _table(values)
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
    weights = interaction.new_tensor([j_weight(n, m) for m in range(n - 1)])
    return interaction * weights[:, None, None]


def exact_disentanglement(values: Tensor) -> Tensor:
    """D^(m) (..., n−1), mean over pairs of |I_ij^(m)| / E_S |Δv| (Eq. 4).

    Pairs that do not interact at that order, up to rounding, are left out.
    """
    values, _, n = _table(values)
    upper = torch.ones(n, n, dtype=torch.bool).triu(1)
    strength = exact_strengths(values)[..., upper]
    rounding = 100 * torch.finfo(values.dtype).eps * values.abs().amax(-1)[..., None, None]
    ratio = exact_interactions(values).abs()[..., upper] / strength
    return ratio.where(strength > rounding, torch.nan).nanmean(-1)


def _table(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """A table of values on the CPU, where it is summed up, its coalitions and its number of players."""
    n = values.shape[-1].bit_length() - 1
    if values.shape[-1] != 2**n:
        raise ValueError(f"a table of values has 2^n entries, one a coalition; got {values.shape[-1]}")
    if not values.is_floating_point():
        raise ValueError(f"a table of values holds floats, of which means are taken; got {values.dtype}")
    return values.cpu(), all_coalitions(n), n


def _mean_by_size(terms: Tensor, size: Tensor, largest: int) -> Tensor:
    """Means (..., largest + 1) of the terms (..., B) over the coalitions of each size."""
    sums = terms.new_zeros(*terms.shape[:-1], largest + 1).index_add_(-1, size, terms)
    return sums / torch.tensor([comb(largest, m) for m in range(largest + 1)], dtype=terms.dtype)
