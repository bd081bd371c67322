"""Interactions of every pair and order from few values of v: a Gaussian process on coalitions, in closed form.

For n ≤ 16 players, where v is evaluated on some of the 2^n coalitions and every pair is wanted: in four-point
sampling a value of v serves a single Δv, here it serves all pairs and orders.

The model: v is an additive game, of which nothing is assumed, plus a random game whose covariance
k(S,T) = κ(|S △ T|) depends on how many players tell S from T. Its posterior mean f, given v on B coalitions T, is

    f(S) = additive(S) + Σ_T α_T κ(|S △ T|),

with α from one linear system. The interactions of f need no sampling. For S without i and j let d = |S △ (T∖{i,j})|;
the distances from T to S∪{i,j}, S∪{i}, S∪{j} and S are d, d+1, d+1, d+2 up to order if T holds both or neither of i
and j, and d+1, d, d+2, d+1 up to order if it holds one. Therefore

    Δ_ij κ(|S △ T|) = σ_i σ_j (κ(d) − 2κ(d+1) + κ(d+2)),  σ_i = +1 if i ∈ T, else −1,

and its mean over contexts |S| = m is a table of m and |T∖{i,j}|, since |S ∩ T| is hypergeometric (``mean_curvature``).

What it is worth: f passes through every value given, so with all 2^n coalitions the result is exact; so it is for
additive games. With fewer it is biased: where coalitions are missing, interactions shrink towards 0. Sampled contexts
(``estimators.own_contexts``) are the unbiased alternative; this one has the smaller error.
"""

from itertools import product
from math import comb

import torch
from torch import Tensor

from lib.interactions import all_coalitions

CORRELATIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
ROUGHNESSES = (1e-3, 1e-2, 1e-1)
"""The kernels among which ``likeliest_kernel`` chooses."""


