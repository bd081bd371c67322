"""ImageNet: validation images and their labels, in the layouts in which they are usually found.

None of it is in this repository: it is looked for in local folders.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision import models as tv_models
from torchvision.transforms import functional as tv_functional

LIMIT = 1000
"""Validation images drawn, by a seed, and kept in memory: 150 kB each, 600 kB as float32."""

# The names of the 1000 classes in the order of their sorted wnids, which is that of all public weights.
CLASSES: tuple[str, ...] = tuple(tv_models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
"""The development kit's classes of the validation images, in the order of their names."""


def read(files: Sequence[tuple[Path, int]], *, limit: int = LIMIT, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 224, 224) and labels (N,) of ``limit`` files, which the seed draws, or of all.

    As torchvision's weights want them: the shorter side resized to 256 pixels, then the central 224×224 pixels.
    """
    rows = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))[:limit].sort().values
    drawn = [files[row] for row in rows.tolist()]
    return torch.stack([read_image(path) for path, _ in drawn]), torch.tensor([label for _, label in drawn])


def read_image(path: Path) -> Tensor:
    """One image (3, 224, 224) of bytes; raises as ``rgb`` does."""
    resized = tv_functional.resize(rgb(path), [256], antialias=True)
    return tv_functional.pil_to_tensor(tv_functional.center_crop(resized, [224, 224]))


def labelled_files(place: Path) -> list[tuple[Path, int]]:
    """The images in ``place``, or in its folder val, with their labels 0..999; none where there are no images.

    Either in folders named by wnid (``n01440764/*.JPEG``), or side by side with a file of labels (``file_labels``).
    Raises ValueError where labels are missing or cannot be told.
    """
    for folder in (place / "val", place):
        if not folder.is_dir():
            continue
        folders = [each for each in sorted(folder.iterdir()) if each.is_dir() and is_wnid(each.name)]
        if folders:
            index = class_index(place, [each.name for each in folders])
            return [(path, index[each.name]) for each in folders for path in pictures(each)]
        if paths := pictures(folder):
            labels = file_labels(place)
            missing = [path.name for path in paths if path.stem not in labels]
            if missing:
                raise ValueError(
                    f"{len(missing)} images in {folder} have no label, such as {missing[0]}: add them to the labels"
                )
            return [(path, labels[path.stem]) for path in paths]
    return []


def pictures(folder: Path) -> list[Path]:
    """The image files of a folder, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".jpeg", ".jpg", ".png") and not path.name.startswith(".")
    )


def rgb(path: str | Path) -> Image.Image:
    """The image of a file, in colour; raises ValueError where it cannot be read, or has more than 8 bits a channel."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would cut off what is above 255
                raise ValueError(f"the image {path} has more than 8 bits a channel ({image.mode}): save it with 8")
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:  # SyntaxError is Pillow's, of a broken PNG
        raise ValueError(f"the image {path} cannot be read ({error}): replace or remove it") from error


def is_wnid(text: str) -> bool:
    """Whether the text is the identifier of a class, such as n01440764."""
    return re.fullmatch(r"n\d{8}", text) is not None


def file_labels(place: Path) -> dict[str, int]:
    """Labels 0..999 by file name without suffix, from the first of these in ``place`` that is there.

    ``labels.csv`` or Kaggle's ``LOC_val_solution.csv`` (file,label: a wnid or a number 0..999; a heading is skipped),
    or the development kit's ``ILSVRC2012_validation_ground_truth.txt``, whose numbers are not 0..999 in the order of
    wnids but those of its ``meta.mat``, which must be there too.
    """
    for name in ("labels.csv", "LOC_val_solution.csv"):
        if (place / name).exists():
            return csv_labels(place / name)
    for folder in (place, place / "ILSVRC2012_devkit_t12" / "data"):
        if (folder / TRUTH).exists():
            return kit_labels(folder)
    raise ValueError(
        f"the images in {place} have no labels: put them into folders named by wnid, or add labels.csv (file,label), "
        f"LOC_val_solution.csv, or {TRUTH} with meta.mat"
    )


def csv_labels(path: Path) -> dict[str, int]:
    """Labels by file name without suffix, from a table whose labels are numbers or wnids, told by its folder."""
    with path.open(newline="") as file:
        rows = [(Path(row[0]).stem, row[1].split()[0]) for row in csv.reader(file) if "".join(row[1:2]).strip()]
    if rows and not (is_wnid(rows[0][1]) or rows[0][1].isdigit()):
        del rows[0]
    index = {str(label): label for label in range(len(CLASSES))}
    wnids = sorted({label for _, label in rows if not label.isdigit()})
    index |= class_index(path.parent, wnids) if wnids else {}
    odd = [label for _, label in rows if label not in index]
    if odd:
        raise ValueError(f"{odd[0]!r} in {path} is no label: write a wnid, or a number 0..999")
    labels = {stem: index[label] for stem, label in rows}
    twice = [stem for stem, label in rows if labels[stem] != index[label]]
    if twice:
        raise ValueError(f"{twice[0]} has two labels in {path}: leave one")
    return labels


def kit_labels(folder: Path) -> dict[str, int]:
    """Labels by file name without suffix, from the ground truth and ``meta.mat`` of the development kit."""
    numbered = kit_wnids(folder / "meta.mat")
    if len(numbered) != len(CLASSES):
        raise ValueError(
            f"{folder / 'meta.mat'} must name {len(CLASSES)} classes; it names {len(numbered)}: unpack it anew"
        )
    index = {wnid: label for label, wnid in enumerate(sorted(numbered.values()))}
    numbers = (folder / TRUTH).read_text().split()
    odd = [number for number in numbers if not (number.isdigit() and int(number) in numbered)]
    if odd:
        raise ValueError(f"{odd[0]!r} in {folder / TRUTH} is no number of a class in {folder / 'meta.mat'}")
    told = (index[numbered[int(number)]] for number in numbers)
    return {f"ILSVRC2012_val_{row:08d}": label for row, label in enumerate(told, 1)}


def kit_wnids(path: Path) -> dict[int, str]:
    """The wnids of the 1000 classes by their number in the development kit, from its ``meta.mat``."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.exists():
        raise ValueError(f"{path} is missing: the development kit's numbers mean nothing without it; put it there")
    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets if synset["num_children"] == 0}
    except (MatReadError, KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} is not the meta.mat of the development kit, or is cut short: unpack it anew"
        ) from error


def class_index(place: Path, wnids: Sequence[str]) -> dict[str, int]:
    """The label 0..999 of each wnid: its rank among all 1000.

    They are told by ``wnids`` itself where it has all of them, else by a file in ``place``: ``wnids.txt``, Kaggle's
    ``LOC_synset_mapping.txt`` (a wnid at the start of each line), or the development kit's ``meta.mat``.
    """
    whole = sorted(set(wnids))
    for name in ("wnids.txt", "LOC_synset_mapping.txt", "meta.mat", "ILSVRC2012_devkit_t12/data/meta.mat"):
        path = place / name
        if len(whole) < len(CLASSES) and path.exists():
            lines = path.read_text().splitlines() if path.suffix == ".txt" else kit_wnids(path).values()
            whole = sorted({line.split()[0] for line in lines if line.strip()})
            if len(whole) != len(CLASSES) or not all(map(is_wnid, whole)):
                raise ValueError(f"{path} must name {len(CLASSES)} wnids, as n01440764; it names {len(whole)}")
    odd = sorted(set(wnids) - set(whole))
    if len(whole) != len(CLASSES) or odd:
        raise ValueError(
            f"{place} has {len(set(wnids))} classes{f', of which {odd[0]} is none of the 1000' if odd else ''}: "
            "which of the 1000 they are is told by all 1000 wnids, so add wnids.txt (one a line), "
            "LOC_synset_mapping.txt or the development kit's meta.mat"
        )
    return {wnid: label for label, wnid in enumerate(whole)}
