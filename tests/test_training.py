"""Training: augmentation, recipes, runs that resume to the same weights, attacks in the ball, checkpoints."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lib import attacks, models, training
from lib.datasets import Dataset, as_images

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Training states and checkpoints go to folders of the test."""
    monkeypatch.setattr(training, "STATES", tmp_path / "states")
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path / "checkpoints")
    return tmp_path


def toy(count=40, channels=1, *, seed=0):
    """Two classes of noisy 8×8 images: bright above, or bright below."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 100, (count, channels, 8, 8), generator=generator)
    images[labels == 0, :, :4] += 120
    images[labels == 1, :, 4:] += 120
    return Dataset("toy", "train", images.to(torch.uint8), labels, ("above", "below"))


# Not narrower: on a processor with AVX2 alone, oneDNN's gradient of a 1×1 convolution of stride 2 over fewer than eight
# channels is wrong, or ends the process (uxlfoundation/oneDNN issue 6035).
STANDARD = training.Recipe(width=8, epochs=2, batch_size=8, learning_rate=0.05, average=0.5, crop_padding=1)
ADVERSARIAL = replace(STANDARD, attack_steps=2)
FAST, SMOOTHED = replace(STANDARD, attack_steps=1), replace(STANDARD, noise=0.1)
RECIPES = pytest.mark.parametrize(
    "about", [STANDARD, ADVERSARIAL, FAST, SMOOTHED], ids=["standard", "adversarial", "fast", "smoothed"]
)


def run(data, about, **options):
    return training.train(data, about, device=CPU, **options)[0]


def same_weights(first, second):
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


# Augmentation.


@pytest.mark.parametrize(("padding", "height", "width"), [(0, 4, 5), (1, 6, 6), (2, 5, 7)])
def test_augment_makes_mirrored_crops_of_reflected_images(padding, height, width):
    """Every output is one of the crops or mirrored crops that numpy makes, and each of these occurs."""
    count = 40 * (2 * padding + 1) ** 2
    images = torch.rand(2, 2, height, width).repeat(count // 2, 1, 1, 1)
    augmented = training.augment(images, padding=padding, generator=torch.Generator().manual_seed(0))
    assert augmented.shape == images.shape
    times = {}
    for kind in (0, 1):
        padded = np.pad(images[kind].numpy(), [(0, 0), (padding, padding), (padding, padding)], mode="reflect")
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crop = torch.from_numpy(padded[:, top : top + height, left : left + width].copy())
                for mirrored in (False, True):
                    times[kind, top, left, mirrored] = 0
                    expected = crop.flip(2) if mirrored else crop
                    found = (augmented[kind::2] == expected).flatten(1).all(1).sum().item()
                    times[kind, top, left, mirrored] += found
    assert sum(times.values()) == count
    assert min(times.values()) > 0
    mirrored = sum(number for key, number in times.items() if key[3])
    assert abs(mirrored - count / 2) < 4 * (count / 4) ** 0.5


def test_augment_depends_on_its_generator_alone():
    images = torch.rand(8, 1, 6, 6)

    def augment(seed):
        return training.augment(images, padding=2, generator=torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    first = augment(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(augment(1), first) and not torch.equal(augment(2), first)


def test_augmented_clouds_are_mirrored_stretched_and_jittered():
    """Of one cloud many times: each axis by one factor within ±(0.8..1), z never mirrored, and jitter of 0.01."""
    cloud = 0.1 + 0.8 * torch.rand(1, 3, 50, 1, generator=torch.Generator().manual_seed(0))
    seen = training.augment_clouds(cloud.repeat(400, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    assert seen.shape == (400, 3, 50, 1) and seen.min() >= 0 and seen.max() <= 1
    before, after = (2 * x[..., 0] - 1 for x in (cloud, seen))  # coordinates
    factor = (before * after).sum(2) / before.square().sum(2)  # (400, 3)
    jitter = after - factor[..., None] * before
    assert jitter.std().item() == pytest.approx(0.01, rel=0.05)
    assert 0.78 < factor.abs().min() < 0.82 and 0.98 < factor.abs().max() < 1.02
    assert (factor[:, 2] > 0).all()
    quarters = [((factor[:, 0] > 0) == x) & ((factor[:, 1] > 0) == y) for x in (True, False) for y in (True, False)]
    assert all(70 < quarter.sum() < 130 for quarter in quarters)


def test_augmented_clouds_depend_on_their_generator_alone():
    clouds, state = torch.rand(8, 3, 20, 1), torch.get_rng_state()
    first, again, other = (
        training.augment_clouds(clouds, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(first, again) and not torch.equal(first, other)


def test_unknown_augmentation(empty_folder):
    with pytest.raises(ValueError, match="unknown augmentation 'spin': choose 'crop' or 'cloud'"):
        replace(STANDARD, augmentation="spin")


def test_a_point_cloud_network_learns_an_easy_task():
    """Flat clouds against tall ones; the model undoes the image units, whatever the spread of the training clouds."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    shape = torch.tensor([[1.0, 1.0, 0.1], [0.2, 0.2, 1.0]])[labels][:, None]
    points = (2 * torch.rand(40, 80, 3, generator=generator) - 1) * shape
    data = Dataset("toy", "train", as_images(points / 3**0.5), labels, ("flat", "tall"))
    about = replace(STANDARD, architecture="pointnet2", augmentation="cloud", epochs=12)
    model, seconds = training.train(data, about, device=CPU, resume=False)
    assert training.accuracy(model, *data.batch(slice(None))) > 0.9
    training.save(model, data, data, about, seconds=seconds, device=CPU)
    options = models.card("toy", "pointnet2-standard")["options"]
    assert (options["mean"], options["deviation"]) == ([0.5] * 3, [0.5] * 3)
    images = data.batch(slice(None))[0]
    loaded, kept = models.load("toy", "pointnet2-standard"), models.restore("toy", "pointnet2-standard")
    torch.testing.assert_close(loaded(images), kept(images), rtol=1e-4, atol=1e-4)


