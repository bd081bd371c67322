"""How robust a model is, image by image: clean, under PGD-20 and AutoAttack, and certified by smoothing (§4.1, S-I.8).

The certificate is that of Cohen et al. (2019): in an ℓ2 ball around the image, the class that the model gives most
often under Gaussian noise cannot change.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import xarray as xr
from scipy import stats
from torch import Tensor, nn

from lib import datasets, models, results, sampling
from lib.attacks import pgd

EPSILON = 8 / 255
PGD_STEPS = 20
SELECTION = 100
"""Draws that choose the class to be certified, apart from those that certify it."""
AUTOATTACK_STEPS = 100
TARGETS = 9
"""Classes at which the targeted parts of AutoAttack aim, the strongest wrong ones, where there are as many."""
ALPHA = 0.001
"""Chance that a certified radius is too large."""
AT_ONCE = {"cpu": 125, "cuda": 500}
"""Small images attacked together: the few that AutoAttack leaves must still fill a batch."""


@dataclass(frozen=True)
class Robustness(results.Asked):
    """What is asked: of the first ``images`` test images in the seed's order, what the model does right.

    AutoAttack (Croce and Hein, 2020), of torchattacks' parts, is run where ``autoattack`` says so. Radii are
    certified of the first ``certified`` images, with ``draws`` of the noise that the model was trained with.
    """

    verb: ClassVar[str] = "robustness"
    dataset: str = "photos"
    model: str = "resnet18-adversarial"
    images: int = 500
    autoattack: bool = False
    certified: int = 0
    draws: int = 1000
    seed: int = 0


def certified_radius(hits: int, draws: int, *, noise: float) -> float:
    """The ℓ2 radius within which a class that ``hits`` of the ``draws`` gave stays the most frequent one.

    σ Φ⁻¹ of the exact lower bound of its chance, wrong with the chance ``ALPHA`` at most; 0 where it is below 1/2.
    """
    least = stats.binomtest(hits, draws, alternative="greater").proportion_ci(1 - ALPHA, method="exact").low
    return max(0.0, noise * float(stats.norm.ppf(least)))


@torch.no_grad()
def certified_radii(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    noise: float,
    draws: int,
    generators: list[torch.Generator],
) -> Tensor:
    """Radii (B,) in units of the [0, 1] image that the smoothed model certifies for the right class, else 0.

    ``noise`` is the deviation σ; each image has a generator. Raises ValueError for noise or draws not above 0.
    """
    if noise <= 0 or draws < 1:
        raise ValueError(f"certifying needs noise above 0 and at least one draw; got {noise} and {draws}")
    radii = []
    for image, label, draw in zip(images, labels, generators, strict=True):
        given = []
        for count in (SELECTION, draws):
            noisy = [
                model(image + noise * torch.randn(min(100, count - start), *image.shape, generator=draw).to(image))
                for start in range(0, count, 100)
            ]
            given.append(torch.cat(noisy).argmax(1))
        chosen = given[0].mode().values
        hits = int((given[1] == chosen).sum())
        radii.append(certified_radius(hits, draws, noise=noise) if chosen == label else 0.0)
    return torch.tensor(radii)


def robustness(asked: Robustness, *, device: torch.device, root: str | Path | None = None) -> xr.Dataset:
    """Carry out the measurement: one row an image, right or wrong under each attack, and its certified radius.

    AutoAttack's random starts are decided by the seed and the images of a block together. Raises ValueError where a
    certificate is asked of a model trained without noise, or no images, or more than there are.
    """
    known = asked.dataset != "imagenet"  # whose public models have no card
    noise = models.card(asked.dataset, asked.model)["recipe"].get("noise", 0.0) if known else 0.0
    if asked.certified and not noise:
        raise ValueError(
            f"{asked.model} was trained without noise: there is no certificate to ask for; "
            "set certified 0, or take a model that was, as resnet50-smoothed on cifar10"
        )
    if asked.certified and asked.draws < 1:
        raise ValueError(f"a certified radius takes at least 1 draw; got {asked.draws}")
    model = models.load(asked.dataset, asked.model, device=device)
    data = datasets.load(asked.dataset, "test", root=root)
    if not 0 <= asked.certified <= asked.images <= len(data) or asked.images < 1:
        raise ValueError(
            f"{asked.images} images and {asked.certified} certified were asked for; {data.name} has {len(data)}, "
            "of which at least one is used, and no more are certified than used"
        )
    rows = torch.randperm(len(data), generator=sampling.generator(asked.seed))[: asked.images]

    def block(chosen: Tensor) -> xr.Dataset:
        some = rows[chosen.cpu()]
        images, labels = (part.to(device) for part in data.batch(some))
        clean = models.logits(model, images)
        datasets.check_classes(data, clean)
        attacked = {"PGD-20": pgd(model, images, labels, epsilon=EPSILON, step_size=2 / 255, steps=PGD_STEPS)}
        if asked.autoattack:
            attacked["AutoAttack"] = _autoattack(model, images, labels, asked.seed)
        under = {"clean": clean, **{name: models.logits(model, each) for name, each in attacked.items()}}
        right = {name: each.argmax(1) == labels for name, each in under.items()}
        radii = torch.full((len(some),), torch.nan)
        to_certify = chosen.cpu() < asked.certified
        if to_certify.any():
            radii[to_certify] = certified_radii(
                model,
                images[to_certify],
                labels[to_certify],
                noise=noise,
                draws=asked.draws,
                generators=sampling.generators(asked.seed, some[to_certify].tolist(), 7),
            )
        passes = 1 + (PGD_STEPS + 1) + to_certify * (SELECTION + asked.draws)  # clean, PGD and a look at its images
        return xr.Dataset(
            {
                "right": (("under", "image"), torch.stack(list(right.values())).cpu()),
                "radius": ("image", radii, {"units": "ℓ2 distance of [0, 1] images"}),
                "label": ("image", labels.cpu()),
                "passes": ("image", passes, {"what": "AutoAttack's not counted"}),
            },
            coords={"under": list(right), "image": some},
            attrs={"dataset": asked.dataset, "model": asked.model, "epsilon": EPSILON, "noise": noise},
        )

    inputs = [*model.state_dict().values(), *data.batch(rows)]
    return results.measured(
        block,
        asked,
        inputs=inputs,
        root=root,
        device=device,
        description=f"robustness of {asked.model}",
        at_once=AT_ONCE if known else results.AT_ONCE,
    )


def _autoattack(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The standard AutoAttack in the ℓ∞ ball of 8/255, with its authors' 100 steps, 9 target classes and 5000 queries.

    torchattacks' own ``AutoAttack`` makes only 10 steps of each attack that follows gradients, and aims at every class.
    """
    import torchattacks as ta  # takes seconds, which every other command would wait for

    about = {"eps": EPSILON, "seed": seed}
    every = {"n_classes": min(models.logits(model, images[:1]).shape[1], TARGETS + 1), "steps": AUTOATTACK_STEPS}
    with torch.random.fork_rng():  # it seeds the global generator
        attack = ta.MultiAttack(
            [
                ta.APGD(model, loss="ce", steps=AUTOATTACK_STEPS, **about),
                ta.APGDT(model, **every, **about),
                ta.FAB(model, multi_targeted=True, **every, **about),
                ta.Square(model, n_queries=5000, resc_schedule=False, **about),
            ]
        )
        return attack(images, labels)
