"""Experiments: from a dataset and a model to the interactions of normal and adversarial images (§4.1, Figure 3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import inf
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lib import controls, datasets, designs, estimators, game, models, players, results, sampling
from lib.attacks import (
    EPSILON,
    INSIDE_STEPS,
    STEP_SIZE,
    STEPS,
    Attack,
    calibrated_pgd,
    check_attack,
    finished,
    pgd,
    pgd_inside,
)
from lib.datasets import Dataset
from lib.files import key

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""The orders of the published measurements, as fractions of n − 2: those of S-Table 1 and one more of the high ones."""


@dataclass(frozen=True)
class OrderCurves(results.Asked):
    """What is asked: I^(m) of normal images and of one adversarial version of each for every attack.

    ``attacks`` are named "untargeted 8" or "targeted 2": the goal, and the utility in logits to be reached. An attack
    reaches utility u when its utility lies in (u, 17/16 u]: (8, 8.5] for the paper's 8. "steps 16" are that many steps
    of PGD wherever they lead (S-Table 2), "epsilon 4" is PGD inside 4/255, and "shuffled 8" or another of
    ``controls.CONTROLS`` what goes with the untargeted attack of that utility; perturbations are transferred from the
    model ``source``. ``category`` is the class of v: "truth", or "attacked", the target of the first attack (§4.1,
    footnote 6). ``errors`` are the wanted sampling errors, one an order, root mean square over the images of a block
    (``results.AT_ONCE``), so that in other company an image may have another number of draws, and other draws; without
    them there are ``replicates`` at every order. The players are ``grid`` × ``grid`` cells, or 32 regions of each point
    cloud.
    """

    verb: ClassVar[str] = "interactions"
    dataset: str = "photos"
    model: str = "resnet18-standard"
    attacks: tuple[str, ...] = ("untargeted 8",)
    epsilon: float = EPSILON
    step_size: float = STEP_SIZE
    steps: int = STEPS
    sampling: str = "neighbours"
    design: str | None = None
    group: int | None = None
    images: int = 100
    replicates: int = 64
    errors: tuple[float, ...] | None = None
    fractions: tuple[float, ...] = FRACTIONS
    grid: int = 16
    baseline: str = "mean"
    value: str = "log_probability"
    category: str = "truth"
    source: str = "resnet18-adversarial"
    seed: int = 0

    def command(self) -> str:
        """The command line that makes this measurement."""
        design, group = designs.chosen(self.sampling, design=self.design, group=self.group)
        return results.command_line(self.verb, replace(self, design=design, group=group))

    @property
    def goals(self) -> set[str]:
        """The goals of the attacks, such as "untargeted"."""
        return {name.partition(" ")[0] for name in self.attacks}


