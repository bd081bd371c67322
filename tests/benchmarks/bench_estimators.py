"""Benchmarks (b) and (c): forward passes, and seconds, to a wanted error of ΔI^(m), normal minus adversarial.

The passes to a standard error e are 8 · variance / e², with the variance of one replicate: a contrast of four passes of
the normal image and four of the adversarial one, on common coalitions. What the shared designs estimate is the mean
of I^(m) over a band of orders, see ``designs.order_weights``; the passes are to the sampling error, without its bias.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib import designs, estimators, experiments, game, models, players, sampling
from lib.sampling import generator
from tests.benchmarks.common import Row, best, row, task

GRID = players.grid(32, 32, side=16)
IMAGES, REPLICATES = 6, 48
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
ERRORS = {"neighbours": 0.01, "uniform": 0.001}
"""The standard error of an image's ΔI^(m), in units of v, to which passes and seconds are counted."""
DESIGNS: dict[str, dict[str, tuple[int | None, ...]]] = {
    "neighbours": {"signed_groups": (12, 2)},
    "uniform": {"curvature": (None, 7)},
}
"""By sampling, the designs that are set against ``four_point``, with their groups; the first is the default."""
TARGETS = {"neighbours": 2.0, "uniform": 10.0}
WINDOW_FRACTION, WINDOWS = 0.8, 24
"""Order and number, an image, of the windows of 3 × 3 players whose pairs share their contexts."""
WALL_FRACTION = 0.9
PAIRS, PAIR_CONTEXTS = 60, 6
"""Pairs an image, and contexts of each, from which the spread between pairs and that between contexts are told."""
CONTEXTS, TIMED_PAIRS, TIMED_REPLICATES, REPEATS = 100, 3, 12, 3
"""Contexts a pair of the authors' procedure, its pairs in a timed run, replicates of a run of ours, and the runs."""


@dataclass(frozen=True)
class Setting:
    """A network, images (2, I, C, H, W), normal and adversarial, with their labels, baseline and rows in the data."""

    dataset: str
    model: nn.Module
    images: Tensor
    labels: Tensor
    baseline: Tensor
    rows: list[int]

    def game(self) -> game.MaskingGame:
        return game.MaskingGame(self.model, GRID, self.images, self.labels, baseline=self.baseline)


def rows() -> list[Row]:
    """Rows (b), for every order and over all, and rows (c)."""
    setting = prepare()
    counted, variances = passes_to_error(setting)
    return [*counted, shared_windows(setting, variances["neighbours", "four_point", 1]), *seconds(setting, variances)]


def prepare() -> Setting:
    """Images that the standard network classifies correctly, with their twins of the attack "untargeted 8"."""
    model, data = task()
    chosen, images, labels = experiments.correct_images(model, data, IMAGES, seed=0)
    attacked = experiments.attack(model, images, labels, "untargeted 8")
    variants = torch.stack([images, attacked.images])
    return Setting(data.name, model, variants, labels, experiments.baseline("mean", data), chosen.tolist())


def measured(
    setting: Setting, how: str, name: str, group: int | None, fractions: tuple[float, ...], count: int
) -> Tensor:
    """``count`` replicates of ΔI^(m) (I, count, M) by a design."""
    design = designs.design(GRID, sampling=how, name=name, group=group)
    seeds = [(1, image) for image in setting.rows]
    orders = sampling.orders(GRID.n, fractions)
    found = estimators.order_means(setting.game(), design, orders=orders, replicates=count, seeds=seeds)
    return found.change().replicates[0]


