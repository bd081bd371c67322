"""D^(m) of a model: how far Δv of a pair keeps its sign from context to context (§4.2, Eq. 4, Figure 5)."""

from dataclasses import dataclass
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor

from lib import datasets, estimators, experiments, game, models, players, results, sampling

ESTIMATES = ("lower", "midpoint", "upper")
"""What stands for |E Δv|: see ``estimators.PairEstimate.disentanglement``. The true D^(m) is between the outer two."""


@dataclass(frozen=True)
class Disentanglement:
    """What is asked: D^(m) of normal images, from ``pairs`` pairs an image and ``contexts`` contexts an order."""

    dataset: str = "photos"
    model: str = "resnet18-standard"
    sampling: str = "neighbours"
    images: int = 100
    pairs: int = 8
    contexts: int = 24
    fractions: tuple[float, ...] = experiments.FRACTIONS
    grid: int = 16
    baseline: str = "mean"
    value: str = "log_probability"
    seed: int = 0

    def command(self) -> str:
        """The command line that makes this measurement."""
        return (
            f"python -m lib disentanglement --dataset {self.dataset} --model {self.model} --sampling {self.sampling} "
            f"--images {self.images} --pairs {self.pairs} --contexts {self.contexts} "
            f"--orders {','.join(map(str, self.fractions))} --grid {self.grid} --baseline {self.baseline} "
            f"--value {self.value} --seed {self.seed}"
        )


def disentanglement(
    asked: Disentanglement,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
    resume: bool = True,
) -> xr.Dataset:
    """Carry out the measurement: D^(m) over (estimate, image, order), in blocks that an interrupted run keeps.

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
            model,
            of,
            images[chosen],
            labels[chosen],
            baseline=reference,
            value=value,
            batch_size=batch_size,
        )
        draws = [sampling.generator(asked.seed, int(row)) for row in rows[chosen.cpu()]]
        pairs = [sampling.pairs(of, asked.pairs, sampling=asked.sampling, generator=draw) for draw in draws]
        estimate = estimators.shared_contexts(
            played, n=of.n, pairs=torch.stack(pairs), orders=orders, contexts=asked.contexts, generators=draws
        )
        bounds = torch.stack([estimate.disentanglement(estimate=name) for name in ESTIMATES])
        return xr.Dataset(
            {
                "disentanglement": (("estimate", "image", "order"), bounds, {"what": "D^(m), mean over pairs"}),
                "strength": (("image", "order"), estimate.strength.mean(1), {"units": "of v", "what": "mean |Δv|"}),
                "passes": ("image", torch.full((len(chosen),), estimate.passes // len(chosen))),
            },
            coords={
                "estimate": list(ESTIMATES),
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

    return results.measured(block, asked, device=device, resume=resume, description=f"D^(m) of {asked.model}")