def correct_images(model: nn.Module, data: Dataset, count: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first ``count`` images, in an order that the seed decides, that the model classifies correctly.

    Gives their rows in ``data`` (I,), images (I, C, H, W) in [0, 1] and labels (I,), on the model's device.
    Raises ValueError where the dataset has too few of them, or other classes than the model.
    """
    if count < 1:
        raise ValueError(f"at least one image must be asked for; got {count}")
    order = torch.randperm(len(data), generator=sampling.generator(seed))
    device = next(model.parameters(), data.images).device
    chosen = torch.empty(0, dtype=torch.long)
    for rows in order.split(min(count, 250)):
        images, labels = (part.to(device) for part in data.batch(rows))
        logits = models.logits(model, images)
        datasets.check_classes(data, logits)
        chosen = torch.cat([chosen, rows[(logits.argmax(1) == labels).cpu()]])
        if len(chosen) >= count:
            break
    if count > len(chosen):
        raise ValueError(f"{count} images were asked for; the model classifies {len(chosen)} of {data.name} correctly")
    images, labels = (part.to(device) for part in data.batch(chosen[:count]))
    return chosen[:count], images, labels


def baseline(name: str, data: Dataset, images: Tensor | None = None) -> Tensor:
    """The masked value (C, H, W): "mean", the mean image of the dataset, "zero" (S-I.5), or one image of "noise".

    "blur" masks each of the ``images`` (I, C, H, W), which it alone needs, by what is left of itself: (I, C, H, W).
    Of point clouds mean and zero are the origin, 0.5 in the image: the points have no order, and their mean is zero.
    Raises ValueError for another name, or one that the data do not allow.
    """
    shape = data.images.shape[1:]
    if datasets.is_cloud(data.images):
        made = dict.fromkeys(("mean", "zero"), lambda: torch.full(shape, 0.5))
    else:
        made = {
            "mean": lambda: game.mean_baseline(data.batch(slice(None))[0]),
            "zero": lambda: torch.zeros(shape),
            "noise": lambda: controls.noise_baseline(shape),
        }
        if images is not None:
            made["blur"] = lambda: controls.blurred(images)
    if name not in made:
        raise ValueError(f"unknown baseline {name!r}: choose one of {', '.join(made)}")
    return made[name]()


@dataclass(frozen=True)
class Subjects:
    """What is measured: a model, and correctly classified images (I, C, H, W) with their rows (I,) and labels (I,).

    ``baseline`` (C, H, W) is their masked value.
    """

    model: nn.Module
    rows: Tensor
    images: Tensor
    labels: Tensor
    baseline: Tensor

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that decide the measurement, for ``results.measured``."""
        return [*self.model.state_dict().values(), self.images, self.baseline]


def subjects(model: nn.Module, data: Dataset, count: int, *, masked: str, seed: int) -> Subjects:
    """``count`` images of the data, as ``correct_images`` has them, ``masked`` by a baseline that all of them share.

    Raises ValueError as that does, and for an unknown baseline.
    """
    reference = baseline(masked, data)
    rows, images, labels = correct_images(model, data, count, seed=seed)
    return Subjects(model, rows, images, labels, reference.to(images))


def refuse_clouds(data: Dataset) -> None:
    """Raise ValueError for point clouds, where what is measured is of images alone."""
    if datasets.is_cloud(data.images):
        raise ValueError(f"this is measured on images, whose cells are the players; {data.name} has point clouds")


def player_count(images: Tensor, *, grid: int) -> int:
    """How many players each of the images (..., C, H, W) has; raises ValueError for a ``grid`` that is not theirs."""
    if grid < 1:
        raise ValueError(f"a grid has at least one player along a side; got {grid}")
    if not datasets.is_cloud(images):
        return grid**2
    if grid != OrderCurves.grid:
        raise ValueError(f"a grid is of images; a point cloud's players are {players.REGIONS} regions: leave grid out")
    return players.REGIONS


def player_sets(images: Tensor, *, grid: int) -> list[players.Players]:
    """The players of each of the images (I, C, H, W): ``grid`` × ``grid`` cells, of a point cloud its own regions."""
    if datasets.is_cloud(images):
        return [players.regions(cloud) for cloud in images]
    return [players.grid(*images.shape[-2:], side=grid)] * len(images)


GOALS = ("untargeted", "targeted", "steps", "epsilon")
"""What an ``attack`` is made for; the other names are those of ``controls.CONTROLS``."""


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    name: str,
    *,
    epsilon: float = EPSILON,
    step_size: float = STEP_SIZE,
    steps: int = STEPS,
    untargeted: Attack | None = None,
) -> Attack:
    """The attack called ``name``: "untargeted 8" or "targeted 2" (goal and utility, §4.1), or "steps 16" (S-Table 2).

    A targeted attack aims at the class to which the untargeted attack of the same utility led: ``untargeted``, where it
    is made already. "steps 16" is 16 steps of PGD, "epsilon 4" is ``pgd_inside`` 4/255: neither has a utility to reach,
    and every image counts as having reached it. Raises ValueError for another name.
    """
    goal, level = attack_goal(name)
    every = torch.ones_like(labels, dtype=torch.bool)
    if goal == "steps":
        led = pgd(model, images, labels, epsilon=epsilon, step_size=step_size, steps=int(level))
        return finished(model, images, labels, led, reached=every, steps=int(level))
    if goal == "epsilon":
        led = pgd_inside(model, images, labels, epsilon=level / 255)
        return finished(model, images, labels, led, reached=every, steps=INSIDE_STEPS)
    calibrated = partial(
        calibrated_pgd,
        model,
        images,
        labels,
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
        utility=window(level),
    )
    if goal == "untargeted":
        return calibrated()
    return calibrated(targets=(untargeted or calibrated()).targets)


