"""Controls: each perturbation is what its name says, and depends on seed and image alone."""

from dataclasses import replace

import pytest
import torch
import torchattacks

from lib import attacks, controls, experiments, models

CPU = torch.device("cpu")


@pytest.fixture
def scene(network, pictures):
    """Six images on a network that attacks reach."""
    model, (images, _) = network(sharpness=200), pictures(6, side=16)
    labels = model(images).argmax(1)
    untargeted = experiments.attack(model, images, labels, "untargeted 2")
    assert untargeted.reached.all()
    return controls.Scene(
        model=model,
        images=images,
        labels=labels,
        rows=list(range(10, 16)),
        attack=untargeted,
        utility=(2.0, 2.125),
        epsilon=32 / 255,
        step_size=2 / 255,
        steps=60,
        grid=16,
        baseline=images.mean(0),
        source=network(sharpness=30),
        seed=0,
    )


def part(scene, rows):
    """The scene of some of its images alone."""
    of = scene.attack
    cut = {name: getattr(of, name)[rows] for name in ("images", "utility", "reached", "steps", "classes")}
    return replace(
        scene,
        images=scene.images[rows],
        labels=scene.labels[rows],
        rows=[scene.rows[k] for k in rows],
        attack=replace(of, **cut),
    )


def size(scene, found):
    return (found.images - scene.images).flatten(1).norm(dim=1)


@pytest.mark.parametrize("name", controls.CONTROLS)
def test_an_image_is_treated_as_it_would_be_alone(name, scene):
    together = controls.CONTROLS[name](scene)
    alone = controls.CONTROLS[name](part(scene, [4]))
    torch.testing.assert_close(alone.images, together.images[[4]], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.utility, together.utility[[4]], rtol=0, atol=1e-3)
    other = controls.CONTROLS[name](replace(scene, seed=1))
    random = name in ("uniform-noise", "gaussian-noise", "shuffled", "masked", "apgd", "spatial")
    assert torch.equal(other.images, together.images) != random
    assert together.images.min() >= 0 and together.images.max() <= 1


@pytest.mark.parametrize("name", ["masked", "l2", "margin", "apgd", "transferred", "spatial"])
def test_attacks_reach_the_utility_they_report(name, scene):
    found = controls.CONTROLS[name](scene)
    fall = attacks.untargeted_utility(scene.model(scene.images), scene.model(found.images), scene.labels)
    torch.testing.assert_close(found.utility, fall, rtol=0, atol=1e-4)
    low, high = scene.utility
    assert found.reached.any() and torch.equal(found.reached, (found.utility > low) & (found.utility <= high))
    assert torch.equal(found.classes, scene.model(found.images).argmax(1))


@pytest.mark.parametrize(("name", "spread"), [("uniform-noise", 3**0.5), ("gaussian-noise", None)])
def test_noise_has_the_norm_of_the_attack(name, spread, scene):
    middle = replace(scene, images=scene.images * 0.2 + 0.4)  # no value leaves [0, 1]
    middle = replace(middle, attack=replace(scene.attack, images=middle.images + 0.05))
    found = controls.CONTROLS[name](middle)
    torch.testing.assert_close(size(middle, found), size(middle, middle.attack), rtol=1e-4, atol=0)
    noise = (found.images - middle.images).flatten(1)
    assert torch.equal(found.reached, scene.attack.reached)
    peak = (noise.abs().amax(1) / noise.std(1)).mean().item()
    assert peak == pytest.approx(spread, rel=0.05) if spread else peak > 2.3


def test_shuffled_has_the_same_pixels_elsewhere(scene):
    middle = replace(scene, images=scene.images * 0.2 + 0.4)
    plus = (scene.attack.images - scene.images) * 0.5
    middle = replace(middle, attack=replace(scene.attack, images=middle.images + plus))
    moved = controls.shuffled(middle).images - middle.images
    torch.testing.assert_close(moved.flatten(1).sort(1).values, plus.flatten(1).sort(1).values, rtol=0, atol=1e-6)
    assert ((moved - plus).abs() > 1e-3).float().mean() > 0.3


