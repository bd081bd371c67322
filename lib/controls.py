"""Controls beyond the paper's own: other perturbations of the same norm or utility, and other baselines."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from lib import models, players
from lib.attacks import (
    Attack,
    calibrated_path,
    calibrated_pgd,
    carlini_wagner,
    finished,
    loss_gradient,
    pgd,
    untargeted_utility,
)
from lib.sampling import generator, generators

MASKS = 8
"""Random coalitions over which the gradient of the masked attack is averaged, a step."""
ROTATIONS = 64
"""Random rotations and shifts of which ``spatial`` takes the worst."""


@dataclass(frozen=True)
class Scene:
    """What a control works on: correctly classified images (B, C, H, W), and their untargeted ``attack``.

    ``rows`` (B,) names the images, which with the seed decides their draws; ``baseline`` (C, H, W) is the value that
    ``masked`` masks by, ``grid`` its players along a side, ``source`` the model from which ``transferred`` takes them.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    rows: list[int]
    attack: Attack
    utility: tuple[float, float]
    epsilon: float
    step_size: float
    steps: int
    grid: int
    baseline: Tensor
    source: nn.Module
    seed: int

    def draws(self, kind: int) -> list[torch.Generator]:
        """A generator an image, apart for each ``kind`` of control."""
        return generators(self.seed, self.rows, kind)


def uniform_noise(scene: Scene) -> Attack:
    """Uniform noise with the ℓ2 norm of each image's adversarial perturbation, then clamped to [0, 1]."""
    shape = scene.images.shape[1:]
    return _of_norm(scene, torch.stack([torch.rand(shape, generator=draw) * 2 - 1 for draw in scene.draws(101)]))


def gaussian_noise(scene: Scene) -> Attack:
    """Gaussian noise with the ℓ2 norm of each image's adversarial perturbation, then clamped to [0, 1]."""
    shape = scene.images.shape[1:]
    return _of_norm(scene, torch.stack([torch.randn(shape, generator=draw) for draw in scene.draws(102)]))


def shuffled(scene: Scene) -> Attack:
    """The adversarial perturbation itself, its pixels shuffled; then clamped to [0, 1]."""
    perturbation = (scene.attack.images - scene.images).cpu().flatten(2)
    permuted = [
        each[:, torch.randperm(each.shape[1], generator=draw)]
        for each, draw in zip(perturbation, scene.draws(103), strict=True)
    ]
    return _fixed(scene, torch.stack(permuted).view(scene.images.shape))


def masked(scene: Scene) -> Attack:
    """PGD along the mean gradient of ``MASKS`` randomly masked images, coalitions of every size alike, a step.

    The coalitions of a step are common to the images, so that an image's result does not depend on the others.
    """
    cells = players.grid(*scene.images.shape[-2:], side=scene.grid)
    draw = generator(scene.seed, 104)

    def averaged(images: Tensor, labels: Tensor) -> Tensor:
        sizes = torch.rand(MASKS, 1, generator=draw)
        kept = cells.expand(torch.rand(MASKS, cells.n, generator=draw) < sizes).to(images.device)
        total = torch.zeros_like(images)
        for pixels in kept:
            slope, _ = loss_gradient(scene.model, torch.where(pixels, images, scene.baseline), labels)
            total += pixels * slope
        return total

    return _calibrated(scene, gradient_of=averaged)


def l2(scene: Scene) -> Attack:
    """ℓ2 PGD in the ball and with the steps that have the ℓ2 norms of a corner of the ℓ∞ ones."""
    return _calibrated(scene, scale=math.sqrt(scene.images[0].numel()), norm="l2")


def margin_loss(scene: Scene) -> Attack:
    """ℓ∞ PGD on the margin of Carlini and Wagner instead of the cross entropy."""
    return _calibrated(scene, loss=carlini_wagner)


def apgd(scene: Scene) -> Attack:
    """The perturbation of APGD on the cross entropy (Croce and Hein, 2020), as much of it as has the utility.

    It is torchattacks', with its momentum and step sizes of its own, from a random start, in as many steps as the
    attack has; image by image, for its random start depends on the batch. Where it does not mislead the model, which
    torchattacks answers with the image itself, it is the point of the greatest loss.
    """
    import torchattacks  # takes seconds, which every other command would wait for

    found = []
    with torch.random.fork_rng():
        for image, label, draw in zip(scene.images, scene.labels, scene.draws(107), strict=True):
            seed = int(torch.randint(2**31, (), generator=draw))
            attack = torchattacks.APGD(scene.model, eps=scene.epsilon, steps=scene.steps, seed=seed)
            adversarial = attack(image[None], label[None])
            if torch.equal(adversarial[0], image):
                torch.manual_seed(seed)
                _, adversarial = attack.perturb(image[None], label[None], best_loss=True)
            found.append(adversarial)
    return _part_of(scene, torch.cat(found))


