"""Classifiers that take images in [0, 1]; committed checkpoints with model cards and checksums."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import vgg
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from lib import datasets, imagenet_weights, pointnet

CHECKPOINTS = Path(__file__).parent.parent / "data" / "checkpoints"


@fx.wrap  # fx cannot trace a check: to it this is one step
def _normalized(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] != len(mean):  # one channel would otherwise pass for three alike
        raise ValueError(f"this network takes images (B, {len(mean)}, H, W); got {tuple(images.shape)}")
    return (images - mean) / deviation


class Normalize(nn.Module):
    """Subtract the mean and divide by the deviation of each channel, so that attacks act on images in [0, 1].

    Raises ValueError for deviations that are not positive, or not one a channel, and for images of other channels.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: list[float], deviation: list[float]) -> None:
        super().__init__()
        if len(mean) != len(deviation):
            raise ValueError(f"mean and deviation are one each a channel; got {mean} and {deviation}")
        if not all(each > 0 for each in deviation):
            raise ValueError(f"the deviation of each channel must be above 0; got {deviation}")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return _normalized(images, self.mean, self.deviation)


def resnet(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: Sequence[int],
    *,
    classes: int,
    mean: list[float],
    deviation: list[float],
    width: int,
    factor: int = 1,
) -> nn.Sequential:
    """A residual network for 32×32 images: a 3×3 stem without pooling, four stages of ``width`` × (1, 2, 4, 8) planes.

    The blocks are torchvision's (He et al., 2016). ``factor`` widens the inner convolutions of the bottlenecks
    (Zagoruyko and Komodakis, 2016). ``width`` is 64 in the networks as they were published.
    """
    wider = {"base_width": 64 * factor} if factor != 1 else {}
    stages: list[nn.Module] = []
    channels = width
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            shortcut = None
            if stride != 1 or channels != planes * block.expansion:
                shortcut = nn.Sequential(
                    nn.Conv2d(channels, planes * block.expansion, 1, stride, bias=False),
                    nn.BatchNorm2d(planes * block.expansion),
                )
            stages.append(block(channels, planes, stride, shortcut, **wider))
            channels = planes * block.expansion
    return nn.Sequential(
        Normalize(mean, deviation),
        nn.Conv2d(len(mean), width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


def vgg16(*, classes: int, mean: list[float], deviation: list[float], width: int) -> nn.Sequential:
    """VGG-16 with batch normalisation for 32×32 images (Simonyan and Zisserman, 2015): torchvision's 13 convolutions.

    They have ``width`` (64 as published) × (1, 2, 4, 8, 8) channels; three linear layers of 8 × ``width`` follow.
    """
    layers = ["M" if layer == "M" else layer * width // 64 for layer in vgg.cfgs["D"]]
    convolutions = vgg.make_layers(layers, batch_norm=True)
    convolutions[0] = nn.Conv2d(len(mean), width, 3, 1, 1)
    hidden = 8 * width
    return nn.Sequential(
        Normalize(mean, deviation),
        *convolutions,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def densenet161(*, classes: int, mean: list[float], deviation: list[float], width: int) -> nn.Sequential:
    """torchvision's DenseNet-161 (Huang et al., 2017) for 32×32 images, of growth rate ``width`` (48 as published).

    Its stem is one 3×3 convolution of stride 2 without pooling: at stride 1 its 161 layers take three times as long.
    """
    network = DenseNet(width, (6, 12, 36, 24), num_init_features=2 * width, num_classes=classes)
    network.features.conv0 = nn.Conv2d(len(mean), 2 * width, 3, 2, 1, bias=False)
    network.features.pool0 = nn.Identity()
    return nn.Sequential(Normalize(mean, deviation), network)


def pointnet2(*, classes: int, mean: list[float], deviation: list[float], width: int) -> nn.Sequential:
    """PointNet++ for point clouds as images (B, 3, points, 1) in [0, 1], whose coordinates ``Normalize`` restores."""
    return nn.Sequential(Normalize(mean, deviation), *pointnet.layers(classes=classes, width=width))


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(resnet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(resnet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(resnet, Bottleneck, (3, 4, 6, 3)),
    "wide_resnet50_4": partial(resnet, Bottleneck, (3, 4, 6, 3), factor=4),
    "densenet161": densenet161,
    "vgg16": vgg16,
    "pointnet2": pointnet2,
}
TITLES = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "wide_resnet50_4": "Wide-ResNet-50-4",
    "densenet161": "DenseNet-161",
    "vgg16": "VGG-16",
    "pointnet2": "PointNet++",
}
"""What the paper calls the architectures."""
FULL_WIDTH = {name: 48 if name == "densenet161" else 64 for name in ARCHITECTURES if name != "pointnet2"}
"""The ``width`` of the image architectures as they were published."""
ON_CARD = {"architecture", "options", "sha256", "recipe", "clean_accuracy", "pgd20_accuracy", "device"}
"""What a model card must have: what reads them asks for no more."""
TRAININGS = {"standard": "standard", "adversarial": "adversarially trained", "smoothed": "trained on noise"}
"""The trainings by their names in a model's, and in words."""


def title(name: str) -> str:
    """What a reader is told of "resnet18-adversarial_seed1": "ResNet-18, adversarially trained, seed 1"."""
    architecture, _, training = name.partition("-")
    training, _, seed = training.partition("_seed")
    parts = (TITLES.get(architecture, architecture), TRAININGS.get(training, training), seed and f"seed {seed}")
    return ", ".join(filter(None, parts))


def of_seed(model: str, seed: int) -> str:
    """The name of a model, as "resnet18-standard", that is trained from this seed: "resnet18-standard_seed1"."""
    return f"{model}_seed{seed}" if seed else model


def other_training(model: str) -> str:
    """The network that one is compared with, of the same architecture and seed: the twin of a standard one, else that.

    Of "resnet18-standard_seed1" it is "resnet18-adversarial_seed1".
    """
    architecture, _, rest = model.partition("-")
    training, mark, seed = rest.partition("_seed")
    return f"{architecture}-{'adversarial' if training == 'standard' else 'standard'}{mark}{seed}"


def available() -> list[str]:
    """The names ``dataset/architecture-training`` of the checkpoints at hand."""
    cards = sorted(CHECKPOINTS.glob("*/*.json"))
    return [f"{card.parent.name}/{card.stem}" for card in cards]


def card(dataset: str, name: str) -> dict[str, Any]:
    """The model card of a checkpoint: recipe, seed, time, accuracies, normalisation, SHA-256 of the weights.

    Raises ValueError for an unknown model and a damaged card.
    """
    path = CHECKPOINTS / dataset / f"{name}.json"
    if not path.exists():
        raise _no_card(dataset, name)
    try:
        about = json.loads(path.read_text())
        missing = ON_CARD - about.keys()
    except (ValueError, AttributeError):
        about, missing = {}, {"a JSON object"}
    if missing:
        raise ValueError(f"the model card {path} is damaged, it lacks {', '.join(sorted(missing))}: restore it")
    return about


def _no_card(dataset: str, name: str) -> ValueError:
    if dataset == "imagenet":
        return ValueError(f"{name!r} has no model card: the models for imagenet are public ones, not trained here")
    known = [each.partition("/") for each in available()]
    of_it = [model for of, _, model in known if of == dataset]
    if not of_it:
        others = ", ".join(dict.fromkeys([*(of for of, _, _ in known), "imagenet"]))
        return ValueError(
            f"no model for the dataset {dataset!r}: choose one of {others}, or write a recipe in lib.training"
        )
    return ValueError(
        f"unknown model {name!r} for the dataset {dataset!r}: choose one of {', '.join(of_it)}, "
        "or train one of these from another seed with 'python -m lib train --seed'"
    )


def load(dataset: str, name: str, *, device: torch.device | str = "cpu") -> nn.Module:
    """The trained model ``name`` (such as "resnet18-standard") for ``dataset``, frozen, float32, ready for fast passes.

    Its batch normalisation is folded into its convolutions. Raises as ``restore`` does.
    """
    return fold(restore(dataset, name)).to(device)


def restore(dataset: str, name: str) -> nn.Module:
    """The same model as it was trained, each layer by itself.

    Models for "imagenet" are public ones, looked up or downloaded. Raises ValueError for an unknown model and for
    weights that do not match the checksum of their card, or are not those of its network; FileNotFoundError where
    there are none.
    """
    if dataset == "imagenet":
        weights = imagenet_weights.weights(name, datasets.places(dataset))
        network = imagenet_weights.network(name.rpartition("-")[0], weights)
        return freeze(nn.Sequential(Normalize(weights.mean, weights.deviation), network))
    about = card(dataset, name)
    path = CHECKPOINTS / dataset / f"{name}.safetensors"
    if not path.exists():
        raise ValueError(f"the weights {path} are missing: restore them from the repository")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(
            f"the weights {path} are truncated or altered: their SHA-256 is {hashlib.sha256(content).hexdigest()}, "
            f"the model card says {about['sha256']}; restore the file from the repository"
        )
    with torch.random.fork_rng(devices=[]):
        model = build(about["architecture"], **about["options"])
    try:
        model.load_state_dict({key: value.float() for key, value in load_safetensors(content).items()})
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the weights {path} are not those of the {about['architecture']} of their card: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return freeze(model)


def fold(model: nn.Module) -> nn.Module:
    """A copy of a frozen model with each batch normalisation folded into the convolution before it, channels last.

    A network whose way depends on its input, which fx cannot trace, is copied as it is.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(model))
    except Exception:  # a network may look at its input in any way
        return freeze(copy.deepcopy(model)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def layer(node: fx.Node) -> nn.Module | None:
        return traced.get_submodule(str(node.target)) if node.op == "call_module" else None

    targets = [node.target for node in traced.graph.nodes]
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or len(before.users) > 1:
            continue
        convolution, normalization = layer(before), layer(node)
        once = targets.count(before.target) == 1  # else its weights serve elsewhere too
        if once and isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d):
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, normalization))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return freeze(traced).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build(architecture: str, **options: Any) -> nn.Module:
    """A new, untrained model; raises ValueError for an unknown architecture."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](**options)


def freeze(model: nn.Module) -> nn.Module:
    """The same model in evaluation mode with no gradients to its weights."""
    return model.eval().requires_grad_(False)


def in_halves(made: Callable[..., tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
    """What is ``made`` of a batch of tensors; where memory runs out, of its halves, and of the halves of these."""
    try:
        return made(*batch)
    except torch.OutOfMemoryError:
        if len(batch[0]) == 1:
            raise
    half = (len(batch[0]) + 1) // 2
    parts = [in_halves(made, *some) for some in zip(*(each.split(half) for each in batch), strict=True)]
    return tuple(map(torch.cat, zip(*parts, strict=True)))


def check_module(model: object) -> None:
    """Raise ValueError for what is no ``torch.nn.Module``."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"a model is a torch.nn.Module; got a {type(model).__name__}: wrap it in one")


def check_frozen(model: nn.Module) -> None:
    """Raise ValueError for a model that is, or has a part, in training mode, and as ``check_module`` does."""
    check_module(model)
    if any(part.training for part in model.modules()):
        raise ValueError(
            "the model, or a part of it, is in training mode, where its numbers may depend on the batch or on "
            "chance: freeze it by models.freeze"
        )


@torch.no_grad()
def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, classes) of images (B, C, H, W), taken ``in_halves``; raises as ``check_frozen`` does."""
    check_frozen(model)
    (found,) = in_halves(lambda some: (model(some),), images)
    return found


def device(name: str = "auto") -> torch.device:
    """The device called "auto", "cpu" or "cuda"; "auto" takes CUDA where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}: choose 'auto', 'cpu' or 'cuda'")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("the device 'cuda' was asked for but PyTorch finds no CUDA device: use 'cpu' or 'auto'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe(device: torch.device) -> str:
    """What the device is, for the record of what was computed on it."""
    if device.type == "cuda":
        rounds = torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability(device) >= (8, 0)
        rounding = ", TF32 convolutions" if rounds else ""
        return torch.cuda.get_device_name(device) + rounding
    return f"CPU, {torch.get_num_threads()} threads"
