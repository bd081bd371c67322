"""Defences measured: what §4.3 says of the adversarial images of a model, and the rivals of interactions in §4.1.

Each part is a function from images to a labelled result over (…, image); ``defenses`` joins them in two measurements of
one model: on many images what takes few passes (Table 1, S-Table 3), on fewer what takes games (Figure 6, S-E, S-G).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor, nn

from lib import datasets, experiments, game, models, players, results, sampling, spectrum
from lib.attacks import pgd
from lib.defenses import Defense, cutout, dropout, recognised, recover
from lib.detection import DISPERSIONS, Detection, detect, dispersion, is_exact, sample_attributions

SUBJECTS = ("normal", "adversarial")
RATES = (0.1, 0.2, 0.25, 0.3)
"""Dropout rates: the three of Table 1, and 0.25, the share of the pixels that cutout takes."""
TRANSFORMS = ("none", "rank 1/4", "rank 1/16", "dropout 0.3")
FRACTIONS = (0.1, 0.5, 0.8, 0.95)
"""Orders of the interactions of transformed images, as fractions of n − 2."""
ATTRIBUTION_FRACTIONS = (0.0, 0.3, 0.6, 0.9, 0.95, 1.0)
"""Orders of the attributions, as fractions of n − 1: of 16 players 0, 4, 9, 13, 14 and 15, the last one ML-LOO's."""
FULL, STOPPED = "full", "stopped"
"""The attacks of S-Table 3 (ε = 16/255, all of its 10 steps) and of Table 1 (ε = 32/255, stopped on success)."""


def full_attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Adversarial images (B, C, H, W) of the attack ``FULL``: ε = 16/255, ten steps of 2/255 (S-Table 3)."""
    return pgd(model, images, labels, epsilon=16 / 255, step_size=2 / 255, steps=10)


def stopped_attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Adversarial images (B, C, H, W) of the attack ``STOPPED``: ε = 32/255, stopped once it succeeds (Table 1)."""
    return pgd(model, images, labels, epsilon=32 / 255, step_size=2 / 255, steps=100, early_stop=True)


