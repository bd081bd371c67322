"""Experiments on single pairs of normal images: what is asked, and a setting in which they are played (§3, §4.2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from lib import datasets, experiments, game, models, results, sampling


@dataclass(frozen=True)
class OfPairs(results.Asked):
    """What is asked of single pairs on normal images: ``pairs`` an image, in ``contexts`` contexts an order."""

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


@dataclass(frozen=True)
class Setting:
    """What is measured and how: model, images and orders of a measurement of single pairs, ready to be played."""

    asked: OfPairs
    subjects: experiments.Subjects
    orders: list[int]
    batch_size: int | None

    def play(self, chosen: Tensor) -> tuple[game.MaskingGame, list[torch.Generator], Tensor]:
        """The game of the images ``chosen`` (B,), a generator an image, and the pairs (B, P, 2) drawn from it."""
        of = self.subjects
        own = experiments.player_sets(of.images[chosen], grid=self.asked.grid)
        played = game.MaskingGame(
            of.model,
            own,
            of.images[chosen],
            of.labels[chosen],
            baseline=of.baseline,
            value=game.named_value(self.asked.value),
            batch_size=self.batch_size,
        )
        draws = sampling.generators(self.asked.seed, of.rows[chosen.cpu()].tolist())
        pairs = [
            sampling.pairs(each, self.asked.pairs, sampling=self.asked.sampling, generator=draw)
            for each, draw in zip(own, draws, strict=True)
        ]
        return played, draws, torch.stack(pairs)

    def labelled(self, chosen: Tensor, variables: dict[str, Any], *, passes: int) -> xr.Dataset:
        """The variables, over image and order among others, with what they rest on."""
        each = {"passes": ("image", torch.full((len(chosen),), passes // len(chosen)))}
        return xr.Dataset(
            {**variables, **each},
            coords={
                "image": self.subjects.rows[chosen.cpu()],
                "order": self.orders,
                "fraction": ("order", list(self.asked.fractions)),
            },
            attrs={
                "dataset": self.asked.dataset,
                "model": self.asked.model,
                "sampling": self.asked.sampling,
                "pairs": self.asked.pairs,
                "contexts": self.asked.contexts,
                "players": experiments.player_count(self.subjects.images, grid=self.asked.grid),
            },
        )


def setting(
    asked: OfPairs, *, device: torch.device, root: str | Path | None, batch_size: int | None, clouds: bool = False
) -> Setting:
    """Load what a measurement of single pairs needs.

    Raises ValueError as ``experiments.subjects`` and ``experiments.player_count`` do, for wrong orders, and for point
    clouds where what is measured is not of ``clouds``.
    """
    model = models.load(asked.dataset, asked.model, device=device)
    data = datasets.load(asked.dataset, "test", root=root)
    if not clouds:
        experiments.refuse_clouds(data)
    orders = sampling.orders(experiments.player_count(data.images, grid=asked.grid), asked.fractions)
    subjects = experiments.subjects(model, data, asked.images, masked=asked.baseline, seed=asked.seed)
    return Setting(asked, subjects, orders, batch_size)
