"""PointNet++ with one scale a group (Qi et al., 2017), in plain PyTorch: points as pixels (B, C, N, 1).

The first three channels are the coordinates, which are differentiable; which points are grouped is not. A cloud counts
as a set: its logits do not depend on the order of its points, but for ties of distance. Points that share one place,
as masked ones at the origin do, are fine.
"""

from itertools import pairwise

import torch
from torch import Tensor, fx, nn


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices (B, count) of points (B, N, 3): the one farthest from the origin, then the farthest from those before.

    Once every place is taken, the first point is chosen again. Raises ValueError for fewer than one.
    """
    if count < 1:
        raise ValueError(f"at least 1 point must be chosen; got {count}")
    axes = points.detach().permute(2, 0, 1).contiguous()
    row = torch.arange(len(points), device=points.device)
    first = latest = axes.square().sum(0).argmax(1)
    gap = torch.full_like(axes[0], torch.inf)
    chosen = [first]
    for _ in range(count - 1):
        square = torch.zeros_like(gap)
        for axis in axes:
            offset = axis - axis[row, latest, None]
            square.addcmul_(offset, offset)
        gap = torch.minimum(gap, square, out=gap)
        farthest, latest = gap.max(1)
        latest = torch.where(farthest > 0, latest, first)
        chosen.append(latest)
    return torch.stack(chosen, 1)


def ball(points: Tensor, centres: Tensor, *, radius: float, count: int) -> Tensor:
    """Indices (B, M, count) of the points (B, N, 3) that are nearest to ``centres`` (B, M), indices of points.

    Those farther than ``radius`` are replaced by the centre: copies change no maximum over the group. Raises ValueError
    for clouds of fewer points than ``count``.
    """
    if points.shape[1] < count:
        raise ValueError(f"a ball of {count} points was asked for; the clouds have {points.shape[1]}: use larger ones")
    points, image = points.detach(), torch.arange(len(points), device=points.device)[:, None]
    distance = torch.cdist(points[image, centres], points, compute_mode="donot_use_mm_for_euclid_dist")
    nearest, index = distance.topk(count, largest=False, sorted=False)
    return torch.where(nearest <= radius, index, centres[..., None])


def grouped(points: Tensor, *, groups: int, radius: float, count: int) -> tuple[Tensor, Tensor]:
    """Members (B, 3 + C, M, count), in coordinates relative to their centres, and centres (B, 3, M, 1), of M groups.

    ``points`` is (B, 3 + C, N, 1); the centres are far apart, the members those of ``ball``.
    """
    rows = points.squeeze(3).transpose(1, 2)
    image = torch.arange(len(rows), device=points.device)[:, None]
    index = farthest_points(rows[..., :3], groups)
    members = rows[image[..., None], ball(rows[..., :3], index, radius=radius, count=count)]
    centres = rows[image, index, :3]
    members = torch.cat([members[..., :3] - centres[:, :, None], members[..., 3:]], 3)
    return members.permute(0, 3, 1, 2), centres.transpose(1, 2)[..., None]


fx.wrap("grouped")  # a leaf to ``models.fold``


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers on each point of (B, C, M, K) by itself, with batch normalisation and ReLU."""
    return nn.Sequential(
        *(
            part
            for before, after in pairwise(widths)
            for part in (nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        )
    )


class SetAbstraction(nn.Module):
    """From points (B, 3 + C, N, 1) to centres (B, 3 + D, groups, 1), each with the greatest features around it."""

    def __init__(self, *widths: int, groups: int, radius: float, count: int) -> None:
        super().__init__()
        self.groups, self.radius, self.count = groups, radius, count
        self.layers = nn.Sequential(perceptron(*widths), nn.MaxPool2d((1, count)))

    def forward(self, points: Tensor) -> Tensor:
        members, centres = grouped(points, groups=self.groups, radius=self.radius, count=self.count)
        return torch.cat([centres, self.layers(members)], 1)


def layers(*, classes: int, width: int) -> list[nn.Module]:
    """The layers from coordinates (B, 3, N, 1) to logits (B, classes): 64 balls of radius 0.25, 16 of 0.5, then all.

    A ball has at most 16 points. The published network has ``width`` 64, 512 balls of 0.2 and 32 points, and 128 balls
    of 0.4 and 64 points.
    """
    w = width
    return [
        SetAbstraction(3, w, w, 2 * w, groups=64, radius=0.25, count=16),
        SetAbstraction(3 + 2 * w, 2 * w, 2 * w, 4 * w, groups=16, radius=0.5, count=16),
        perceptron(3 + 4 * w, 4 * w, 8 * w, 16 * w),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(16 * w, 8 * w),
        nn.ReLU(),
        nn.Linear(8 * w, classes),
    ]
