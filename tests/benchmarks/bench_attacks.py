"""Benchmark (e): PGD against torchattacks and foolbox at equal steps, on the committed CIFAR-10 ResNet-18."""

import warnings

import torch
import torchattacks

from lib import attacks
from tests.benchmarks.common import Row, best, row, task

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox imports a name that scipy has moved
    import foolbox

EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 20
IMAGES, REPEATS = 16, 9


def rows() -> list[Row]:
    """One row a comparison; all attack the same model and images, in channels_last but where it says so.

    Raises AssertionError unless plain PGD is bit-identical to its peers and early stopping fools as many images.
    """
    model, data = task()
    ordinary, labels = data.shuffled(0).batch(slice(IMAGES))
    images = ordinary.contiguous(memory_format=torch.channels_last)
    options = {"epsilon": EPSILON, "step_size": STEP, "steps": STEPS}
    peer = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)
    other = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    runs = {
        "ours": lambda: attacks.pgd(model, images, labels, **options),
        "stopping": lambda: attacks.pgd(model, images, labels, early_stop=True, **options),
        "torchattacks": lambda: peer(images, labels),
        "torchattacks, contiguous": lambda: peer(ordinary, labels),
        "foolbox": lambda: other.run(wrapped, images, foolbox.Misclassification(labels), epsilon=EPSILON),
    }
    found = {name: run() for name, run in runs.items()}
    assert torch.equal(found["ours"], found["torchattacks"]) and torch.equal(found["ours"], found["foolbox"])
    fooled = {name: int((model(adversarial).argmax(1) != labels).sum()) for name, adversarial in found.items()}
    assert fooled["stopping"] >= fooled["ours"], fooled
    assert abs(fooled["torchattacks, contiguous"] - fooled["ours"]) <= 2, fooled
    seconds = best(runs, repeats=REPEATS)
    setting = f"linf PGD, {STEPS} steps, {IMAGES} {data.name} images, resnet18-standard"
    return [
        row("e", f"{setting}, {what}", against, ours=seconds[ours], theirs=seconds[against], target=target)
        for against, ours, what, target in [
            ("torchattacks", "ours", "bit-identical", 1.0),
            ("foolbox", "ours", "bit-identical", 1.0),
            ("torchattacks, contiguous", "ours", "in channels_last, the peer's images as they come", 1.0),
            ("torchattacks", "stopping", "ours stopped on success", 2.0),
        ]
    ]


if __name__ == "__main__":
    for each in rows():
        print(each)
