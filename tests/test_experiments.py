"""The experiment from dataset to labelled result, on a tiny model: resumed, batched, costed, and refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import (
    contexts,
    datasets,
    defense_experiments,
    designs,
    disentanglement,
    estimators,
    experiments,
    game,
    models,
    players,
    results,
    sampling,
    singles,
    training,
)
from lib.attacks import pgd

CPU = torch.device("cpu")
ASKED = experiments.OrderCurves(
    dataset="tiny",
    model="resnet18-standard",
    attacks=("untargeted 0.5", "targeted 0.5"),
    images=12,
    design="four_point",
    replicates=6,
    fractions=(0.0, 0.5, 1.0),
    grid=4,
    steps=5,
)


def test_result_is_labelled_and_costs_what_it_says(tiny):
    found = experiments.order_curves(ASKED, device=CPU)
    assert dict(found.sizes) == {"variant": 3, "attack": 2, "image": 12, "order": 3}
    assert found.order.values.tolist() == [0, 7, 14]
    assert found.attrs["passes"] == 4 * 6 * 3 * 3 * 12  # corners, replicates, orders, variants, images
    for attack in ASKED.attacks:
        change = found.interaction.sel(variant="normal") - found.interaction.sel(variant=attack)
        assert np.allclose(found.difference.sel(attack=attack), change, atol=1e-6)
    assert found.attrs["command"].startswith("python -m lib interactions --dataset tiny")


def test_any_attack_is_made_where_memory_holds_few_images(tiny, anew, memory_for):
    names = ("untargeted 0.5", "targeted 0.5", "steps 2", "epsilon 4", "spatial 0.5", "transferred 0.5", "apgd 0.5")
    asked = replace(ASKED, attacks=names, source=ASKED.model, steps=2)
    whole = anew(experiments.order_curves, asked, device=CPU)
    memory_for(7)
    halved = anew(experiments.order_curves, asked, device=CPU)
    assert halved.image.equals(whole.image)
    assert np.allclose(halved.utility, whole.utility, atol=1e-4)
    assert np.allclose(halved.interaction, whole.interaction, atol=1e-5)


def test_interrupted_run_resumes_without_measuring_again(tiny, monkeypatch):
    whole = experiments.order_curves(ASKED, device=CPU)
    calls = []
    measure = experiments.measure
    monkeypatch.setattr(experiments, "measure", lambda *a, **k: calls.append(1) or measure(*a, **k))
    again = experiments.order_curves(ASKED, device=CPU)
    assert not calls and again.interaction.equals(whole.interaction)
    other = experiments.order_curves(replace(ASKED, seed=1), device=CPU)
    assert len(calls) == 2 and not other.interaction.equals(whole.interaction)


def test_blocks_of_another_size_are_not_mixed(tiny, monkeypatch):
    whole = experiments.order_curves(ASKED, device=CPU)
    monkeypatch.setitem(results.AT_ONCE, "cpu", 5)
    again = experiments.order_curves(ASKED, device=CPU)
    assert again.image.values.tolist() == whole.image.values.tolist()
    assert np.allclose(again.interaction, whole.interaction, atol=1e-4)


def test_batch_size_and_company_change_no_number(tiny, anew):
    one, many = (anew(experiments.order_curves, ASKED, device=CPU, batch_size=b) for b in (7, 512))
    assert np.allclose(one.interaction, many.interaction, atol=1e-4)
    few = experiments.order_curves(replace(ASKED, images=4), device=CPU)
    assert np.allclose(few.interaction, many.interaction.isel(image=slice(4)), atol=1e-4)


def test_epsilon_zero_changes_nothing_at_all(tiny):
    found = experiments.order_curves(replace(ASKED, epsilon=0.0), device=CPU)
    assert np.all(found.difference == 0) and not found.reached.any() and np.all(found.utility == 0)


def test_every_image_has_its_own_blur_whatever_its_block(tiny, monkeypatch):
    asked = replace(ASKED, baseline="blur", images=5)
    together = experiments.order_curves(asked, device=CPU)
    monkeypatch.setitem(results.AT_ONCE, "cpu", 2)
    apart = experiments.order_curves(asked, device=CPU)
    assert np.allclose(apart.interaction, together.interaction, atol=1e-4)


def test_whatever_is_asked_is_handed_on(tiny, monkeypatch):
    """To the attacks and to the measurement, each keyword with what is asked and not with its default."""
    asked = replace(
        ASKED,
        attacks=("masked 0.002", "transferred 0.002"),
        epsilon=0.2,
        step_size=0.01,
        steps=3,
        images=4,
        grid=8,
        baseline="zero",
        value="logit",
        source="resnet18-adversarial",
        seed=5,
        sampling="uniform",
        replicates=17,
        errors=(1.0, 2.0, 3.0),
    )
    given, load = {}, models.load
    trained = {name: load("tiny", "resnet18-standard") for name in ("resnet18-standard", "resnet18-adversarial")}
    monkeypatch.setattr(models, "load", lambda dataset, name, **_: trained[name])
    for name in ("perturbed", "measure"):
        function = getattr(experiments, name)
        monkeypatch.setattr(
            experiments, name, lambda *a, f=function, n=name, **k: (given.update({n: k}), f(*a, **k))[1]
        )
    experiments.order_curves(asked, device=CPU, batch_size=7)
    rows, hidden = (given["measure"].pop(name) for name in ("rows", "baseline"))
    assert len(rows) == 4 and not hidden.any()
    assert given["measure"] == {
        "orders": [0, 31, 62],
        "replicates": 17,
        "errors": (1.0, 2.0, 3.0),
        "sampling": "uniform",
        "design": "four_point",
        "group": None,
        "grid": 8,
        "value": "logit",
        "seed": 5,
        "batch_size": 7,
    }
    assert given["perturbed"].pop("rows") == rows and not given["perturbed"].pop("baseline").any()
    assert given["perturbed"].pop("source") is trained["resnet18-adversarial"]
    assert given["perturbed"] == {"epsilon": 0.2, "step_size": 0.01, "steps": 3, "grid": 8, "seed": 5}


def test_a_value_of_ones_own_and_rows_that_do_not_name_the_images(tiny):
    model, (images, labels) = models.load("tiny", "resnet18-standard"), tiny.batch(slice(0, 3))
    asked = {"baseline": images.mean(0), "orders": [7], "replicates": 2, "grid": 4, "rows": [0, 1, 2]}
    named = experiments.measure(model, images, labels, value="logit", **asked)
    own = experiments.measure(model, images, labels, value=game.logit, **asked)
    assert torch.equal(own.replicates, named.replicates)
    for rows in ([4, -2, 1], [0.5, 1.0, 2.0], [True, True, True], torch.ones(3, dtype=torch.bool)):
        message = rf"rows name the images by whole numbers from 0 up, .*; got {re.escape(str(rows))} for 3 images"
        with pytest.raises(ValueError, match=message):
            experiments.measure(model, images, labels, **{**asked, "rows": rows})
    as_tensor = {**asked, "rows": torch.tensor(asked["rows"])}
    assert torch.equal(
        experiments.measure(model, images, labels, value="logit", **as_tensor).replicates, named.replicates
    )
    for few in (images[:0], images[:2]):
        told = rf"at least one; got \[0, 1, 2\] for {len(few)} images"
        message = rf"rows name the images by whole numbers from 0 up, {told}"
        with pytest.raises(ValueError, match=message):
            experiments.measure(model, few, labels[: len(few)], **asked)
    with pytest.raises(
        ValueError, match=r"images must be \(I, C, H, W\), or \(V, I, C, H, W\) for V variants; got \(1, 16"
    ):
        experiments.measure(model, images[0], labels[:1], **asked)


def test_images_are_chosen_by_the_seed_among_the_correct_ones(tiny):
    model = models.load("tiny", "resnet18-standard")
    rows, images, labels = experiments.correct_images(model, tiny, 10, seed=0)
    assert torch.equal(model(images).argmax(1), labels) and len(rows.unique()) == 10
    assert torch.equal(rows[:4], experiments.correct_images(model, tiny, 4, seed=0)[0])

    class Rule(torch.nn.Module):
        def forward(self, images):
            return torch.eye(3)[tiny.labels[rows[:1]]].expand(len(images), -1)

    alike, *_ = experiments.correct_images(Rule().eval(), tiny, 3, seed=0)
    assert (tiny.labels[alike] == tiny.labels[rows[0]]).all(), "a model without parameters is one, too"
    with pytest.raises(ValueError, match="1000 images were asked for; the model classifies"):
        experiments.correct_images(model, tiny, 1000, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "mnist"}, "no model for the dataset 'mnist': choose one of tiny, imagenet"),
        ({"model": "vgg"}, "unknown model 'vgg' for the dataset 'tiny': choose one of resnet18-standard"),
        (
            {"attacks": ("sideways 8",)},
            "unknown attack 'sideways 8': write one of untargeted, .*shuffled.* and a finite number",
        ),
        ({"attacks": ("untargeted",)}, "unknown attack 'untargeted'"),
        ({"epsilon": -0.1}, "epsilon must be at least 0"),
        ({"epsilon": 8}, "epsilon must be .* at most 1"),
        ({"steps": -1}, "steps an integer of at least 0"),
        ({"fractions": (0.5, 1.2)}, r"fraction of n−2 in \[0, 1\]; got 1.2"),
        ({"grid": 5}, "a grid of 5×5 players does not divide an image of 16×16 pixels"),
        ({"grid": -4}, "a grid has at least one player along a side; got -4"),
        ({"replicates": 1}, "at least 2 replicates are needed for an error, a whole number of them; got 1"),
        ({"errors": (0.1,)}, r"errors must be positive, one for each of 3 orders; got \[0.1\]"),
        ({"design": "curvature"}, "the design 'curvature' is not for neighbours pairs"),
        ({"design": "signed_groups"}, r"signed groups of 16 players reach orders in 1\.\.13; got 0"),
        ({"design": "star"}, "unknown design 'star': choose one of four_point, signed_groups, curvature"),
        ({"sampling": "stars"}, "unknown pair sampling 'stars'"),
        ({"baseline": "grey"}, "unknown baseline 'grey': choose one of mean, zero, noise, blur"),
        ({"attacks": ("shuffled",)}, "unknown attack 'shuffled'"),
        ({"attacks": ("l2 x",)}, "unknown attack 'l2 x'"),
        ({"attacks": ("transferred 8",), "source": "vgg"}, "unknown model 'vgg' for the dataset 'tiny'"),
        ({"source": "vgg"}, "the source 'vgg' is of the attack 'transferred U' alone, which is not asked for"),
        ({"value": "loss"}, "unknown value 'loss'"),
        ({"attacks": ()}, r"attacks are a list of at least one, .*; got \(\)"),
        ({"attacks": "untargeted 8"}, "attacks are a list of at least one, .*; got 'untargeted 8'"),
        ({"attacks": ("untargeted 1", "untargeted 1")}, "each attack is measured once; got untargeted 1, untargeted 1"),
        ({"attacks": ("untargeted 1", "untargeted 1.0")}, "each attack is measured once; got untargeted 1, untargeted"),
        ({"attacks": ("untargeted inf",)}, "unknown attack 'untargeted inf': .* and a finite number above 0"),
        ({"attacks": ("epsilon 256",)}, "unknown attack 'epsilon 256': .* of 'epsilon' 255ths up to 255"),
        ({"attacks": ("steps 1.5",)}, "unknown attack 'steps 1.5': .* of 'steps' a whole number of them"),
        ({"seed": -1}, "a seed is an integer from 0 to 2"),
        (
            {"grid": 1, "fractions": (0.5,), "design": "signed_groups"},
            "an interaction is of two players at least; there are 1",
        ),
    ],
)
def test_wrong_input_gives_one_clear_error_and_writes_nothing(tiny, changes, message, monkeypatch):
    monkeypatch.setattr(experiments, "calibrated_pgd", lambda *_, **__: pytest.fail("attacked before"))
    if not changes.keys() & {"seed", "baseline"}:  # which choose the images, and may need them
        monkeypatch.setattr(experiments, "correct_images", lambda *_, **__: pytest.fail("classified before"))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        experiments.order_curves(replace(ASKED, **changes), device=CPU)
    assert not results.WORK.exists() or not list(results.WORK.rglob("*.nc*"))


def test_the_greatest_epsilon_is_an_attack():
    assert experiments.attack_goal("epsilon 255") == ("epsilon", 255.0)


@pytest.mark.parametrize("what", ["disentanglement", "contexts"])
def test_orders_are_refused_before_any_image_is_classified(what, tiny, monkeypatch):
    monkeypatch.setattr(experiments, "correct_images", lambda *_, **__: pytest.fail("classified before"))
    measure, question, quick = MEASUREMENTS[what]
    with pytest.raises(ValueError, match=r"given as a fraction of n−2 in \[0, 1\]; got 2"):
        measure(question(dataset="tiny", **quick | {"fractions": (2.0,)}), device=CPU)


def test_published_results_come_from_the_checkpoints_at_hand():
    """Each published file names a command, and a model whose card exists."""
    files = sorted(results.PUBLISHED.rglob("*.nc"))
    assert files
    for path in files:
        found = results.read(path)
        kind = re.match(r"python -m lib (\w+) ", found.attrs["command"])[1]
        assert kind in ("interactions", "disentanglement", "defenses", "contexts", "singles", "robustness")
        assert found.attrs["model"] in found.attrs["command"] and models.card(
            found.attrs["dataset"], found.attrs["model"]
        )
        assert found.sizes["image"] >= 100


def test_steps_are_pgd_wherever_it_leads(tiny):
    model, (images, labels) = models.load("tiny", "resnet18-standard"), tiny.batch(slice(0, 9))
    played = []
    counting = model.register_forward_hook(lambda _, inputs, logits: played.append(len(logits)))
    found = experiments.attack(model, images, labels, "steps 3", epsilon=0.1, step_size=0.02)
    counting.remove()
    assert sum(played) == 9 * (3 + 2)  # the steps, and both images for the utility
    expected = pgd(model, images, labels, epsilon=0.1, step_size=0.02, steps=3)
    assert torch.equal(found.images, expected) and found.reached.all()
    drop = (model(images) - model(expected)).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(found.utility, drop)
    assert torch.equal(found.classes, model(expected).argmax(1)) and (found.steps == 3).all()


def test_the_untargeted_attack_is_made_once_for_the_targeted_one(tiny, monkeypatch):
    model, (images, labels) = models.load("tiny", "resnet18-standard"), tiny.batch(slice(0, 9))
    alone, made = experiments.attack(model, images, labels, "targeted 0.5"), []
    calibrated = experiments.calibrated_pgd
    monkeypatch.setattr(experiments, "calibrated_pgd", lambda *a, **k: made.append(k) or calibrated(*a, **k))
    names = ["targeted 0.5", "untargeted 0.5"]
    rest = {"rows": list(range(9)), "baseline": images[0], "source": model}
    found, *_ = experiments.perturbed(model, images, labels, names, **rest)
    assert torch.equal(found.images, alone.images) and torch.equal(found.classes, alone.classes)
    assert ["targets" in each for each in made] == [False, True]


def test_epsilon_is_pgd_inside_that_ball(tiny):
    model, (images, labels) = models.load("tiny", "resnet18-standard"), tiny.batch(slice(0, 4))
    found = experiments.attack(model, images, labels, "epsilon 4", epsilon=0.9)
    assert torch.equal(found.images, pgd(model, images, labels, epsilon=4 / 255, step_size=0.5 / 255, steps=20))
    assert found.reached.all()


def test_baselines_by_name(tiny):
    images, _ = tiny.batch(slice(0, 3))
    torch.testing.assert_close(experiments.baseline("mean", tiny), (tiny.images.double() / 255).mean(0).float())
    assert not experiments.baseline("zero", tiny).any()
    noise = experiments.baseline("noise", tiny)
    assert noise.shape == (1, 16, 16) and torch.equal(noise, experiments.baseline("noise", tiny))
    assert noise.std() == pytest.approx(12**-0.5, abs=0.03)
    blurred = experiments.baseline("blur", tiny, images)
    assert blurred.shape == images.shape and blurred.std() < images.std() / 3
    torch.testing.assert_close(blurred.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=0.05)
    for side in (8, 16, 96, 128):  # where a convolution of ones gives a little more than 1
        assert experiments.baseline("blur", tiny, torch.ones(1, 3, side, side)).max() <= 1
    with pytest.raises(ValueError, match="unknown baseline 'blur': choose one of mean, zero, noise"):
        experiments.baseline("blur", tiny)


@pytest.mark.parametrize("name", ["steps 2.5", "steps 0", "steps", "step 3", "epsilon 0", "untargeted nan"])
def test_unknown_attacks(tiny, name):
    with pytest.raises(
        ValueError,
        match=r"unknown attack .*write one of untargeted, targeted, steps, epsilon and a finite number above 0",
    ):
        experiments.attack(models.load("tiny", "resnet18-standard"), *tiny.batch(slice(0, 2)), name)


def test_the_attacked_category_is_the_target_of_the_first_attack(tiny, monkeypatch):
    """With an attack that aims at the next class, v is that of the next class: the same as with such labels."""
    asked = replace(ASKED, category="attacked", attacks=("steps 2", "steps 3"), images=3)
    attack = experiments.attack

    def at_the_next_class(model, images, labels, name, **options):
        aim = labels + 1 if name == "steps 2" else labels + 2
        return replace(attack(model, images, labels, name, **options), targets=aim % 3)

    monkeypatch.setattr(experiments, "attack", at_the_next_class)
    found = experiments.order_curves(asked, device=CPU)
    network, (images, _) = models.load("tiny", "resnet18-standard"), tiny.batch(torch.tensor(found.image.values))
    alone = experiments.measure(
        network,
        images[None],
        torch.tensor((found.label.values + 1) % 3).long(),
        baseline=experiments.baseline("mean", tiny),
        orders=[0, 7, 14],
        rows=found.image.values.tolist(),
        replicates=6,
        design="four_point",
        grid=4,
    )
    assert np.allclose(found.interaction.sel(variant="normal"), alone.mean()[0], atol=1e-5)
    assert np.array_equal(found.category, (found.label + 1) % 3)
    truth = experiments.order_curves(replace(asked, category="truth"), device=CPU)
    assert not np.allclose(found.interaction, truth.interaction, atol=1e-3)


def test_a_targeted_attack_that_fails_has_its_target_for_a_category_all_the_same(tiny):
    """An attack of no steps leaves every image its class: v is that of the strongest wrong one, never the truth."""
    asked = replace(ASKED, category="attacked", attacks=("targeted 0.1",), steps=0, images=3)
    found = experiments.order_curves(asked, device=CPU)
    assert (found.class_after == found.label).all() and (found.category != found.label).all()
    model, (images, _) = models.load("tiny", "resnet18-standard"), tiny.batch(torch.tensor(found.image.values))
    assert np.array_equal(found.category, model(images).topk(2).indices[:, 1])


MEASUREMENTS = {
    "singles": (singles.players_alone, singles.Singles, {"grid": 4}),
    "disentanglement": (
        disentanglement.disentanglement,
        disentanglement.Disentanglement,
        {"fractions": (0.5,), "grid": 4},
    ),
    "contexts": (contexts.localities, contexts.Contexts, {"grid": 4, "pairs": 2}),
    "defenses": (defense_experiments.defenses, defense_experiments.Defenses, {"games": 2}),
}
"""Each measurement but that of orders: the function, what it is asked, and settings that are quick."""


def sharpen(model, factor):
    """Multiply the logits, by the weights and biases of the last layer."""
    with torch.no_grad():
        for last in [*model.parameters()][-2:]:
            last.mul_(factor)


CURVES = (experiments.order_curves, experiments.OrderCurves, {"fractions": (0.5,), "grid": 4, "replicates": 2})


@pytest.mark.parametrize("what", ["interactions", *MEASUREMENTS])
def test_other_images_or_weights_are_measured_anew(what, tiny, monkeypatch):
    """Blocks of an earlier run are those of the same images and of the same network, whatever their names."""
    measure, question, quick = {"interactions": CURVES, **MEASUREMENTS}[what]
    asked = question(dataset="tiny", images=2, **quick)
    written, write, load = [], results.write, models.load
    monkeypatch.setattr(results, "write", lambda data, path: written.append(path) or write(data, path))

    def blocks_measured():
        written.clear()
        measure(asked, device=CPU)
        return len(written)

    def sharper(*names, **options):
        model = load(*names, **options)
        sharpen(model, 1.5)
        return model

    first = blocks_measured()
    assert first == (2 if what == "defenses" else 1) and blocks_measured() == 0
    other = tiny.images.clone()
    other[:, 0, 0, 0] ^= 1  # the least that an image can change
    monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root: replace(tiny, images=other))
    assert blocks_measured() == first and blocks_measured() == 0
    monkeypatch.setattr(models, "load", sharper)
    assert blocks_measured() == first and blocks_measured() == 0


def test_another_source_is_measured_anew(tiny, monkeypatch):
    asked = replace(ASKED, attacks=("transferred 0.002",), source="resnet18-adversarial", images=2)
    load, sharpness = models.load, {"resnet18-adversarial": 1.0}

    def twin(dataset, name, **options):
        model = load(dataset, ASKED.model, **options)
        sharpen(model, sharpness.get(name, 1.0))
        return model

    monkeypatch.setattr(models, "load", twin)
    experiments.order_curves(asked, device=CPU)
    sharpness["resnet18-adversarial"] = 1.5
    monkeypatch.setattr(experiments, "perturbed", lambda *_, **__: pytest.fail("anew"))
    with pytest.raises(pytest.fail.Exception, match="anew"):
        experiments.order_curves(asked, device=CPU)


@pytest.mark.parametrize("what", MEASUREMENTS)
def test_the_command_names_the_folder_of_the_images(what, tiny, tmp_path):
    """Also where the blocks are of a run on another folder with the same images."""
    measure, question, quick = MEASUREMENTS[what]
    asked = question(dataset="tiny", images=2, **quick)
    for root in (tmp_path / "a", tmp_path / "b", None):
        found = measure(asked, device=CPU, root=root)
        for each in found.values() if isinstance(found, dict) else [found]:
            assert each.attrs["command"] == asked.command() + (f" --root {root}" if root else "")


def test_the_command_names_a_folder_in_the_home_folder_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = experiments.OrderCurves()
    assert results.command(asked, "~/images") == results.command(asked, tmp_path / "images")


CLOUDS = experiments.OrderCurves(
    dataset="shapes",
    model="pointnet2-standard",
    attacks=("untargeted 0.05",),
    epsilon=0.05,
    step_size=0.005,
    images=3,
    design="four_point",
    replicates=4,
    fractions=(0.0, 0.5, 1.0),
    steps=5,
)


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """Ten point clouds and a PointNet++ of their own, for the length of a test."""
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    clouds = datasets.as_images(torch.rand(10, 64, 3, generator=torch.Generator().manual_seed(0)) - 0.5)
    torch.manual_seed(0)
    network = models.build("pointnet2", classes=3, mean=[0.5] * 3, deviation=[0.5] * 3, width=4)
    network(clouds)
    labels = models.freeze(network)(clouds).argmax(1)
    data = datasets.Dataset("shapes", "test", clouds, labels, ("a", "b", "c"))
    about = training.Recipe(architecture="pointnet2", width=4)
    training.save(network, data, data, about, seconds=0.0, device=CPU)
    monkeypatch.setitem(datasets.LOADERS, "shapes", lambda split, root: data)
    return data


def test_point_clouds_play_with_32_regions_of_their_own(shapes):
    """The whole experiment; and I^(m) of each cloud is that of a game with its own players, by hand."""
    found = experiments.order_curves(CLOUDS, device=CPU)
    assert dict(found.sizes) == {"variant": 2, "attack": 1, "image": 3, "order": 3}
    assert found.attrs["players"] == 32 and found.order.values.tolist() == [0, 15, 30]
    assert found.attrs["passes"] == 4 * 4 * 3 * 2 * 3  # corners, replicates, orders, variants, clouds
    model = models.load("shapes", "pointnet2-standard")
    for number, row in enumerate(found.image.values.tolist()):
        of = players.regions(shapes.images[row])
        played = game.MaskingGame(
            model, of, shapes.images[[row]], shapes.labels[[row]], baseline=torch.full((3, 64, 1), 0.5)
        )
        drawing = designs.four_point(of, sampling="neighbours")
        alone = estimators.order_means(played, drawing, orders=[0, 15, 30], replicates=4, seeds=[(0, row)])
        assert np.allclose(found.interaction.sel(variant="normal")[number], alone.mean()[0], atol=1e-5)


def test_pairs_of_a_cloud_are_its_own_neighbours(shapes, monkeypatch):
    """What is played differs, over the four corners, in pairs of the cloud's own list alone."""
    drawn, four_point = [], designs.four_point

    def spied(of, *, sampling):
        draw = four_point(of, sampling=sampling)

        def spy(order, count, generator):
            corners, scale = draw(order, count, generator)
            ends = torch.stack([corners[:, 0] ^ corners[:, 2], corners[:, 0] ^ corners[:, 1]], 1).int().argmax(2)
            drawn.append((of, {tuple(sorted(pair)) for pair in ends.tolist()}))
            return corners, scale

        return spy

    monkeypatch.setattr(designs, "four_point", spied)
    experiments.order_curves(replace(CLOUDS, replicates=40, fractions=(0.5,)), device=CPU)
    drawn = drawn[2:]  # the first ask whether the order is in reach: before the attacks, and before it is played
    assert len(drawn) == 3
    own = [set(map(tuple, of.neighbours.tolist())) for of, _ in drawn]
    assert own[0] != own[1] and all(pairs <= mine for (_, pairs), mine in zip(drawn, own, strict=True))


