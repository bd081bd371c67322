"""Where the contexts are in which a pair interacts most: are those of low order near it? (§3, Figure 2, S-I.1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor

from lib import results, sampling
from lib.estimators import contextual_delta_v
from lib.pair_experiments import OfPairs, setting


@dataclass(frozen=True)
class Contexts(OfPairs):
    """What is asked: the locality of strong contexts, of ``pairs`` pairs an image, ``contexts`` contexts an order."""

    verb: ClassVar[str] = "contexts"
    pairs: int = 5
    contexts: int = 50
    fractions: tuple[float, ...] = (0.1, 0.5, 0.9)


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


def locality(maps: Tensor, pairs: Tensor, *, side: int) -> Tensor:
    """How much nearer to its pair (P, 2) a map of contexts (P, n) is than a map that is even: 1 − d / d_even, (P,).

    d is the mean distance, in cells, of the players outside the pair from the nearer of the two, weighted by the map;
    for d_even all have one weight. Contexts that are drawn without regard to the pair give 0 in the mean, those nearer
    to it more, at most 1.
    """
    cells = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2).float()
    distance = torch.cdist(cells[pairs], cells).amin(1)  # (P, n), 0 for the pair itself
    outside = distance > 0
    even = (distance * outside).sum(1) / outside.sum(1)
    weight = maps * outside
    return 1 - (weight * distance).sum(1) / weight.sum(1) / even


def localities(
    asked: Contexts,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Carry out the measurement: locality (image, order), the mean over the pairs of an image.

    Raises ValueError for an unknown value, baseline or sampling, for no context, for the orders 0 and n−2, which have
    one context alone, a grid too small for near and far, and for more images or pairs than there are.
    """
    if asked.contexts < 1:
        raise ValueError(f"at least 1 context is needed, for each pair and order; got {asked.contexts}")
    if asked.grid < 3:
        raise ValueError(f"on a grid of 2 × 2 every player is as near to a pair: choose 3 at least; got {asked.grid}")
    ready = setting(asked, device=device, root=root, batch_size=batch_size)
    if {0, asked.grid**2 - 2} & {*ready.orders}:
        raise ValueError("at order 0 no other player is present, at order n−2 all are: leave out what has one context")

    def block(chosen: Tensor) -> xr.Dataset:
        played, draws, pairs = ready.play(chosen)
        ranks = torch.stack(
            [
                sampling.context_ranks(pair, asked.contexts, played.n, generator=draw)
                for pair, draw in zip(pairs, draws, strict=True)
            ]
        )
        columns = []
        for order in ready.orders:
            context = ranks < order
            delta = contextual_delta_v(played, pairs, context).cpu()
            found = [
                locality(strong_contexts(of_image, kept.float()), pair, side=asked.grid)
                for of_image, kept, pair in zip(delta, context, pairs, strict=True)
            ]
            columns.append(torch.stack(found).nanmean(1))
        of_orders = torch.stack(columns, 1)
        return ready.labelled(
            chosen,
            {"locality": (("image", "order"), of_orders, {"what": "1 − d / d_even, mean over pairs"})},
            passes=played.passes,
        )

    return results.measured(
        block, asked, inputs=ready.subjects.inputs, device=device, root=root, description=f"contexts of {asked.model}"
    )
