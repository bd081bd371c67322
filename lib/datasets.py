"""Images in [0, 1] with labels: the embedded ``photos`` task, CIFAR-10, ImageNet, and ModelNet10's point clouds."""

import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from http.client import HTTPException
from importlib.metadata import distribution
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets as tv_datasets
from torchvision.transforms import functional as tv_functional

from lib import imagenet
from lib.files import replacing

DATA_VARIABLE = "ADVERSARIAL_INTERACTIONS_DATA"
LOCAL_DATA = Path(__file__).parent.parent / "data" / "datasets"

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MODELNET10 = "modelnet10_1024.npz"

PHOTO_CELL = 48
"""Side in pixels of the cells into which a photograph is cut; a cell belongs to one split alone."""
PHOTO_WINDOW = (32, 48)
"""Least and largest side in pixels of a window; it lies wholly inside one cell."""
PHOTO_CONTRAST = 0.04
"""Least standard deviation of a window's grey values; flatter windows (sky, the dark around the retina) are redrawn."""
PHOTO_COUNTS = {"train": 12_000, "test": 2_000}


@dataclass(frozen=True)
class Dataset:
    """Labelled images: ``images`` uint8 (N, C, H, W), ``labels`` int64 (N,), ``classes`` the names by label.

    Of point clouds, ``images`` is float (N, 3, points, 1) in [0, 1], as ``as_images`` makes it.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) as float32 in [0, 1] and labels (B,) of the chosen rows."""
        return as_float(self.images[index]), self.labels[index]

    def shuffled(self, seed: int) -> "Dataset":
        """The same images in an order that ``seed`` alone decides."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return replace(self, images=self.images[order], labels=self.labels[order])


def as_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]: 8-bit ones divided by 255, others as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def load(name: str, split: str = "test", *, root: str | Path | None = None) -> Dataset:
    """Load the ``split`` ("train" or "test") of the dataset ``name``; ``root`` overrides where it is looked for.

    Raises ValueError for an unknown name or split, FileNotFoundError when the data are nowhere to be found.
    """
    if name not in LOADERS:
        raise ValueError(f"unknown dataset {name!r}: choose one of {', '.join(LOADERS)}")
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}: choose 'train' or 'test'")
    return LOADERS[name](split, root)


def check_images(images: Tensor, *, what: str = "images") -> None:
    """Raise ValueError, which says ``what`` they are, unless ``images`` is a float (B, C, H, W) in [0, 1]."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"{what} must be a float tensor (B, C, H, W); got {kind(images)}: "
            "add a batch dimension or convert with images.float() / 255"
        )
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"{what} must lie in [0, 1]; got values from {images.min():.3g} to {images.max():.3g}: "
            "divide 8-bit images by 255, and leave normalisation to the model"
        )


def kind(given: object) -> str:
    """What was given where a tensor is wanted, for an error: its shape and type, or the class that it is of."""
    return f"{tuple(given.shape)} of {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"