def test_masked_with_everyone_kept_is_plain_pgd(scene, monkeypatch):
    """With coalitions of all players the mean gradient is that of the image."""
    monkeypatch.setattr(controls.players.Players, "expand", lambda self, c: torch.ones(len(c), 1, 16, 16).bool())
    found = controls.masked(scene)
    torch.testing.assert_close(found.images, scene.attack.images[:, :], rtol=0, atol=1e-6)


def test_masked_plays_the_cells_of_the_grid(scene, monkeypatch):
    seen = []
    monkeypatch.setattr(
        controls.players.Players, "expand", lambda self, c: seen.append(self.n) or c.new_ones(len(c), 1, 16, 16)
    )
    controls.masked(replace(scene, grid=4))
    assert set(seen) == {16}


def test_masked_follows_the_mean_gradient_of_the_masked_images(scene, monkeypatch):
    """By autograd, of images masked by hand: what the pixels kept weigh, over coalitions of every size."""
    seen = {}
    monkeypatch.setattr(controls, "_calibrated", lambda scene, *, gradient_of: seen.update(of=gradient_of))
    controls.masked(replace(scene, grid=4))
    found = seen["of"](scene.images, scene.labels)
    draw, of = controls.generator(scene.seed, 104), controls.players.grid(16, 16, side=4)
    sizes = torch.rand(controls.MASKS, 1, generator=draw)
    kept = of.expand(torch.rand(controls.MASKS, 16, generator=draw) < sizes)
    x = scene.images.clone().requires_grad_()
    losses = [
        torch.nn.functional.cross_entropy(
            scene.model(torch.where(mask, x, scene.baseline)), scene.labels, reduction="sum"
        )
        for mask in kept
    ]
    torch.stack(losses).sum().backward()
    torch.testing.assert_close(found, x.grad, rtol=1e-4, atol=1e-6)
    assert sizes.std() > 0.15


def test_l2_and_margin_are_the_calibrated_attack_so_set(scene):
    how = {"steps": scene.steps, "utility": scene.utility}
    arguments = (scene.model, scene.images, scene.labels)
    corner = (16 * 16) ** 0.5  # the ℓ2 norm of the ℓ∞ ball's corner, in ε
    ball = attacks.calibrated_pgd(
        *arguments, epsilon=corner * scene.epsilon, step_size=corner * scene.step_size, norm="l2", **how
    )
    torch.testing.assert_close(controls.l2(scene).images, ball.images, rtol=0, atol=1e-6)
    pace = {"epsilon": scene.epsilon, "step_size": scene.step_size}
    of_margin = attacks.calibrated_pgd(*arguments, **pace, loss=attacks.carlini_wagner, **how).images
    found = controls.margin_loss(scene).images
    torch.testing.assert_close(found, of_margin, rtol=0, atol=1e-6)
    assert (found - scene.attack.images).abs().max() > 1e-3


def test_a_transferred_perturbation_is_that_of_the_source(scene):
    found = controls.CONTROLS["transferred"](scene).images - scene.images
    whole = controls.pgd(
        scene.source,
        scene.images,
        scene.labels,
        epsilon=scene.epsilon,
        step_size=scene.step_size,
        steps=scene.steps,
    )
    whole = whole - scene.images
    for part, of in zip(found.flatten(1), whole.flatten(1), strict=True):
        amount = part.norm() / of.norm()
        assert 0 < amount <= 1
        torch.testing.assert_close(part, amount * of, rtol=0, atol=1e-5)


def test_apgd_goes_along_the_perturbation_of_torchattacks(scene):
    """The direction of each image is that of torchattacks with the seed of its own draw; nothing global is left."""
    state = torch.get_rng_state()
    found = controls.apgd(scene)
    assert torch.equal(torch.get_rng_state(), state)
    seed = int(torch.randint(2**31, (), generator=scene.draws(107)[2]))
    theirs = torchattacks.APGD(scene.model, eps=scene.epsilon, steps=scene.steps, seed=seed)
    whole = theirs(scene.images[[2]], scene.labels[[2]]) - scene.images[[2]]
    taken = found.images[[2]] - scene.images[[2]]
    amount = (taken.norm() / whole.norm()).item()
    assert 0 < amount <= 1
    torch.testing.assert_close(taken, amount * whole, rtol=0, atol=1e-6)


