"""The ε × order view: what a change of an image does to its interactions at each order, drawn for a widget (§4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from lib import estimators, experiments, game, players, plots, sampling

GRID = 16
"""The players are GRID × GRID cells."""


@dataclass(frozen=True)
class View:
    """A line of the picture: K images, ``normal`` and ``changed`` (K, C, H, W) in [0, 1], as a network sees them.

    ``labels`` (K,) are the classes of v, named by ``value`` as ``game.named_value`` has it. ``rows`` (K,) name the
    images: with a seed they decide the draws of each.
    """

    title: str
    model: nn.Module
    normal: Tensor
    changed: Tensor
    labels: Tensor
    rows: list[int]
    value: str = "log_probability"


def order_pictures(
    views: Sequence[View],
    *,
    orders: list[int],
    baseline: Tensor,
    heights: tuple[float, float],
    contexts: int = 24,
    replicates: int = 16,
    sampling: str = "neighbours",
    seed: int = 0,
) -> list[bytes]:
    """A PNG picture an order m, a line a view.

    From left to right: the first image as changed; the change; what a context of m players and a marked pair leave of
    it; Δv of that pair in ``contexts`` contexts of m players, before and after the change; and ΔI^(m) of all images,
    the order marked, drawn from ``heights[0]`` to ``heights[1]``.
    """
    if not views:
        raise ValueError("at least one view is needed")
    measured = [
        _measured(
            view,
            orders,
            baseline=baseline,
            contexts=contexts,
            replicates=replicates,
            pair_sampling=sampling,
            seed=seed,
        )
        for view in views
    ]
    figure, table = plt.subplots(
        len(views),
        5,
        figsize=(10.5, 2.3 * len(views)),
        width_ratios=[1, 1, 1, 1.4, 1.6],
        squeeze=False,
        layout="constrained",
    )
    pictures = []
    with plt.rc_context({"axes.titley": 1.0}):  # else every title looks for room first, for longer than drawing takes
        for place in range(len(orders)):
            for line, view, found in zip(table, views, measured, strict=True):
                _draw(line, view, found, place, orders=orders, heights=heights)
            pictures.append(plots.png(figure))
            figure.set_layout_engine("none")  # the first picture's holds for all
    return pictures


@dataclass(frozen=True)
class _Measured:
    pair: Tensor  # (2,)
    masked: Tensor  # (orders, C, H, W)
    delta: Tensor  # (2, orders, contexts), normal and changed
    change: Tensor  # (orders,)


def _measured(
    view: View,
    orders: list[int],
    *,
    baseline: Tensor,
    contexts: int,
    replicates: int,
    pair_sampling: str,
    seed: int,
) -> _Measured:
    grid = players.grid(*view.normal.shape[-2:], side=GRID)
    draw = sampling.generator(seed, view.rows[0])
    pair = sampling.pairs(grid, 1, sampling=pair_sampling, generator=draw)
    ranks = sampling.context_ranks(pair, contexts, grid.n, generator=draw)[0]
    context = torch.stack([ranks < m for m in orders])  # (orders, contexts, n)
    both = torch.stack([view.normal, view.changed])
    own_game = game.MaskingGame(
        view.model, grid, both[:, :1], view.labels[:1], baseline=baseline, value=game.named_value(view.value)
    )
    delta = estimators.contextual_delta_v(own_game, pair[None], context.flatten(0, 1)[None, None])
    estimate = experiments.measure(
        view.model,
        both,
        view.labels,
        baseline=baseline,
        orders=orders,
        rows=view.rows,
        replicates=replicates,
        sampling=pair_sampling,
        grid=GRID,
        value=view.value,
        seed=seed,
    )
    kept = context[:, 0].clone()
    kept[:, pair[0]] = True
    return _Measured(
        pair=pair[0],
        masked=torch.where(grid.expand(kept), view.changed[0].cpu(), baseline.cpu()),
        delta=delta.cpu().unflatten(-1, (len(orders), contexts))[:, 0, 0],
        change=estimate.change().mean()[0].mean(0),
    )


def _draw(
    line: Sequence[Axes], view: View, found: _Measured, place: int, *, orders: list[int], heights: tuple[float, float]
) -> None:
    for axes in line:
        axes.clear()
    image, change, masked, histogram, curve = line
    plots.show(image, view.changed[0].cpu(), title=view.title)
    plots.show(change, (view.changed[0] - view.normal[0]).cpu(), title="the change", limit=32 / 255)
    plots.show(masked, found.masked[place], title=f"m = {orders[place]} and the pair")
    plots.outline(masked, found.pair.tolist(), side=GRID, pixels=view.normal.shape[-1])

    before, after = found.delta[:, place].numpy()
    end = max(np.abs([before, after]).max(), 1e-3)
    bins = np.linspace(-end, end, 16).tolist()
    histogram.hist(before, bins=bins, color=plots.NORMAL, alpha=0.5, label="normal")
    histogram.hist(after, bins=bins, color=plots.ADVERSARIAL, histtype="step", linewidth=1.5, label="changed")
    histogram.axvline(0, color="grey", linewidth=0.8)
    histogram.set_title(f"Δv of the pair, mean {before.mean():z.3f} → {after.mean():z.3f}", fontsize=8)
    histogram.legend(frameon=False, fontsize=7)

    fractions = [m / (GRID**2 - 2) for m in orders]
    curve.axhline(0, color="grey", linewidth=0.8)
    curve.plot(fractions, found.change, "^-", color=plots.DIFFERENCE, markersize=4)
    curve.plot(fractions[place], found.change[place], "o", color=plots.ADVERSARIAL, markersize=9, fillstyle="none")
    curve.set_ylim(*heights)
    curve.set_title(f"ΔI, mean of {len(view.labels)} images", fontsize=8)
    curve.set_xlabel("order m / (n − 2)", fontsize=8)
    for axes in (histogram, curve):
        axes.tick_params(labelsize=7)
