"""Benchmarks (a) and (f): masked against bare forward passes, precision, and time and memory against images."""

import gc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lib import designs, estimators, experiments, game, players
from lib.datasets import Dataset
from lib.interactions import delta_v
from lib.sampling import generator
from tests.benchmarks.common import Row, best, row, task

GRID = players.grid(32, 32, side=16)
BATCHES, REPEATS = 16, 25
"""(a) Full batches a run, and runs of each."""
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
HALF_BATCHES, HALF_REPEATS = 4, 3
CONTRASTS, FRACTION = 100, 0.9
"""Four-point contrasts of each of two images, and their order, for the rounding of Δv."""
FEW, MANY = 10, 100
REPLICATES, SCALING_REPEATS = 16, 3
"""(f) Numbers of images, contrasts an image, and runs of each number."""


def rows() -> list[Row]:
    """Rows (a) on the CPU, and on CUDA where there is one; rows (f) on the CPU, in this process."""
    model, data = task()
    result = scaling(model, data)  # first, while the process is small
    for name in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        device = torch.device(name)
        model, data = task(device=device)
        result += throughput(model, data, device) + precision(model, data, device)
    return result


class Autocast(nn.Module):
    """A model under autocast of a lower precision, with logits in float32."""

    def __init__(self, model: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.precision):
            return self.model(images).float()


def masking(
    model: nn.Module,
    data: Dataset,
    count: int,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
) -> game.MaskingGame:
    """The game of ``count`` images of a dataset that a model classifies correctly; its passes may be in autocast."""
    _, images, labels = experiments.correct_images(model, data, count, seed=0)
    reference = experiments.baseline("mean", data).to(device)
    model = model.to(dtype) if autocast is None else Autocast(model, autocast)
    return game.MaskingGame(model, GRID, images.to(dtype), labels, baseline=reference)


def throughput(model: nn.Module, data: Dataset, device: torch.device) -> list[Row]:
    """(a) Images a second through the game, and through the bare model, which gets one batch again and again."""
    size, count = game.BATCH[device.type], 16
    played = masking(model, data, count, device=device)
    coalitions = torch.rand(count, size * BATCHES // count, GRID.n, generator=generator(0)) < 0.9
    ready = played.images[torch.arange(size, device=device) % count].contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(BATCHES):
            model(ready)

    shown, ground = (part.movedim(-3, -1).contiguous() for part in (played.images[0], played.baselines[0]))

    def masks() -> None:
        for kept in coalitions.flatten(0, 1).to(device).split(size):
            torch.where(GRID.expand(kept).movedim(1, 3), shown, ground)

    seconds = timed({"masked": lambda: played(coalitions), "bare": bare, "masks": masks}, device, repeats=REPEATS)
    ours, theirs = (size * BATCHES / seconds[name] for name in ("masked", "bare"))
    what = f"images/s, {data.name} resnet18-standard, batches of {size}"
    alone, passes = seconds["masks"], seconds["bare"]
    return [
        row("a", what, "bare model", ours=ours, theirs=theirs, target=0.95, more_is_better=True, device=device),
        row(
            "a",
            f"seconds to mask {size * BATCHES} images",
            "the bare model's passes",
            ours=alone,
            theirs=passes,
            target=None,
            device=device,
        ),
    ]


def precision(model: nn.Module, data: Dataset, device: torch.device) -> list[Row]:
    """(a) Speed of autocast, and rounding of Δv against a tenth of its standard deviation over pairs and contexts.

    Both errors of a mean of Δv over contrasts fall with the root of their number, if the roundings of two contrasts
    have nothing in common, so that the ratio for one Δv is the ratio for a mean.
    """
    size = game.BATCH[device.type]
    coalitions = torch.rand(2, size * HALF_BATCHES // 2, GRID.n, generator=generator(1)) < 0.9
    games = {"float32": masking(model, data, 2, device=device)}
    for name, half in HALVES.items():
        games[name] = masking(model, data, 2, device=device, autocast=half)
    runs = {name: partial(played, coalitions) for name, played in games.items()}
    seconds = timed(runs, device, repeats=HALF_REPEATS)

    order = int(FRACTION * (GRID.n - 2))
    draw = designs.four_point(GRID, sampling="neighbours")
    corners = torch.stack([draw(order, CONTRASTS, generator(2, image))[0] for image in range(2)])

    def deltas(played: game.MaskingGame) -> Tensor:
        values = played(corners.flatten(1, 2)).cpu().double()
        return delta_v(*values.unflatten(-1, (CONTRASTS, 4)).unbind(-1))

    found = {name: deltas(played) for name, played in games.items()}
    exact = deltas(masking(task(device=device)[0], data, 2, device=device, dtype=torch.float64))
    tenth = exact.var(1).mean().sqrt().item() / 10
    result = [
        row(
            "a",
            f"rounding of Δv, {name} against float64, order {FRACTION}n",
            "a tenth of the standard deviation of Δv",
            ours=(found[name] - exact).square().mean().sqrt().item(),
            theirs=tenth,
            target=1.0,
            device=device,
        )
        for name in games
    ]
    speed = {name: coalitions.shape[:2].numel() / taken for name, taken in seconds.items()}
    return result + [
        row(
            "a",
            f"images/s, {name} autocast",
            "float32",
            ours=speed[name],
            theirs=speed["float32"],
            target=None,
            more_is_better=True,
            device=device,
        )
        for name in HALVES
    ]


def scaling(model: nn.Module, data: Dataset) -> list[Row]:
    """(f) Seconds an image, and the most memory the process held, for the same measurement of few and many images."""
    chosen, images, labels = experiments.correct_images(model, data, MANY, seed=0)
    reference = experiments.baseline("mean", data)
    order = int(FRACTION * (GRID.n - 2))

    def measure(count: int) -> estimators.OrderMeans:
        return experiments.measure(
            model,
            images[:count],
            labels[:count],
            baseline=reference,
            orders=[order],
            rows=chosen[:count].tolist(),
            replicates=REPLICATES,
        )

    measure(2)
    small, large = (peak_memory(partial(measure, count)) for count in (FEW, MANY))
    seconds = best({str(count): partial(measure, count) for count in (FEW, MANY)}, repeats=SCALING_REPEATS)
    few, many = seconds[str(FEW)] / FEW, seconds[str(MANY)] / MANY
    setting, peer = f"{4 * REPLICATES} passes an image, {MANY} images", f"{FEW} images"
    result = [row("f", f"seconds an image, {setting}", peer, ours=many, theirs=few, target=0.95)]
    if small and large:
        what = f"peak memory in MB, {setting} ({large[0]:.0f} MB held before)"
        result.append(row("f", what, peer, ours=large[1], theirs=small[1], target=0.95))
    return result


def peak_memory(run: Callable[[], object]) -> tuple[float, float] | None:
    """Resident memory in MB of this process before a run and at its peak; None where the system does not say."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    reset.write_text("5")  # from here on the peak, VmHWM, starts anew
    held = megabytes(status, "VmRSS")
    run()
    return held, megabytes(status, "VmHWM")


def megabytes(status: Path, field: str) -> float:
    """One field of /proc/<process>/status, which has it in kB."""
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def timed(runs: Mapping[str, Callable[[], object]], device: torch.device, *, repeats: int) -> dict[str, float]:
    """The least times of the runs, warmed up, each to the end of its work on the device."""

    def whole(run: Callable[[], object]) -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    for run in runs.values():
        whole(run)
    return best({name: partial(whole, run) for name, run in runs.items()}, repeats=repeats)


if __name__ == "__main__":
    for each in rows():
        print(each)