def perturbed(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    names: Sequence[str],
    *,
    rows: Sequence[int] | Tensor,
    baseline: Tensor,
    source: nn.Module,
    epsilon: float = EPSILON,
    step_size: float = STEP_SIZE,
    steps: int = STEPS,
    grid: int = 16,
    seed: int = 0,
) -> list[Attack]:
    """The ``attack`` of each name, or the one of ``controls.CONTROLS`` with the utility that the name gives.

    What these need besides: the ``rows`` (I,) of the images, which with the seed decide the draws; "masked" alone, the
    ``baseline`` (C, H, W) and the players along a side, ``grid``; and "transferred" the model ``source``.
    The controls of one utility, and the targeted attack, share their untargeted attack, which is made once.
    """
    pace = {"epsilon": epsilon, "step_size": step_size}

    @cache
    def plain(name: str) -> Attack:
        goal, _ = attack_goal(name)
        untargeted = plain(name.replace("targeted", "untargeted")) if goal == "targeted" else None
        return attack(model, images, labels, name, **pace, steps=steps, untargeted=untargeted)

    def one(name: str) -> Attack:
        goal, _, level = name.partition(" ")
        if goal not in controls.CONTROLS:
            return plain(name)
        _, utility = attack_goal(name, goals=controls.CONTROLS)
        scene = controls.Scene(
            model=model,
            images=images,
            labels=labels,
            rows=[int(row) for row in rows],
            attack=plain(f"untargeted {level}"),
            utility=window(utility),
            baseline=baseline,
            source=source,
            seed=seed,
            **pace,
            steps=steps,
            grid=grid,
        )
        return controls.CONTROLS[goal](scene)

    return [one(name) for name in names]


def attack_goal(name: str, *, goals: Collection[str] = GOALS) -> tuple[str, float]:
    """The goal of an attack and its utility, number of steps, or ε in 255ths; raises ValueError for another name."""
    goal, _, number = name.partition(" ")
    try:
        level = float(number)
    except ValueError:
        level = -1.0
    allowed = 0 < level < inf and not (goal == "steps" and level % 1) and not (goal == "epsilon" and level > 255)
    if goal not in goals or not allowed:
        elsewhere = "" if controls.CONTROLS.keys() <= set(goals) else "; 'interactions' alone measures controls"
        raise ValueError(
            f"unknown attack {name!r}: write one of {', '.join(goals)} and a finite number above 0: "
            f"a utility, of 'steps' a whole number of them, of 'epsilon' 255ths up to 255{elsewhere}"
        )
    return goal, level


def check_attack_names(names: Sequence[str], *, goals: Collection[str] = GOALS) -> None:
    """Raise ValueError for no attack, and for one that is unknown, or named twice."""
    if isinstance(names, str) or not names:
        raise ValueError(f"attacks are a list of at least one, as ['untargeted 8']; got {names!r}")
    different = {attack_goal(name, goals=goals) for name in names}
    if len(different) < len(names):
        raise ValueError(f"each attack is measured once; got {', '.join(names)}")


def window(utility: float) -> tuple[float, float]:
    """The utilities (low, high] that count as reaching ``utility``: (8, 8.5] for the paper's 8."""
    return utility, utility * 17 / 16


