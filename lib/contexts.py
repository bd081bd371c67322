"""Where the contexts are in which a pair interacts most: are those of low order near it? (§3, Figure 2, S-I.1)."""

from dataclasses import dataclass
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor

from lib import datasets, experiments, game, models, players, results, sampling
from lib.estimators import contextual_delta_v
from lib.interactions import strong_contexts


@dataclass(frozen=True)
class Contexts:
    """What is asked: the locality of strong contexts, of ``pairs`` pairs an image, ``contexts`` contexts an order."""

    dataset: str = "photos"
    model: str = "resnet18-standard"
    sampling: str = "neighbours"
    images: int = 100
    pairs: int = 5
    contexts: int = 50
    fractions: tuple[float, ...] = (0.1, 0.5, 0.9)
    grid: int = 16
    baseline: str = "mean"
    value: str = "log_probability"
    seed: int = 0

    def command(self) -> str:
        """The command line that makes this measurement."""
        return (
            f"python -m lib contexts --dataset {self.dataset} --model {self.model} --sampling {self.sampling} "
            f"--images {self.images} --pairs {self.pairs} --contexts {self.contexts} "
            f"--orders {','.join(map(str, self.fractions))} --grid {self.grid} --baseline {self.baseline} "
            f"--value {self.value} --seed {self.seed}"
        )


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
    resume: bool = True,
) -> xr.Dataset:
    """Carry out the measurement: locality (image, order), the mean over the pairs of an image.

    Raises ValueError for an unknown value, baseline or sampling, and for more images or pairs than there are.
    """
    value = game.named_value(asked.value)
    orders = sampling.orders(asked.grid**2, list(asked.fractions))
    model = models.load(asked.dataset, asked.model, device=device)
    data = datasets.load(asked.dataset, "test", root=root)
    reference = experiments.baseline(asked.baseline, data).to(device)
    rows, images, labels = experiments.correct_images(model, data, asked.images, seed=asked.seed)
    of = players.grid(*images.shape[-2:], side=asked.grid)

    def block(chosen: Tensor) -> xr.Dataset:
        played = game.MaskingGame(
            model, of, images[chosen], labels[chosen], baseline=reference, value=value, batch_size=batch_size
        )
        draws = [sampling.generator(asked.seed, int(row)) for row in rows[chosen.cpu()]]
        pairs = torch.stack([sampling.pairs(of, asked.pairs, sampling=asked.sampling, generator=d) for d in draws])
        ranks = torch.stack(
            [sampling.context_ranks(p, asked.contexts, of.n, generator=d) for p, d in zip(pairs, draws, strict=True)]
        )
        columns = []
        for order in orders:
            context = ranks < order
            delta = contextual_delta_v(played, pairs, context).cpu()
            found = [
                locality(strong_contexts(d, s.float()), p, side=asked.grid)
                for d, s, p in zip(delta, context, pairs, strict=True)
            ]
            columns.append(torch.stack(found).nanmean(1))
        return xr.Dataset(
            {
                "locality": (("image", "order"), torch.stack(columns, 1), {"what": "1 − d / d_even, mean over pairs"}),
                "passes": ("image", torch.full((len(chosen),), played.passes // len(chosen))),
            },
            coords={
                "image": rows[chosen.cpu()],
                "order": orders,
                "fraction": ("order", list(asked.fractions)),
            },
            attrs={
                "dataset": asked.dataset,
                "model": asked.model,
                "sampling": asked.sampling,
                "pairs": asked.pairs,
                "contexts": asked.contexts,
                "players": of.n,
            },
        )

    return results.measured(block, asked, device=device, resume=resume, description=f"contexts of {asked.model}")