def passes_to_error(setting: Setting) -> tuple[list[Row], dict[tuple[str, str, int | None], Tensor]]:
    """Rows (b), and the variance (M,) of one replicate of an image, by sampling, design and group."""
    result: list[Row] = []
    variances: dict[tuple[str, str, int | None], Tensor] = {}
    for how, against in DESIGNS.items():
        theirs = measured(setting, how, "four_point", 1, FRACTIONS, REPLICATES).double().var(1).mean(0)
        variances[how, "four_point", 1] = theirs
        for name, groups in against.items():
            for group in groups:
                ours = measured(setting, how, name, group, FRACTIONS, REPLICATES).double().var(1).mean(0)
                variances[how, name, group] = ours
                what = f"passes to a standard error of {ERRORS[how]} of ΔI, {setting.dataset}, {how}"
                design = labelled(name, group)
                for number, fraction in enumerate(FRACTIONS):
                    result.append(
                        row(
                            "b",
                            f"{what}, order {fraction}n, {design}",
                            "four_point",
                            ours=passes(ours[number], how),
                            theirs=passes(theirs[number], how),
                            target=None,
                            order=fraction,
                            design=design,
                        )
                    )
                result.append(
                    row(
                        "b",
                        f"{what}, geometric mean over {len(FRACTIONS)} orders, {design}",
                        "four_point",
                        ours=passes(ours.log().mean().exp(), how),
                        theirs=passes(theirs.log().mean().exp(), how),
                        target=TARGETS[how] if group == groups[0] else None,
                        design=design,
                    )
                )
    return result, variances


def labelled(name: str, group: int | None) -> str:
    """The design as its rows name it: "signed_groups, group 12" or "curvature, fitted groups"."""
    return f"{name}, fitted groups" if group is None else f"{name}, group {group}"


def passes(variance: Tensor, how: str, *, each: int = 8) -> float:
    """Forward passes to the standard error, of replicates with this variance that cost ``each`` passes."""
    return each * variance.item() / ERRORS[how] ** 2


