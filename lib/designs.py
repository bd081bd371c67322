"""Designs: which coalitions are played to estimate I^(m) of an image, the mean over its pairs (§3, Eq. 2).

Every design is a contrast of four coalitions, v(S∪A∪B) − v(S∪A) − v(S∪B) + v(S), times a scale. It differs from the
others in how many pairs one contrast measures at once:

- ``four_point``: A = {i}, B = {j}, one pair. The paper's.
- ``signed_groups``: ``group`` disjoint pairs (i, j) of neighbours; i goes with A and j with B or, by the toss of a coin
  for each pair, i and j are kept just where A and B are not. The sign of a pair's own Δv does not change, that of every
  Δv between two pairs is that of two coins: it averages to zero.
- ``curvature``: A and B are groups of random players, as many in each, and all pairs between them count.

What a design estimates without bias is Σ_m w_m I^(m), with the weights w of ``order_weights``: one order for
``four_point``, a band around it for the others. (``signed_groups`` of more than two pairs: see its bias there.)
"""

from collections.abc import Callable, Sequence
from math import isqrt
from numbers import Integral

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lib.players import Players
from lib.sampling import candidates, check_orders, check_sampling, ranks

Design = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]
"""From an order, a count and a generator to corners bool (count, 4, n), S∪A∪B first, S last, and scales (count,)."""

DEFAULTS = {"neighbours": "signed_groups", "uniform": "curvature"}
"""The design that needs the fewest forward passes for the mean over pairs of each sampling."""
DESIGNS = ("four_point", *DEFAULTS.values())
SIGNED_PAIRS = 12
"""Pairs that ``signed_groups`` plays at once, where no other ``group`` is asked for."""


def chosen(sampling: str, *, design: str | None = None, group: int | None = None) -> tuple[str, int | None]:
    """The name of a design and its group: what is given, else what needs the fewest passes for the sampling.

    The group is None where nobody chooses it: one pair of ``four_point``, or the ``fitted_group`` of ``curvature``.
    Raises ValueError for an unknown sampling, and for a group of more than one pair in ``four_point``.
    """
    check_sampling(sampling)
    name = DEFAULTS[sampling] if design is None else design
    if name == "four_point" and group not in (None, 1):
        raise ValueError(f"four_point plays one pair at a time; got a group of {group}")
    return name, SIGNED_PAIRS if group is None and name == "signed_groups" else group


def design(players: Players, *, sampling: str, name: str | None = None, group: int | None = None) -> Design:
    """The design for pairs drawn by ``sampling``, as ``chosen`` has it; raises ValueError where these do not fit."""
    name, group = chosen(sampling, design=name, group=group)
    if name == "four_point":
        return four_point(players, sampling=sampling)
    if name not in DESIGNS:
        raise ValueError(f"unknown design {name!r}: choose one of {', '.join(DESIGNS)}")
    if name != DEFAULTS[sampling]:
        raise ValueError(f"the design {name!r} is not for {sampling} pairs: use {DEFAULTS[sampling]!r} or 'four_point'")
    if name == "curvature":
        return curvature(players.n, group=group)
    assert group is not None  # chosen has set it
    return signed_groups(players, group=group)


def check_reach(design: Design, orders: Sequence[int]) -> None:
    """Raise ValueError for an order that the design does not reach: before any is played, or any attack is made."""
    for order in orders:
        design(order, 1, torch.Generator())


def order_weights(name: str, n: int, order: int, *, group: int | None = None) -> Tensor:
    """Weights w_m (n−1,), m = 0..n−2, of the orders that a design measures when asked for ``order``; they sum to 1.

    ``signed_groups`` has binomial weights: each other player is in the context with the chance order/(n−2). They are
    those of the multilinear extension of the game (Owen, 1972). ``curvature`` has triangular weights over 2·group − 1
    orders; with ``group`` None, those of its ``fitted_group``.
    """
    check_orders([order], n)
    _check_group(group)
    m = np.arange(n - 1)
    if name == "four_point":
        weights = (m == order).astype(float)
    elif name == "signed_groups":
        weights = stats.binom.pmf(m, n - 2, order / max(n - 2, 1))
    elif name == "curvature":
        group = _curvature_group(n, order, group)
        weights = np.clip(group - np.abs(m - order), 0, None) / group**2
    else:
        raise ValueError(f"unknown design {name!r}: choose one of {', '.join(DESIGNS)}")
    return torch.from_numpy(weights)