def test_what_does_not_fit_clouds_is_refused_before_any_attack(shapes, monkeypatch):
    monkeypatch.setattr(experiments, "perturbed", lambda *_, **__: pytest.fail("attacked before"))
    with pytest.raises(ValueError, match="unknown design 'stars'"):
        experiments.order_curves(replace(CLOUDS, design="stars"), device=CPU)
    with pytest.raises(ValueError, match="players are 32 regions: leave grid out"):
        experiments.order_curves(replace(CLOUDS, grid=4), device=CPU)


@pytest.mark.parametrize("what", sorted(MEASUREMENTS.keys() - {"disentanglement"}))
def test_what_is_measured_on_images_refuses_clouds(what, shapes):
    measure, question, quick = MEASUREMENTS[what]
    with pytest.raises(ValueError, match="measured on images, whose cells are the players; shapes has point clouds"):
        measure(question(dataset="shapes", model="pointnet2-standard", images=3, **quick), device=CPU)


@pytest.mark.parametrize("how", ["neighbours", "uniform"])
def test_disentanglement_of_clouds_is_of_their_own_regions(how, shapes):
    """D^(m) of each cloud is that of a game with its own players, by hand; pairs are of its own list."""
    asked = disentanglement.Disentanglement(
        dataset="shapes", model="pointnet2-standard", sampling=how, images=3, pairs=2, contexts=4, fractions=(0.2, 0.8)
    )
    found = disentanglement.disentanglement(asked, device=CPU)
    assert found.attrs["players"] == 32 and found.order.values.tolist() == [6, 24]
    model = models.load("shapes", "pointnet2-standard")
    for number, row in enumerate(found.image.values.tolist()):
        of = players.regions(shapes.images[row])
        played = game.MaskingGame(
            model, of, shapes.images[[row]], shapes.labels[[row]], baseline=torch.full((3, 64, 1), 0.5)
        )
        draw = sampling.generator(0, row)
        pairs = sampling.pairs(of, 2, sampling=how, generator=draw)[None]
        alone = estimators.shared_contexts(
            played, n=32, pairs=pairs, orders=[6, 24], contexts=4, generators=[draw]
        ).disentanglement(estimate="upper")
        assert np.allclose(found.disentanglement.sel(estimate="upper")[number], alone[0], atol=1e-3)
    with pytest.raises(ValueError, match="players are 32 regions: leave grid out"):
        disentanglement.disentanglement(replace(asked, grid=4), device=CPU)


