"""Benchmark (d): error of the Shapley interaction index of every pair, against shapiq, for as many values of v.

The games are images of the task "photos" in 3 × 4 cells, v = log p(truth) of its standard network, so 2^12 values give
the exact index. SPEX and ProxySPEX are left out: the one takes half a minute an estimate, the other needs LightGBM.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from shapiq import approximator
from torch import Tensor

from lib import datasets, experiments, game, interactions, models, players, sampling, surrogate
from tests.benchmarks.common import Row, row

N, IMAGES, BUDGETS = 12, 4, (200, 500, 1000)


def peers(seed: int) -> dict[str, approximator.Approximator[Any]]:
    """shapiq's estimators of the index, each as it comes and, where it can, with pairs of complements."""
    options = {"n": N, "max_order": 2, "index": "SII", "random_state": seed}
    result: dict[str, approximator.Approximator[Any]] = {
        "PermutationSamplingSII": approximator.PermutationSamplingSII(**options),
        "PermutationSamplingSII, pairs only": approximator.PermutationSamplingSII(top_order=True, **options),
    }
    for name in ("SHAPIQ", "SVARMIQ", "KernelSHAPIQ", "InconsistentKernelSHAPIQ"):
        result[name] = getattr(approximator, name)(**options)
        result[f"{name}, complements"] = getattr(approximator, name)(pairing_trick=True, **options)
    return result


def tables() -> Tensor:
    """v of every coalition, float64 (images, 2^n)."""
    model, data = models.load("photos", "resnet18-standard"), datasets.load("photos")
    _, images, labels = experiments.correct_images(model, data, IMAGES, seed=0)
    side = torch.arange(32)
    cells = players.Players(N, (side * 3 // 32)[:, None] * 4 + side * 4 // 32, torch.empty(0, 2, dtype=torch.long))
    masking = game.MaskingGame(model, cells, images, labels, baseline=experiments.baseline("mean", data))
    return masking(interactions.all_coalitions(N).expand(IMAGES, -1, -1)).double()


def counted(table: Tensor, budget: int) -> Callable[[np.ndarray], np.ndarray]:
    """The game of a table, for shapiq; it fails when it is asked for more values than the budget."""
    asked = 0

    def values(coalitions: np.ndarray) -> np.ndarray:
        nonlocal asked
        coalitions = np.atleast_2d(coalitions)
        asked += len(coalitions)
        assert asked <= budget, f"{asked} values were asked for; the budget is {budget}"
        return table.numpy()[coalitions @ 2 ** np.arange(N)]

    return values


def error(estimate: Tensor, exact: Tensor) -> float:
    """Root mean square over all pairs."""
    i, j = torch.triu_indices(N, N, 1)
    return (estimate - exact)[i, j].square().mean().sqrt().item()


def rows() -> list[Row]:
    """One row a budget: the mean over images of our error and of that of the best peer at this budget."""
    result: list[Row] = []
    every = tables()
    for budget in BUDGETS:
        ours: list[float] = []
        theirs: dict[str, list[float]] = {}
        for image, table in enumerate(every):
            exact = interactions.shapley_interaction_index(interactions.exact_interactions(table))
            coalitions = surrogate.draw_coalitions(N, budget, generator=sampling.generator(0, image))
            values = table[(coalitions * 2 ** torch.arange(N)).sum(1)]
            estimate = surrogate.kernel_interactions(values, coalitions)
            ours.append(error(interactions.shapley_interaction_index(estimate), exact))
            for name, peer in peers(image).items():
                index = peer.approximate(budget, counted(table, budget)).get_n_order_values(2)
                theirs.setdefault(name, []).append(error(torch.from_numpy(index), exact))
        best = min(theirs, key=lambda name: sum(theirs[name]))
        our_error, their_error = sum(ours) / IMAGES, sum(theirs[best]) / IMAGES
        what = f"RMSE of the Shapley interaction index, n = {N}, {budget} values of v, {IMAGES} photos"
        result.append(row("d", what, f"shapiq {best}", ours=our_error, theirs=their_error, target=1.0))
    return result


if __name__ == "__main__":
    for each in rows():
        print(each)
