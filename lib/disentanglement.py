"""D^(m) of a model: how far Δv of a pair keeps its sign from context to context (§4.2, Eq. 4, Figure 5)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor

from lib import estimators, results
from lib.pair_experiments import OfPairs, setting

ESTIMATES = ("lower", "midpoint", "upper")
"""What stands for |E Δv|: see ``estimators.PairEstimate.disentanglement``."""


@dataclass(frozen=True)
class Disentanglement(OfPairs):
    """What is asked: D^(m) of normal images or clouds, from ``pairs`` pairs each and ``contexts`` contexts an order."""

    verb: ClassVar[str] = "disentanglement"


def disentanglement(
    asked: Disentanglement,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Carry out the measurement: D^(m) over (estimate, image, order), in blocks that an interrupted run keeps.

    Beside it stands the standard error of the midpoint by the draw of the pairs, over (image, order).

    On a GPU without TF32: the sign of a Δv that is nearly 0 drowns in its rounding, and D weighs every pair alike.
    Raises ValueError for an unknown value, baseline or sampling, for more images or pairs than there are, and for a
    single context.
    """
    if asked.contexts < 2:
        raise ValueError(f"whether a pair keeps its sign takes 2 contexts at least; got {asked.contexts}")
    ready = setting(asked, device=device, root=root, batch_size=batch_size, clouds=True)

    def block(chosen: Tensor) -> xr.Dataset:
        played, draws, pairs = ready.play(chosen)
        estimate = estimators.shared_contexts(
            played, n=played.n, pairs=pairs, orders=ready.orders, contexts=asked.contexts, generators=draws
        )
        bounds = torch.stack([estimate.disentanglement(estimate=name) for name in ESTIMATES])
        return ready.labelled(
            chosen,
            {
                "disentanglement": (("estimate", "image", "order"), bounds, {"what": "D^(m), mean over pairs"}),
                "sampling_error": (
                    ("image", "order"),
                    estimate.disentanglement_error(),
                    {"what": "standard error of the midpoint, by the draw of the pairs alone"},
                ),
                "strength": (("image", "order"), estimate.strength.mean(1), {"units": "of v", "what": "mean |Δv|"}),
            },
            passes=estimate.passes,
        ).assign_coords(estimate=list(ESTIMATES))

    cudnn = torch.backends.cudnn
    as_set = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    with cudnn.flags(**as_set, allow_tf32=False):
        return results.measured(
            block, asked, inputs=ready.subjects.inputs, device=device, root=root, description=f"D^(m) of {asked.model}"
        )