def measure(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    baseline: Tensor,
    orders: list[int],
    rows: Sequence[int] | Tensor,
    replicates: int = 64,
    errors: tuple[float, ...] | None = None,
    sampling: str = "neighbours",
    design: str | None = None,
    group: int | None = None,
    grid: int = 16,
    value: str | game.Value = "log_probability",
    seed: int = 0,
    batch_size: int | None = None,
) -> estimators.OrderMeans:
    """I^(m) of images (I, C, H, W), or (V, I, C, H, W), V variants on common coalitions, in units of v.

    ``rows`` (I,) names the images: with the seed it decides the draws of each, whatever else is measured with it; with
    ``errors`` their number is that which all the images together need.
    ``design`` and ``group`` None are those that need the fewest passes for the sampling. Each point cloud has players
    of its own, the regions of its first variant. ``value`` is a name of ``game.VALUES`` or a function of its kind.
    Raises ValueError for images of another shape, rows that do not name them, and as designs, players and games do.
    """
    if images.ndim not in (4, 5):
        raise ValueError(f"images must be (I, C, H, W), or (V, I, C, H, W) for V variants; got {tuple(images.shape)}")
    given = rows.tolist() if isinstance(rows, Tensor) else rows
    numbers = [int(row) for row in given]
    odd = any(isinstance(row, bool) or row < 0 or row != int(row) for row in given)
    if not 0 < len(rows) == images.shape[-4] or odd:
        raise ValueError(
            f"rows name the images by whole numbers from 0 up, at least one; got {rows} for {images.shape[-4]} images"
        )
    own = player_sets(images if images.ndim == 4 else images[0], grid=grid)
    drawing = [designs.design(each, sampling=sampling, name=design, group=group) for each in own]
    v = game.named_value(value) if isinstance(value, str) else value
    played = game.MaskingGame(model, own, images, labels, baseline=baseline, value=v, batch_size=batch_size)
    seeds = [(seed, number) for number in numbers]
    return estimators.order_means(played, drawing, orders=orders, replicates=replicates, errors=errors, seeds=seeds)