def draw_coalitions(n: int, count: int, *, generator: torch.Generator) -> Tensor:
    """``count`` different coalitions bool (count, n), each with its complement; ∅ and N are always among them.

    Drawn without replacement, a size s with the weight 1/(s(n−s)): small and large coalitions are rare and tell most.
    Raises ValueError for an odd count, or one outside 2..2^n.
    """
    half = all_coalitions(n)[: 2 ** (n - 1)]
    if count % 2 or not 2 <= count <= 2**n:
        raise ValueError(f"coalitions of {n} players are drawn in pairs: count must be even in 2..{2**n}; got {count}")
    weights = torch.tensor([torch.inf] + [1 / (s * (n - s) * comb(n, s)) for s in range(1, n)], dtype=torch.float64)
    arrival = torch.empty(len(half), dtype=torch.float64).exponential_(generator=generator) / weights[half.sum(1)]
    chosen = half[arrival.argsort()[: count // 2]]
    return torch.cat([chosen, ~chosen])


def geometric_kernel(n: int, correlation: float, roughness: float) -> Tensor:
    """κ(d) = correlation^d + roughness·[d = 0] (n+1,), by the number d = |S △ T| of players that differ.

    The first part holds less of an interaction the more players take part in it; the second treats all alike.
    """
    kernel = correlation ** torch.arange(n + 1, dtype=torch.float64)
    kernel[0] += roughness
    return kernel


def likeliest_kernel(values: Tensor, coalitions: Tensor) -> Tensor:
    """The geometric kernel (n+1,) that gives the values (B,) of the coalitions bool (B, n) the highest likelihood."""
    kernels = [geometric_kernel(coalitions.shape[1], *options) for options in product(CORRELATIONS, ROUGHNESSES)]
    return max(kernels, key=lambda kernel: _fit(values, coalitions, kernel)[1])


def kernel_interactions(values: Tensor, coalitions: Tensor, *, kernel: Tensor | None = None) -> Tensor:
    """I_ij^(m) (n−1, n, n), every order and pair, from values (B,) of different coalitions bool (B, n), in units of v.

    ``kernel`` (n+1,) is κ, by default the likeliest. Its mean over orders is the Shapley interaction index.
    Exact where B = 2^n and for additive games; shrunk towards 0 otherwise (see the top of this file). Takes B³ time.
    Raises ValueError for shapes that do not fit, repeated coalitions, or too few to fix an additive game.
    """
    _check(values, coalitions)
    n = coalitions.shape[1]
    if kernel is None:
        kernel = likeliest_kernel(values, coalitions)
    if kernel.shape != (n + 1,):
        raise ValueError(f"the kernel of {n} players has {n + 1} values, one a distance; got {tuple(kernel.shape)}")
    alpha, _ = _fit(values, coalitions, kernel)
    table, size = mean_curvature(kernel.double()), coalitions.sum(1)
    inside = coalitions.double()
    outside = 1 - inside

    def over_coalitions(i_side: Tensor, j_side: Tensor, held: int) -> Tensor:
        """Sums (n−1, n, n) over those coalitions that hold ``held`` players of the pair (i, j)."""
        weights = alpha * table[:, (size - held).clamp(0, n - 2)]
        return torch.einsum("mt,ti,tj->mij", weights, i_side, j_side)

    one = over_coalitions(inside, outside, 1)
    result = over_coalitions(inside, inside, 2) + over_coalitions(outside, outside, 0) - one - one.mT
    result.diagonal(dim1=1, dim2=2).zero_()
    return result.to(values.dtype)


def mean_curvature(kernel: Tensor) -> Tensor:
    """E_S[κ(d) − 2κ(d+1) + κ(d+2)], d = |S △ T|, over |S| = m, for |T| = t: a table (n−1, n−1) of m and t.

    S and T are sets of the n − 2 players outside the pair, the kernel is (n+1,).
    """
    curvature = kernel[:-2] - 2 * kernel[1:-1] + kernel[2:]
    others = len(curvature) - 1
    table = kernel.new_zeros(others + 1, others + 1)
    for m, t in product(range(others + 1), repeat=2):
        for shared in range(max(0, m + t - others), min(m, t) + 1):
            probability = comb(t, shared) * comb(others - t, m - shared) / comb(others, m)
            table[m, t] += probability * curvature[m + t - 2 * shared]
    return table


def _fit(values: Tensor, coalitions: Tensor, kernel: Tensor) -> tuple[Tensor, float]:
    """α (B,) and the log-likelihood, up to a constant, of what is left of the values when additive games are free.

    The scale of the covariance is the likeliest one, which α does not depend on.
    """
    count, n = coalitions.shape
    signs = 2 * coalitions.double() - 1
    distance = ((n - signs @ signs.T) / 2).round().long()
    additive = torch.cat([torch.ones(count, 1, dtype=torch.float64), signs], 1)
    root = torch.linalg.cholesky(kernel.double()[distance])
    solved = torch.cholesky_solve(torch.cat([values.double()[:, None], additive], 1), root)
    gram = additive.T @ solved[:, 1:]
    alpha = solved[:, 0] - solved[:, 1:] @ torch.linalg.solve(gram, additive.T @ solved[:, 0])
    square = (alpha @ values.double()).clamp(min=torch.finfo(torch.float64).tiny)
    determinants = 2 * root.diagonal().log().sum() + gram.logdet()
    return alpha, -0.5 * ((count - n - 1) * square.log() + determinants).item()


def _check(values: Tensor, coalitions: Tensor) -> None:
    if coalitions.ndim != 2 or coalitions.dtype != torch.bool or values.shape != coalitions.shape[:1]:
        raise ValueError(
            "coalitions must be bool (B, n) with one value each (B,); "
            f"got {tuple(coalitions.shape)} of {coalitions.dtype} and values {tuple(values.shape)}"
        )
    count, n = coalitions.shape
    if n < 2:
        raise ValueError(f"interactions take at least 2 players; got {n}")
    if not values.is_floating_point():
        raise ValueError(
            f"values must be floating point, or interactions are rounded; got {values.dtype}: use .double()"
        )
    if not values.isfinite().all():
        raise ValueError(f"{int((~values.isfinite()).sum())} of {count} values are infinite or not a number")
    different = len(coalitions.unique(dim=0))
    if different != count:
        raise ValueError(f"every coalition must be given once; {count - different} of {count} are repetitions")
    additive = torch.cat([torch.ones(count, 1), coalitions.float()], 1)
    if count < n + 2 or torch.linalg.matrix_rank(additive) <= n:
        raise ValueError(f"{count} coalitions of {n} players do not fix an additive game: give more, of several sizes")
