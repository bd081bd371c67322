"""Images by frequency and by rank: the two rivals of interactions as explanations of attacks (§4.1, §4.3, Figure 6)."""

from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lib.datasets import check_images


def radial_amplitude(images: Tensor) -> tuple[Tensor, Tensor]:
    """Radii r (R,) and F^(r) = sqrt(Σ_{h²+w²=r²} |F(h,w)|²) (B, R) of images (B, C, H, W) (§4.1, S-I.9).

    F is the centred, orthonormal FFT, h and w whole cycles over the height and the width; every r for which there are
    such h and w is a feature, in rising order from r = 0, the mean. The sum runs over the channels too, so that
    Σ_r F^(r)² = ‖x‖². Raises ValueError for bad images.
    """
    check_images(images)
    power = torch.fft.fftshift(torch.fft.fft2(images, norm="ortho"), dim=(2, 3)).abs().square().sum(1)
    squares, ring = _squared_radii(images).flatten().unique(return_inverse=True)
    energy = power.new_zeros(len(images), len(squares)).index_add_(1, ring, power.flatten(1))
    return squares.to(images).sqrt(), energy.sqrt()


def low_pass(images: Tensor, radius: float) -> Tensor:
    """The images (B, C, H, W) without what they have beyond the radius of ``radial_amplitude``, clamped to [0, 1].

    Raises ValueError for bad images or a radius below 0.
    """
    check_images(images)
    if not radius >= 0:
        raise ValueError(f"a radius is 0 or more cycles over the image; got {radius}")
    kept = _squared_radii(images) <= radius**2
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(2, 3)) * kept
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(2, 3))).real.clamp(0, 1)


def _squared_radii(images: Tensor) -> Tensor:
    """h² + w² (H, W) of each component of the centred FFT of the images (B, C, H, W)."""
    h, w = (torch.arange(side, device=images.device) - side // 2 for side in images.shape[2:])
    return h[:, None] ** 2 + w**2


def fisher_ratio(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Fisher's ratio (μ₁ − μ₂)² / (σ₁² + σ₂²) (F,) of each feature of two samples (A, F) and (B, F) (§4.1, Figure 6).

    Variances have the divisor A − 1. A feature constant in both samples gives 0 where it is the same, else infinity.
    Raises ValueError for fewer than two rows, or features that do not fit.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim < 1 or two.ndim < 1 or min(len(one), len(two)) < 2 or one.shape[1:] != two.shape[1:]:
        raise ValueError(
            "the Fisher ratio takes two samples of at least 2 images, with the same features: (A, F) and (B, F); "
            f"got {one.shape} and {two.shape}"
        )
    between = (one.mean(0) - two.mean(0)) ** 2
    within = one.var(0, ddof=1) + two.var(0, ddof=1)
    constant = (one == one[0]).all(0) & (two == two[0]).all(0)  # where rounding of the means would decide
    of_constants = np.where(one[0] == two[0], 0.0, np.inf)
    return np.where(constant, of_constants, between / np.where(constant, 1.0, within))


def reduce_rank(images: Tensor, rank: int) -> Tensor:
    """The nearest images (B, C, H, W) whose every channel has the ``rank``, by SVD, clamped to [0, 1] (§4.3).

    What is clamped is no longer exactly of that rank; models and games take images in [0, 1] alone. The paper takes a
    quarter and a sixteenth of the full rank min(H, W). Raises ValueError for bad images or a rank outside 1..min(H, W).
    """
    check_images(images)
    full = min(images.shape[2:])
    if not isinstance(rank, Integral) or not 1 <= rank <= full:
        height, width = images.shape[2:]
        raise ValueError(f"the rank of a channel of {height}×{width} pixels is an integer in 1..{full}; got {rank}")
    u, s, vh = torch.linalg.svd(images, full_matrices=False)
    return ((u[..., :rank] * s[..., None, :rank]) @ vh[..., :rank, :]).clamp(0, 1)