def test_moved_by_hand(pictures):
    images, _ = pictures(3)
    still = torch.zeros(3, 3)
    torch.testing.assert_close(controls.moved(images, still), images, rtol=0, atol=1e-5)
    right = torch.tensor([[0.0, -1.0, 0.0]]).expand(3, 3)  # a quarter of eight pixels
    torch.testing.assert_close(controls.moved(images, right)[..., 2:], images[..., :-2], rtol=0, atol=1e-5)
    quarter_turn = torch.tensor([[1.5, 0.0, 0.0]]).expand(3, 3)
    torch.testing.assert_close(controls.moved(images, quarter_turn), images.rot90(1, (-2, -1)), rtol=0, atol=1e-4)


def test_controls_of_one_utility_share_their_attack(scene, monkeypatch):
    made, attack = [], experiments.attack
    monkeypatch.setattr(experiments, "attack", lambda *a, **k: made.append(a[3]) or attack(*a, **k))
    names = ["shuffled 2", "untargeted 2", "uniform-noise 2", "uniform-noise 3"]
    found = experiments.perturbed(
        scene.model,
        scene.images,
        scene.labels,
        names,
        rows=scene.rows,
        baseline=scene.baseline,
        source=scene.source,
        steps=scene.steps,
    )
    assert made == ["untargeted 2", "untargeted 3"]
    alone = replace(scene, attack=attack(scene.model, scene.images, scene.labels, "untargeted 2", steps=scene.steps))
    assert torch.equal(found[0].images, controls.shuffled(alone).images)
    assert torch.equal(found[1].images, alone.attack.images)


def test_controls_are_measured_beside_the_attack(tiny):
    asked = experiments.OrderCurves(
        dataset="tiny",
        attacks=("untargeted 0.002", "shuffled 0.002", "transferred 0.002"),
        source="resnet18-standard",
        images=12,
        design="four_point",
        replicates=3,
        fractions=(0.5,),
        grid=4,
        steps=40,
    )
    found = experiments.order_curves(asked, device=CPU)
    model = models.load("tiny", "resnet18-standard")
    images, labels = tiny.batch(torch.tensor(found.image.values))
    plain = experiments.attack(model, images, labels, "untargeted 0.002", steps=40)
    reached = found.reached.sel(attack="shuffled 0.002").values
    assert (reached == plain.reached.numpy()).all() and reached.any()
    assert (
        "--attack 'shuffled 0.002'" in found.attrs["command"] and "--source resnet18-standard" in found.attrs["command"]
    )


def test_apgd_that_does_not_mislead_is_followed_all_the_same(scene):
    """torchattacks answers with the image itself there, which would have no utility at all."""
    weak = replace(scene, epsilon=scene.epsilon / 16, utility=(0.01, 0.02))
    theirs = torchattacks.APGD(weak.model, eps=weak.epsilon, steps=weak.steps, seed=0)(weak.images, weak.labels)
    held = (theirs == weak.images).flatten(1).all(1)
    assert held.any()
    assert (controls.apgd(weak).utility[held] > 0.01).all()


def test_blur_is_as_wide_as_an_eighth_of_the_side():
    """An impulse becomes a Gaussian of that deviation, cut off at twice of it."""
    image = torch.zeros(1, 1, 32, 32)
    image[..., 16, 16] = 1
    seen = controls.blurred(image)[0, 0]
    at = torch.arange(32.0) - 16
    weight = torch.where(at.abs() <= 8, (-(at**2) / (2 * 4**2)).exp(), 0.0)
    torch.testing.assert_close(seen, torch.outer(weight, weight) / weight.sum() ** 2)