def class_count(logits: Tensor) -> int:
    """How many classes the logits (B, classes) of a model are of; raises ValueError for another output."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"a model must give logits (B, classes), of 2 classes or more; got {kind(logits)}: "
            "wrap the model in a torch.nn.Module whose forward gives them"
        )
    return logits.shape[1]


def check_classes(data: "Dataset", logits: Tensor) -> None:
    """Raise ValueError unless the ``logits`` (B, classes) of a model are of as many classes as the ``data`` have."""
    classes = class_count(logits)
    if classes != len(data.classes):
        first = ", ".join(data.classes[:3]) + (", …" if len(data.classes) > 3 else "")
        raise ValueError(
            f"the model tells {classes} classes apart, {data.name} has {len(data.classes)} ({first}): "
            "give a folder of every one of its classes"
        )


def check_labels(labels: Tensor, *, images: int, classes: int, what: str = "labels") -> None:
    """Raise ValueError, which says ``what`` they are, unless ``labels`` has a class in 0..classes−1 for each image."""
    if not isinstance(labels, Tensor) or labels.shape != (images,) or labels.dtype != torch.int64:
        raise ValueError(
            f"{what} must be {images} integers, one an image; got {kind(labels)} "
            "(wanted is torch.int64, to which .long() converts)"
        )
    if labels.numel() and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"{what} must lie in 0..{classes - 1} for a model of {classes} classes; "
            f"got values from {int(labels.min())} to {int(labels.max())}"
        )


@cache
def _photographs() -> dict[str, np.ndarray]:
    """Ten colour photographs that ship inside the scikit-image and scikit-learn wheels, as grey (H, W) in [0, 1]."""
    from skimage import color, data

    # scikit-learn has a function for these two, whose import takes longer than all of this takes
    folder = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/images")))
    temple, flower = (np.asarray(Image.open(folder / name)) for name in ("china.jpg", "flower.jpg"))
    photographs = {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "galaxies": data.hubble_deep_field(),
        "tissue": data.immunohistochemistry(),
        "retina": data.retina(),
        "motorcycle": data.stereo_motorcycle()[0],
        "temple": temple,
        "flower": flower,
    }
    return {name: color.rgb2gray(photograph[..., :3]) for name, photograph in photographs.items()}


def _cells(photograph: np.ndarray, split: str) -> list[tuple[int, int]]:
    """Upper left corners of the cells of one split: every third cell along a row is a test cell, shifted row by row."""
    height, width = photograph.shape
    return [
        (row * PHOTO_CELL, column * PHOTO_CELL)
        for row in range(height // PHOTO_CELL)
        for column in range(width // PHOTO_CELL)
        if ((row + column) % 3 == 0) == (split == "test")
    ]


def _window(photograph: np.ndarray, cells: list[tuple[int, int]], rng: np.random.Generator) -> Tensor:
    """A random square window of one of the cells as a (1, 32, 32) image of mean 0.5 and standard deviation 0.25."""
    cell = cells[rng.integers(len(cells))]
    side = int(rng.integers(PHOTO_WINDOW[0], PHOTO_WINDOW[1] + 1))
    top, left = (corner + int(rng.integers(0, PHOTO_CELL - side + 1)) for corner in cell)
    window = torch.from_numpy(photograph[top : top + side, left : left + side])[None].float()
    if window.std() < PHOTO_CONTRAST:
        return _window(photograph, cells, rng)
    window = tv_functional.resize(window, [32, 32], antialias=True)
    return ((window - window.mean()) / window.std() / 4 + 0.5).clamp(0, 1)


def _photos(split: str, root: str | Path | None) -> Dataset:
    """From which photograph does this grey, contrast-normalised window come? Train and test cells are disjoint."""
    if root is not None:
        raise ValueError("the photos ship inside scikit-image and scikit-learn: leave out root")
    photographs = _photographs()
    rng = np.random.default_rng([2021, split == "test"])
    images = []
    for photograph in photographs.values():
        cells = _cells(photograph, split)
        for _ in range(PHOTO_COUNTS[split] // len(photographs)):
            images.append(_window(photograph, cells, rng))
    labels = torch.arange(len(photographs)).repeat_interleave(PHOTO_COUNTS[split] // len(photographs))
    pixels = (torch.stack(images) * 255).round().to(torch.uint8)
    return Dataset("photos", split, pixels, labels, tuple(photographs)).shuffled(seed=0)


def _cifar10(split: str, root: str | Path | None) -> Dataset:
    """CIFAR-10 as an image folder (``train/<class>/*``, ``test/<class>/*``) or as torchvision's official batches."""
    for place in places("cifar10", root):
        if (place / split).is_dir():
            return _named_as_cifar10(_image_folder("cifar10", split, place / split), place / split)
        if (place / "cifar-10-batches-py").is_dir():
            return _official_cifar10(split, place)
    if root is None:
        try:
            _download_cifar10(LOCAL_DATA / "cifar10")
            return _official_cifar10(split, LOCAL_DATA / "cifar10")
        except (OSError, RuntimeError, HTTPException) as error:
            reason = f"the download by torchvision failed ({error})"
    else:
        reason = "no download is tried where root is given"
    raise _not_found(
        "cifar10",
        root,
        f"At last, {reason}. Put there a folder with {split}/<class>/*.png or *.jpg, or torchvision's "
        "cifar-10-batches-py.",
    )


def _modelnet10(split: str, root: str | Path | None) -> Dataset:
    """ModelNet10 as clouds of 1,024 points, from the arrays ``<split>_points`` and ``<split>_labels`` of one file."""
    for place in places("modelnet10", root):
        if (place / MODELNET10).is_file():
            try:
                with (place / MODELNET10).open("rb") as file, np.load(file) as arrays:
                    points = torch.from_numpy(arrays[f"{split}_points"])
                    labels = torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64, casting="same_kind"))
                    classes = tuple(map(str, arrays["classes"]))
                check_labels(labels, images=len(points), classes=len(classes))
            except (BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{place / MODELNET10} is truncated or altered: copy it anew ({error})") from error
            return Dataset("modelnet10", split, as_images(points), labels, classes)
    raise _not_found(
        "modelnet10",
        root,
        f"Put there {MODELNET10}, with train_points and test_points (clouds, 1024, 3) in the unit sphere, train_labels "
        "and test_labels (clouds,) and the names in classes; 'python -m lib clouds' makes it of the meshes.",
    )


def as_images(points: Tensor) -> Tensor:
    """Clouds (N, P, 3) in the unit sphere as float32 images (N, 3, P, 1) in [0, 1]: a coordinate c is (c + 1)/2.

    So a step of ε in the image is one of 2ε in coordinates. Raises ValueError for another shape, or points outside.
    """
    if points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(f"clouds must be (clouds, points, 3); got {tuple(points.shape)}")
    farthest = points.float().norm(dim=2).max() if points.numel() else torch.zeros(())
    if not farthest <= 1.001:  # half precision rounds
        raise ValueError(f"clouds must lie in the unit sphere; got points {farthest:.3g} from its centre: scale them")
    return ((points.float() + 1) / 2).clamp(0, 1).transpose(1, 2)[..., None].contiguous()


def is_cloud(images: Tensor) -> bool:
    """Whether images (..., C, H, W) are point clouds, (..., 3, P, 1): a point a pixel, its coordinates the channels."""
    return images.shape[-3] == 3 and images.shape[-1] == 1


def places(name: str, root: str | Path | None = None) -> list[Path]:
    """Where the dataset ``name`` is looked for: at root alone, else as the environment variable and LOCAL_DATA say."""
    if root is not None:
        return [Path(root).expanduser()]
    variable = os.environ.get(DATA_VARIABLE)
    return [Path(folder) / name for folder in (variable, LOCAL_DATA) if folder]


def _not_found(name: str, root: str | Path | None, remedy: str) -> FileNotFoundError:
    """The error that says where the dataset ``name`` was looked for, and what to do."""
    if root is not None:
        return FileNotFoundError(f"{name} was not found. Looked at root ({root}) alone. {remedy}")
    variable = f"{DATA_VARIABLE} ({os.environ.get(DATA_VARIABLE, 'not set')}, its folder {name})"
    return FileNotFoundError(
        f"{name} was not found. Looked, in this order, at root (not given), at the environment variable {variable} "
        f"and at {LOCAL_DATA / name}. {remedy}"
    )


def _imagenet(split: str, root: str | Path | None) -> Dataset:
    """ImageNet's validation images, of which ``imagenet.LIMIT`` are drawn: the split "test"; there is no "train"."""
    if split != "test":
        raise ValueError("imagenet has its validation images alone, as the split 'test': nothing is trained on it here")
    for place in places("imagenet", root):
        if files := imagenet.labelled_files(place):
            return Dataset("imagenet", split, *imagenet.read(files), imagenet.CLASSES)
    raise _not_found(
        "imagenet",
        root,
        "There is no public download. Put there the validation images, in folders named by wnid (n01440764/*.JPEG) or "
        "side by side with a file of labels; the appendix on ImageNet says which.",
    )


def _named_as_cifar10(data: Dataset, folder: Path) -> Dataset:
    """The same images; raises ValueError where there are ten classes, not of the names that number the labels."""
    if len(data.classes) == len(CIFAR10) and data.classes != CIFAR10:
        raise ValueError(
            f"a folder of ten classes has CIFAR-10's names, for models number them by these: {', '.join(CIFAR10)}; "
            f"{folder} has {', '.join(sorted(set(data.classes) - set(CIFAR10)))}: rename"
        )
    return data


def _download_cifar10(place: Path) -> None:
    """Download the official batches by torchvision; ``place`` is made only once they are whole."""
    with tempfile.TemporaryDirectory() as scratch:
        tv_datasets.CIFAR10(scratch, download=True)
        with replacing(place / "cifar-10-batches-py") as fresh:
            shutil.copytree(Path(scratch) / "cifar-10-batches-py", fresh)


def _official_cifar10(split: str, place: Path) -> Dataset:
    try:
        official = tv_datasets.CIFAR10(str(place), train=split == "train")
    except (RuntimeError, EOFError) as error:
        raise ValueError(
            f"the official batches in {place} are incomplete or altered: remove the folder and let torchvision "
            "download it again, or unpack it anew"
        ) from error
    images = torch.from_numpy(official.data).permute(0, 3, 1, 2).contiguous()
    return Dataset("cifar10", split, images, torch.tensor(official.targets), tuple(official.classes))


def _image_folder(name: str, split: str, folder: Path) -> Dataset:
    try:
        images = tv_datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        told = str(error).partition(". ")[0]
        raise ValueError(
            f"{folder} must have a folder of images for each class ({told}): remove what is none"
        ) from error
    pixels = [tv_functional.pil_to_tensor(imagenet.rgb(path)) for path, _ in images.samples]
    for image, (path, _) in zip(pixels, images.samples, strict=True):
        if image.shape != pixels[0].shape:
            (height, width), (odd_height, odd_width) = pixels[0].shape[1:], image.shape[1:]
            raise ValueError(
                f"images must be of one size, but {images.samples[0][0]} has {height}×{width} pixels "
                f"and {path} {odd_height}×{odd_width}: resize them all to one size"
            )
    return Dataset(name, split, torch.stack(pixels), torch.tensor(images.targets), tuple(images.classes))


LOADERS: dict[str, Callable[[str, str | Path | None], Dataset]] = {
    "photos": _photos,
    "cifar10": _cifar10,
    "modelnet10": _modelnet10,
    "imagenet": _imagenet,
}

ABOUT = {
    "photos": ("12,000 train, 2,000 test, 1×32×32", "cut from photographs inside scikit-image and scikit-learn"),
    "cifar10": (
        "50,000 train, 10,000 test, 3×32×32",
        f"root, ${DATA_VARIABLE}, data/datasets, or torchvision's download",
    ),
    "modelnet10": (
        "3,991 train, 908 test, clouds of 1,024 points, 3×1024×1",
        f"root, ${DATA_VARIABLE} or data/datasets; 'python -m lib clouds' makes them of meshes",
    ),
    "imagenet": (
        f"{imagenet.LIMIT:,} test, drawn from the validation images, 3×224×224",
        f"root, ${DATA_VARIABLE} or data/datasets",
    ),
}
"""For people: how many images of what shape, and where they come from."""
