"""The ε × order view: what a change of an image does to its interactions at each order, drawn for a widget (§4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from lib import estimators, experiments, game, players, plots
from lib.attacks import pgd_inside
from lib.sampling import context_ranks, generator, pairs

GRID = 16
"""The players are GRID × GRID cells."""


@dataclass(frozen=True)
class View:
    """A line of the picture: K images as a network sees them, ``normal`` (K, C, H, W) in [0, 1] and changed.

    ``changed`` (E, K, C, H, W) has a change for each ε. ``labels`` (K,) are the classes of v, named by ``value`` as
    ``game.named_value`` has it. ``rows`` (K,) name the images: with a seed they decide the draws of each.
    """

    title: str
    model: nn.Module
    normal: Tensor
    changed: Tensor
    labels: Tensor
    rows: list[int]
    value: str = "log_probability"


def attacked(model: nn.Module, images: Tensor, labels: Tensor, *, epsilons: Sequence[float]) -> Tensor:
    """Adversarial images (E, K, C, H, W) of images (K, C, H, W), one of each for every ε, by ``attacks.pgd_inside``."""
    return torch.stack([pgd_inside(model, images, labels, epsilon=bound) for bound in epsilons])


def order_pictures(
    views: Sequence[View],
    *,
    epsilons: Sequence[float],
    orders: list[int],
    baseline: Tensor,
    heights: tuple[float, float],
    contexts: int = 24,
    replicates: int = 16,
    sampling: str = "neighbours",
    seed: int = 0,
) -> list[list[bytes]]:
    """PNG pictures, for each of the ``epsilons`` one per order m, a row per view.

    From left to right: the first image as changed; the change; what a context of m players and a marked pair leave of
    it; Δv of that pair in ``contexts`` contexts of m players, before and after the change; and ΔI^(m) of all images,
    the order marked, drawn from ``heights[0]`` to ``heights[1]``. The normal images are played once for all changes,
    an ε of 0 at their head among them.
    Raises ValueError where there is no view, or a view has not one change an ε.
    """
    if not views:
        raise ValueError("at least one view is needed")
    for view in views:
        if len(view.changed) != len(epsilons):
            raise ValueError(f"{view.title!r} has {len(view.changed)} changes for {len(epsilons)} epsilons: one each")
    figure, table = plt.subplots(
        len(views), 5, figsize=(10.5, 2.3 * len(views)), width_ratios=[1, 1, 1, 1.4, 1.6], squeeze=False
    )
    figure.set_layout_engine("constrained", w_pad=0.08)
    pictures = []
    with plt.rc_context({"axes.titley": 1.0}):  # else every title looks for room first, for longer than drawing takes
        turns = []
        for line, view in zip(table, views, strict=True):
            found = _measured(
                view,
                orders,
                baseline=baseline,
                contexts=contexts,
                replicates=replicates,
                sampling=sampling,
                seed=seed,
            )
            turns.append(_draw(line, view, found, epsilons=epsilons, orders=orders, heights=heights))
        for k in range(len(epsilons)):
            column = []
            for place in range(len(orders)):
                for turn in turns:
                    turn(k, place)
                column.append(plots.png(figure))
                figure.set_layout_engine("none")  # the first picture's holds for all
            pictures.append(column)
    return pictures


@dataclass(frozen=True)
class _Measured:
    pair: Tensor  # (2,)
    masked: Tensor  # (E, orders, C, H, W)
    delta: Tensor  # (1 + E, orders, contexts), normal first
    change: Tensor  # (E, orders)


def _measured(
    view: View,
    orders: list[int],
    *,
    baseline: Tensor,
    contexts: int,
    replicates: int,
    sampling: str,
    seed: int,
) -> _Measured:
    grid = players.grid(*view.normal.shape[-2:], side=GRID)
    draw = generator(seed, view.rows[0])
    pair = pairs(grid, 1, sampling=sampling, generator=draw)
    ranks = context_ranks(pair, contexts, grid.n, generator=draw)[0]
    context = torch.stack([ranks < m for m in orders])  # (orders, contexts, n)
    every = torch.cat([view.normal[None], view.changed])
    variants, which = torch.unique_consecutive(every, dim=0, return_inverse=True)  # ε = 0 changes nothing
    own_game = game.MaskingGame(
        view.model, grid, variants[:, :1], view.labels[:1], baseline=baseline, value=game.named_value(view.value)
    )
    delta = estimators.contextual_delta_v(own_game, pair[None], context.flatten(0, 1)[None, None])
    estimate = experiments.measure(
        view.model,
        variants,
        view.labels,
        baseline=baseline,
        orders=orders,
        rows=view.rows,
        replicates=replicates,
        sampling=sampling,
        grid=GRID,
        value=view.value,
        seed=seed,
    )
    which = which.cpu()
    interaction = estimate.mean()[which]
    kept = context[:, 0].clone()
    kept[:, pair[0]] = True
    return _Measured(
        pair=pair[0],
        masked=torch.where(grid.expand(kept), view.changed[:, :1].cpu(), baseline.cpu()),
        delta=delta.cpu().unflatten(-1, (len(orders), contexts))[which, 0, 0],
        change=(interaction[0] - interaction[1:]).mean(1),
    )


def _draw(
    line: Sequence[Axes],
    view: View,
    found: _Measured,
    *,
    epsilons: Sequence[float],
    orders: list[int],
    heights: tuple[float, float],
) -> Callable[[int, int], None]:
    """Draw a line of panels; returns what turns it to an ε and an order, given by their places."""
    image, change, masked, histogram, curve = line
    first, limit = view.changed[:, 0].cpu(), 32 / 255
    changes = first - view.normal[0].cpu()
    image_shown = plots.show(image, first[0], title=view.title)
    change_shown = plots.show(change, changes[0], limit=limit)
    masked_shown = plots.show(masked, found.masked[0, 0])
    plots.outline(masked, found.pair.tolist(), side=GRID, pixels=view.normal.shape[-1])

    normal = histogram.stairs([0], [0, 1], fill=True, color=plots.NORMAL, alpha=0.5, label="normal")
    changed = histogram.stairs([0], [0, 1], color=plots.ADVERSARIAL, linewidth=1.5, label="changed")
    histogram.axvline(0, color="grey", linewidth=0.8)
    histogram.legend(frameon=False, fontsize=7)
    histogram.set_ylabel("contexts", fontsize=7)

    fractions = [m / (GRID**2 - 2) for m in orders]
    curve.axhline(0, color="grey", linewidth=0.8)
    (means,) = curve.plot(fractions, found.change[0], "^-", color=plots.DIFFERENCE, markersize=4)
    (mark,) = curve.plot([0], [0], "o", color=plots.ADVERSARIAL, markersize=9, fillstyle="none")
    curve.set_xlim(-0.02, 1)
    curve.set_ylim(*heights)
    curve.set_title(f"ΔI, mean of {len(view.labels)} images", fontsize=8)
    curve.set_xlabel("order m / (n − 2)", fontsize=8)
    for axes in (histogram, curve):
        axes.tick_params(labelsize=7)

    def turn(k: int, place: int) -> None:
        image_shown.set_data(plots.pixels(first[k]))
        change_shown.set_data(plots.pixels(changes[k], signed=True))
        change.set_title(f"the change, ε = {255 * epsilons[k]:g}/255", fontsize=9)
        masked_shown.set_data(plots.pixels(found.masked[k, place]))
        masked.set_title(f"m = {orders[place]} and the pair", fontsize=9)

        before, after = found.delta[0, place].numpy(), found.delta[1 + k, place].numpy()
        end = max(np.abs([before, after]).max(), 1e-3)
        bins = np.linspace(-end, end, 16)
        counts = [np.histogram(values, bins)[0] for values in (before, after)]
        for steps, count in zip((normal, changed), counts, strict=True):
            steps.set_data(count, bins)
        histogram.set_xlim(-1.05 * end, 1.05 * end)
        histogram.set_ylim(0, 1.05 * np.max(counts))
        histogram.set_xticks([-end, 0, end], [f"−{end:.2g}", "0", f"{end:.2g}"])
        means_told = f"mean {before.mean():z.3f} → {after.mean():z.3f}".replace("-", "−")
        histogram.set_title(f"Δv of the pair, {means_told}", fontsize=8)

        means.set_ydata(found.change[k])
        mark.set_data([fractions[place]], [found.change[k, place]])

    return turn
