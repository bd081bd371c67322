"""Standard and adversarial training, evaluation, and checkpoints with model cards."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib import models
from lib.attacks import loss_gradient, pgd
from lib.datasets import Dataset, as_float, is_cloud
from lib.files import check_writable, console, key, replacing, tracked

STATES = Path(__file__).parent.parent / "build" / "training"
ATTACKED = 1000
"""Test images, drawn by the seed, on which the robust accuracy of a model card is measured."""
PRECISIONS = ("float32", "bfloat16")
"""What a model computes in as it trains; bfloat16 is the faster one only where the processor has units for it."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: on a batch attacked in ``attack_steps``, where there are any.

    One step is N-FGSM, from noise of 2 ``epsilon`` and not projected back; more are PGD inside ``epsilon``.

    ``noise`` is the deviation of Gaussian noise on each image, for randomized smoothing; with neither, it is standard
    training. ``augmentation`` is that of images, "crop", or of point clouds, "cloud". ``width`` is
    that of ``models.ARCHITECTURES``, ``average`` the decay of the moving average of the weights.

    ``initial`` names the checkpoint of the same dataset whose weights training starts from; None is a random start.
    Raises ValueError for an unknown precision or augmentation, a seed that no measurement takes, batches of no image,
    and noise below 0 or with attacks.
    """

    architecture: str = "resnet18"
    width: int = 16
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    average: float = 0.995
    epsilon: float = 8 / 255
    attack_steps: int = 0
    noise: float = 0.0
    augmentation: str = "crop"
    crop_padding: int = 4
    initial: str | None = None
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.augmentation not in ("crop", "cloud"):
            raise ValueError(f"unknown augmentation {self.augmentation!r}: choose 'crop' or 'cloud'")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"a seed is an integer from 0 to 2^31 − 1; got {self.seed}")
        if self.batch_size < 1:
            raise ValueError(f"a batch has at least 1 image; got {self.batch_size}")
        if self.noise < 0 or (self.noise and self.attack_steps):
            raise ValueError(
                f"noise is at least 0, and 0 where there are attacks; got {self.noise} and {self.attack_steps} steps"
            )

    @property
    def training(self) -> str:
        if self.noise:
            return "smoothed"
        return "adversarial" if self.attack_steps else "standard"

    @property
    def name(self) -> str:
        """What the checkpoint is called: another seed than 0 makes another network, as "resnet18-standard_seed1"."""
        return models.of_seed(f"{self.architecture}-{self.training}", self.seed)


def recipe(dataset: str, model: str, **changes: Any) -> Recipe:
    """The recipe of the published ``model``, as "resnet18-standard"; raises ValueError for an unknown one.

    With a ``seed`` other than 0 training starts from the ``initial`` checkpoint of that seed. (The published networks
    of such seeds were trained with ``precision`` "float32", as their cards say.)
    """
    if model not in RECIPES.get(dataset, ()):
        choices = "; ".join(f"{name}: {', '.join(known)}" for name, known in RECIPES.items())
        raise ValueError(f"no recipe for the model {model!r} on {dataset!r}: choose one of {choices}")
    about = Recipe(**{"architecture": model.partition("-")[0], **RECIPES[dataset][model], **changes})
    if about.initial is not None and "initial" not in changes:
        about = replace(about, initial=models.of_seed(about.initial, about.seed))
    return about


def _twins(architecture: str, *, width: int, epochs: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """A standard network and the adversarially trained twin that starts from its weights."""
    standard = f"{architecture}-standard"
    twin = {"width": width, "epochs": epochs[1], "attack_steps": 1, "learning_rate": 0.1, "initial": standard}
    return {standard: {"width": width, "epochs": epochs[0]}, f"{architecture}-adversarial": twin}


CLOUDS = {
    "width": 24,
    "batch_size": 32,
    "learning_rate": 0.1,
    "average": 0.98,
    "augmentation": "cloud",
    "precision": "bfloat16",
}
"""What both trainings on point clouds share; ε = 8/255 of the image is 0.063 in coordinates."""

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "photos": {
        "resnet18-standard": {"epochs": 12, "crop_padding": 2, "precision": "bfloat16"},
        "resnet18-adversarial": {
            "epochs": 8,
            "crop_padding": 2,
            "attack_steps": 2,
            "learning_rate": 0.1,
            "initial": "resnet18-standard",
            "precision": "bfloat16",
        },
    },
    "cifar10": {
        "resnet18-standard": {"epochs": 14, "precision": "bfloat16"},
        "resnet18-adversarial": {
            "epochs": 10,
            "attack_steps": 2,
            "learning_rate": 0.1,
            "initial": "resnet18-standard",
            "precision": "bfloat16",
        },
        **_twins("resnet34", width=16, epochs=(9, 4)),
        **_twins("resnet50", width=8, epochs=(12, 5)),
        **_twins("wide_resnet50_4", width=4, epochs=(16, 4)),
        **_twins("densenet161", width=12, epochs=(10, 4)),
        **_twins("vgg16", width=24, epochs=(10, 4)),
        "resnet50-smoothed": {
            "width": 8,
            "epochs": 4,
            "noise": 0.25,
            "learning_rate": 0.1,
            "initial": "resnet50-standard",
        },
    },
    "modelnet10": {
        "pointnet2-standard": {**CLOUDS, "epochs": 13},
        "pointnet2-adversarial": {
            **CLOUDS,
            "epochs": 5,
            "attack_steps": 1,
            "learning_rate": 0.05,
            "initial": "pointnet2-standard",
        },
    },
}


def augment(images: Tensor, *, padding: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images (B, C, H, W) and shift each by up to ``padding`` pixels (reflected border)."""
    count, channels, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    rows = (top[:, None] + torch.arange(height)).to(images.device)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns).to(images.device)
    padded = F.pad(images, [padding] * 4, mode="reflect")
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def augment_clouds(clouds: Tensor, *, generator: torch.Generator) -> Tensor:
    """Mirror clouds (B, 3, P, 1) in [0, 1] along x and y, stretch each axis by 0.8–1, and jitter each point.

    The jitter has the deviation 0.01 in coordinates. There is no rotation: the shapes of ModelNet10 are aligned.
    """
    count = len(clouds)
    stretch = 0.8 + 0.2 * torch.rand(count, 3, 1, 1, generator=generator)
    mirrored = torch.rand(count, 2, 1, 1, generator=generator) < 0.5
    stretch[:, :2] = torch.where(mirrored, -stretch[:, :2], stretch[:, :2])
    jitter = 0.005 * torch.randn(clouds.shape, generator=generator)
    return (0.5 + (clouds - 0.5) * stretch.to(clouds) + jitter.to(clouds)).clamp(0, 1)


