"""Defences explained by interactions: dropout and cutout of the input, and adversarial images led back (§4.3)."""

from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib import models
from lib.attacks import pgd
from lib.datasets import check_images, check_labels, class_count

Defense = Callable[[Tensor, Sequence[torch.Generator]], Tensor]
"""From images (B, C, H, W) and a generator for each to images of the same shape: ``partial(dropout, rate=0.1)``."""


# Random loss of pixels. Each image draws from its own generator, so that it does not matter with which it is batched.


def dropout(images: Tensor, generators: Sequence[torch.Generator], *, rate: float, kernel: int = 3) -> Tensor:
    """Drop round(rate·H·W) pixels of each image (B, C, H, W), all channels, and fill them by ``neighbour_fill`` (§4.3).

    Exactly so many, as S-H has it, and never all. Generators of the same seed give nested pixels at every rate.
    Raises ValueError for bad images, a rate outside [0, 1), a bad kernel, or not one generator an image.
    """
    check_images(images)
    _check_generators(generators, images)
    if not 0 <= rate < 1:
        raise ValueError(f"rate is the share of the pixels that are dropped, in [0, 1); got {rate}")
    height, width = images.shape[2:]
    pixels = height * width
    rank = torch.stack([torch.randperm(pixels, generator=generator) for generator in generators])
    kept = rank >= min(round(rate * pixels), pixels - 1)
    return neighbour_fill(images, kept.view(-1, 1, height, width).to(images.device), kernel=kernel)


def neighbour_fill(images: Tensor, kept: Tensor, *, kernel: int = 3) -> Tensor:
    """Images (B, C, H, W) whose pixels not in ``kept`` bool (B, 1, H, W) take the mean of the kept ones around them.

    Around means the square of ``kernel`` pixels a side, cut off at the border; where no pixel of it is kept, the mean
    of all the kept pixels of the image is taken. Raises ValueError for an even kernel, one below 3, or an image of
    which nothing is kept.
    """
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel is the odd side, at least 3, of the square around a pixel; got {kernel}")
    if not kept.flatten(1).any(1).all():
        raise ValueError("an image of which no pixel is kept cannot be filled: keep at least one")
    known = kept.to(images)
    total, count = (
        F.avg_pool2d(x, kernel, stride=1, padding=kernel // 2, divisor_override=1) for x in (images * known, known)
    )
    overall = (images * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(kept, images, torch.where(count > 0, total / count, overall))


def cutout(images: Tensor, generators: Sequence[torch.Generator], *, baseline: Tensor) -> Tensor:
    """Mask a square of half the side, 25% of the pixels, at a random place inside each image (B, C, H, W) (§4.3).

    The square shows the ``baseline`` (C, H, W); the sides are halved downward, and of an oblong image each is.
    Raises ValueError for bad images, sides below 2 pixels, a bad baseline, or not one generator an image.
    """
    check_images(images)
    if baseline.shape != images.shape[1:]:
        raise ValueError(
            f"baseline must have the shape of an image, {tuple(images.shape[1:])}; got {tuple(baseline.shape)}"
        )
    check_images(baseline[None])
    _check_generators(generators, images)
    height, width = images.shape[2:]
    if min(height, width) < 2:
        raise ValueError(f"cutout masks half of each side: images need 2×2 pixels at least; got {height}×{width}")
    result = images.clone()
    for row, generator in enumerate(generators):
        top, left = (int(torch.randint(side - side // 2 + 1, (), generator=generator)) for side in (height, width))
        square = (slice(None), slice(top, top + height // 2), slice(left, left + width // 2))
        result[row][square] = baseline[square].to(images)
    return result


@torch.no_grad()
def recognised(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    defense: Defense,
    *,
    draws: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Share of the ``draws`` of the defence (B,) in which the model gives the image (B, C, H, W) its label (Table 1).

    Of misclassified adversarial images it is the share corrected; of normal ones, what the defence leaves of the
    accuracy. Costs exactly ``draws`` passes an image.
    Raises ValueError for draws below 1, labels that do not fit, or not one generator an image.
    """
    _check_generators(generators, images)
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    hits = torch.zeros(len(images), device=images.device)
    for _ in range(draws):
        logits = models.logits(model, defense(images, generators))
        check_labels(labels, images=len(images), classes=class_count(logits))
        hits += logits.argmax(1) == labels
    return hits / draws


def _check_generators(generators: Sequence[torch.Generator], images: Tensor) -> None:
    if len(generators) != len(images):
        raise ValueError(f"one generator an image is needed; got {len(generators)} for {len(images)} images")


# What dropout does to interactions.


def dropout_mean(empty: Tensor, single: Tensor, spectrum: Tensor, *, kept: int) -> Tensor:
    """E_K v(K) over random sets K of exactly k = ``kept`` players (...), from the spectrum of orders (S-H).

    ``empty`` (...) is v(∅), ``single`` (...) the mean of φ^(0)(i) over the players, ``spectrum`` (..., n−1) the mean
    of I_ij^(m) over all pairs, the order m last. The paper's sum over players and pairs is then

        E_K v(K) = v(∅) + k·φ^(0) + Σ_{m ≤ k−2} (k−1−m) I^(m):

    orders above k−2 are gone. The paper has 1−α for k/n, which is false where (1−α)n is not whole.
    Raises ValueError for ``kept`` outside 0..n.
    """
    n = spectrum.shape[-1] + 1
    if not isinstance(kept, Integral) or not 0 <= kept <= n:
        raise ValueError(f"kept players are 0..{n} of the {n}, a whole number; got {kept}")
    weights = (kept - 1 - torch.arange(n - 1, device=spectrum.device)).clamp(min=0).to(spectrum)
    return empty + kept * single + spectrum @ weights


# Recoverability.


def recover(
    model: nn.Module,
    adversarial: Tensor,
    labels: Tensor,
    *,
    epsilon: float = 16 / 255,
    step_size: float = 2 / 255,
    steps: int = 10,
) -> Tensor:
    """Attack adversarial images x_adv (B, C, H, W) back towards their true labels: x̂ (§4.3, S-Table 3).

    Full ℓ∞ PGD, targeted at the truth inside the ball around x_adv, since it does not know the normal image x: x̂ may be
    ε farther from x than x_adv is. Costs ``steps`` forward-and-backward passes an image. Raises ValueError as ``pgd``
    does.
    """
    return pgd(model, adversarial, labels, epsilon=epsilon, step_size=step_size, steps=steps, targeted=True)
