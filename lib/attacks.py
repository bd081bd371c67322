"""Projected gradient attacks: plain PGD, and PGD calibrated to a wanted utility (§4.1 and supplement)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib import models
from lib.datasets import check_images, check_labels, class_count

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, classes) and labels (B,) to one loss an image (B,)."""

Gradient = Callable[[Tensor, Tensor], Tensor]
"""From images (B, C, H, W) and labels (B,) to the direction (B, C, H, W) in which the attack ascends."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−log p(label), one value an image."""
    return F.cross_entropy(logits, labels, reduction="none")


def carlini_wagner(logits: Tensor, labels: Tensor) -> Tensor:
    """The strongest other logit minus that of the label, one value an image (Carlini and Wagner, 2017)."""
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return others - logits.gather(1, labels[:, None]).squeeze(1)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    norm: str = "linf",
    targeted: bool = False,
    generator: torch.Generator | None = None,
    loss: Loss = cross_entropy,
    early_stop: bool = False,
) -> Tensor:
    """Adversarial images (B, C, H, W) by projected gradient ascent (Madry et al., 2018).

    ``epsilon`` and ``step_size`` are in units of the [0, 1] image. ``labels`` are left (untargeted) or sought
    (targeted). A ``generator`` asks for a random start inside the ball; without one the start is the image itself.
    With ``early_stop`` an image keeps the first perturbation, be it its start, whose prediction has left or reached
    its label, and takes no part in later passes. The memory format of the images is kept.
    Raises ValueError as ``check_attack`` does, for labels that do not fit, and as ``loss_gradient`` does.
    """
    check_attack(images, epsilon=epsilon, step_size=step_size, steps=steps, norm=norm)
    adversarial = images.clone()
    if generator is not None:
        adversarial = random_start(images, epsilon=epsilon, norm=norm, generator=generator)
    if steps == 0:
        with torch.no_grad():
            check_labels(labels, images=len(images), classes=class_count(model(images[:1])))
    sign = -1.0 if targeted else 1.0
    rows = torch.arange(len(images), device=images.device)
    active: Tensor | slice = slice(None)
    for _ in range(steps):
        gradient, logits = loss_gradient(model, adversarial[active], labels[active], loss)
        if early_stop:
            going = (logits.argmax(1) == labels[active]) != targeted
            active, gradient = rows[active][going], gradient[going]
            if len(active) == 0:
                break
        adversarial[active] = step(
            adversarial[active], sign * gradient, images[active], epsilon=epsilon, step_size=step_size, norm=norm
        )
    return adversarial


INSIDE_STEPS = 20
"""Steps of ``pgd_inside``."""