def augmented(images: Tensor, about: Recipe, generator: torch.Generator) -> Tensor:
    """Training images (B, C, H, W) in [0, 1], augmented as the recipe says."""
    if about.augmentation == "cloud":
        return augment_clouds(images, generator=generator)
    return augment(images, padding=about.crop_padding, generator=generator)


def normalization(data: Dataset) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel that a model subtracts and divides by; 0.5 for point clouds: coordinates."""
    if is_cloud(data.images):
        return [0.5] * 3, [0.5] * 3
    pixels = as_float(data.images[:: max(1, len(data) // 5000)])
    return pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()


def train(data: Dataset, about: Recipe, *, device: torch.device, resume: bool = True) -> tuple[nn.Module, float]:
    """Train by the recipe; return the moving average of the weights, frozen, and the seconds that it took.

    With ``resume`` the whole state is written to ``build/training`` after each epoch; an interrupted run goes on from
    there and gives the same weights. Raises ValueError for too few batches, for a training that diverges, and as
    ``models.restore`` does for the network to start from; OSError where no state can be written.
    """
    batches = len(data) // about.batch_size
    if about.epochs * batches < 5:
        raise ValueError(
            f"{about.epochs} epochs of {len(data)} images are {about.epochs * batches} batches of {about.batch_size}: "
            "at least 5 batches are needed, so train longer, or on more images"
        )
    generator = torch.Generator().manual_seed(about.seed)
    # Faster; but on larger images a CPU's oneDNN crashes where it trains a narrow network in this layout.
    crashes = device.type == "cpu" and data.images.shape[-1] > 32
    layout = torch.contiguous_format if crashes else torch.channels_last
    model = _untrained(data, about).to(device, memory_format=layout)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(about.average), use_buffers=True)
    optimizer, schedule = one_cycle(model, about, steps=about.epochs * batches)
    resumable = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    path = _unfinished(data, about, device)
    if resume:
        check_writable(path)
    first, seconds = _resume(path, resumable, generator) if resume else (0, 0.0)
    if first:
        console.print(f"goes on after epoch {first} of {about.epochs}: to train anew, remove {path}", soft_wrap=True)
    of_first = about.average ** (about.epochs * batches)
    if of_first > 0.05:
        console.print(
            f"{about.epochs * batches} batches are few: {of_first:.0%} of the average of the weights, which is what is "
            "kept, will be the first ones; train longer, or with a smaller 'average' in the recipe"
        )

    images, labels = data.images.to(device), data.labels.to(device)
    with tracked(range(first, about.epochs), f"{data.name} {about.name}") as shown:
        for epoch in shown:
            started = time.monotonic()
            model.train()
            order = torch.randperm(len(data), generator=generator).to(device)
            for batch in range(batches):
                rows = order[batch * about.batch_size : (batch + 1) * about.batch_size]
                inputs = augmented(as_float(images[rows]), about, generator).contiguous(memory_format=layout)
                loss = training_loss(model, inputs, labels[rows], about, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                average.update_parameters(model)
            if not loss.isfinite():
                raise ValueError(f"the training diverged in epoch {epoch + 1}: its loss is {loss}; lower learning_rate")
            seconds += time.monotonic() - started
            if resume:
                state = {name: part.state_dict() for name, part in resumable.items()}
                _save(path, {**state, "generator": generator.get_state(), "epoch": epoch + 1, "seconds": seconds})
    return models.freeze(average.module), seconds


def _untrained(data: Dataset, about: Recipe) -> nn.Module:
    """The network before the first step: drawn by the seed, or with the weights of the recipe's ``initial``."""
    mean, deviation = normalization(data)
    with torch.random.fork_rng():
        torch.manual_seed(about.seed)
        model = models.build(
            about.architecture, classes=len(data.classes), mean=mean, deviation=deviation, width=about.width
        )
    if about.initial is not None:
        try:
            model.load_state_dict(models.restore(data.name, about.initial).state_dict())
        except RuntimeError as error:
            told = str(error).partition("\n")[0]
            raise ValueError(f"{about.initial} is no network to start {about.name} from: {told}") from error
    return model


