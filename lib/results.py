"""Labelled results on disk: written whole or not at all, with where they come from, keyed by what was asked."""

import platform
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import lib
from lib import models
from lib.files import check_writable, console, key, replacing, tracked

PUBLISHED = Path(__file__).parent.parent / "data" / "results"
WORK = Path(__file__).parent.parent / "build" / "results"
AT_ONCE = {"cpu": 10, "cuda": 50}
"""Images measured between two writes to disk: what an interruption can cost. A GPU needs many to be kept busy."""


def published(folder: Path | None = None) -> list[tuple[str, str, str, Path]]:
    """The published results as (dataset, model, experiment, path), in ``<dataset>/<model>-<experiment>.nc``.

    Raises ValueError for a file of another name.
    """
    found = []
    for path in sorted((folder or PUBLISHED).glob("*/*.nc")):
        if path.stem.count("-") < 2:
            raise ValueError(
                f"{path} is not named as a result, <architecture>-<training>-<experiment>.nc: move it away"
            )
        architecture, training, experiment = path.stem.split("-", 2)
        found.append((path.parent.name, f"{architecture}-{training}", experiment, path))
    return found


def read_published(dataset: str, *experiments: str, seed: int = 0) -> dict[tuple[str, str], xr.Dataset]:
    """The published results of these experiments by (model, experiment), of the networks trained from this seed.

    The models come in the order of ``models.ARCHITECTURES``, a standard network before its twins, and are named without
    the seed; an experiment that a network lacks is left out.
    """
    names = [f"{architecture}-{training}" for architecture in models.ARCHITECTURES for training in models.TRAININGS]
    paths = {(model, experiment): path for data, model, experiment, path in published() if data == dataset}
    return {
        (name, experiment): read(paths[models.of_seed(name, seed), experiment])
        for name in names
        for experiment in experiments
        if (models.of_seed(name, seed), experiment) in paths
    }


def provenance(*, command: str, device: torch.device) -> dict[str, str]:
    """Attributes that say how a result was made: command, versions, device, date, code revision."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        revision = told.stdout.strip()
    except FileNotFoundError:  # no git
        revision = ""
    return {
        "command": command,
        "versions": f"lib {lib.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "device": models.describe(device),
        "date": datetime.now(UTC).date().isoformat(),
        "code_revision": revision or "unknown",
    }


class Asked(Protocol):
    """The specification of a measurement: a frozen dataclass, every field of which decides what is measured."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    verb: ClassVar[str]

    @property
    def images(self) -> int:
        """How many images are measured."""

    @property
    def seed(self) -> int:
        """What decides every random draw."""

    def command(self) -> str:
        """The command line that makes this measurement."""
        return command_line(self.verb, self)


OPTION_NAMES = {"attacks": "attack", "fractions": "orders"}
"""Fields of a specification whose option has another name than they."""


def command_line(verb: str, asked: Asked) -> str:
    """The command line of a measurement: its verb, and an option for each field of the specification that is set.

    A flag stands alone, numbers are joined by commas, and texts in a sequence each have an option of their own.
    """
    words = ["python -m lib", verb]
    for field in fields(asked):
        value, option = getattr(asked, field.name), OPTION_NAMES.get(field.name, field.name).replace("_", "-")
        if isinstance(value, bool):
            given = [""] if value else []
        elif isinstance(value, tuple | list):
            texts = all(isinstance(each, str) for each in value)
            given = [shlex.quote(each) for each in value] if texts else [",".join(map(str, value))]
        else:
            given = [] if value is None else [shlex.quote(str(value))]
        words += [f"--{option} {each}".rstrip() for each in given]
    return " ".join(words)


def command(asked: Asked, root: str | Path | None = None) -> str:
    """The command line that makes a measurement, of a dataset that is looked up or in the folder ``root``."""
    if root is None:
        return asked.command()
    return f"{asked.command()} --root {shlex.quote(str(Path(root).expanduser().resolve()))}"