# Recipes.


@pytest.mark.parametrize(("dataset", "name"), [(d, name) for d, known in training.RECIPES.items() for name in known])
def test_recipes_of_the_published_checkpoints(dataset, name):
    about = training.recipe(dataset, name)
    assert about.name == name
    assert about.architecture in models.ARCHITECTURES and about.training in models.TRAININGS
    if about.initial is not None:
        initial = training.recipe(dataset, about.initial)
        assert (initial.architecture, initial.width) == (about.architecture, about.width)


def test_every_architecture_has_its_twins():
    for architecture in models.ARCHITECTURES:
        dataset = "modelnet10" if architecture == "pointnet2" else "cifar10"
        standard, adversarial = (training.recipe(dataset, f"{architecture}-{t}") for t in ("standard", "adversarial"))
        assert standard.attack_steps == 0 < adversarial.attack_steps


def test_a_recipe_can_be_changed():
    about = training.recipe("photos", "resnet18-adversarial", epochs=1, width=8)
    assert (about.epochs, about.width) == (1, 8)
    assert about.attack_steps == training.recipe("photos", "resnet18-adversarial").attack_steps


@pytest.mark.parametrize(("dataset", "name"), [("mnist", "resnet18-standard"), ("photos", "resnet18-robust"), ("", "")])
def test_unknown_recipe(dataset, name, empty_folder):
    message = rf"no recipe for the model '{name}' on '{dataset}': .*photos: resnet18-standard, .*; cifar10: resnet18-st"
    with pytest.raises(ValueError, match=message):
        training.recipe(dataset, name)


def test_a_seed_that_no_measurement_takes_is_refused():
    for seed in (-1, 2**31):
        with pytest.raises(ValueError, match=rf"a seed is an integer from 0 to 2\^31 − 1; got {seed}"):
            training.recipe("photos", "resnet18-standard", seed=seed)


# Training.


def test_training_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    run(toy(), STANDARD, resume=False)
    assert torch.equal(torch.get_rng_state(), state)