def transferred(scene: Scene) -> Attack:
    """A PGD perturbation of the ``source`` model, as much of it as has the utility on the model itself."""
    found = pgd(
        scene.source, scene.images, scene.labels, epsilon=scene.epsilon, step_size=scene.step_size, steps=scene.steps
    )
    return _part_of(scene, found)


def spatial(scene: Scene) -> Attack:
    """The worst of ``ROTATIONS`` random rotations, up to 60°, with shifts, up to a quarter of the image's side.

    It is scaled down until its utility lies in the window (Engstrom et al., 2019, without the scaling).
    """
    drawn = torch.stack([torch.rand(ROTATIONS, 3, generator=draw) * 2 - 1 for draw in scene.draws(105)])
    drawn = drawn.to(scene.images)
    clean = models.logits(scene.model, scene.images)
    gains = [
        untargeted_utility(clean, models.logits(scene.model, moved(scene.images, drawn[:, k])), scene.labels)
        for k in range(ROTATIONS)
    ]
    worst = drawn[torch.arange(len(drawn)), torch.stack(gains).argmax(0)]

    def path(amount: Tensor) -> Tensor:
        return moved(scene.images, amount[:, None] * worst)

    return calibrated_path(scene.model, scene.images, scene.labels, path, utility=scene.utility)


def moved(images: Tensor, motion: Tensor) -> Tensor:
    """Images (B, C, H, W) rotated by 60° and shifted by a quarter, times the motion (B, 3) in [−1, 1]: turn, x, y."""
    angle, x, y = (motion * motion.new_tensor([math.pi / 3, 0.5, 0.5])).unbind(1)
    turn = torch.stack([angle.cos(), -angle.sin(), x, angle.sin(), angle.cos(), y], 1).view(-1, 2, 3)
    where = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, padding_mode="reflection", align_corners=False).clamp(0, 1)


CONTROLS: dict[str, Callable[[Scene], Attack]] = {
    "uniform-noise": uniform_noise,
    "gaussian-noise": gaussian_noise,
    "shuffled": shuffled,
    "masked": masked,
    "l2": l2,
    "margin": margin_loss,
    "apgd": apgd,
    "transferred": transferred,
    "spatial": spatial,
}
"""By name; the ``NOISES`` have the norm of the untargeted attack, the others its utility."""

NOISES = ("uniform-noise", "gaussian-noise", "shuffled")


def blurred(images: Tensor) -> Tensor:
    """The images (B, C, H, W) without their detail: a Gaussian of an eighth of the side, as baselines of their own."""
    side = min(images.shape[-2:])
    return gaussian_blur(images, kernel_size=[side // 4 * 2 + 1] * 2, sigma=[side / 8] * 2).clamp(0, 1)  # of rounding


def noise_baseline(shape: torch.Size) -> Tensor:
    """One image (C, H, W) of uniform noise, as a baseline: always the same one of this shape."""
    return torch.rand(shape, generator=generator(0, 106))


def _calibrated(scene: Scene, *, scale: float = 1.0, **options: Any) -> Attack:
    """PGD up to the utility of the scene, in its ball and with its steps, both times ``scale``."""
    return calibrated_pgd(
        scene.model,
        scene.images,
        scene.labels,
        epsilon=scene.epsilon * scale,
        step_size=scene.step_size * scale,
        steps=scene.steps,
        utility=scene.utility,
        **options,
    )


def _part_of(scene: Scene, images: Tensor) -> Attack:
    """As much of the perturbations that made the ``images`` (B, C, H, W) as has the utility of the scene."""
    perturbation = images - scene.images

    def path(amount: Tensor) -> Tensor:
        return scene.images + amount.view(-1, 1, 1, 1) * perturbation

    return calibrated_path(scene.model, scene.images, scene.labels, path, utility=scene.utility)


def _of_norm(scene: Scene, direction: Tensor) -> Attack:
    norms = (scene.attack.images - scene.images).flatten(1).norm(dim=1).cpu()
    return _fixed(scene, direction * (norms / direction.flatten(1).norm(dim=1)).view(-1, 1, 1, 1))


def _fixed(scene: Scene, perturbation: Tensor) -> Attack:
    """A perturbation as it is, on the images that the untargeted attack brought to its utility."""
    images = (scene.images + perturbation.to(scene.images)).clamp(0, 1)
    reached = scene.attack.reached
    return finished(scene.model, scene.images, scene.labels, images, reached=reached, steps=0)