def pgd_inside(model: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    """Adversarial images (B, C, H, W) by 20 steps of an eighth of ``epsilon`` from the images; raises as ``pgd``."""
    return pgd(model, images, labels, epsilon=epsilon, step_size=epsilon / 8, steps=INSIDE_STEPS)


def check_attack(images: Tensor, *, epsilon: float, step_size: float, steps: int, norm: str = "linf") -> None:
    """Raise ValueError for images or settings that no attack can use; its labels are checked with the logits."""
    check_images(images)
    for name, given in (("epsilon", epsilon), ("step_size", step_size)):
        if not isinstance(given, Real):
            raise ValueError(f"{name} must be a number (8/255 = 0.0314); got {given!r}")
    if not (math.isfinite(epsilon) and epsilon >= 0 and (norm != "linf" or epsilon <= 1)):
        raise ValueError(
            f"epsilon must be at least 0, in ℓ∞ at most 1, in units of the [0, 1] image (8/255 = 0.0314); got {epsilon}"
        )
    if not (math.isfinite(step_size) and step_size >= 0) or not isinstance(steps, Integral) or steps < 0:
        raise ValueError(
            f"step_size is a number of at least 0, steps an integer of at least 0; got {step_size} and {steps}"
        )
    if norm not in ("linf", "l2"):
        raise ValueError(f"unknown norm {norm!r}: choose 'linf' or 'l2'")


def loss_gradient(
    model: nn.Module, images: Tensor, labels: Tensor, loss: Loss = cross_entropy, *, what: str = "labels"
) -> tuple[Tensor, Tensor]:
    """Gradients (B, C, H, W) of each image's loss and the logits (B, classes), by one forward and one backward pass.

    They are taken ``models.in_halves``, but in training mode, where the batch counts, at once.
    Raises ValueError for ``labels``, called ``what`` they are, that do not fit, and where logits or gradients are not
    finite: of a NaN the sign is 0, and no attack would move.
    """

    def at_once(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images = images.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = model(images)
            check_labels(labels, images=len(images), classes=class_count(logits), what=what)
            (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), images)
        return gradient, logits.detach()

    models.check_module(model)
    gradient, logits = at_once(images, labels) if model.training else models.in_halves(at_once, images, labels)
    if not (logits.isfinite().all() and gradient.isfinite().all()):
        raise ValueError("the model gives logits or gradients that are infinite or not a number: nothing can attack it")
    return gradient, logits


def step(
    adversarial: Tensor, gradient: Tensor, images: Tensor, *, epsilon: float, step_size: float | Tensor, norm: str
) -> Tensor:
    """One ascent step along the gradient, projected on the ε-ball around ``images`` and on [0, 1]."""
    if norm == "linf":
        moved = adversarial + step_size * gradient.sign()
        perturbation = (moved - images).clamp(-epsilon, epsilon)
    else:
        moved = adversarial + step_size * gradient / _l2(gradient).clamp(min=1e-10)
        perturbation = moved - images
        perturbation = perturbation * (epsilon / _l2(perturbation).clamp(min=1e-10)).clamp(max=1.0)
    return (images + perturbation).clamp(0, 1)


def random_start(images: Tensor, *, epsilon: float, norm: str, generator: torch.Generator) -> Tensor:
    """A point drawn uniformly from the ε-ball (ℓ∞), or at a uniform radius in a uniform direction (ℓ2)."""
    if norm == "linf":
        noise = torch.empty(images.shape).uniform_(-epsilon, epsilon, generator=generator)
    else:
        noise = torch.randn(images.shape, generator=generator)
        radius = torch.rand(len(images), 1, 1, 1, generator=generator) * epsilon
        noise = noise / _l2(noise).clamp(min=1e-10) * radius
    return (images + noise.to(images)).clamp(0, 1)


def _l2(images: Tensor) -> Tensor:
    return images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Attack:
    """Adversarial ``images`` (B, C, H, W) and, an image each: ``utility``, ``reached``, ``steps`` and two classes.

    ``reached`` says whose utility lies in the wanted window; ``classes`` what the model makes of the adversarial
    image; ``targets`` the class aimed at, or, of an untargeted attack, its ``attack_targets``.
    """

    images: Tensor
    utility: Tensor
    reached: Tensor
    steps: Tensor
    classes: Tensor
    targets: Tensor


def joined(blocks: Sequence[Attack]) -> Attack:
    """The attacks of some blocks of images as one."""
    return Attack(**{name: torch.cat([getattr(block, name) for block in blocks]) for name in vars(blocks[0])})


def untargeted_utility(logits: Tensor, adversarial_logits: Tensor, labels: Tensor) -> Tensor:
    """U = h_y(x) − h_y(x_adv), one value an image (§4.1)."""
    h, h_adv, y = logits, adversarial_logits, labels[:, None]
    return (h.gather(1, y) - h_adv.gather(1, y)).squeeze(1)


def targeted_utility(logits: Tensor, adversarial_logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """U = (h_t − h_y)(x_adv) − (h_t − h_y)(x), one value an image (§4.1)."""
    h, h_adv, y, t = logits, adversarial_logits, labels[:, None], targets[:, None]
    return ((h_adv.gather(1, t) - h_adv.gather(1, y)) - (h.gather(1, t) - h.gather(1, y))).squeeze(1)


EPSILON, STEP_SIZE, STEPS = 32 / 255, 2 / 255, 100
"""The paper's attack up to a utility, in units of the [0, 1] image: its ball, its first step, and how many steps."""


def calibrated_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float = EPSILON,
    step_size: float = STEP_SIZE,
    steps: int = STEPS,
    utility: tuple[float, float] = (8.0, 8.5),
    norm: str = "linf",
    targets: Tensor | None = None,
    loss: Loss = cross_entropy,
    gradient_of: Gradient | None = None,
) -> Attack:
    """PGD that stops each image once its utility lies in the window (low, high] (§4.1, supplement).

    A step that would overshoot the window is taken back and tried again at half its size. With ``targets`` the attack
    is targeted at those classes. ``gradient_of`` leads the attack in place of the gradient of the ``loss``; the utility
    is that of the model all the same. Images that do not reach the window keep their last perturbation, and
    ``Attack.reached`` says which they are: the paper's code drops them without a word.
    Raises ValueError as ``pgd`` does, for a window that is not 0 <= low < high, for targets among the labels, and for a
    model in training mode.
    """
    models.check_frozen(model)
    check_attack(images, epsilon=epsilon, step_size=step_size, steps=steps, norm=norm)
    low, high = _checked_window(utility)
    goal, what, sign = (labels, "labels", 1.0) if targets is None else (targets, "targets", -1.0)

    def gained(logits: Tensor, rows: Tensor) -> Tensor:
        if targets is None:
            return untargeted_utility(clean[rows], logits, labels[rows])
        return targeted_utility(clean[rows], logits, labels[rows], targets[rows])

    def looked(points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        if gradient_of is None:
            return loss_gradient(model, points, classes, loss, what=what)
        logits = models.logits(model, points)
        check_labels(classes, images=len(points), classes=class_count(logits), what=what)
        with torch.no_grad():
            return gradient_of(points, classes), logits

    gradient, clean = looked(images, goal)
    check_labels(labels, images=len(images), classes=class_count(clean))
    if targets is not None and (targets == labels).any():
        raise ValueError("an attack is targeted at another class than the image's own; got a target that is the label")
    adversarial, gradient = images.clone(), sign * gradient
    reach = clean.new_zeros(len(images))
    classes = clean.argmax(1)
    taken = torch.zeros_like(labels)
    size = torch.full_like(reach, step_size)
    active = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        if len(active) == 0 or epsilon == 0:
            break
        proposal = step(
            adversarial[active],
            gradient[active],
            images[active],
            epsilon=epsilon,
            step_size=size[active].view(-1, 1, 1, 1),
            norm=norm,
        )
        slope, logits = looked(proposal, goal[active])
        gain = gained(logits, active)
        over = gain > high
        size[active[over]] /= 2
        kept = active[~over]
        adversarial[kept], gradient[kept] = proposal[~over], sign * slope[~over]
        reach[kept], classes[kept] = gain[~over], logits.argmax(1)[~over]
        taken[active] += 1
        active = active[over | (gain <= low)]
    aim = attack_targets(classes, clean, labels) if targets is None else targets
    return Attack(adversarial, reach, (reach > low) & (reach <= high), taken, classes, aim)


def calibrated_path(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    path: Callable[[Tensor], Tensor],
    *,
    utility: tuple[float, float] = (8.0, 8.5),
    steps: int = 20,
) -> Attack:
    """The point of a path whose utility lies in the window (low, high], found by halving the interval [0, 1].

    ``path`` takes amounts (B,), 0 for the images themselves and 1 for its end, to images (B, C, H, W). Of images whose
    path does not end above ``low`` the end of the path is kept, and ``Attack.reached`` says which they are.
    Raises ValueError for a window that is not 0 <= low < high, or no steps.
    """
    low, high = _checked_window(utility)
    if steps < 1:
        raise ValueError(f"a path is followed in at least 1 step; got {steps}")
    with torch.no_grad():
        clean = models.logits(model, images)
        check_labels(labels, images=len(images), classes=class_count(clean))
        short, far = torch.zeros(len(images)).to(images), torch.ones(len(images)).to(images)
        amount, taken = far, torch.zeros_like(labels)
        for _ in range(steps):
            points = path(amount)
            logits = models.logits(model, points)
            gain = untargeted_utility(clean, logits, labels)
            going = (gain > high) | ((gain <= low) & (amount < 1))
            if not going.any():
                break
            taken += going
            far = torch.where(going & (gain > high), amount, far)
            short = torch.where(going & (gain <= low), amount, short)
            amount = torch.where(going, (short + far) / 2, amount)
    classes = logits.argmax(1)
    aim = attack_targets(classes, clean, labels)
    return Attack(points, gain, (gain > low) & (gain <= high), taken, classes, aim)


def _checked_window(utility: tuple[float, float]) -> tuple[float, float]:
    if not (isinstance(utility, Sequence) and len(utility) == 2 and 0 <= utility[0] < utility[1]):
        raise ValueError(f"utility must be a window (low, high) with 0 <= low < high; got {utility}")
    return utility


def finished(
    model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *, reached: Tensor, steps: int
) -> Attack:
    """Adversarial images (B, C, H, W) that are made already, with the utility to which they happen to lead."""
    before, after = models.logits(model, images), models.logits(model, adversarial)
    classes = after.argmax(1)
    return Attack(
        images=adversarial,
        utility=untargeted_utility(before, after, labels),
        reached=reached,
        steps=torch.full_like(labels, steps),
        classes=classes,
        targets=attack_targets(classes, before, labels),
    )


def attack_targets(classes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """The ``classes`` (B,) that an untargeted attack led to; where it left the truth standing, the strongest wrong one.

    ``logits`` (B, classes) are those of the clean images (§4.1, footnote 6).
    """
    wrong = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    return torch.where(classes == labels, wrong, classes)