@RECIPES
def test_training_learns_an_easy_task(about):
    data = toy(channels=3)
    model, seconds = training.train(data, replace(about, epochs=10), device=CPU)
    assert seconds > 0
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    images, labels = data.batch(slice(None))
    assert training.accuracy(model, images, labels) > 0.9
    normalized = model[0](images)
    torch.testing.assert_close(normalized.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(normalized.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-3)


@RECIPES
def test_the_same_recipe_gives_the_same_weights(about):
    data = toy()
    first = run(data, about, resume=False)
    torch.rand(3)
    assert same_weights(run(data, about, resume=False), first)
    assert not same_weights(run(data, replace(about, seed=1), resume=False), first)
    assert not training.STATES.exists(), "without resume no state is written"


@RECIPES
def test_interrupted_training_resumes_to_the_same_weights(about, monkeypatch, tmp_path):
    data, about = toy(), replace(about, epochs=3)
    uninterrupted = run(data, about, resume=False)
    save = training._save

    def save_and_stop(path, state):
        save(path, state)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(data, about)
    (path,) = training.STATES.rglob("*.pt")
    assert torch.load(path, weights_only=True)["epoch"] == 2
    epochs = []
    augment = training.augment
    monkeypatch.setattr(training, "augment", lambda *args, **kwargs: epochs.append(1) or augment(*args, **kwargs))
    assert same_weights(run(data, about), uninterrupted)
    assert len(epochs) == len(data) // about.batch_size, "only the third epoch was left to do"
    assert same_weights(run(data, about), uninterrupted)
    assert len(epochs) == len(data) // about.batch_size, "nothing was left to do"
    assert list(path.parent.iterdir()) == [path]


def test_the_rate_rises_for_a_quarter_and_falls_and_the_momentum_mirrors_it(monkeypatch):
    steps, step = [], torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self, *a: steps.append(dict(self.param_groups[0])) or step(self, *a)
    )
    about = replace(STANDARD, epochs=4)
    run(toy(), about, resume=False)
    top, turns = about.learning_rate, [0, 0.25 * 20 - 1, 19]
    np.testing.assert_allclose([of["lr"] for of in steps], np.interp(range(20), turns, [top / 25, top, top / 25e4]))
    np.testing.assert_allclose([of["momentum"] for of in steps], np.interp(range(20), turns, [0.95, 0.85, 0.95]))
    assert all(of["nesterov"] and of["weight_decay"] == about.weight_decay for of in steps)


def test_images_are_cropped_as_the_recipe_says(monkeypatch):
    paddings, augment = [], training.augment
    monkeypatch.setattr(training, "augment", lambda *a, **k: paddings.append(k["padding"]) or augment(*a, **k))
    run(toy(), replace(STANDARD, crop_padding=3), resume=False)
    assert set(paddings) == {3}


def test_an_interruption_while_a_state_is_written_leaves_the_last_one(monkeypatch):
    data = toy()
    save = torch.save

    def save_half(state, path):
        save(state, path)
        if state["epoch"] == 2:
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", save_half)
    with pytest.raises(KeyboardInterrupt):
        run(data, STANDARD)
    (path,) = (file for file in training.STATES.rglob("*") if file.is_file())
    assert torch.load(path, weights_only=True)["epoch"] == 1


def test_a_damaged_state_is_named():
    data = toy()
    run(data, STANDARD)
    (path,) = training.STATES.rglob("*.pt")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"the unfinished training .*\.pt is damaged: remove it"):
        run(data, STANDARD)


def test_a_state_of_other_code_is_named():
    data = toy()
    run(data, STANDARD)
    (path,) = training.STATES.rglob("*.pt")
    state = torch.load(path, weights_only=True)
    for wrong in ({**state, "model": {}}, {name: part for name, part in state.items() if name != "schedule"}):
        torch.save(wrong, path)
        with pytest.raises(ValueError, match=r"unfinished training .*\.pt is of other code than this .*: remove it"):
            run(data, STANDARD)


def test_a_changed_recipe_does_not_resume_from_another(monkeypatch):
    data = toy()
    run(data, STANDARD)
    changed = replace(STANDARD, learning_rate=0.01)
    assert same_weights(run(data, changed), run(data, changed, resume=False))


def test_other_data_of_the_same_name_do_not_resume():
    data = toy()
    run(data, STANDARD)
    for other in (replace(data, labels=1 - data.labels), replace(data, images=data.images.flip(-1))):
        assert same_weights(run(other, STANDARD), run(other, STANDARD, resume=False))