@pytest.mark.parametrize(
    ("how", "design", "group"), [("neighbours", "signed_groups", designs.SIGNED_PAIRS), ("uniform", "curvature", None)]
)
def test_a_specification_without_a_design_is_one_with_the_default(how, design, group):
    """So that its result has the same name, and can be renewed."""
    asked = experiments.OrderCurves(sampling=how)
    assert asked.command() == replace(asked, design=design, group=group).command()
    lists = replace(asked, attacks=list(asked.attacks), fractions=list(asked.fractions))
    assert lists.command() == asked.command()
    assert f"--design {design} " in asked.command() and ("--group 12 " in asked.command()) == (how == "neighbours")


def test_clouds_are_measured_to_a_wanted_error_together(shapes):
    wanted = replace(CLOUDS, replicates=60, errors=(1e-3, 1e-3, 1e-3))
    found = experiments.order_curves(wanted, device=CPU)
    assert found.interaction.notnull().all() and found.replicates.min() >= estimators.PILOT
    assert (found.replicates == found.replicates[0]).all()


@pytest.mark.parametrize("name", ["mean", "zero"])
def test_masked_points_go_to_the_origin(name, shapes):
    assert torch.equal(experiments.baseline(name, shapes), torch.full((3, 64, 1), 0.5))


def test_an_unknown_category(tiny):
    with pytest.raises(ValueError, match="unknown category 'cat': choose 'truth' or 'attacked'"):
        experiments.order_curves(replace(ASKED, category="cat"), device=CPU)


def test_a_baseline_of_each_image_does_not_go_with_the_masked_control(tiny):
    asked = experiments.OrderCurves(dataset="tiny", attacks=("masked 0.002",), images=2, baseline="blur")
    with pytest.raises(ValueError, match="'masked' averages over one masked value: it does not go with the baseline"):
        experiments.order_curves(asked, device=CPU)