def measured(
    block: Callable[[Tensor], xr.Dataset],
    asked: Asked,
    *,
    inputs: Iterable[Tensor],
    device: torch.device,
    description: str,
    root: str | Path | None = None,
    images: int | None = None,
    part: str | None = None,
    at_once: Mapping[str, int] = AT_ONCE,
) -> xr.Dataset:
    """The blocks that ``block`` measures of the image numbers, ``at_once`` each, as one dataset with its provenance.

    Each block is written to a folder of ``WORK`` that what is asked and the ``inputs`` decide, weights and images: an
    interrupted run does not measure it again, and says so, for the code may have changed. A block that cannot be read
    is measured again. A specification of several measurements says which one, its ``part``, and on how many ``images``.
    Versions, device, date and ``code_revision`` are those of the blocks: of several runs, all of them.
    Raises OSError where no block can be written.
    """
    started = time.monotonic()
    blocks = []
    about = provenance(command=command(asked, root), device=device)
    folder = WORK / key(f"{asked.command()} {part or ''}", inputs=inputs)
    check_writable(folder)
    size = at_once[device.type]
    chunks = torch.arange(asked.images if images is None else images, device=device).split(size)
    earlier = 0
    with tracked(chunks, description) as shown:
        for number, chosen in enumerate(shown):
            path = folder / f"{number:04d}-of-{size}.nc"
            done = _of_earlier_run(path)
            if done is None:
                done = read(write(block(chosen).assign_attrs(about), path))
            else:
                earlier += 1
            blocks.append(done)
    if earlier:
        console.print(
            f"{earlier} of {len(chunks)} blocks are of an earlier run: to measure them anew, remove {folder}",
            soft_wrap=True,
        )
    for name in about.keys() - {"command"}:
        about[name] = ", ".join(dict.fromkeys(each.attrs.get(name, about[name]) for each in blocks))
    whole = xr.concat(blocks, "image", data_vars="minimal", coords="minimal", compat="override")
    return whole.assign_attrs(
        **about,
        seed=asked.seed,
        seconds_of_last_run=round(time.monotonic() - started),
        passes=int(whole.passes.sum()),
    )


def _of_earlier_run(path: Path) -> xr.Dataset | None:
    """A block that an earlier run has written, where there is one and it can be read."""
    try:
        return read(path)
    except (FileNotFoundError, ValueError):
        return None


def write(data: xr.Dataset, path: str | Path) -> Path:
    """Write as netCDF, whole or not at all; returns the path."""
    path = Path(path).expanduser()  # as xarray does, which would do it too late
    long = {name: float(value) for name, value in data.attrs.items() if isinstance(value, int) and value >= 2**31}
    data = data.assign_attrs(long)  # netCDF-3 has no integers so long
    with replacing(path) as fresh:
        data.to_netcdf(fresh, engine="scipy")
    return path


def read(path: str | Path) -> xr.Dataset:
    """Read a result; raises FileNotFoundError with the files at hand where it is missing, ValueError for no netCDF."""
    path = Path(path).expanduser()
    if not path.exists():
        there = ", ".join(sorted(other.name for other in path.parent.glob("*.nc"))) or "none"
        raise FileNotFoundError(
            f"no result {path}; at hand in that folder: {there}. 'python -m lib --help' says what makes one"
        )
    try:
        return xr.load_dataset(path, engine="scipy")
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is not a result in netCDF-3, or is cut short: measure it again") from error


def reached(result: xr.Dataset, attack: str) -> xr.Dataset:
    """The images of a result on which the attack reached its utility; raises ValueError for an attack it lacks."""
    known = result.attack.values if "reached" in result and "attack" in result.reached.dims else []
    if attack not in known:
        choice = f"choose one of {', '.join(known)}" if len(known) else "it has no utility to be reached"
        raise ValueError(f"the result has no attack {attack!r}: {choice}")
    return result.isel(image=np.flatnonzero(result.reached.sel(attack=attack).values))


def reached_in_both(first: xr.Dataset, second: xr.Dataset, attack: str) -> tuple[xr.Dataset, xr.Dataset]:
    """The images on which the attack reached its utility in two results, one by one the same in both."""
    one, other = xr.align(reached(first, attack), reached(second, attack), exclude=["variant", "attack", "order"])
    return one, other


def misled(result: xr.Dataset) -> xr.DataArray:
    """Whether the attack led an image to another class than its label, bool (attack, image)."""
    return result.class_after != result.label