def order_curves(
    asked: OrderCurves,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Carry out the measurement: one row an image, in blocks that an interrupted run does not measure again.

    Raises ValueError, before any pass, for a wrong attack, category, order, design or value, and for controls on point
    clouds; then for a wrong baseline, and for more images than the model classifies correctly.
    """
    check_attack_names(asked.attacks, goals=(*GOALS, *controls.CONTROLS))
    if asked.category not in ("truth", "attacked"):
        raise ValueError(f"unknown category {asked.category!r}: choose 'truth' or 'attacked'")
    model = models.load(asked.dataset, asked.model, device=device)
    data = datasets.load(asked.dataset, "test", root=root)
    orders = checked_orders(asked, data)
    source = models.load(asked.dataset, asked.source, device=device) if "transferred" in asked.goals else model
    rows, images, labels = correct_images(model, data, asked.images, seed=asked.seed)
    reference = baseline(asked.baseline, data, images).to(device)
    of_images = key("images", inputs=[images])
    inputs = [*model.state_dict().values(), *source.state_dict().values(), images, reference]

    def block(chosen: Tensor) -> xr.Dataset:
        true, which = labels[chosen], rows[chosen.cpu()]
        hidden = reference[chosen] if reference.ndim == 4 else reference
        attacked = perturbed(
            model,
            images[chosen],
            true,
            asked.attacks,
            rows=which.tolist(),
            baseline=hidden,
            source=source,
            epsilon=asked.epsilon,
            step_size=asked.step_size,
            steps=asked.steps,
            grid=asked.grid,
            seed=asked.seed,
        )
        category = true if asked.category == "truth" else attacked[0].targets
        estimate = measure(
            model,
            torch.stack([images[chosen], *(each.images for each in attacked)]),
            category,
            baseline=hidden,
            orders=orders,
            rows=which.tolist(),
            replicates=asked.replicates,
            errors=asked.errors,
            sampling=asked.sampling,
            design=asked.design,
            group=asked.group,
            grid=asked.grid,
            value=asked.value,
            seed=asked.seed,
            batch_size=batch_size,
        )
        found = labelled(asked, which, true, attacked, estimate)
        found = found.assign_attrs(players=player_count(images, grid=asked.grid), of_images=of_images)
        return found if asked.category == "truth" else found.assign(category=("image", category.cpu()))

    return results.measured(
        block, asked, device=device, description=f"{asked.model} {asked.sampling}", inputs=inputs, root=root
    )


def checked_orders(asked: OrderCurves, data: Dataset) -> list[int]:
    """The orders m that are asked for; raises ValueError, before any pass, for whatever does not fit the data."""
    orders = sampling.orders(player_count(data.images, grid=asked.grid), asked.fractions)
    if asked.source != OrderCurves.source and "transferred" not in asked.goals:
        raise ValueError(f"the source {asked.source!r} is of the attack 'transferred U' alone, which is not asked for")
    if asked.goals & controls.CONTROLS.keys() and datasets.is_cloud(data.images):
        raise ValueError(f"the controls {', '.join(controls.CONTROLS)} are of images; {data.name} has point clouds")
    estimators.check_replicates(asked.replicates, orders=orders, errors=asked.errors)
    game.named_value(asked.value)
    one, _ = data.batch(slice(1))
    (first,) = player_sets(one, grid=asked.grid)
    designs.check_reach(designs.design(first, sampling=asked.sampling, name=asked.design, group=asked.group), orders)
    check_attack(one, epsilon=asked.epsilon, step_size=asked.step_size, steps=asked.steps)
    if "masked" in asked.goals and asked.baseline == "blur":
        raise ValueError("the control 'masked' averages over one masked value: it does not go with the baseline blur")
    return orders


def labelled(
    asked: OrderCurves, rows: Tensor, labels: Tensor, attacked: list[Attack], estimate: estimators.OrderMeans
) -> xr.Dataset:
    """The estimate and the attacks of some images as a dataset over (variant, image, order) with units."""
    change = estimate.change()
    adversarial = ("attack", "image")
    return xr.Dataset(
        {
            "interaction": (
                ("variant", "image", "order"),
                estimate.mean(),
                {"units": "of v", "what": "I^(m), mean over pairs"},
            ),
            "sampling_error": (("variant", "image", "order"), estimate.standard_error(), {"units": "of v"}),
            "difference": (
                ("attack", "image", "order"),
                change.mean(),
                {"units": "of v", "what": "ΔI^(m), normal − adversarial, common coalitions"},
            ),
            "difference_error": (("attack", "image", "order"), change.standard_error(), {"units": "of v"}),
            "replicates": (("image", "order"), estimate.replicates[0].isfinite().sum(-2)),
            "utility": (adversarial, torch.stack([each.utility for each in attacked]).cpu(), {"units": "logits"}),
            "reached": (adversarial, torch.stack([each.reached for each in attacked]).cpu()),
            "steps": (adversarial, torch.stack([each.steps for each in attacked]).cpu()),
            "class_after": (adversarial, torch.stack([each.classes for each in attacked]).cpu()),
            "label": ("image", labels.cpu()),
            "passes": ("image", np.full(len(rows), estimate.passes // len(rows))),
        },
        coords={
            "variant": ["normal", *asked.attacks],
            "attack": list(asked.attacks),
            "image": rows,
            "order": estimate.orders,
            "fraction": ("order", list(asked.fractions)),
        },
        attrs={
            "dataset": asked.dataset,
            "model": asked.model,
            "sampling": asked.sampling,
            "design": designs.chosen(asked.sampling, design=asked.design)[0],
            "epsilon": asked.epsilon,
        },
    )
