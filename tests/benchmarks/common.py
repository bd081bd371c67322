"""What the benchmarks share: rows, times taken in turns, and the network and images they run on."""

import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import torch
from torch import nn

from lib import datasets, models
from lib.datasets import Dataset

Row = dict[str, Any]
"""A comparison: id, device, what, peer, ours, theirs, ratio (above 1: ours is better) and target (None: no goal)."""


def row(
    id: str,
    what: str,
    peer: str,
    *,
    ours: float,
    theirs: float,
    target: float | None,
    more_is_better: bool = False,
    device: torch.device | None = None,
    **extra: str | float,
) -> Row:
    """One row; the ratio is ours/theirs where more is better, as for a speed, else theirs/ours, as for a cost."""
    return {
        "id": id,
        "device": models.describe(device or torch.device("cpu")),
        "what": what,
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs if more_is_better else theirs / ours,
        "target": target,
        **extra,
    }


def best(runs: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, float]:
    """The least of the times of each run in seconds; the runs take turns, and who goes first changes."""
    least = dict.fromkeys(runs, inf)
    names = list(runs)
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            runs[name]()
            least[name] = min(least[name], time.perf_counter() - started)
    return least


def task(*, device: torch.device | str = "cpu") -> tuple[nn.Module, Dataset]:
    """The standard network and the test images of CIFAR-10, or of the photos where CIFAR-10 is not at hand."""
    try:
        data = datasets.load("cifar10", "test")
    except FileNotFoundError:
        data = datasets.load("photos", "test")
    return models.load(data.name, "resnet18-standard", device=device), data
