"""Players: a partition of the pixels of an image into the n parts that are kept or masked together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.datasets import is_cloud, kind
from lib.pointnet import farthest_points

REGIONS = 32
"""Players of a point cloud, as in the authors' code."""


@dataclass(frozen=True)
class Players:
    """``partition`` (H, W) int64 names the player of each pixel; ``neighbours`` (pairs, 2) lists players that touch.

    Raises ValueError for other tensors, and unless every player 0..n−1 has a pixel and neighbours are two different
    players.
    """

    n: int
    partition: Tensor
    neighbours: Tensor

    def __post_init__(self) -> None:
        whole, pairs = self.partition, self.neighbours
        if not isinstance(whole, Tensor) or whole.ndim != 2 or whole.dtype != torch.int64:
            raise ValueError(f"a partition is an int64 tensor (H, W); got {kind(whole)}")
        named = whole.unique().tolist()
        if not named:
            raise ValueError("a partition is of at least one pixel; got none")
        if named != list(range(self.n)):
            raise ValueError(
                f"a partition into {self.n} players names each of 0..{self.n - 1} and no other; "
                f"got {len(named)} names, {named[0]} to {named[-1]}"
            )
        if not isinstance(pairs, Tensor) or pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
            raise ValueError(f"neighbours must be an int64 tensor (pairs, 2); got {kind(pairs)}")
        if not ((pairs >= 0) & (pairs < self.n)).all():
            raise ValueError(f"neighbours are players of 0..{self.n - 1}; got {pairs.min()} to {pairs.max()}")
        if (pairs[:, 0] == pairs[:, 1]).any():
            raise ValueError("neighbours must be two different players; got one beside itself")

    def expand(self, coalitions: Tensor) -> Tensor:
        """Pixel masks bool (B, 1, H, W) of the coalitions bool (B, n): True where the pixel is kept."""
        return expand(self.partition.to(coalitions.device).expand(len(coalitions), -1, -1), coalitions)


def grid(height: int, width: int, *, side: int = 16) -> Players:
    """``side`` × ``side`` equal cells as players, numbered row by row; neighbours share an edge or a corner.

    Raises ValueError where the grid does not divide the image.
    """
    if side < 1 or height % side or width % side:
        divisors = [d for d in range(2, min(height, width) + 1) if height % d == 0 and width % d == 0]
        raise ValueError(
            f"a grid of {side}×{side} players does not divide an image of {height}×{width} pixels: "
            f"choose a side among {', '.join(map(str, divisors)) or 'none: crop or resize the image'}"
        )
    cells = torch.arange(side * side).view(side, side)
    partition = cells.repeat_interleave(height // side, 0).repeat_interleave(width // side, 1)
    return Players(side * side, partition, _touching(cells))


def regions(cloud: Tensor, *, n: int = REGIONS, nearest: int = 3) -> Players:
    """``n`` regions of one point cloud (3, P, 1) in [0, 1]: the points by the nearest of n centres far apart.

    The centres are ``pointnet.farthest_points``. Neighbours are the pairs of a region and one of the ``nearest`` ones
    by their centres, each pair once. Raises ValueError for another shape, or more regions than different points.
    """
    if cloud.ndim != 3 or not is_cloud(cloud):
        raise ValueError(f"a point cloud is (3, points, 1); got {tuple(cloud.shape)}")
    points = 2 * cloud.squeeze(2).T - 1
    if not 2 <= n <= len(points) or not 1 <= nearest < n:
        raise ValueError(
            f"{len(points)} points make 2..{len(points)} regions, of which 1 up to all others are nearest; "
            f"got {n} regions and {nearest} nearest"
        )
    centres = points[farthest_points(points[None], n)[0]]
    partition = _distances(points, centres).argmin(1)
    if len(partition.unique()) < n:
        raise ValueError(f"{n} regions need as many different points; the cloud has {len(points.unique(dim=0))}")
    between = _distances(centres, centres).fill_diagonal_(torch.inf)
    second = between.topk(nearest, largest=False).indices.flatten().cpu()
    pairs = torch.stack([torch.arange(n).repeat_interleave(nearest), second], 1)
    return Players(n, partition[:, None].cpu(), pairs.sort(1).values.unique(dim=0))


def expand(partitions: Tensor, coalitions: Tensor) -> Tensor:
    """Pixel masks bool (B, 1, H, W) of the coalitions bool (B, n), each by a partition (B, H, W) of its own."""
    return coalitions.gather(1, partitions.flatten(1)).view(len(coalitions), 1, *partitions.shape[1:])


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")


def _touching(cells: Tensor) -> Tensor:
    """The 8-neighbour pairs (i, j) of a table of cells, each pair once."""
    directions = [
        (cells[:, :-1], cells[:, 1:]),
        (cells[:-1], cells[1:]),
        (cells[:-1, :-1], cells[1:, 1:]),
        (cells[:-1, 1:], cells[1:, :-1]),
    ]
    return torch.cat([torch.stack([first.flatten(), second.flatten()], 1) for first, second in directions])
