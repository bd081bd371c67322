"""Estimators: interactions of an image from sampled coalitions, with their errors and their cost (§3, Eq. 2 and 4).

``order_means`` gives I^(m), the mean over the pairs of an image, by any of the ``designs``. The others keep the pairs
apart: ``own_contexts`` as the paper does, ``shared_contexts`` for four fifths of the passes at 8 pairs, a third at 900.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from numbers import Integral

import torch
from torch import Tensor

from lib.designs import Design, check_reach
from lib.game import Game, play
from lib.interactions import delta_v
from lib.sampling import check_orders, context_ranks, generator

PILOT = 16
"""Replicates, used for nothing else, from whose spread the number of replicates for a wanted error is found."""


@dataclass(frozen=True)
class OrderMeans:
    """Independent replicates of I^(m), an image and order each, in units of v.

    ``replicates`` (..., I, R, M) is filled up with NaN where an order has fewer than R; ``passes`` counts evaluations
    of v over all variants, those of the pilot included.
    """

    orders: list[int]
    replicates: Tensor
    passes: int

    def mean(self) -> Tensor:
        """I^(m) of each image (..., I, M)."""
        return self.replicates.nanmean(-2)

    def standard_error(self) -> Tensor:
        """Sampling error of ``mean`` (..., I, M)."""
        return standard_error(self.replicates)

    def change(self) -> "OrderMeans":
        """ΔI^(m), the first variant minus each other one, on common coalitions (§4.1).

        Raises ValueError unless there are two variants at least.
        """
        if self.replicates.ndim < 4 or len(self.replicates) < 2:
            raise ValueError(
                "a change is between variants: measure two at least, in images (V, I, C, H, W); "
                f"got replicates of shape {tuple(self.replicates.shape)}"
            )
        return OrderMeans(self.orders, self.replicates[:1] - self.replicates[1:], self.passes)


def standard_error(replicates: Tensor) -> Tensor:
    """Standard error (..., M) of the mean over the replicates (..., R, M), NaN left out; NaN for fewer than two."""
    count = replicates.isfinite().sum(-2)
    spread = (replicates - replicates.nanmean(-2, keepdim=True)).square().nansum(-2) / (count - 1)
    return (spread / count).sqrt().where(count > 1, torch.nan)


def order_means(
    game: Game,
    design: Design | Sequence[Design],
    *,
    orders: Sequence[int],
    replicates: int,
    seeds: Sequence[tuple[int, ...]],
    errors: Sequence[float] | None = None,
) -> OrderMeans:
    """I^(m) of every image, at each of the ``orders``, by a design's contrasts of four evaluations of v (Eq. 2).

    ``design`` is that of every image, or, in a sequence, of one image each. ``seeds`` has one tuple an image, such as
    (seed, row): with the order it decides all draws, and the coalitions are common to all variants of the game. With
    ``errors``, one an order, there are as many replicates as bring the sampling error of every variant and of its
    difference from the first one, root mean square over the images, down to about the wanted error, by the spread of a
    pilot; at least ``PILOT`` and at most ``replicates``. What a separate pilot spends is counted.
    Raises ValueError as ``check_replicates`` and ``game.play`` do, for an order that the design does not reach, and for
    seeds of another kind.
    """
    check_replicates(replicates, orders=orders, errors=errors)
    if not isinstance(seeds, Sequence) or not seeds or not all(isinstance(seed, tuple) for seed in seeds):
        raise ValueError(f"seeds have one tuple an image, such as (seed, row); got {seeds!r}")
    designs = [design] * len(seeds) if callable(design) else design
    if len(designs) != len(seeds):
        raise ValueError(f"a sequence of designs has one an image; got {len(designs)} for {len(seeds)} images")
    check_reach(designs[0], orders)
    passes = 0

    def draw(order: int, count: int, stage: int) -> Tensor:
        nonlocal passes
        drawn = [
            of_image(order, count, generator(*seed, order, stage))
            for of_image, seed in zip(designs, seeds, strict=True)
        ]
        corners = torch.stack([coalitions for coalitions, _ in drawn])
        values = play(game, corners.flatten(1, 2)).cpu()
        passes += values.numel()
        scale = torch.stack([scales for _, scales in drawn]).to(values)
        return delta_v(*values.unflatten(-1, (count, 4)).unbind(-1)) * scale

    columns = []
    for number, order in enumerate(orders):
        count = replicates
        if errors is not None:
            pilot = draw(order, PILOT, stage=0)
            if pilot.ndim == 3:
                pilot = torch.cat([pilot, pilot[:1] - pilot[1:]])
            variance = pilot.var(-1).mean(-1).max().item()
            if variance < replicates * errors[number] ** 2:
                count = max(ceil(variance / errors[number] ** 2), PILOT)
        columns.append(draw(order, count, stage=1))
    most = max(column.shape[-1] for column in columns)
    filled = [torch.nn.functional.pad(column, (0, most - column.shape[-1]), value=torch.nan) for column in columns]
    return OrderMeans(list(orders), torch.stack(filled, -1), passes)


def check_replicates(replicates: int, *, orders: Sequence[int], errors: Sequence[float] | None = None) -> None:
    """Raise ValueError for no orders, fewer than two replicates, or, with wanted errors, fewer than the pilot's.

    The ``errors`` must be positive, one an order.
    """
    if not len(orders):
        raise ValueError("at least one order is needed; got none")
    if not isinstance(replicates, Integral) or replicates < 2:
        raise ValueError(f"at least 2 replicates are needed for an error, a whole number of them; got {replicates}")
    if errors is None:
        return
    if isinstance(errors, str) or not isinstance(errors, Sequence):
        raise ValueError(f"errors are a list, one for each of {len(orders)} orders; got {errors!r}")
    if len(errors) != len(orders) or not all(error > 0 for error in errors):
        raise ValueError(f"errors must be positive, one for each of {len(orders)} orders; got {list(errors)}")
    if replicates < PILOT:
        raise ValueError(f"wanted errors take {PILOT} replicates at least, as many as the pilot; got {replicates}")


@dataclass(frozen=True)
class PairEstimate:
    """Sampled interactions of I images, P pairs and M orders, and what they cost.

    ``interaction`` (..., I, P, M) is the mean of Δv over the contexts, ``strength`` the mean of |Δv|, in units of v.
    ``agreement`` is the mean of Δv times the sign that the other contexts of the pair have together; NaN for a single
    context. In expectation ``agreement`` <= |I_ij^(m)| <= |``interaction``|. ``passes`` counts evaluations of v, over
    all variants.
    """

    interaction: Tensor
    strength: Tensor
    agreement: Tensor
    passes: int

    def disentanglement(self, *, estimate: str = "midpoint") -> Tensor:
        """D^(m) of each image (..., I, M): the mean over pairs of |E Δv| / E |Δv| (Eq. 4).

        ``estimate`` says what stands for |E Δv|: "upper", |``interaction``|, as the paper has it, of which pure noise
        leaves 0.8 standard errors; "lower", ``agreement``, of which it leaves nothing; or the "midpoint" of the two.
        The outer two enclose |E Δv| in expectation; D too, unless Δv is very skewed, for E |Δv| is sampled as well.
        Pairs whose sampled Δv are all exactly 0 are left out. Raises ValueError for another estimate.
        """
        return self._of_pairs(estimate).nanmean(-2)

    def disentanglement_error(self) -> Tensor:
        """Standard error of D^(m), the midpoint (..., I, M), by the draw of its pairs; NaN for a single pair.

        It takes pairs for independent. Where they share their contexts it is too small, if anything.
        """
        return standard_error(self._of_pairs("midpoint"))

    def _of_pairs(self, estimate: str) -> Tensor:
        """|E Δv| / E |Δv| of each pair (..., I, P, M), NaN where all Δv are 0."""
        bounds = {"upper": [self.interaction.abs()], "lower": [self.agreement]}
        bounds["midpoint"] = bounds["upper"] + bounds["lower"]
        if estimate not in bounds:
            raise ValueError(f"unknown estimate {estimate!r}: choose one of {', '.join(bounds)}")
        size = torch.stack(bounds[estimate]).mean(0)
        return size / self.strength


def own_contexts(
    game: Game,
    *,
    n: int,
    pairs: Tensor,
    orders: Sequence[int],
    contexts: int,
    generators: Sequence[torch.Generator],
) -> PairEstimate:
    """I_ij^(m) by the mean of Δv over random contexts, four evaluations of v each (Eq. 2, as the paper).

    ``pairs`` is (I, P, 2), with one generator an image; the contexts are common to all variants that the game plays,
    and nested over the orders. Costs exactly 4 · P · contexts · len(orders) passes per image and variant.
    Raises ValueError for an order outside 0..n−2, or fewer than one context.
    """
    _check(pairs, n, orders, contexts, generators)
    ranks = torch.stack([context_ranks(p, contexts, n, generator=g) for p, g in zip(pairs, generators, strict=True)])
    deltas = [contextual_delta_v(game, pairs, ranks < order).cpu() for order in orders]
    return _summary(deltas, passes=4 * sum(delta.numel() for delta in deltas))


def shared_contexts(
    game: Game,
    *,
    n: int,
    pairs: Tensor,
    orders: Sequence[int],
    contexts: int,
    generators: Sequence[torch.Generator],
) -> PairEstimate:
    """I_ij^(m) of many pairs in common contexts, in which v of every single and every pair is evaluated once.

    A context keeps each player with the chance m/(n−2), so the orders have the binomial weights of
    ``designs.order_weights``; orders 0 and n−2 have one context, whose values are exact. Costs 1 + C + P passes a
    context, image, variant and order, with C different players in the pairs (of the image that has most), instead of
    4 · P. Errors of pairs in one context are related: for the mean over pairs, ``order_means`` needs fewer passes.
    The orders take their draws from a generator one after the other: those of an order depend on the orders before it.
    """
    _check(pairs, n, orders, contexts, generators)
    singles = [each.unique() for each in pairs]
    most = max(map(len, singles))
    single = torch.stack([torch.nn.functional.pad(each, (0, most - len(each)), value=int(each[0])) for each in singles])
    place = (pairs[..., None] == single[:, None, None]).long().argmax(-1)  # (I, P, 2), where a player is in ``single``
    image, one, two = torch.arange(len(pairs))[:, None], torch.arange(most), torch.arange(pairs.shape[1])
    flips = torch.zeros(len(pairs), 1 + most + pairs.shape[1], n, dtype=torch.bool)  # nobody, each single, each pair
    flips[image, 1 + one, single] = True
    for k in (0, 1):
        flips[image, 1 + most + two, pairs[..., k]] = True
    deltas, passes = [], 0
    for order in orders:
        several = 0 < order < n - 2
        count = contexts if several else 1
        kept = torch.stack([torch.rand(count, n, generator=g) for g in generators]) < order / max(n - 2, 1)
        values = play(game, (kept[:, :, None] ^ flips[:, None]).flatten(1, 2)).cpu()
        values = values.unflatten(-1, (count, flips.shape[1]))  # (..., I, contexts, 1 + C + P)
        passes += values.numel()
        base, alone, both = values[..., :1], values[..., 1 : 1 + most], values[..., 1 + most :]
        i, j = (place[..., k][:, None].expand(*base.shape[:-1], -1) for k in (0, 1))
        delta = delta_v(both, alone.gather(-1, i), alone.gather(-1, j), base).transpose(-1, -2)
        held = kept.gather(2, pairs.flatten(1)[:, None].expand(-1, count, -1)).unflatten(-1, (-1, 2))
        same = (held[..., 0] == held[..., 1]).transpose(1, 2)  # (I, P, contexts)
        signed = torch.where(same, delta, -delta)
        deltas.append(signed if several else signed.expand(*signed.shape[:-1], 2))  # exact: others agree
    return _summary(deltas, passes=passes)


def contextual_delta_v(game: Game, pairs: Tensor, context: Tensor) -> Tensor:
    """Δv(i,j,S) (..., I, P, K) of the pairs (I, P, 2) in the contexts S bool (I, P, K, n), by four passes each."""
    i, j = (torch.zeros_like(context[:, :, :1]).scatter_(3, pairs[:, :, None, [k]], True) for k in (0, 1))
    corners = torch.stack([context | i | j, context | i, context | j, context], 1)
    values = play(game, corners.flatten(1, 3))
    return delta_v(*values.unflatten(-1, corners.shape[1:4]).unbind(-3))


def _summary(deltas: Sequence[Tensor], *, passes: int) -> PairEstimate:
    """Means over the contexts, the last dimension of Δv (..., I, P, K), an order each."""
    others = [(delta.sum(-1, keepdim=True) - delta).sign() for delta in deltas]
    agreement = [
        (delta * sign).mean(-1) if delta.shape[-1] > 1 else torch.full_like(delta[..., 0], torch.nan)
        for delta, sign in zip(deltas, others, strict=True)
    ]
    return PairEstimate(
        torch.stack([delta.mean(-1) for delta in deltas], -1),
        torch.stack([delta.abs().mean(-1) for delta in deltas], -1),
        torch.stack(agreement, -1),
        passes,
    )


def _check(pairs: Tensor, n: int, orders: Sequence[int], contexts: int, generators: Sequence[torch.Generator]) -> None:
    check_orders(orders, n)
    if contexts < 1:
        raise ValueError(f"contexts must be at least 1; got {contexts}")
    if pairs.ndim != 3 or pairs.shape[2] != 2 or not pairs.shape[1]:
        raise ValueError(f"pairs must be (images, P, 2), at least one an image; got {tuple(pairs.shape)}")
    if not ((pairs >= 0) & (pairs < n)).all() or (pairs[..., 0] == pairs[..., 1]).any():
        raise ValueError(f"pairs must be (images, P, 2), each pair two different players in 0..{n - 1}")
    if len(generators) != len(pairs):
        raise ValueError(f"one generator an image is needed; got {len(generators)} for {len(pairs)} images")