def shared_windows(setting: Setting, four_point: Tensor) -> Row:
    """An idea that does not pay: all neighbour pairs of a random window of 3 × 3 players, in one common context.

    Twelve of its twenty pairs share an edge, about half of all neighbour pairs do: the two kinds get the weights they
    have in the grid. Windows reach the border of the grid more rarely than pairs do; only the variance is asked here.
    """
    side = int(GRID.n**0.5)
    window = players.grid(3, 3, side=3).neighbours
    local = torch.div(window, 3, rounding_mode="floor") * side + window % 3
    edge, all_edge = shares_edge(window, 3), shares_edge(GRID.neighbours, side).double().mean()
    weights = torch.where(edge, all_edge / edge.sum(), (1 - all_edge) / (~edge).sum())
    order = sampling.orders(GRID.n, [WINDOW_FRACTION])
    played = setting.game()
    replicates = []
    for number in range(WINDOWS):
        draws = [generator(2, image, number) for image in setting.rows]
        corners = torch.stack([torch.randint(side - 2, (2,), generator=each) for each in draws])
        pairs = local + (corners[:, 0] * side + corners[:, 1])[:, None, None]
        found = estimators.shared_contexts(
            played, n=GRID.n, pairs=pairs, orders=order, contexts=1, generators=draws
        ).interaction[..., 0]
        replicates.append((found[0] - found[1]).double() @ weights)
    variance = torch.stack(replicates, 1).var(1).mean()
    return row(
        "b",
        f"idea: shared contexts for the mean, windows of 3 × 3 players, neighbours, order {WINDOW_FRACTION}n",
        "four_point",
        ours=passes(variance, "neighbours", each=played.passes // (WINDOWS * len(setting.rows))),
        theirs=passes(four_point[FRACTIONS.index(WINDOW_FRACTION)], "neighbours"),
        target=None,
        order=WINDOW_FRACTION,
        design="shared_contexts",
    )


def shares_edge(pairs: Tensor, side: int) -> Tensor:
    """Which pairs (P, 2) of the players of a square grid share an edge, not only a corner."""
    difference = (pairs[:, 0] - pairs[:, 1]).abs()
    return (difference == side) | (difference == 1)


def seconds(setting: Setting, variances: dict[tuple[str, str, int | None], Tensor]) -> list[Row]:
    """Rows (c): seconds to the standard error of one image's ΔI^(m), by the default designs and as the authors do it.

    Theirs is the time of ``as_the_authors`` for a pair of both variants, times the pairs they need. The error² of the
    mean of P different pairs of all N is between/P · (1 − P/N) + within/(P · CONTEXTS), with the variances between
    pairs and between the contexts of a pair, both estimated from fewer contexts a pair than they use.
    """
    order = sampling.orders(GRID.n, [WALL_FRACTION])[0]
    number = FRACTIONS.index(WALL_FRACTION)
    unfolded = models.restore(setting.dataset, "resnet18-standard")
    result = []
    for how in DESIGNS:
        name, group = designs.chosen(how)
        pairs = sampling.pairs(GRID, TIMED_PAIRS, sampling=how, generator=generator(3))
        runs: dict[str, Callable[[], object]] = {
            "ours": partial(measured, setting, how, name, group, (WALL_FRACTION,), TIMED_REPLICATES),
            "theirs": partial(as_the_authors, unfolded, setting, pairs, order),
        }
        least = best(runs, repeats=REPEATS)
        replicate = least["ours"] / (TIMED_REPLICATES * len(setting.rows))
        between, within = pair_spread(setting, how, order)
        every = len(GRID.neighbours) if how == "neighbours" else GRID.n * (GRID.n - 1) // 2
        needed = (between + within / CONTEXTS) / (ERRORS[how] ** 2 + between / every)
        result.append(
            row(
                "c",
                f"seconds to a standard error of {ERRORS[how]} of ΔI of an image, {setting.dataset}, {how}, "
                f"order {WALL_FRACTION}n, {labelled(name, group)}",
                f"the authors' procedure: {CONTEXTS} contexts a pair, 4 · {CONTEXTS} masked copies a call",
                ours=replicate * variances[how, name, group][number].item() / ERRORS[how] ** 2,
                theirs=least["theirs"] / TIMED_PAIRS * needed,
                target=10.0,
                order=WALL_FRACTION,
                design=labelled(name, group),
            )
        )
        result.append(
            row(
                "c",
                f"milliseconds a masked pass, {setting.dataset}, {how}",
                "the authors' procedure",
                ours=1000 * replicate / 8,
                theirs=1000 * least["theirs"] / (8 * CONTEXTS * TIMED_PAIRS),
                target=None,
            )
        )
    return result


@torch.no_grad()
def as_the_authors(model: nn.Module, setting: Setting, pairs: Tensor, order: int) -> Tensor:
    """ΔI_ij^(m) (P,) of the first image, restated: a call a pair, logits kept on the host, then Δv of all of them.

    Each pair has ``CONTEXTS`` random contexts; their four coalitions make up one call, float32, in the ordinary layout.
    """
    means = []
    for image in setting.images[:, 0]:
        draws, kept = generator(4), []
        for i, j in pairs.tolist():
            others = torch.tensor([player for player in range(GRID.n) if player not in (i, j)])
            masks = torch.zeros(CONTEXTS, 4, GRID.n)
            for context in masks:
                context[:, others[torch.randperm(len(others), generator=draws)[:order]]] = 1
            masks[:, :2, i] = 1
            masks[:, 0, j] = masks[:, 2, j] = 1
            pixels = masks.flatten(0, 1)[:, GRID.partition][:, None]
            kept.append(model(pixels * image + (1 - pixels) * setting.baseline).cpu())
        log_probability = torch.cat(kept).log_softmax(1)[:, setting.labels[0]].view(len(pairs), CONTEXTS, 4)
        means.append((log_probability @ torch.tensor([1.0, -1.0, -1.0, 1.0])).mean(1))
    return means[0] - means[1]


def pair_spread(setting: Setting, how: str, order: int) -> tuple[float, float]:
    """Variance of Δv, normal minus adversarial, between the pairs of an image, and between the contexts of a pair."""
    draws = [generator(5, image) for image in setting.rows]
    pairs = torch.stack([sampling.pairs(GRID, PAIRS, sampling=how, generator=each) for each in draws])
    ranks = [
        sampling.context_ranks(of, PAIR_CONTEXTS, GRID.n, generator=each) for of, each in zip(pairs, draws, strict=True)
    ]
    delta = estimators.contextual_delta_v(setting.game(), pairs, torch.stack(ranks) < order).double()
    difference = delta[0] - delta[1]
    within = difference.var(-1).mean().item()
    between = difference.mean(-1).var(-1).mean().item() - within / PAIR_CONTEXTS
    return max(between, 0.0), within


if __name__ == "__main__":
    for each in rows():
        print(each)