def one_cycle(
    model: nn.Module, about: Recipe, *, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """SGD under a one-cycle rate of so many ``steps``.

    Its Nesterov momentum falls from 0.95 to 0.85 while the rate rises, and comes back as it falls.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=about.learning_rate, momentum=0.95, weight_decay=about.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=about.learning_rate,
        total_steps=steps,
        pct_start=0.25,
        anneal_strategy="linear",
        base_momentum=0.85,
        max_momentum=0.95,
    )
    return optimizer, schedule


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, about: Recipe, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of a batch as the recipe trains on it: attacked, with noise, or as it is."""
    precision = getattr(torch, about.precision)
    with torch.autocast(images.device.type, dtype=precision, enabled=precision != torch.float32):
        if about.attack_steps:
            images = training_attack(model, images, labels, about, generator)
        if about.noise:
            images = images + about.noise * torch.randn(images.shape, generator=generator).to(images.device)
        return F.cross_entropy(model(images), labels)


def training_attack(
    model: nn.Module, images: Tensor, labels: Tensor, about: Recipe, generator: torch.Generator
) -> Tensor:
    """One step of N-FGSM (de Jorge et al., 2022) or a few large PGD steps, on the model as it trains.

    N-FGSM starts from noise of twice ε and goes ε from there, without a projection on the ε-ball: FGSM that stays in
    the ball may collapse in a few hundred batches, to a model that only resists FGSM.
    """
    epsilon = about.epsilon
    if about.attack_steps == 1:
        noisy = images + (2 * torch.rand(images.shape, generator=generator).to(images.device) - 1) * 2 * epsilon
        gradient, _ = loss_gradient(model, noisy, labels)
        return (noisy + epsilon * gradient.sign()).clamp(0, 1)
    step_size, steps = 1.5 * epsilon / about.attack_steps, about.attack_steps
    return pgd(model, images, labels, epsilon=epsilon, step_size=step_size, steps=steps, generator=generator)


def _unfinished(data: Dataset, about: Recipe, device: torch.device) -> Path:
    """Where the state of a training is kept until its weights are written, by kind of device: the card names one."""
    start = models.card(data.name, about.initial)["sha256"] if about.initial is not None else None
    asked = [data.name, asdict(about), start, device.type]
    return STATES / data.name / f"{about.name}-{key(json.dumps(asked), inputs=[data.images, data.labels])}.pt"


def _resume(path: Path, resumable: dict[str, Any], generator: torch.Generator) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a damaged file PyTorch raises whatever its bytes lead to
        raise ValueError(f"the unfinished training {path} is damaged: remove it, and it starts anew") from error
    try:
        for name, part in resumable.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"])
        return state["epoch"], state["seconds"]
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        told = str(error).partition("\n")[0]
        raise ValueError(
            f"the unfinished training {path} is of other code than this ({told}): remove it, and it starts anew"
        ) from error


def _save(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as fresh:
        torch.save(state, fresh)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """Share of the images (B, C, H, W) that the model gives their label."""
    chunks = torch.arange(len(labels)).split(batch_size)
    hits = [models.logits(model, images[rows]).argmax(1) == labels[rows] for rows in chunks]
    return torch.cat(hits).float().mean().item()


def robust_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float = 8 / 255, steps: int = 20, seed: int = 0
) -> float:
    """Share of the images that keep their label under ℓ∞ PGD of 2/255 steps from a random start."""
    generator = torch.Generator().manual_seed(seed)
    adversarial = [
        pgd(model, some, of_some, epsilon=epsilon, step_size=2 / 255, steps=steps, generator=generator)
        for some, of_some in zip(images.split(500), labels.split(500), strict=True)
    ]
    return accuracy(model, torch.cat(adversarial), labels)


def save(
    model: nn.Module, data: Dataset, test: Dataset, about: Recipe, *, seconds: float, device: torch.device
) -> Path:
    """Write the weights in half precision and their model card, measured on the weights as they are stored.

    The ``model`` has the rounded weights afterwards.
    """
    folder = models.CHECKPOINTS / data.name
    name = about.name
    weights = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    content = save_safetensors({key: value.contiguous().cpu() for key, value in weights.items()})
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    images, labels = (part.to(device) for part in test.shuffled(about.seed).batch(slice(None)))
    card = {
        "dataset": data.name,
        "architecture": about.architecture,
        "options": {
            "classes": len(data.classes),
            "mean": model.get_buffer("0.mean").flatten().tolist(),
            "deviation": model.get_buffer("0.deviation").flatten().tolist(),
            "width": about.width,
        },
        "recipe": asdict(about),
        "training": about.training,
        "training_images": len(data),
        "test_images": len(test),
        "clean_accuracy": round(accuracy(model, images, labels), 4),
        "pgd20_accuracy": round(robust_accuracy(model, images[:ATTACKED], labels[:ATTACKED]), 4),
        "pgd20": f"linf PGD, epsilon 8/255, 20 steps of 2/255, random start, {min(ATTACKED, len(test))} test images",
        "training_seconds": round(seconds),
        "device": models.describe(device),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    # The card comes last, for it says that there is a checkpoint: of two contexts the inner one ends first.
    with replacing(folder / f"{name}.json") as of_card, replacing(folder / f"{name}.safetensors") as of_weights:
        of_weights.write_bytes(content)
        of_card.write_bytes((json.dumps(card, indent=1) + "\n").encode())
    return folder / f"{name}.json"


def check_new(dataset: str, about: Recipe) -> None:
    """Raise ValueError where there is a checkpoint of that name, or none of the network that it starts from.

    Raises OSError where none can be written.
    """
    there = models.available()
    if f"{dataset}/{about.name}" in there:
        raise ValueError(
            f"{models.CHECKPOINTS / dataset / about.name} is trained already, and results may rest on it: move its "
            "two files away to replace them, or choose another seed"
        )
    if about.initial is not None and f"{dataset}/{about.initial}" not in there:
        raise ValueError(f"{about.name} starts from {about.initial} on {dataset}, which is not there: train it first")
    check_writable(models.CHECKPOINTS / dataset / about.name)


def train_and_save(data: Dataset, test: Dataset, about: Recipe, *, device: torch.device) -> Path:
    """Train by the recipe, evaluate on ``test`` and write the checkpoint: what ``python -m lib train`` does.

    The state that an interrupted training would go on from is then removed.
    Raises ValueError and OSError as ``check_new`` does, and ValueError for a test of other classes.
    """
    check_new(data.name, about)
    if data.classes != test.classes:
        raise ValueError(
            f"the classes are {', '.join(data.classes)} for training and {', '.join(test.classes)} for the test: "
            "both need the same"
        )
    model, seconds = train(data, about, device=device)
    card = save(model, data, test, about, seconds=seconds, device=device)
    _unfinished(data, about, device).unlink(missing_ok=True)
    return card
