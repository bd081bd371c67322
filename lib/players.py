"""Players: a partition of the pixels of an image into the n parts that are kept or masked together."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Players:
    """``partition`` (H, W) int64 names the player of each pixel; ``neighbours`` (pairs, 2) lists players that touch."""

    n: int
    partition: Tensor
    neighbours: Tensor

    def expand(self, coalitions: Tensor) -> Tensor:
        """Pixel masks bool (B, 1, H, W) of the coalitions bool (B, n): True where the pixel is kept."""
        pixels = coalitions.index_select(1, self.partition.to(coalitions.device).flatten())
        return pixels.view(len(coalitions), 1, *self.partition.shape)


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


def pixels(height: int, width: int) -> Players:
    """Every pixel a player, numbered row by row; neighbours share an edge or a corner."""
    cells = torch.arange(height * width).view(height, width)
    return Players(height * width, cells, _touching(cells))


def _touching(cells: Tensor) -> Tensor:
    """The 8-neighbour pairs (i, j) of a table of cells, each pair once."""
    directions = [
        (cells[:, :-1], cells[:, 1:]),
        (cells[:-1], cells[1:]),
        (cells[:-1, :-1], cells[1:, 1:]),
        (cells[:-1, 1:], cells[1:, :-1]),
    ]
    return torch.cat([torch.stack([first.flatten(), second.flatten()], 1) for first, second in directions])
