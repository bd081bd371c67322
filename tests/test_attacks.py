"""Attacks: PGD against two other libraries and its constraints; calibrated PGD against a loop over single images."""

import math
import warnings
import weakref

import pytest
import torch
import torchattacks
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lib import attacks, game

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox imports a name that scipy has moved
    import foolbox

EPSILON, STEP, STEPS = 16 / 255, 3 / 255, 7


class Counting(nn.Module):
    """Counts the images that pass through the model, and the batches."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.count = self.batches = 0
        self.eval()

    def forward(self, images):
        self.count += len(images)
        self.batches += 1
        return self.model(images)


def wrong(labels, classes=4):
    return (labels + 1) % classes


# The gradient.


@pytest.mark.parametrize("room", [1, 5])
def test_the_gradient_is_taken_in_halves_where_memory_runs_out(room, network, pictures):
    """A model that holds five images, or one, gives twelve the gradients and logits that an unrestricted one does."""
    model, (images, labels) = network(3), pictures(12, 3)

    class Small(nn.Module):
        def forward(self, batch):
            if len(batch) > room:
                raise torch.OutOfMemoryError("no room")
            return model(batch)

    small, whole = (attacks.loss_gradient(of.eval(), images, labels) for of in (Small(), model))
    for found, expected in zip(small, whole, strict=True):
        torch.testing.assert_close(found, expected)
    with pytest.raises(torch.OutOfMemoryError):
        attacks.loss_gradient(Small().train(), images, labels)


def test_a_backward_pass_that_failed_is_freed_before_the_halves(network, pictures):
    model, (images, labels) = network(3), pictures(4, 3)
    failed = []

    class Small(nn.Module):
        def forward(self, batch):
            assert all(logits() is None for logits in failed)
            logits = model(batch)
            if len(batch) > 1:
                failed.append(weakref.ref(logits))
                logits.register_hook(full)
            return logits

    def full(_):
        raise torch.OutOfMemoryError("no room")

    gradient, _ = attacks.loss_gradient(Small().eval(), images, labels)
    torch.testing.assert_close(gradient, attacks.loss_gradient(model, images, labels)[0])
    assert len(failed) == 3


def test_an_image_whose_gradient_does_not_fit_is_an_error(pictures):
    class Full(nn.Module):
        def forward(self, _):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        attacks.loss_gradient(Full().eval(), *pictures(3))


# Plain PGD.


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("channels", [1, 3])
def test_linf_pgd_is_bit_identical_to_torchattacks(channels, targeted, network, pictures):
    model, (images, labels) = network(channels), pictures(4, channels)
    goal = wrong(labels) if targeted else labels
    theirs = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)
    if targeted:
        theirs.set_mode_targeted_by_function(lambda images, labels: labels)
    ours = attacks.pgd(model, images, goal, epsilon=EPSILON, step_size=STEP, steps=STEPS, targeted=targeted)
    assert torch.equal(ours, theirs(images, goal))
    assert not torch.equal(ours, images)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("step", [{"abs_stepsize": STEP}, {"rel_stepsize": 0.25}], ids=str)
def test_linf_pgd_is_bit_identical_to_foolbox(step, targeted, network, pictures):
    model, (images, labels) = network(3), pictures(5, 3)
    theirs = foolbox.attacks.LinfPGD(steps=STEPS, random_start=False, **step)
    goal = wrong(labels) if targeted else labels
    criterion = foolbox.criteria.TargetedMisclassification(goal) if targeted else foolbox.Misclassification(goal)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    expected = theirs.run(wrapped, images, criterion, epsilon=EPSILON)
    step_size = step.get("abs_stepsize", 0.25 * EPSILON)
    ours = attacks.pgd(model, images, goal, epsilon=EPSILON, step_size=step_size, steps=STEPS, targeted=targeted)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("epsilon", [0.05, 0.8])
def test_l2_pgd_agrees_with_torchattacks(epsilon, targeted, network, pictures):
    model = network(3, dtype=torch.float64)
    images, labels = pictures(4, 3, dtype=torch.float64)
    goal = wrong(labels) if targeted else labels
    theirs = torchattacks.PGDL2(model, eps=epsilon, alpha=0.2, steps=STEPS, random_start=False, eps_for_division=1e-20)
    if targeted:
        theirs.set_mode_targeted_by_function(lambda images, labels: labels)
    ours = attacks.pgd(model, images, goal, epsilon=epsilon, step_size=0.2, steps=STEPS, norm="l2", targeted=targeted)
    torch.testing.assert_close(ours, theirs(images, goal), rtol=0, atol=1e-9)
    assert (ours - images).flatten(1).norm(dim=1).max() > 0.5 * epsilon


@given(
    epsilon=st.floats(0, 0.6),
    step_size=st.floats(0, 0.6),
    steps=st.integers(0, 4),
    norm=st.sampled_from(["linf", "l2"]),
    targeted=st.booleans(),
    start=st.none() | st.integers(0, 100),
    seed=st.integers(0, 100),
)
def test_attacks_stay_in_the_ball_and_in_0_to_1(
    epsilon, step_size, steps, norm, targeted, start, seed, network, pictures
):
    model, (images, labels) = network(), pictures(1, seed=seed)
    before = images.clone()
    generator = None if start is None else torch.Generator().manual_seed(start)
    adversarial = attacks.pgd(
        model,
        images,
        labels,
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
        norm=norm,
        targeted=targeted,
        generator=generator,
    )
    assert torch.equal(images, before), "the attack must not write on its input"
    assert adversarial.shape == images.shape and adversarial.dtype == images.dtype
    assert not adversarial.requires_grad
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    change = (adversarial - images).flatten(1)
    size = change.abs().max() if norm == "linf" else change.norm(dim=1).max()
    assert size <= epsilon + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", [None, 3])
def test_epsilon_zero_gives_the_images_exactly(norm, start, network, pictures):
    images, labels = pictures(3)
    generator = None if start is None else torch.Generator().manual_seed(start)
    adversarial = attacks.pgd(
        network(), images, labels, epsilon=0.0, step_size=0.1, steps=3, norm=norm, generator=generator
    )
    assert torch.equal(adversarial, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start_depends_on_its_generator_alone(norm, pictures):
    images, _ = pictures(3, 3)

    def start(seed):
        return attacks.random_start(images, epsilon=0.1, norm=norm, generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = start(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(start(5), first)
    assert not torch.equal(start(6), first)


def test_random_starts_fill_the_ball():
    """Away from the bounds: ℓ∞ noise is uniform in ±ε; the ℓ2 radius is uniform in (0, ε), the direction any."""
    images = torch.full((2000, 1, 2, 2), 0.5)
    generator = torch.Generator().manual_seed(0)
    noise = attacks.random_start(images, epsilon=0.2, norm="linf", generator=generator) - images
    assert abs(noise.mean()) < 0.005 and 0.1995 < noise.abs().max() <= 0.2 + 1e-6
    assert noise.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)
    noise = attacks.random_start(images, epsilon=0.2, norm="l2", generator=generator) - images
    radius = noise.flatten(1).norm(dim=1)
    assert radius.mean().item() == pytest.approx(0.1, rel=0.05) and 0.195 < radius.max() <= 0.2 + 1e-6
    direction = noise.flatten(1) / radius[:, None]
    assert direction.mean(0).abs().max() < 0.05 and (direction.square().mean(0) - 0.25).abs().max() < 0.03


def test_a_generator_asks_for_a_random_start(network, pictures):
    images, labels = pictures(2)
    options = {"epsilon": 0.1, "step_size": 0.0, "steps": 2}
    assert torch.equal(attacks.pgd(network(), images, labels, **options), images)
    started = attacks.pgd(network(), images, labels, **options, generator=torch.Generator().manual_seed(0))
    expected = attacks.random_start(images, epsilon=0.1, norm="linf", generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(started, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(started, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_loss_of_the_goal_moves_as_it_should(norm, network, pictures):
    model, (images, labels) = network(3, sharpness=5), pictures(6, 3)
    options = {"epsilon": {"linf": 0.1, "l2": 1.0}[norm], "step_size": 0.02, "steps": 10, "norm": norm}
    left = attacks.pgd(model, images, labels, **options)
    sought = attacks.pgd(model, images, wrong(labels), targeted=True, **options)

    def loss(x, y):
        return F.cross_entropy(model(x), y, reduction="none")

    assert (loss(left, labels) > loss(images, labels)).all()
    assert (loss(sought, wrong(labels)) < loss(images, wrong(labels))).all()


def test_any_loss_can_be_attacked(network, pictures):
    """With minus the target's logit as the loss the target's logit falls; it is one of the value functions too."""
    model, (images, labels) = network(3, sharpness=5), pictures(4, 3)
    adversarial = attacks.pgd(
        model, images, labels, epsilon=0.1, step_size=0.02, steps=8, loss=lambda h, y: -game.logit(h, y)
    )
    assert (game.logit(model(adversarial), labels) < game.logit(model(images), labels)).all()


def test_cross_entropy_by_hand():
    logits = torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64)
    expected = -math.log(math.exp(2.0) / (math.exp(1.0) + math.exp(2.0) + math.exp(0.5)))
    assert attacks.cross_entropy(logits, torch.tensor([1])).tolist() == pytest.approx([expected])


def test_gradient_is_that_of_each_image_alone(network, pictures):
    model, (images, labels) = network(dtype=torch.float64), pictures(3, dtype=torch.float64)
    gradient, logits = attacks.loss_gradient(model, images, labels)
    torch.testing.assert_close(logits, model(images), rtol=0, atol=1e-12)
    nudge = torch.zeros_like(images[:1])
    nudge[0, 0, 2, 3] = 1e-6
    for i in range(3):
        high, low = (attacks.cross_entropy(model(images[[i]] + s * nudge), labels[[i]]).item() for s in (1, -1))
        assert gradient[i, 0, 2, 3].item() == pytest.approx((high - low) / 2e-6, rel=1e-4, abs=1e-8)


def test_a_gradient_of_zero_moves_nothing(pictures):
    images, _ = pictures(2)
    for norm in ("linf", "l2"):
        moved = attacks.step(images, torch.zeros_like(images), images, epsilon=0.1, step_size=0.1, norm=norm)
        assert torch.equal(moved, images)


def test_gradients_reach_frozen_models_without_grad_mode(network, pictures):
    images, labels = pictures(2)
    options = {"epsilon": 0.1, "step_size": 0.02, "steps": 2}
    with torch.no_grad():
        inside = attacks.pgd(network(), images, labels, **options)
    assert torch.equal(inside, attacks.pgd(network(), images, labels, **options))


@pytest.mark.parametrize("start", [None, 3])
def test_the_memory_format_of_the_images_is_kept(start, network, pictures):
    images, labels = pictures(3, 3)
    options = {"epsilon": 0.1, "step_size": 0.02, "steps": 2}
    generator = None if start is None else torch.Generator().manual_seed(start)
    last = images.contiguous(memory_format=torch.channels_last)
    found = attacks.pgd(network(3), last, labels, **options, generator=generator)
    assert found.is_contiguous(memory_format=torch.channels_last) and not found.is_contiguous()


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("start", [None, 3])
def test_early_stop_keeps_the_first_perturbation_that_succeeds(start, targeted, network, pictures):
    """Against the trajectory of plain PGD: attacks of 0, 1, 2, … steps. Images that succeed take no later pass."""
    model = Counting(network(3, dtype=torch.float64, sharpness=40))
    images, _ = pictures(16, 3, dtype=torch.float64)
    logits = model(images)
    labels = logits.topk(2).indices[:, 1] if targeted else logits.argmax(1)
    done = 5
    labels[:2] = logits.argmax(1)[:2] if targeted else wrong(labels[:2])
    options = {"epsilon": 0.1, "step_size": 0.04, "targeted": targeted}

    def attack(steps, **more):
        generator = None if start is None else torch.Generator().manual_seed(start)
        return attacks.pgd(model, images, labels, steps=steps, generator=generator, **options, **more)

    trajectory = torch.stack([attack(steps) for steps in range(done + 1)])
    succeeded = torch.stack([(model(x).argmax(1) == labels) == targeted for x in trajectory])
    never = ~succeeded.any(0)
    first = succeeded.int().argmax(0).where(~never, torch.tensor(done))
    assert never.any() and first.unique().numel() > 3 and (first == 0).any(), "the fixture should have all kinds"
    model.count = 0
    stopped = attack(done, early_stop=True)
    assert model.count == (first + 1).clamp(max=done).sum(), "one pass a step and one that sees the success"
    torch.testing.assert_close(stopped, trajectory[first, torch.arange(len(images))], rtol=0, atol=1e-12)
    if start is None:
        assert torch.equal(stopped[:2], images[:2]), "what is misclassified already stays as it is"


def test_early_stop_ends_when_all_have_stopped(network, pictures):
    model = Counting(network(3))
    images, _ = pictures(4, 3)
    labels = wrong(model(images).argmax(1))
    model.count = model.batches = 0
    found = attacks.pgd(model, images, labels, epsilon=0.1, step_size=0.02, steps=9, early_stop=True)
    assert torch.equal(found, images) and (model.count, model.batches) == (4, 1)


def test_plain_pgd_makes_one_pass_a_step(network, pictures):
    model, (images, labels) = Counting(network(3)), pictures(4, 3)
    attacks.pgd(model, images, labels, epsilon=0.1, step_size=0.02, steps=6)
    assert model.count == 24


IMAGES, LABELS = torch.rand(2, 1, 8, 8), torch.tensor([0, 3])
ERRORS = [
    ({"images": IMAGES * 255}, r"must lie in \[0, 1\]; got values from .*divide 8-bit images by 255"),
    ({"images": IMAGES - 1}, r"must lie in \[0, 1\]; got values from -"),
    ({"images": IMAGES[0]}, r"float tensor \(B, C, H, W\); got \(1, 8, 8\)"),
    ({"images": (IMAGES * 255).to(torch.uint8)}, r"float tensor.*uint8"),
    ({"images": IMAGES.numpy()}, r"float tensor \(B, C, H, W\); got a ndarray"),
    ({"labels": [0, 1]}, r"labels must be 2 integers, one an image; got a list"),
    ({"labels": torch.tensor([0, 4])}, r"labels must lie in 0\.\.3 .*got values from 0 to 4"),
    ({"labels": torch.tensor([-1, 0])}, r"labels must lie in 0\.\.3 .*got values from -1 to 0"),
    ({"labels": torch.tensor([0])}, r"labels must be 2 integers, one an image; got \(1,\)"),
    ({"labels": torch.tensor([0.0, 1.0])}, r"labels must be 2 integers"),
    ({"epsilon": -0.1}, r"epsilon must be at least 0.*got -0\.1"),
    ({"epsilon": "8/255"}, r"epsilon must be a number \(8/255 = 0\.0314\); got '8/255'"),
    ({"step_size": None}, r"step_size must be a number .*; got None"),
    ({"epsilon": math.nan}, r"epsilon must be at least 0.*got nan"),
    ({"epsilon": math.inf}, r"epsilon must be at least 0.*got inf"),
    ({"epsilon": 8.0}, r"epsilon must be .*at most 1, .* \(8/255 = 0\.0314\); got 8\.0"),
    ({"step_size": -0.1}, r"step_size is a number of at least 0, steps an integer of at least 0; got -0\.1 and 3"),
    ({"labels": torch.tensor([0, 4]), "steps": 0}, r"labels must lie in 0\.\.3 .*got values from 0 to 4"),
    ({"steps": -1}, r"step_size is a number of at least 0, steps an integer of at least 0; got 0\.1 and -1"),
    ({"steps": 2.5}, r"step_size is a number of at least 0, steps an integer of at least 0; got 0\.1 and 2\.5"),
]
NORM_ERROR = ({"norm": "l1"}, r"unknown norm 'l1': choose 'linf' or 'l2'")


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_model_without_finite_logits_is_not_robust(factor):
    class Broken(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :4] * factor

    with pytest.raises(ValueError, match="logits or gradients that are infinite or not a number"):
        attacks.pgd(Broken(), IMAGES, LABELS, epsilon=0.1, step_size=0.1, steps=1)


@pytest.mark.parametrize(("changes", "message"), [*ERRORS, NORM_ERROR])
def test_pgd_one_clear_error(changes, message, network, empty_folder):
    arguments = {"images": IMAGES, "labels": LABELS, "epsilon": 0.1, "step_size": 0.1, "steps": 3}
    with pytest.raises(ValueError, match=message):
        attacks.pgd(network(), **{**arguments, **changes})


# Calibrated PGD.


def one_by_one(model, image, label, target, *, epsilon, step_size, steps, window):
    """§4.1 and its supplement for a single image, as plainly as can be: (image, utility, steps taken)."""
    low, high = window
    x, utility, taken = image.clone(), 0.0, 0
    clean = model(image[None])[0]

    def utility_of(h):
        if target is None:
            return (clean[label] - h[label]).item()
        return ((h[target] - h[label]) - (clean[target] - clean[label])).item()

    while taken < steps and utility <= low and epsilon > 0:
        taken += 1
        variable = x[None].clone().requires_grad_(True)
        loss = F.cross_entropy(model(variable), torch.tensor([label if target is None else target]))
        direction = torch.autograd.grad(loss, variable)[0][0].sign() * (1 if target is None else -1)
        proposal = torch.minimum(torch.maximum(x + step_size * direction, image - epsilon), image + epsilon)
        proposal = proposal.clamp(0, 1)
        proposed = utility_of(model(proposal[None])[0])
        if proposed > high:
            step_size /= 2
        else:
            x, utility = proposal, proposed
    return x, utility, taken


WINDOW = {"untargeted": (0.5, 0.505), "targeted": (0.4, 0.41)}


@pytest.fixture(scope="module", params=["untargeted", "targeted"])
def calibrated(request, network, pictures):
    """An attack on ten images of which some reach the window, in float64."""
    model = Counting(network(3, dtype=torch.float64, sharpness=40))
    images, labels = pictures(10, 3, dtype=torch.float64, seed=3)
    targets = wrong(labels) if request.param == "targeted" else None
    options = {"epsilon": 0.06, "step_size": 0.01, "steps": 16}
    window = WINDOW[request.param]
    attack = attacks.calibrated_pgd(model, images, labels, targets=targets, utility=window, **options)
    return model, images, labels, targets, window, options, attack


def test_who_reached_the_window_and_who_did_not(calibrated):
    model, images, labels, targets, (low, high), options, attack = calibrated
    clean, after, rows = model(images), model(attack.images), range(len(images))
    for i in rows:
        y = labels[i]
        if targets is None:
            utility = clean[i, y] - after[i, y]
        else:
            t = targets[i]
            utility = (after[i, t] - after[i, y]) - (clean[i, t] - clean[i, y])
        assert attack.utility[i].item() == pytest.approx(utility.item(), abs=1e-6)
        assert attack.reached[i].item() == (low < utility.item() <= high)
        assert attack.classes[i] == after[i].argmax()
        strongest = max((c for c in range(4) if c != y), key=lambda c, i=i: clean[i, c])
        led_to = strongest if attack.classes[i] == y else attack.classes[i]
        assert attack.targets[i] == (led_to if targets is None else targets[i])
        assert attack.reached[i] or attack.steps[i] == options["steps"]
        assert attack.utility[i] <= high
    assert 0 < attack.reached.sum() < len(images), "the fixture should have both"
    assert (attack.images - images).abs().max() <= options["epsilon"] + 1e-12
    assert attack.images.min() >= 0 and attack.images.max() <= 1


def test_calibrated_pgd_is_a_loop_over_single_images(calibrated):
    """Against an independent attack of each image alone: steps halved and stopped image by image."""
    model, images, labels, targets, window, options, attack = calibrated
    halved = 0
    for i in range(len(images)):
        target = None if targets is None else targets[i].item()
        x, utility, taken = one_by_one(model, images[i], labels[i].item(), target, window=window, **options)
        torch.testing.assert_close(attack.images[i], x, rtol=0, atol=1e-9)
        assert attack.utility[i].item() == pytest.approx(utility, abs=1e-6)
        assert attack.steps[i].item() == taken
        changes = (attack.images[i] - images[i]).abs().flatten() / options["step_size"]
        halved += bool((changes - changes.round()).abs().max() > 1e-6)
    assert halved, "the fixture should have images whose step was halved"


def test_a_batch_is_attacked_as_each_image_alone(calibrated):
    model, images, labels, targets, window, options, attack = calibrated
    for i in (0, 4, 9):
        alone = attacks.calibrated_pgd(
            model,
            images[[i]],
            labels[[i]],
            targets=None if targets is None else targets[[i]],
            utility=window,
            **options,
        )
        torch.testing.assert_close(alone.images, attack.images[[i]], rtol=0, atol=1e-9)
        torch.testing.assert_close(alone.utility, attack.utility[[i]], rtol=0, atol=1e-6)
        assert alone.reached == attack.reached[i] and alone.steps == attack.steps[i]


def test_passes_are_counted(calibrated):
    model, images, labels, targets, window, options, attack = calibrated
    model.count = 0
    again = attacks.calibrated_pgd(model, images, labels, targets=targets, utility=window, **options)
    assert model.count == len(images) + int(again.steps.sum())
    assert torch.equal(again.images, attack.images)


def test_plain_pgd_is_batch_independent_too(network, pictures):
    model = network(3, dtype=torch.float64)
    images, labels = pictures(5, 3, dtype=torch.float64)
    options = {"epsilon": EPSILON, "step_size": STEP, "steps": STEPS}
    together = attacks.pgd(model, images, labels, **options)
    alone = torch.cat([attacks.pgd(model, images[[i]], labels[[i]], **options) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_calibrated_epsilon_zero(targeted, network, pictures):
    model, (images, labels) = Counting(network(3)), pictures(3, 3)
    targets = (labels + 1) % 4 if targeted else None
    attack = attacks.calibrated_pgd(model, images, labels, epsilon=0.0, utility=(0.0, 1.0), targets=targets)
    assert torch.equal(attack.images, images)
    assert not attack.utility.any() and not attack.reached.any() and not attack.steps.any()
    assert model.count == 3
    assert torch.equal(attack.classes, model(images).argmax(1))


def test_an_easy_window_is_reached_by_all_in_one_step(network, pictures):
    """The attack stops early: a step lands inside a window with nothing above it, and no other step is tried."""
    model, (images, labels) = Counting(network(3, sharpness=8)), pictures(4, 3)
    attack = attacks.calibrated_pgd(model, images, labels, step_size=0.01, utility=(0.0, 1e9))
    assert attack.reached.all() and attack.steps.tolist() == [1] * 4 and model.count == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *ERRORS,
        ({"utility": (8.5, 8.0)}, r"window \(low, high\) with 0 <= low < high; got \(8\.5, 8\.0\)"),
        ({"utility": (1.0, 1.0)}, r"window \(low, high\) .*got \(1\.0, 1\.0\)"),
        ({"utility": (-1.0, 1.0)}, r"window \(low, high\) .*got \(-1\.0, 1\.0\)"),
        ({"utility": 8.0}, r"window \(low, high\) .*got 8\.0"),
        ({"utility": (math.nan, 1.0)}, r"window \(low, high\) .*got \(nan, 1\.0\)"),
        ({"targets": torch.tensor([0, 4])}, r"targets must lie in 0\.\.3 .*got values from 0 to 4"),
        ({"targets": LABELS}, "targeted at another class than the image's own; got a target that is the label"),
        ({"targets": torch.tensor([0])}, r"targets must be 2 integers, one an image; got \(1,\)"),
        (
            {"targets": torch.tensor([0, 9]), "gradient_of": lambda images, classes: torch.zeros_like(images)},
            r"targets must lie in 0\.\.3 .*got values from 0 to 9",
        ),
        ({"targets": LABELS, "labels": torch.tensor([0, 4])}, r"labels must lie in 0\.\.3 .*got values from 0 to 4"),
    ],
)
def test_calibrated_pgd_one_clear_error(changes, message, network, empty_folder):
    arguments = {"images": IMAGES, "labels": LABELS, "epsilon": 0.1, "step_size": 0.1, "steps": 3}
    with pytest.raises(ValueError, match=message):
        attacks.calibrated_pgd(network(), **{**arguments, **changes})


def test_calibrated_l2_goes_along_the_gradient_and_stays_in_its_ball(network, pictures):
    model = network(3, dtype=torch.float64, sharpness=40)
    images, labels = pictures(6, 3, dtype=torch.float64)
    first = attacks.calibrated_pgd(model, images, labels, norm="l2", step_size=0.1, epsilon=9.0, steps=1)
    gradient, _ = attacks.loss_gradient(model, images, labels)
    direction = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    taken = first.utility != 0  # a step above the window is taken back
    assert taken.any()
    torch.testing.assert_close(first.images[taken], (images + 0.1 * direction).clamp(0, 1)[taken], rtol=0, atol=1e-12)
    far = attacks.calibrated_pgd(model, images, labels, norm="l2", step_size=0.5, epsilon=0.7, steps=20)
    assert (far.images - images).flatten(1).norm(dim=1).max() <= 0.7 + 1e-9


def test_another_gradient_leads_and_the_utility_is_the_models(network, pictures):
    model, (images, labels) = network(3, dtype=torch.float64, sharpness=40), pictures(6, 3, dtype=torch.float64)
    options = {"epsilon": 0.1, "step_size": 0.02, "steps": 8, "utility": (2.0, 2.5)}

    def of_the_loss(points, classes):
        return attacks.loss_gradient(model, points, classes)[0]

    same = attacks.calibrated_pgd(model, images, labels, gradient_of=of_the_loss, **options)
    plain = attacks.calibrated_pgd(model, images, labels, **options)
    assert torch.equal(same.images, plain.images) and torch.equal(same.utility, plain.utility)
    back = attacks.calibrated_pgd(model, images, labels, gradient_of=lambda *a: -of_the_loss(*a), **options)
    assert (back.utility < 0).any() and not torch.equal(back.images, plain.images)


def test_a_path_is_followed_until_its_utility_is_in_the_window(network, pictures):
    model, (images, labels) = network(3, dtype=torch.float64, sharpness=40), pictures(8, 3, dtype=torch.float64)
    end = attacks.pgd(model, images, labels, epsilon=0.1, step_size=0.02, steps=10)

    def path(amount):
        return images + amount.view(-1, 1, 1, 1) * (end - images)

    counting = Counting(model)
    found = attacks.calibrated_path(counting, images, labels, path, utility=(1.0, 1.0625))
    assert counting.count == 8 * (2 + int(found.steps.max()))  # the images, the end, and a point a step
    rows = torch.arange(8)
    fall = model(images)[rows, labels] - model(found.images)[rows, labels]
    at_the_end = model(images)[rows, labels] - model(end)[rows, labels]
    torch.testing.assert_close(found.utility, fall)
    assert torch.equal(found.reached, (fall > 1.0) & (fall <= 1.0625))
    assert found.reached.any() and torch.equal(found.reached, at_the_end > 1.0), "the fixture should have both"
    torch.testing.assert_close(found.images[~found.reached], end[~found.reached])
    assert torch.equal(found.classes, model(found.images).argmax(1))
    with pytest.raises(ValueError, match=r"window \(low, high\)"):
        attacks.calibrated_path(model, images, labels, path, utility=(2.0, 1.0))


def test_margin_by_hand():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert attacks.carlini_wagner(logits, torch.tensor([0, 2])).tolist() == [-1.0, 1.0]


# Utilities and targets.


def test_utilities_by_hand():
    clean, after = torch.tensor([[5.0, 1.0, 2.0], [0.0, 3.0, 1.0]]), torch.tensor([[1.0, 4.0, 2.5], [0.5, 1.0, -1.0]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([1, 2])
    assert attacks.untargeted_utility(clean, after, labels).tolist() == [4.0, 2.0]
    assert attacks.targeted_utility(clean, after, labels, targets).tolist() == [
        (4.0 - 1.0) - (1.0 - 5.0),
        (-1.0 - 1.0) - (1.0 - 3.0),
    ]


def test_attack_targets():
    """The class that the attack led to; where it left the truth standing, the strongest wrong class before it."""
    logits = torch.tensor([[5.0, 1.0, 2.0], [0.0, 3.0, 1.0], [9.0, 2.0, 1.0], [2.0, 3.0, 9.0]])
    labels, led_to = torch.tensor([0, 1, 0, 0]), torch.tensor([1, 1, 0, 2])
    targets = attacks.attack_targets(led_to, logits, labels)
    assert targets.tolist() == [1, 2, 1, 2]
    assert not (targets == labels).any()


def test_a_path_of_no_steps_is_refused(network, pictures):
    images, labels = pictures(2)
    with pytest.raises(ValueError, match="a path is followed in at least 1 step; got 0"):
        attacks.calibrated_path(network(), images, labels, lambda amount: images, steps=0)