def test_training_can_start_from_a_checkpoint():
    """At a rate of almost 0 the weights, and the normalisation, stay those of the checkpoint."""
    data = toy()
    training.save(run(data, STANDARD, resume=False), data, toy(10, seed=1), STANDARD, seconds=0, device=CPU)
    about = replace(ADVERSARIAL, initial="resnet18-standard", epochs=1, learning_rate=1e-9)
    darker = replace(data, images=data.images // 2)
    model, initial = run(darker, about, resume=False), models.restore("toy", "resnet18-standard")
    for (name, trained), before in zip(model.named_parameters(), initial.parameters(), strict=True):
        torch.testing.assert_close(trained, before, rtol=0, atol=1e-6, msg=name)
    assert torch.equal(model[0].mean, initial[0].mean) and torch.equal(model[0].deviation, initial[0].deviation)
    with pytest.raises(ValueError, match="resnet18-standard is no network to start resnet18-adversarial from"):
        run(data, replace(about, width=16), resume=False)


def test_a_training_from_other_weights_does_not_resume():
    data, about = toy(), replace(ADVERSARIAL, initial="resnet18-standard")
    for seed in (0, 1):
        initial = run(data, replace(STANDARD, seed=seed), resume=False)
        for file in models.CHECKPOINTS.rglob("resnet18-standard.*"):
            file.unlink()
        training.save(initial, data, toy(10, seed=1), STANDARD, seconds=0, device=CPU)
        assert same_weights(run(data, about), run(data, about, resume=False)), seed


def test_another_seed_is_another_checkpoint_from_one_of_its_own():
    twin = training.recipe("cifar10", "resnet18-adversarial", seed=2)
    assert (twin.name, twin.initial) == ("resnet18-adversarial_seed2", "resnet18-standard_seed2")
    assert training.recipe("cifar10", "resnet18-standard", seed=2).name == twin.initial
    own = training.recipe("cifar10", "resnet18-adversarial", seed=2, initial="resnet18-standard")
    assert own.initial == "resnet18-standard"


def test_training_does_not_change_its_data():
    data = toy()
    images, labels = data.images.clone(), data.labels.clone()
    run(data, replace(ADVERSARIAL, epochs=1), resume=False)
    assert torch.equal(data.images, images) and torch.equal(data.labels, labels)


def test_half_precision_trains_too(monkeypatch):
    data, seen, forward = toy(), set(), torch.nn.Conv2d.forward

    def spied(layer, images):
        found = forward(layer, images)
        seen.add(found.dtype)
        return found

    monkeypatch.setattr(torch.nn.Conv2d, "forward", spied)
    model = run(data, replace(ADVERSARIAL, epochs=4, precision="bfloat16"), resume=False)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    monkeypatch.undo()
    assert training.accuracy(model, *data.batch(slice(None))) > 0.9


@pytest.mark.parametrize("steps", [2, 3])
def test_the_training_attack_stays_in_the_ball(steps, network, pictures):
    model, (images, labels) = network(), pictures(4)
    about = replace(ADVERSARIAL, attack_steps=steps, epsilon=0.06)
    adversarial = training.training_attack(model, images, labels, about, torch.Generator().manual_seed(0))
    assert (adversarial - images).abs().max() <= 0.06 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1 and not adversarial.requires_grad
    assert F.cross_entropy(model(adversarial), labels) > F.cross_entropy(model(images), labels)


def test_a_training_attack_of_several_steps_goes_one_and_a_half_epsilon_over_all(network, pictures, monkeypatch):
    """Towards ones everywhere, from −ε: two steps of ¾ ε, and three of ½ ε, end at ε/2."""
    model, (images, labels) = network(), pictures(4)
    images = 0.4 + 0.2 * images
    monkeypatch.setattr(attacks, "random_start", lambda images, *, epsilon, **_: images - epsilon)
    monkeypatch.setattr(attacks, "loss_gradient", lambda model, images, labels, loss: (torch.ones_like(images), None))
    for steps in (2, 3):
        about = replace(STANDARD, epsilon=0.06, attack_steps=steps)
        moved = training.training_attack(model, images, labels, about, torch.Generator()) - images
        torch.testing.assert_close(moved, torch.full_like(moved, 0.03), rtol=0, atol=1e-6)


def test_weights_decay_and_are_averaged():
    """A decay that outweighs the loss shrinks them; an average that hardly takes in new ones stays near the first."""

    def weights(**changes):
        trained = run(toy(), replace(STANDARD, **changes), resume=False)
        return torch.cat([each.flatten() for each in trained.parameters()])

    last, decayed, slow = weights(average=0.0), weights(average=0.0, weight_decay=5.0), weights(average=0.9999)
    assert decayed.norm() < 0.8 * last.norm()
    torch.manual_seed(STANDARD.seed)
    options = {"classes": 2, "mean": [0.0], "deviation": [1.0], "width": STANDARD.width}
    first = torch.cat([each.flatten() for each in models.build("resnet18", **options).parameters()])
    assert (slow - first).norm() < 0.2 * (last - first).norm()


def test_the_training_attack_starts_at_random_inside_the_ball(network, pictures, monkeypatch):
    """Where the loss has no slope, it stays where it starts."""
    model, (images, labels) = network(), pictures(4)
    monkeypatch.setattr(attacks, "loss_gradient", lambda model, images, labels, loss: (torch.zeros_like(images), None))
    about = replace(STANDARD, epsilon=0.06, attack_steps=2)
    start, other = (
        training.training_attack(model, images, labels, about, torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert 0.05 < (start - images).abs().max() <= 0.06 + 1e-6
    assert not torch.equal(start, other)


def test_one_step_goes_epsilon_from_noise_of_twice_epsilon(network, pictures):
    """N-FGSM: away from 0 and 1, a pixel moves by its noise, uniform in ±2ε, and then by ε or −ε: not clipped to ε."""
    model, (images, labels) = network(), pictures(40)
    images = 0.4 + 0.2 * images
    attacked = training.training_attack(
        model, images, labels, replace(FAST, epsilon=0.06), torch.Generator().manual_seed(0)
    )
    moved = attacked - images
    assert 0.17 < moved.abs().max() <= 0.18 + 1e-6
    assert moved.var().item() == pytest.approx(0.24**2 / 12 + 0.06**2, rel=0.1)
    assert F.cross_entropy(model(attacked), labels) > F.cross_entropy(model(images), labels)


def test_smoothed_training_sees_noise_of_its_deviation(monkeypatch):
    seen = []
    monkeypatch.setattr(training, "augment", lambda images, **_: seen.append(images) or images)
    noisy, build = [], models.build

    def watched(*arguments, **options):
        model = build(*arguments, **options)
        model.register_forward_pre_hook(lambda _, inputs: noisy.append(inputs[0]))
        return model

    monkeypatch.setattr(models, "build", watched)
    run(toy(200), replace(SMOOTHED, epochs=1), resume=False)
    noise = torch.cat([after - before for before, after in zip(seen, noisy, strict=True)])
    assert noise.std().item() == pytest.approx(0.1, rel=0.02) and abs(noise.mean().item()) < 0.005


def test_unknown_precision():
    with pytest.raises(ValueError, match="unknown precision 'float99': choose one of float32, bfloat16"):
        run(toy(), replace(STANDARD, precision="float99"), resume=False)


def test_an_empty_batch():
    with pytest.raises(ValueError, match="a batch has at least 1 image; got 0"):
        replace(STANDARD, batch_size=0)


@pytest.mark.parametrize(("images", "epochs"), [(4, 2), (8, 4)])
def test_too_few_batches(images, epochs, empty_folder):
    with pytest.raises(ValueError, match=r"at least 5 batches are needed"):
        run(toy(images), replace(STANDARD, epochs=epochs), resume=False)


def test_a_training_that_diverges_is_refused(empty_folder):
    with pytest.raises(ValueError, match=r"the training diverged in epoch 1: its loss is nan; lower learning_rate"):
        run(toy(40), replace(STANDARD, learning_rate=1e12), resume=False)


# Evaluation and checkpoints.


def test_accuracy_is_the_share_of_hits(network, pictures):
    model, (images, labels) = network(sharpness=5), pictures(11)
    hits = [model(image[None]).argmax().item() == label for image, label in zip(images, labels.tolist(), strict=True)]
    for batch_size in (1, 4, 500):
        assert training.accuracy(model, images, labels, batch_size=batch_size) == pytest.approx(sum(hits) / 11)
    assert training.accuracy(model, images, model(images).argmax(1)) == 1


def test_robust_accuracy(network, pictures):
    model, (images, _) = network(sharpness=5), pictures(11)
    labels = model(images).argmax(1)
    assert training.robust_accuracy(model, images, labels, epsilon=0.0, steps=1) == 1
    weak, strong = (training.robust_accuracy(model, images, labels, epsilon=e, steps=5) for e in (0.001, 0.5))
    assert strong < weak <= 1
    assert training.robust_accuracy(model, images, labels, steps=2) == training.robust_accuracy(
        model, images, labels, steps=2
    )


def test_robust_accuracy_is_that_of_pgd_from_a_random_start_of_its_seed(network, pictures, monkeypatch):
    model, (images, labels) = network(), pictures(3)
    asked = []
    monkeypatch.setattr(training, "pgd", lambda _, x, y, **how: asked.append(how) or x)
    for seed in (0, 1):
        training.robust_accuracy(model, images, labels, seed=seed)
    starts = [how.pop("generator").initial_seed() for how in asked]
    assert starts == [0, 1] and asked == [{"epsilon": 8 / 255, "step_size": 2 / 255, "steps": 20}] * 2


@pytest.fixture
def saved(monkeypatch):
    """A checkpoint of an adversarially trained model, measured on ten images, of which eight are attacked."""
    monkeypatch.setattr(training, "ATTACKED", 8)
    data, test = toy(), replace(toy(10, seed=1), split="test")
    model = run(data, ADVERSARIAL, resume=False)
    return model, test, training.save(model, data, test, ADVERSARIAL, seconds=12.3, device=CPU)


def test_a_saved_checkpoint_loads(saved):
    model, test, path = saved
    assert path == models.CHECKPOINTS / "toy" / "resnet18-adversarial.json"
    assert models.available() == ["toy/resnet18-adversarial"]
    loaded = models.restore("toy", "resnet18-adversarial")
    assert same_weights(loaded, model), "the model that was measured is the model that is stored"
    images, labels = test.shuffled(ADVERSARIAL.seed).batch(slice(None))
    card = json.loads(path.read_text())
    assert card["clean_accuracy"] == pytest.approx(training.accuracy(loaded, images, labels), abs=1e-4)
    robust = training.robust_accuracy(loaded, images[:8], labels[:8])
    assert card["pgd20_accuracy"] == pytest.approx(robust, abs=1e-4)
    assert "8 test images" in card["pgd20"]
    content = path.with_suffix(".safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert (card["training_images"], card["test_images"], card["training_seconds"]) == (40, 10, 12)
    assert training.Recipe(**card["recipe"]) == ADVERSARIAL
    assert (card["dataset"], card["architecture"], card["training"]) == ("toy", "resnet18", "adversarial")
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.with_suffix(".safetensors").name]


def test_larger_images_and_a_narrow_network():
    """In the layout of the small ones this ends the process: an error of oneDNN."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 48, 48), generator=generator).to(torch.uint8)
    data = Dataset("toy", "train", images, torch.arange(24) % 3, ("a", "b", "c"))
    model = run(data, replace(STANDARD, batch_size=12, epochs=3), resume=False)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_training_says_where_it_goes_on_and_when_it_is_too_short(capsys):
    data, about = toy(), replace(STANDARD, average=0.995)
    run(data, about)
    assert "10 batches are few: 95% of the average of the weights" in " ".join(capsys.readouterr().err.split())
    run(data, about)
    assert "goes on after epoch 2 of 2: to train anew, remove" in " ".join(capsys.readouterr().err.split())
    run(data, replace(STANDARD, epochs=1), resume=False)
    assert "batches" not in capsys.readouterr().err


def test_the_network_to_start_from_is_missing(empty_folder):
    with pytest.raises(
        ValueError, match=r"resnet18-adversarial starts from resnet18-standard on toy, .* train it first"
    ):
        training.check_new("toy", replace(ADVERSARIAL, initial="resnet18-standard"))
    with pytest.raises(ValueError, match="no model for the dataset 'toy'"):
        run(toy(), replace(ADVERSARIAL, initial="resnet18-standard"), resume=False)


@pytest.mark.parametrize("changes", [{"noise": -0.1}, {"noise": 0.1, "attack_steps": 2}])
def test_noise_goes_alone(changes):
    with pytest.raises(ValueError, match="noise is at least 0, and 0 where there are attacks; got"):
        replace(STANDARD, **changes)


def test_a_test_of_other_classes_is_refused(monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(ValueError, match="above, below for training and above, elsewhere for the test: both need the"):
        training.train_and_save(toy(), replace(toy(), classes=("above", "elsewhere")), STANDARD, device=CPU)


def test_published_networks_are_of_the_published_recipes():
    """But for the precision of the other seeds, which their cards tell."""
    for path in sorted((Path(training.__file__).parent.parent / "data" / "checkpoints").glob("*/*.json")):
        kept = json.loads(path.read_text())["recipe"]
        name, _, seed = path.stem.partition("_seed")
        about = asdict(training.recipe(path.parent.name, name, seed=int(seed or 0)))
        if seed:
            assert kept.pop("precision") == "float32" and about.pop("precision")
        assert {field: about[field] for field in kept} == kept, path


def test_where_nothing_can_be_written_nothing_is_trained(folders, monkeypatch):
    (folders / "states").touch()  # a file where a folder should be
    with pytest.raises(OSError, match=r"nothing can be written at .*states"):
        run(toy(), STANDARD)
    (folders / "checkpoints").mkdir()
    (folders / "checkpoints" / "toy").touch()
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(OSError, match=r"nothing can be written at .*resnet18-standard"):
        training.train_and_save(toy(), toy(), STANDARD, device=CPU)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_an_interruption_while_a_checkpoint_is_written_leaves_the_old_one(suffix, saved, monkeypatch):
    model, test, path = saved
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def half(file, content):
        with file.open("wb") as stream:
            stream.write(content[:100])
        if file.suffix == suffix:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        training.save(model, toy(), test, ADVERSARIAL, seconds=99, device=CPU)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_an_interruption_between_the_two_files_leaves_no_card_without_weights(monkeypatch):
    """A model is at hand where its card is: that comes last."""
    replace_one = Path.replace

    def once(file, target):
        monkeypatch.setattr(Path, "replace", interrupt)
        return replace_one(file, target)

    def interrupt(*_):
        raise KeyboardInterrupt

    data = toy()
    model = run(data, STANDARD, resume=False)
    monkeypatch.setattr(Path, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        training.save(model, data, toy(10, seed=1), STANDARD, seconds=0, device=CPU)
    assert models.available() == []


def test_saved_weights_are_the_trained_ones_in_half_precision():
    data = toy()
    model = run(data, STANDARD, resume=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    training.save(model, data, toy(10, seed=1), STANDARD, seconds=0, device=CPU)
    after = models.restore("toy", "resnet18-standard").state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-3, atol=1e-6)


def test_train_and_save():
    data = toy()
    path = training.train_and_save(data, toy(10, seed=1), replace(STANDARD, epochs=1), device=CPU)
    card = models.card("toy", "resnet18-standard")
    assert path.exists() and card["recipe"]["epochs"] == 1 and card["training"] == "standard"
    assert models.restore("toy", "resnet18-standard")(torch.rand(1, 1, 8, 8)).shape == (1, 2)
    weights = path.with_suffix(".safetensors").read_bytes()
    assert not list(training.STATES.rglob("*.pt")), "weights that are moved away are trained anew"
    for epochs in (1, 2):
        with pytest.raises(ValueError, match=r"resnet18-standard is trained already, .* move its two files away"):
            training.train_and_save(data, toy(10, seed=1), replace(STANDARD, epochs=epochs), device=CPU)
    assert path.with_suffix(".safetensors").read_bytes() == weights
