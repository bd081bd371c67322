"""What an attack does to the players alone: Σ_i φ^(0)(i), the term of Eq. 3 beside the interactions (§3, §4.2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor

from lib import datasets, experiments, game, models, players, results


@dataclass(frozen=True)
class Singles(results.Asked):
    """What is asked: Σ_i φ^(0)(i) and v(N) − v(∅) of normal images and one adversarial version of each for an attack.

    ``attacks`` are named and made as by ``experiments.attack``; the players are ``grid`` × ``grid`` cells.
    """

    verb: ClassVar[str] = "singles"
    dataset: str = "photos"
    model: str = "resnet18-standard"
    attacks: tuple[str, ...] = ("untargeted 8",)
    images: int = 100
    grid: int = 16
    baseline: str = "mean"
    seed: int = 0


def alone_and_whole(played: game.Game, n: int, *, images: int) -> tuple[Tensor, Tensor]:
    """Σ_i [v({i}) − v(∅)] and v(N) − v(∅) (..., I), in units of v, from n + 2 passes per image and variant (Eq. 3).

    The rest of v(N) − v(∅) is what the interactions Σ_ij J_ij^(m) of all orders add up to.
    """
    coalitions = torch.cat([torch.zeros(1, n), torch.ones(1, n), torch.eye(n)]).bool()
    nothing, everything, single = game.play(played, coalitions.expand(images, -1, -1)).split([1, 1, n], -1)
    return (single - nothing).sum(-1), (everything - nothing).squeeze(-1)


def players_alone(
    asked: Singles,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Carry out the measurement: ``alone`` and ``whole`` (variant, image), and what the attacks reached.

    Raises ValueError for point clouds, an attack unknown or named twice, a wrong baseline, or too few images.
    """
    experiments.check_attack_names(asked.attacks)
    model = models.load(asked.dataset, asked.model, device=device)
    data = datasets.load(asked.dataset, "test", root=root)
    experiments.refuse_clouds(data)
    subjects = experiments.subjects(model, data, asked.images, masked=asked.baseline, seed=asked.seed)
    grid = players.grid(*subjects.images.shape[-2:], side=asked.grid)

    def block(chosen: Tensor) -> xr.Dataset:
        x, y = subjects.images[chosen], subjects.labels[chosen]
        attacked = [experiments.attack(subjects.model, x, y, name) for name in asked.attacks]
        variants = torch.stack([x, *(each.images for each in attacked)])
        played = game.MaskingGame(subjects.model, grid, variants, y, baseline=subjects.baseline, batch_size=batch_size)
        alone, whole = alone_and_whole(played, grid.n, images=len(x))
        return xr.Dataset(
            {
                "alone": (("variant", "image"), alone.cpu(), {"units": "of v", "what": "Σ_i φ^(0)(i)"}),
                "whole": (("variant", "image"), whole.cpu(), {"units": "of v", "what": "v(N) − v(∅)"}),
                "utility": (("attack", "image"), torch.stack([each.utility for each in attacked]).cpu()),
                "reached": (("attack", "image"), torch.stack([each.reached for each in attacked]).cpu()),
                "passes": ("image", torch.full((len(x),), played.passes // len(x))),
            },
            coords={
                "variant": ["normal", *asked.attacks],
                "attack": list(asked.attacks),
                "image": subjects.rows[chosen.cpu()],
            },
            attrs={"dataset": asked.dataset, "model": asked.model, "players": grid.n},
        )

    return results.measured(
        block,
        asked,
        inputs=subjects.inputs,
        root=root,
        device=device,
        description=f"players alone of {asked.model}",
    )


def change(measured: xr.Dataset, attack: str) -> xr.Dataset:
    """Normal minus adversarial, of the images on which the attack reached its utility: ``alone``, ``whole`` (image)."""
    used = results.reached(measured, attack)[["alone", "whole"]]
    return used.sel(variant="normal", drop=True) - used.sel(variant=attack, drop=True)
