"""Games: v(S|x), the scalar output of a model on an image of which only the players in S are kept (§3)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib import attacks, models
from lib.datasets import check_images, check_labels, class_count, kind
from lib.players import Players, expand

Game = Callable[[Tensor], Tensor]
"""From coalitions bool (I, B, n), B for each of I images, to values (..., I, B)."""

Value = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, classes) and labels (B,) to the scalar output v, one value a row."""


def play(game: Game, coalitions: Tensor) -> Tensor:
    """Values (..., I, B) of the coalitions bool (I, B, n); raises ValueError for anything else."""
    values = game(coalitions)
    if not isinstance(values, Tensor) or values.shape[-2:] != coalitions.shape[:2] or not values.is_floating_point():
        wanted = ", ".join(map(str, coalitions.shape[:2]))
        raise ValueError(
            f"a game gives a float tensor (..., {wanted}), a value for each coalition of each image; got {kind(values)}"
        )
    if not values.isfinite().all():
        raise ValueError("v is not a finite number in some coalition: look at the model, its precision and its images")
    return values


def log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """v = log p(label | x_S), the paper's default with the true class as the label."""
    return F.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)


def logit(logits: Tensor, labels: Tensor) -> Tensor:
    """v = h_label(x_S)."""
    return logits.gather(1, labels[:, None]).squeeze(1)


def other_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """v = log Σ_{y ≠ label} exp h_y(x_S), the evidence for all other classes (S-I.6)."""
    return logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """v = h_label(x_S) minus the greatest other logit."""
    return -attacks.carlini_wagner(logits, labels)


def predicted_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """v = H(Y|x_S) of the classes that a model predicts, in nats; the labels do not count (S-E)."""
    return torch.distributions.Categorical(logits=logits).entropy()


VALUES: dict[str, Value] = {
    "log_probability": log_probability,
    "logit": logit,
    "margin": margin,
    "other_classes": other_classes,
}


def named_value(name: str) -> Value:
    """The value of ``VALUES`` that has this name; raises ValueError for another."""
    if name not in VALUES:
        raise ValueError(f"unknown value {name!r}: choose one of {', '.join(VALUES)}")
    return VALUES[name]


def mean_baseline(images: Tensor) -> Tensor:
    """The mean of images (B, C, H, W) over the images, as a baseline (C, H, W): the paper's masked value."""
    check_images(images)
    return images.mean(0)


BATCH = {"cpu": 64, "cuda": 2048}
"""Masked images a forward pass: on a CPU as many as stay in its cache, on any GPU enough to keep it busy."""


