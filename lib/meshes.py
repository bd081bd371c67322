"""Meshes: ModelNet10 as it is published, folders of OFF files, made into the clouds that ``datasets`` reads."""

from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.datasets import LOCAL_DATA, MODELNET10
from lib.files import check_writable, replacing, tracked


def convert(folder: Path, *, path: Path = LOCAL_DATA / "modelnet10" / MODELNET10) -> Path:
    """Sample every mesh ``<class>/<train or test>/*.off`` of the folder, and write them to ``path``, which it returns.

    A mesh takes its draws from its place in the sorted list. Raises ValueError where a split of a class
    has no mesh, or there is a file at ``path`` already.
    """
    if path.exists():
        raise ValueError(f"{path} is there already: move it away to have it made anew")
    check_writable(path)
    classes = sorted(each.name for each in folder.glob("[!.]*/"))
    found = {
        split: [
            (file, label)
            for label, name in enumerate(classes)
            for file in sorted((folder / name / split).glob("*.off"))
        ]
        for split in ("train", "test")
    }
    for split, files in found.items():
        lacking = sorted(set(range(len(classes))) - {label for _, label in files})
        if lacking or not classes:
            where = folder / (classes[lacking[0]] if classes else "<class>") / split
            raise ValueError(f"no meshes *.off in {where}: unpack ModelNet10.zip and give the folder of its classes")
    every = [file for files in found.values() for file, _ in files]
    with tracked(every, f"clouds of {folder.name}") as shown:
        clouds = [sample_mesh(file, seed=number).half().numpy() for number, file in enumerate(shown)]
    parts = dict(zip(found, np.split(np.stack(clouds), [len(found["train"])]), strict=True))
    labels = {split: np.array([label for _, label in files]) for split, files in found.items()}
    with replacing(path) as fresh, fresh.open("wb") as file:
        np.savez_compressed(
            file,
            train_points=parts["train"],
            train_labels=labels["train"],
            test_points=parts["test"],
            test_labels=labels["test"],
            classes=np.array(classes),
        )
    return path


def sample_mesh(path: str | Path, *, points: int = 1024, seed: int = 0) -> Tensor:
    """Points (P, 3) drawn evenly from the surface of a mesh in the format OFF, centred, the farthest at distance 1.

    Polygons count as fans of triangles. Raises ValueError for a file that is no whole mesh with a surface.
    """
    try:
        corners = _triangles(Path(path).read_text().splitlines())
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no OFF mesh, or is truncated or altered: {error}") from error
    a, b, c = corners.unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    if not 0 < area.sum() < inf:
        raise ValueError(f"the mesh {path} has no surface, or none that is finite: it needs a polygon of some area")
    generator = torch.Generator().manual_seed(seed)
    face = torch.multinomial(area, points, replacement=True, generator=generator)
    u, v = torch.rand(2, points, 1, generator=generator, dtype=area.dtype)
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    drawn = a[face] + u * (b - a)[face] + v * (c - a)[face]
    drawn -= drawn.mean(0)
    return (drawn / drawn.norm(dim=1).max()).float()


def _triangles(lines: list[str]) -> Tensor:
    """Corners float64 (T, 3, 3) of the triangles of an OFF file; in ModelNet's, the counts may be glued to "OFF"."""
    lines = [line for line in (line.partition("#")[0].strip() for line in lines) if line]
    if not lines or not lines[0].startswith("OFF"):
        raise ValueError("the first line is not 'OFF'")
    lines[0] = lines[0].removeprefix("OFF")
    vertices, faces, *_ = map(int, " ".join(lines[:2] if not lines[0] else lines[:1]).split())
    lines = lines[1 if lines[0] else 2 :]
    if len(lines) < vertices + faces:
        raise ValueError(f"{vertices} vertices and {faces} faces are promised, {len(lines)} lines follow")
    places = [[float(word) for word in line.split()[:3]] for line in lines[:vertices]]
    if not places or any(len(place) < 3 for place in places):
        raise ValueError("a vertex has three coordinates, and there is at least one")
    index: list[tuple[int, ...]] = []
    for line in lines[vertices : vertices + faces]:
        count, *numbers = map(int, line.split()[: 1 + int(line.split()[0])])
        if len(numbers) < count or not all(0 <= number < vertices for number in numbers):
            raise ValueError(f"a face has wrong vertices: {line}")
        index += [(numbers[0], *pair) for pair in pairwise(numbers[1:])]
    return torch.tensor(places, dtype=torch.float64)[torch.tensor(index, dtype=torch.long).view(-1, 3)]
