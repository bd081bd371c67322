"""Benchmark (e): PGD against torchattacks and foolbox at equal steps, on the committed CIFAR-10 ResNet-18."""

import time
import warnings
from collections.abc import Callable

import torch
import torchattacks
from torch import Tensor

from lib import attacks, datasets, models

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox imports a name that scipy has moved
    import foolbox

EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 20
IMAGES, REPEATS = 16, 9


def best(runs: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """The least of ``REPEATS`` times of each run in seconds; the runs take turns, and who goes first changes."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(REPEATS):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - started)
    return {name: min(taken) for name, taken in times.items()}


def rows() -> list[dict[str, str | float]]:
    """One row a comparison; all attack the same model and the same images, in channels_last memory.

    Raises AssertionError unless plain PGD is bit-identical to its peers and early stopping fools as many images.
    """
    try:
        data = datasets.load("cifar10", "test")
    except FileNotFoundError:
        data = datasets.load("photos", "test")
    model = models.load(data.name, "resnet18-standard")
    images, labels = data.shuffled(0).batch(slice(IMAGES))
    images = images.contiguous(memory_format=torch.channels_last)
    options = {"epsilon": EPSILON, "step_size": STEP, "steps": STEPS}
    peer = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)
    other = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    runs = {
        "ours": lambda: attacks.pgd(model, images, labels, **options),
        "stopping": lambda: attacks.pgd(model, images, labels, early_stop=True, **options),
        "torchattacks": lambda: peer(images, labels),
        "foolbox": lambda: other.run(wrapped, images, foolbox.Misclassification(labels), epsilon=EPSILON),
    }
    found = {name: run() for name, run in runs.items()}
    assert torch.equal(found["ours"], found["torchattacks"]) and torch.equal(found["ours"], found["foolbox"])
    fooled = {name: int((model(adversarial).argmax(1) != labels).sum()) for name, adversarial in found.items()}
    assert fooled["stopping"] >= fooled["ours"], fooled
    seconds = best(runs)
    setting = f"linf PGD, {STEPS} steps, {IMAGES} {data.name} images, resnet18-standard"
    return [
        {
            "id": "e",
            "device": models.describe(torch.device("cpu")),
            "what": f"{setting}, {what}",
            "peer": against,
            "ours": seconds[ours],
            "theirs": seconds[against],
            "ratio": seconds[against] / seconds[ours],
            "target": target,
        }
        for against, ours, what, target in [
            ("torchattacks", "ours", "bit-identical", 1.0),
            ("foolbox", "ours", "bit-identical", 1.0),
            ("torchattacks", "stopping", "ours stopped on success", 2.0),
        ]
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