class MaskingGame:
    """The games of I images: a player outside the coalition has its pixels replaced by those of the baseline.

    ``images`` is (I, C, H, W), or (V, I, C, H, W) for V variants (normal, adversarial) of the same images that are to
    be played with the same coalitions. ``players`` are those of every image, or, in a sequence, of one image each, all
    of one number. ``labels`` (I,) chooses the class of v. ``baseline`` is (C, H, W), or (I, C, H, W), one an image.
    ``passes`` counts the forward passes, a masked image each. On a GPU, PyTorch's own switch decides whether float32
    convolutions round their inputs to TF32; by default they do, which tests/test_game.py finds to be far below the
    sampling error. ``batch_size`` masked images are made and go through the model at once, by default as ``BATCH`` has
    it for the device; it is halved for good where memory runs out.
    Raises ValueError for images outside [0, 1], labels outside the classes, shapes that do not fit, or a model that
    is, or has a part, in training mode.
    """

    def __init__(
        self,
        model: nn.Module,
        players: Players | Sequence[Players],
        images: Tensor,
        labels: Tensor,
        *,
        baseline: Tensor,
        value: Value = log_probability,
        batch_size: int | None = None,
    ) -> None:
        models.check_frozen(model)
        if not isinstance(images, Tensor) or images.ndim not in (4, 5):
            raise ValueError(f"images must be a tensor (I, C, H, W) or (V, I, C, H, W); got {kind(images)}")
        check_images(images.flatten(0, -4))
        if not isinstance(baseline, Tensor) or baseline.shape not in (images.shape[-3:], images.shape[-4:]):
            raise ValueError(
                f"the baseline must be a tensor (C, H, W), or (I, C, H, W), one an image; "
                f"got {kind(baseline)} for images {tuple(images.shape)}"
            )
        baselines = baseline.expand(images.shape[-4:])
        check_images(baselines, what="baselines")
        if not images.shape[-4]:
            raise ValueError("a game is of at least one image; got none")
        own = _players_of(images, players)
        batch_size = BATCH.get(images.device.type, BATCH["cuda"]) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        with torch.no_grad():
            classes = class_count(model(baselines[:1].to(images)))
        check_labels(labels, images=images.shape[-4], classes=classes)
        self.model = model
        self.n = own[0].n
        self.partitions = torch.stack([each.partition for each in own]).to(images.device)
        self.images = images
        self.labels = labels
        self.baselines = baselines.to(images)
        self.value = value
        self.batch_size = batch_size
        self.passes = 0

    @torch.no_grad()
    def __call__(self, coalitions: Tensor) -> Tensor:
        """Values (I, B), or (V, I, B), of the coalitions bool (I, B, n), B for each image."""
        images = self.images.shape[-4]
        fits = coalitions.ndim == 3 and coalitions.shape[0] == images and coalitions.shape[2] == self.n
        if not fits or coalitions.dtype != torch.bool:
            raise ValueError(
                f"coalitions must be bool ({images} images, B, {self.n} players); "
                f"got {tuple(coalitions.shape)} of {coalitions.dtype}"
            )
        if self.images.ndim == 5:
            return torch.stack([self._play(variant, coalitions) for variant in self.images])
        return self._play(self.images, coalitions)

    def _play(self, images: Tensor, coalitions: Tensor) -> Tensor:
        count, each, _ = coalitions.shape
        flat = coalitions.flatten(0, 1)
        shown, hidden = (part.movedim(1, 3).contiguous() for part in (images, self.baselines))  # channels last
        precision = torch.promote_types(images.dtype, torch.float32)  # of v, whose differences are small
        values = images.new_empty(count * each, dtype=precision)
        start = 0
        while start < count * each:
            stop = min(start + self.batch_size, count * each)
            owner = torch.arange(start, stop, device=images.device) // each
            needed = owner[:1] if start // each == (stop - 1) // each else owner  # one image needs no copies
            try:
                logits = self.model(self._masked(shown, hidden, needed, flat[start:stop].to(images.device)))
            except torch.OutOfMemoryError:
                if stop - start == 1:
                    raise
                self.batch_size = (stop - start) // 2
                continue
            found = self.value(logits.to(precision), self.labels[owner])
            if found.shape != owner.shape:
                raise ValueError(f"v must be ({len(owner)},), one value a row of logits; got {tuple(found.shape)}")
            values[start:stop] = found
            self.passes += stop - start
            start = stop
        return values.view(count, each)

    def _masked(self, images: Tensor, baselines: Tensor, needed: Tensor, coalitions: Tensor) -> Tensor:
        """Masked images (b, C, H, W) of the coalitions (b, n), from images and baselines (I, H, W, C).

        ``needed`` names the image of each coalition, or the one of all.
        """
        partitions = self.partitions if len(self.partitions) == 1 else self.partitions[needed]
        kept = expand(partitions.expand(len(coalitions), -1, -1), coalitions)
        return torch.where(kept.movedim(1, 3), images[needed], baselines[needed]).movedim(3, 1)


def _players_of(images: Tensor, players: Players | Sequence[Players]) -> list[Players]:
    """The players of each of the images (..., I, C, H, W), or the one entry that all of them have in common."""
    every = [players] if isinstance(players, Players) else list(players)
    if not isinstance(players, Players) and len(every) != images.shape[-4]:
        raise ValueError(f"a sequence of players has one an image; got {len(every)} for {images.shape[-4]} images")
    for each in every:
        if images.shape[-2:] != each.partition.shape:
            raise ValueError(
                f"the players partition an image of {tuple(each.partition.shape)} pixels, "
                f"the images have {tuple(images.shape[-2:])}"
            )
        if each.n != every[0].n:
            raise ValueError(f"every image must have the same number of players; got {every[0].n} and {each.n}")
    return every[:1] if all(each is every[0] for each in every) else every
