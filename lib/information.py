"""Proposition 1 on exact discrete joints: interactions of v(S) = H(Y|X_S) are conditional co-information (§4.1).

A joint is a table of probabilities p(x_1, …, x_n, y), float (K_1, …, K_n, K_Y): an axis for each variable, Y the last.
Information is in nats.

The sign. Written out, Δv(i,j,S) = [H(Y|X_S) − H(Y|X_S,X_i)] − [H(Y|X_S,X_j) − H(Y|X_S,X_i,X_j)], which is the
co-information

    MI(X_i;X_j;Y|X_S) = MI(X_i;Y|X_S) − MI(X_i;Y|X_S,X_j):

positive where X_i and X_j tell the same of Y (Y = X_i = X_j), negative where they tell more together than apart
(Y = X_i xor X_j). The paper's proof slips in its signs; its result holds with this one. McGill's interaction
information is the negative of it, and so are the interactions of v = −H, which is the side of log p.
"""

from collections.abc import Iterable
from itertools import combinations

import torch
from torch import Tensor

from lib.interactions import all_coalitions


def entropy_values(joint: Tensor) -> Tensor:
    """v(S) = H(Y|X_S) for every S, a table of values float64 (2^n,) as ``exact_interactions`` takes it (§4.1).

    Raises ValueError for a table that is not a joint of at least two variables and Y, or for more than 16.
    """
    _check(joint)
    n = joint.ndim - 1
    values = []
    for inside in all_coalitions(n):
        with_y = _marginal(joint.double(), [*inside.nonzero().flatten().tolist(), n])
        values.append(torch.special.entr(with_y).sum() - torch.special.entr(with_y.sum(n)).sum())
    return torch.stack(values)


def mutual_information(joint: Tensor, first: Iterable[int], second: Iterable[int], given: Iterable[int] = ()) -> Tensor:
    """MI(A;B|C) = Σ p(a,b,c) log [p(a,b,c) p(c) / (p(a,c) p(b,c))], of the axes A, B and C of the joint.

    Raises ValueError for a table that is not a joint, and for an axis outside 0..n.
    """
    _check(joint)
    a, b, c = set(first), set(second), set(given)
    odd = sorted((a | b | c) - set(range(joint.ndim)))
    if odd:
        raise ValueError(f"the axes of this joint are 0..{joint.ndim - 1}, the last of them Y; got {odd[0]}")
    p_abc, p_c, p_ac, p_bc = (_marginal(joint.double(), axes) for axes in (a | b | c, c, a | c, b | c))
    above = torch.xlogy(p_abc, p_abc) + torch.xlogy(p_abc, p_c)
    below = torch.xlogy(p_abc, p_ac) + torch.xlogy(p_abc, p_bc)
    return (above - below).sum()


def co_information(joint: Tensor, i: int, j: int, given: Iterable[int] = ()) -> Tensor:
    """MI(X_i;X_j;Y|X_S) = MI(X_i;Y|X_S) − MI(X_i;Y|X_S,X_j), S the axes ``given``; positive for redundancy (§4.1).

    Raises ValueError as ``mutual_information`` does, and where i, j, Y and the axes ``given`` are not all different.
    """
    _check(joint)
    y, context = joint.ndim - 1, set(given)
    if len({i, j, y} | context) != 3 + len(context):
        raise ValueError(f"i, j, Y and the axes of S are different ones; got {i}, {j}, {y} and {sorted(context)}")
    return mutual_information(joint, [i], [y], context) - mutual_information(joint, [i], [y], context | {j})


def order_co_information(joint: Tensor) -> Tensor:
    """E_S MI(X_i;X_j;Y|X_S) over |S| = m (n−1, n, n), every order and pair; zero where i = j (Proposition 1).

    Computed from mutual information alone, never from v: the right side of Proposition 1, to compare with
    ``exact_interactions(entropy_values(joint))``. Raises ValueError for a table that is not a joint.
    """
    _check(joint)
    n = joint.ndim - 1
    result = joint.new_zeros(n - 1, n, n, dtype=torch.float64)
    for i, j in combinations(range(n), 2):
        others = [k for k in range(n) if k not in (i, j)]
        for m in range(n - 1):
            terms = [co_information(joint, i, j, context) for context in combinations(others, m)]
            result[m, i, j] = result[m, j, i] = torch.stack(terms).mean()
    return result


def _marginal(joint: Tensor, axes: Iterable[int]) -> Tensor:
    """Probabilities of the variables of these axes; the other axes are summed over and keep length 1."""
    others = sorted(set(range(joint.ndim)) - set(axes))
    return joint.sum(others, keepdim=True) if others else joint


def _check(joint: Tensor) -> None:
    if joint.ndim < 3 or not joint.is_floating_point():
        raise ValueError(
            "a joint is a float table p(x_1, …, x_n, y) with an axis for each of n ≥ 2 variables and a last one for Y; "
            f"got {tuple(joint.shape)} of {joint.dtype}"
        )
    if not (joint >= 0).all() or abs(joint.sum(dtype=torch.float64).item() - 1) > 1e-6:
        raise ValueError(
            "the probabilities of a joint are at least 0 and sum to 1; "
            f"got a least one of {joint.min():.3g} and a sum of {joint.sum():.6g}: divide counts by their sum"
        )