def both_attacks(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The adversarial images (B, C, H, W) of ``FULL`` and of ``STOPPED``."""
    return {FULL: full_attack(model, images, labels), STOPPED: stopped_attack(model, images, labels)}


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    """The classes (B,) that the model gives the images (B, C, H, W)."""
    return models.logits(model, images).argmax(1)


# The parts.


def corrections(
    model: nn.Module,
    variants: Tensor,
    labels: Tensor,
    *,
    baseline: Tensor,
    draws: int,
    rows: Sequence[int],
    seed: int,
    rates: Sequence[float] = RATES,
) -> xr.Dataset:
    """Share of the draws of each defence in which an image gets its true label (Table 1).

    ``variants`` (2, I, C, H, W) are the ``SUBJECTS``: of an adversarial image it is the share corrected, of a normal
    one what the defence leaves. Draws are common to both, and nested over the rates. Raises as ``check_rates`` does.
    """
    check_rates(rates)
    ways: dict[str, Defense] = {"cutout": partial(cutout, baseline=baseline)}
    ways |= {f"dropout {rate:g}": partial(dropout, rate=rate) for rate in rates}
    shares = [
        [recognised(model, x, labels, way, draws=draws, generators=sampling.generators(seed, rows)) for x in variants]
        for way in ways.values()
    ]
    table = torch.stack([torch.stack(of) for of in shares]).cpu()
    return xr.Dataset(
        {"corrected": (("defense", "subject", "image"), table, {"units": "share of the draws"})},
        coords={"defense": list(ways), "subject": list(SUBJECTS)},
    )


def check_rates(rates: Sequence[float]) -> None:
    """Raise ValueError unless ``rates`` of dropout are a list of shares of the pixels, at least one, in [0, 1)."""
    sampling.check_list(rates, "rates", what="rates of dropout are a list of shares", example=[0.1, 0.2])
    odd = [rate for rate in rates if isinstance(rate, str) or not 0 <= rate < 1]
    if not len(rates) or odd:
        raise ValueError(f"rates of dropout are shares of the pixels in [0, 1), at least one; got {odd or 'none'}")


def recoveries(model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> xr.Dataset:
    """ℓ2 distances of x_adv and of x̂, led back to the truth, from the images x (I, C, H, W) (S-Table 3)."""
    recovered = recover(model, adversarial, labels)
    away, back = ((other - images).flatten(1).norm(dim=1).cpu() for other in (adversarial, recovered))
    regained = predicted(model, recovered) == labels
    return xr.Dataset(
        {
            "adversarial_distance": ("image", away, {"units": "ℓ2 of [0, 1] images"}),
            "recovered_distance": ("image", back, {"units": "ℓ2 of [0, 1] images"}),
            "returned": ("image", regained.cpu(), {"what": "whether x̂ has its label again"}),
        }
    )


def transformed(images: Tensor, name: str, *, rows: Sequence[int], seed: int) -> Tensor:
    """Images (I, C, H, W) of which a transform of ``TRANSFORMS`` is made: "none", "rank 1/4" or "dropout 0.3".

    The rank is that share of the full rank, of each channel. Raises ValueError for another name.
    """
    if name == "none":
        return images
    if of_rank := re.fullmatch(r"rank 1/([1-9]\d*)", name):
        return spectrum.reduce_rank(images, min(images.shape[2:]) // int(of_rank[1]))
    if of_rate := re.fullmatch(r"dropout (0\.\d+)", name):
        return dropout(images, sampling.generators(seed, rows), rate=float(of_rate[1]))
    raise ValueError(f"unknown transform {name!r}: write 'none', 'rank 1/4' or 'dropout 0.3'")


def interactions_of_transformed(
    model: nn.Module,
    variants: Tensor,
    labels: Tensor,
    *,
    baseline: Tensor,
    replicates: int,
    rows: Sequence[int],
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    transforms: Sequence[str] = TRANSFORMS,
    grid: int = 16,
    batch_size: int | None = None,
) -> xr.Dataset:
    """I^(m) of the ``SUBJECTS`` (2, I, C, H, W) under each transform, all on common coalitions (Figure 6, right)."""
    shown = torch.stack([transformed(x, name, rows=rows, seed=seed) for x in variants for name in transforms])
    orders = sampling.orders(grid**2, fractions)
    estimate = experiments.measure(
        model,
        shown,
        labels,
        baseline=baseline,
        orders=orders,
        rows=list(rows),
        replicates=replicates,
        grid=grid,
        seed=seed,
        batch_size=batch_size,
    )
    mean = estimate.mean().unflatten(0, (len(SUBJECTS), len(transforms)))
    dimensions = ("subject", "transform", "image", "order")
    return xr.Dataset(
        {"transformed": (dimensions, mean, {"units": "of v", "what": "I^(m), mean over neighbour pairs"})},
        coords={
            "subject": list(SUBJECTS),
            "transform": list(transforms),
            "order": orders,
            "fraction": ("order", list(fractions)),
        },
    )


def attribution_dispersions(
    model: nn.Module,
    variants: Mapping[str, Tensor],
    *,
    baseline: Tensor,
    contexts: int,
    rows: Sequence[int],
    seed: int,
    fractions: Sequence[float] = ATTRIBUTION_FRACTIONS,
    grid: int = 4,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Dispersion of φ^(m)(i) over the players, of the normal image and of each attack's, from 1, 2, … contexts (S-G).

    v is the log-probability of the class that the model predicts for the variant (I, C, H, W) itself, all that a
    detector knows; ``confidence`` is v(N). An order of which a player has no more than ``contexts`` contexts is exact,
    and the same at every number of them.
    """
    cells = players.grid(*next(iter(variants.values())).shape[-2:], side=grid)
    orders = [int((cells.n - 1) * fraction) for fraction in fractions]
    if contexts < 1:
        raise ValueError(f"contexts must be at least 1; got {contexts}")

    def one(played: game.Game, order: int) -> Tensor:
        """φ^(m)(i) (contexts, I, n) from the first context, from the first two, …"""
        at_once, times = (contexts, 1) if is_exact(cells.n, order, contexts=contexts) else (1, contexts)
        found = [
            sample_attributions(
                played,
                n=cells.n,
                orders=[order],
                contexts=at_once,
                generators=sampling.generators(seed, rows, context),
            )[..., 0, :]
            for context in range(times)
        ]
        mean = torch.stack(found).cumsum(0) / torch.arange(1, len(found) + 1)[:, None, None]
        return mean.expand(contexts, -1, -1)

    table, confidence = [], []
    for images in variants.values():
        logits = models.logits(model, images)
        classes = logits.argmax(1)
        confidence.append(game.log_probability(logits, classes).cpu())
        played = game.MaskingGame(model, cells, images, classes, baseline=baseline, batch_size=batch_size)
        table.append(torch.stack([one(played, order) for order in orders]))
    spread = torch.from_numpy(dispersion(torch.stack(table).numpy()))
    dimensions = ("variant", "attribution_order", "contexts", "image", "statistic")
    return xr.Dataset(
        {
            "dispersion": (dimensions, spread.float(), {"units": "of v"}),
            "confidence": (("variant", "image"), torch.stack(confidence), {"what": "log p of the predicted class"}),
        },
        coords={
            "variant": list(variants),
            "attribution_order": orders,
            "contexts": range(1, contexts + 1),
            "statistic": list(DISPERSIONS),
        },
        attrs={"attribution_players": cells.n},
    )


def detectors(
    measured: xr.Dataset, *, seen: str = FULL, contexts: int | None = None, seed: int = 0
) -> dict[int, Detection]:
    """A detector for each order of the attributions, in rising order, fitted on the attack ``seen`` (§4.3).

    Only images that every attack led away from their label count; all detectors see the same half of them, which the
    seed draws. ``contexts`` None is as many as there are. Raises ValueError as ``detect`` does.
    """
    used = measured.isel(image=measured.misled.all("attack").values.nonzero()[0])
    attacks = [str(name) for name in used.attack.values]
    count = int(used.contexts.max()) if contexts is None else contexts
    chosen = used.dispersion.sel(contexts=count).transpose("variant", "attribution_order", "image", "statistic")
    found = {}
    for order in sorted(used.attribution_order.values.tolist()):
        features = chosen.sel(attribution_order=order)
        twins = {name: features.sel(variant=name).values for name in attacks}
        found[order] = detect(features.sel(variant="normal").values, twins, seen=seen, seed=seed)
    return found


def entropies(
    model: nn.Module,
    variants: Tensor,
    labels: Tensor,
    *,
    baseline: Tensor,
    rows: Sequence[int],
    seed: int,
    chains: int = 2,
    points: int = 17,
    grid: int = 16,
    batch_size: int | None = None,
) -> xr.Dataset:
    """log p(truth) and H(Y|x_S) of the ``SUBJECTS`` (2, I, C, H, W) as more players join, mean over chains (S-E).

    Each chain adds the players in a random order, common to the subjects; ``points`` sizes from ∅ to N are seen.
    """
    cells = players.grid(*variants.shape[-2:], side=grid)
    sizes = torch.linspace(0, cells.n, points).round().long()
    rank = torch.stack([torch.rand(chains, cells.n, generator=g).argsort(1) for g in sampling.generators(seed, rows)])
    coalitions = (rank[:, :, None] < sizes[:, None]).flatten(1, 2)
    values = {}
    for name, value in (("log_probability", game.log_probability), ("entropy", game.predicted_entropy)):
        played = game.MaskingGame(model, cells, variants, labels, baseline=baseline, value=value, batch_size=batch_size)
        mean = game.play(played, coalitions).unflatten(-1, (chains, points)).mean(-2).cpu()
        values[name] = (("subject", "image", "size"), mean, {"units": "nats"})
    return xr.Dataset(values, coords={"subject": list(SUBJECTS), "size": sizes})


def amplitudes(variants: Tensor) -> xr.Dataset:
    """F^(r) (2, I, R) of the ``SUBJECTS`` (2, I, C, H, W) at every radius r of the centred FFT (Figure 6, left)."""
    radius, amplitude = spectrum.radial_amplitude(variants.flatten(0, 1))
    return xr.Dataset(
        {"amplitude": (("subject", "image", "radius"), amplitude.unflatten(0, variants.shape[:2]).cpu())},
        coords={"subject": list(SUBJECTS), "radius": radius.cpu()},
    )


def same_images(curves: xr.Dataset, games: xr.Dataset) -> xr.Dataset:
    """I^(m) with its sampling error, and F^(r), of the same images, normal and at one utility (Figure 6, left).

    ``curves`` are of ``experiments.order_curves``, ``games`` of ``defenses``, both of one model; only images that
    reached the utility in both are given. On another device rounding may lead the same attack to another perturbation
    of that utility. Raises ValueError where the two are of different models, or the curves lack the attack or an image.
    """
    attack, rows = games.attrs["calibrated_attack"], games.image.values
    of_curves, of_games = (f"{each.attrs['dataset']}/{each.attrs['model']}" for each in (curves, games))
    if of_curves != of_games:
        raise ValueError(f"the interactions are of {of_curves}, the frequencies of {of_games}: give those of one model")
    if attack not in curves.attack.values or not set(rows) <= set(curves.image.values):
        raise ValueError(f"the interactions do not have the attack {attack!r} on all {len(rows)} images: measure them")
    matching = curves.sel(image=rows)
    both = matching.reached.sel(attack=attack).values & games.reached.values
    subjects = matching.sel(variant=["normal", attack]).rename(variant="subject").assign_coords(subject=list(SUBJECTS))
    joined = subjects[["interaction", "sampling_error"]].assign(amplitude=games.amplitude)
    return joined.isel(image=both.nonzero()[0])


# All parts of one model.


@dataclass(frozen=True)
class Defenses(results.Asked):
    """What is asked of one model: ``images`` images without games, the first ``games`` of them with games.

    ``attack`` is the one, named as in ``experiments.attack``, whose images are transformed and looked at by frequency.
    """

    verb: ClassVar[str] = "defenses"
    dataset: str = "photos"
    model: str = "resnet18-standard"
    attack: str = "untargeted 8"
    images: int = 500
    games: int = 100
    draws: int = 5
    replicates: int = 4
    contexts: int = 15
    seed: int = 0


def defenses(
    asked: Defenses,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
) -> dict[str, xr.Dataset]:
    """Carry out both measurements, "images" and "games", one row an image, in blocks that an interrupted run keeps.

    Raises ValueError for a wrong attack, fewer than 2 replicates, 1 context or 1 draw, images that 16 × 16 players do
    not divide, and more images than the model classifies correctly.
    """
    experiments.attack_goal(asked.attack)
    if asked.replicates < 2 or asked.contexts < 1 or asked.draws < 1:
        raise ValueError(
            "at least 2 replicates, 1 context and 1 draw are needed; "
            f"got {asked.replicates}, {asked.contexts} and {asked.draws}"
        )
    if not 1 <= asked.games <= asked.images:
        raise ValueError(
            f"games are played on 1 to all {asked.images} images; got {asked.games}: set games, or ask for more images"
        )
    model = models.load(asked.dataset, asked.model, device=device)
    data = datasets.load(asked.dataset, "test", root=root)
    experiments.refuse_clouds(data)
    subjects = experiments.subjects(model, data, asked.images, masked="mean", seed=asked.seed)
    players.grid(*subjects.images.shape[-2:], side=16)  # those of the games: refused before any image is attacked
    rows, images, labels, baseline = subjects.rows, subjects.images, subjects.labels, subjects.baseline

    def of_images(chosen: Tensor) -> xr.Dataset:
        x, y, which = images[chosen], labels[chosen], rows[chosen.cpu()].tolist()
        attacked = both_attacks(model, x, y)
        pair = torch.stack([x, attacked[STOPPED]])
        parts = [
            corrections(model, pair, y, baseline=baseline, draws=asked.draws, rows=which, seed=asked.seed),
            recoveries(model, x, attacked[FULL], y),
        ]
        return _joined(asked, parts, model, attacked, y, which)

    def of_games(chosen: Tensor) -> xr.Dataset:
        x, y, which = images[chosen], labels[chosen], rows[chosen.cpu()].tolist()
        attacked = both_attacks(model, x, y)
        calibrated = experiments.attack(model, x, y, asked.attack)
        pair = torch.stack([x, calibrated.images])
        common: dict[str, Any] = {"baseline": baseline, "rows": which, "seed": asked.seed, "batch_size": batch_size}
        parts = [
            amplitudes(pair),
            entropies(model, pair, y, **common),
            interactions_of_transformed(model, pair, y, replicates=asked.replicates, **common),
            attribution_dispersions(model, {"normal": x, **attacked}, contexts=asked.contexts, **common),
            xr.Dataset(
                {"utility": ("image", calibrated.utility.cpu()), "reached": ("image", calibrated.reached.cpu())}
            ),
        ]
        return _joined(asked, parts, model, attacked, y, which)

    def whole(name: str, block: Callable[[Tensor], xr.Dataset], count: int) -> xr.Dataset:
        return results.measured(
            _counted(model, block),
            asked,
            inputs=subjects.inputs,
            images=count,
            part=name,
            root=root,
            device=device,
            description=f"{name} of {asked.model}",
        )

    return {"images": whole("images", of_images, asked.images), "games": whole("games", of_games, asked.games)}


def _counted(model: nn.Module, block: Callable[[Tensor], xr.Dataset]) -> Callable[[Tensor], xr.Dataset]:
    """The same block, with the forward passes that its images took, those of the attacks included."""

    def run(chosen: Tensor) -> xr.Dataset:
        passes = 0

        def count(_: nn.Module, images: tuple[Tensor], logits: Tensor) -> None:
            nonlocal passes
            passes += len(logits)

        hook = model.register_forward_hook(count)
        try:
            measured = block(chosen)
        finally:
            hook.remove()
        return measured.assign(passes=("image", [round(passes / len(chosen))] * len(chosen)))

    return run


def _joined(
    asked: Defenses,
    parts: Sequence[xr.Dataset],
    model: nn.Module,
    attacked: Mapping[str, Tensor],
    labels: Tensor,
    rows: Sequence[int],
) -> xr.Dataset:
    """The parts of one block as one dataset, with its rows and with which attack misled the model on which image."""
    misled = torch.stack([predicted(model, images) != labels for images in attacked.values()]).cpu()
    about = xr.Dataset(
        {"misled": (("attack", "image"), misled), "label": ("image", labels.cpu())},
        coords={"attack": list(attacked), "image": list(rows)},
        attrs={"dataset": asked.dataset, "model": asked.model, "calibrated_attack": asked.attack},
    )
    return xr.merge([about, *parts], combine_attrs="no_conflicts")