def _check_group(group: int | None) -> None:
    """Raise ValueError unless it is a whole number of pairs or players, at least 1, or not chosen."""
    if group is not None and (not isinstance(group, Integral) or group < 1):
        raise ValueError(f"a group must be at least 1, a whole number; got {group}")


def four_point(players: Players, *, sampling: str) -> Design:
    """One pair a contrast, drawn evenly, in a context of exactly m of the other players: Δv(i,j,S) of Eq. 2."""
    n, pairs = players.n, candidates(players, sampling)

    def draw(order: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        check_orders([order], n)
        i, j = pairs[torch.randint(len(pairs), (count,), generator=generator)].T
        row = torch.arange(count)
        keys = torch.rand(count, n, generator=generator)
        keys[row, i] = keys[row, j] = 2.0
        corners = (ranks(keys) < order)[:, None].repeat(1, 4, 1)
        corners[row, :2, i] = True
        corners[row, 0, j] = corners[row, 2, j] = True
        return corners, torch.ones(count)

    return draw


def signed_groups(players: Players, *, group: int) -> Design:
    """Up to ``group`` neighbour pairs a contrast, mutually disjoint, each with its own coin.

    Let p = m/(n−2). Each player is kept with the chance p, independently. Of one class of disjoint pairs, each pair may
    take part with the chance 4c, c = min(p, 1−p)², and is then in each of its four states alike; at most ``group`` of
    these do take part, going through all four states. The other pairs are drawn so that, all in all, a pair is in each
    state as often as two independent players would be: (state's chance − c) / (1 − 4c). So around every pair that takes
    part there are, over the four coalitions, exactly independent players of chance p.

    The coins kill what is between an even number of pairs. What is between three at once, all six players, or five or
    more, they do not: the bias of the threes grows with their number, (group − 1)(group − 2)/6 a pair. With ``group`` 2
    there is none, for any game.
    """
    _check_group(group)
    n = players.n
    if not len(players.neighbours):
        raise ValueError(f"signed groups play neighbours; of {n} players none are: choose a finer grid")
    classes = matchings(players.neighbours)
    lengths = torch.tensor([len(pairs) for pairs in classes])
    padded = torch.full((len(classes), int(lengths.max()), 2), n)  # a player n that is thrown away at the end
    for number, pairs in enumerate(classes):
        padded[number, : len(pairs)] = pairs

    def draw(order: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        check_orders([order], n)
        if not 1 <= order <= n - 3:
            raise ValueError(
                f"signed groups of {n} players reach orders in 1..{n - 3}; got {order}: leave that order out, or use "
                "the design four_point"
            )
        p = order / (n - 2)
        c = min(p, 1 - p) ** 2
        chosen = torch.multinomial(lengths.double(), count, replacement=True, generator=generator)
        cumulative, mean_playing = _able(lengths, 4 * c, group=group)
        rank = torch.rand(count, padded.shape[1], generator=generator)
        rank[torch.arange(padded.shape[1]) >= lengths[chosen, None]] = 2.0
        rank = ranks(rank)
        uniform = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        number = torch.searchsorted(cumulative[chosen], uniform, right=True) + 1
        number = torch.minimum(number, lengths[chosen, None])
        playing = rank < number.clamp(max=group)
        uniform = torch.rand(playing.shape, generator=generator)
        state = torch.where(rank < number, (4 * uniform).long(), _idle_state(uniform, p, c))
        coin = torch.rand(playing.shape, generator=generator) < 0.5
        corners = torch.rand(count, n + 1, generator=generator).lt(p)[:, None].repeat(1, 4, 1)
        i, j = padded[chosen].unbind(-1)
        for corner, (with_a, with_b) in enumerate(((True, True), (True, False), (False, True), (False, False))):
            corners[:, corner].scatter_(1, i, torch.where(playing, coin ^ with_a, state >= 2))
            corners[:, corner].scatter_(1, j, torch.where(playing, coin ^ with_b, state % 2 == 1))
        return corners[..., :n], 1 / mean_playing[chosen].float()

    return draw


def fitted_group(n: int, order: int) -> int:
    """The most players a group of ``curvature`` whose orders are not spread wider than those of ``signed_groups``.

    The triangle over 2·group − 1 orders has the variance (group² − 1)/6, the binomial around order m = (n−2)p has
    (n−2)p(1−p). Both pair samplings are then seen at one resolution. No group reaches past the ends, 0 and n−2.
    """
    check_orders([order], n)
    as_wide = isqrt(1 + 6 * order * (n - 2 - order) // max(n - 2, 1))
    return min(as_wide, order + 1, n - 1 - order)


def curvature(n: int, *, group: int | None = None) -> Design:
    """All group² pairs between two groups of random players at once, over the orders m − group + 1 .. m + group − 1.

    For uniformly random pairs I^(m) = V_{m+2} − 2 V_{m+1} + V_m, with V_k the mean output over coalitions of k players;
    two groups of ``group`` players take the same second difference at the stride ``group``. With None each order has
    its ``fitted_group``.
    """
    _check_group(group)

    def draw(order: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        check_orders([order], n)
        size = _curvature_group(n, order, group)
        start = order - size + 1
        rank = ranks(torch.rand(count, n, generator=generator))
        context, first = rank < start, rank < start + size
        second = context | ((rank >= start + size) & (rank < start + 2 * size))
        return torch.stack([first | second, first, second, context], 1), torch.full((count,), 1 / size**2)

    return draw


def _curvature_group(n: int, order: int, group: int | None) -> int:
    """The players a group of ``curvature`` at an order; raises ValueError for a ``group`` that does not reach it."""
    if group is None:
        return fitted_group(n, order)
    if group > min(order + 1, n - 1 - order):
        reached = f"{group - 1}..{n - group - 1}" if group <= n // 2 else "none"
        raise ValueError(
            f"a curvature with two groups of {group} of {n} players reaches the orders {reached}; got {order}: "
            "choose a smaller group"
        )
    return group


def matchings(pairs: Tensor) -> list[Tensor]:
    """The pairs (P, 2) in classes of mutually disjoint ones: each goes to the first class where it meets no other."""
    classes: list[list[int]] = []
    taken: list[set[int]] = []
    for number, pair in enumerate(map(set, pairs.tolist())):
        free = next((k for k, players in enumerate(taken) if not players & pair), len(taken))
        if free == len(taken):
            classes.append([])
            taken.append(set())
        classes[free].append(number)
        taken[free] |= pair
    return [pairs[numbers] for numbers in classes]


def _able(lengths: Tensor, chance: float, *, group: int) -> tuple[Tensor, Tensor]:
    """The cumulative chances (C, L) that 1, 2, … of the ``lengths`` (C,) pairs of each class are able to take part.

    And the mean number (C,) of those that do take part, ``group`` at most. Where k are able, a given one of them takes
    part with the chance group/k: to make up for it, such a k is drawn k/group times as often.
    """
    number = torch.arange(1, int(lengths.max()) + 1, dtype=torch.float64)
    playing = number.clamp(max=group)
    chances = torch.from_numpy(stats.binom.pmf(number.numpy(), lengths[:, None].numpy(), chance)) * number / playing
    chances /= chances.sum(1, keepdim=True)
    return chances.cumsum(1), chances @ playing


def _idle_state(uniform: Tensor, p: float, c: float) -> Tensor:
    """States 0..3 (neither, j, i, both) of pairs that are not able to take part, from uniform numbers."""
    if 4 * c == 1:
        return torch.zeros_like(uniform, dtype=torch.long)  # there are none
    q = 1 - p
    bounds = torch.tensor([q * q - c, q - 2 * c, q + p * q - 3 * c]) / (1 - 4 * c)
    return torch.bucketize(uniform, bounds, right=True)
