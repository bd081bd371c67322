"""The parts of §4.3 against what they are made of, and the two measurements as a whole: costed, resumed, refused."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from lib import (
    datasets,
    defenses,
    detection,
    experiments,
    game,
    models,
    players,
    results,
    sampling,
    spectrum,
)
from lib import defense_experiments as parts
from lib.command_line import app

CPU = torch.device("cpu")
ROWS = [3, 8, 5, 20]
ASKED = parts.Defenses(
    dataset="tiny", attack="untargeted 0.5", images=5, games=3, draws=2, replicates=2, contexts=2, seed=1
)


@pytest.fixture
def model(network):
    return network(1, sharpness=5.0)


@pytest.fixture
def pair(model, pictures):
    """Normal and changed images (2, 4, 1, 8, 8) with the classes of the normal ones."""
    images, _ = pictures(4)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    return torch.stack([images, (images + 0.4 * noise).clamp(0, 1)]), parts.predicted(model, images)


BASELINE = torch.full((1, 8, 8), 0.5)


# The parts.


def test_corrections_are_the_shares_that_each_defence_leaves_right(model, pair):
    variants, labels = pair
    found = parts.corrections(
        model, variants, labels, baseline=BASELINE, draws=3, rows=ROWS, seed=2, rates=(0.0, 0.25, 0.5)
    )
    assert found.defense.values.tolist() == ["cutout", "dropout 0", "dropout 0.25", "dropout 0.5"]
    assert (found.corrected.sel(defense="dropout 0", subject="normal") == 1).all()
    generators = sampling.generators(2, ROWS)
    way = partial(defenses.dropout, rate=0.5)
    by_hand = torch.stack([model(way(variants[1], generators)).argmax(1) == labels for _ in range(3)]).float().mean(0)
    assert np.allclose(found.corrected.sel(defense="dropout 0.5", subject="adversarial"), by_hand)


def test_recoveries_are_the_distances_of_recover(model, pair):
    (images, adversarial), labels = pair
    found = parts.recoveries(model, images, adversarial, labels)
    recovered = defenses.recover(model, adversarial, labels)
    assert np.allclose(found.adversarial_distance, [change.norm() for change in adversarial - images])
    assert np.allclose(found.recovered_distance, [change.norm() for change in recovered - images])
    assert np.array_equal(found.returned, model(recovered).argmax(1) == labels)


def test_the_attacks_are_those_of_the_tables(model, pair, monkeypatch):
    (images, _), labels = pair
    asked = []
    monkeypatch.setattr(parts, "pgd", lambda _, images, labels, **how: asked.append(how) or images)
    assert parts.both_attacks(model, images, labels).keys() == {parts.FULL, parts.STOPPED}
    assert asked == [
        {"epsilon": 16 / 255, "step_size": 2 / 255, "steps": 10},
        {"epsilon": 32 / 255, "step_size": 2 / 255, "steps": 100, "early_stop": True},
    ]


def test_transforms_are_what_their_names_say(pair):
    (images, _), _ = pair
    make = partial(parts.transformed, images, rows=ROWS, seed=0)
    assert torch.equal(make("none"), images)
    assert torch.equal(make("rank 1/4"), spectrum.reduce_rank(images, 2))
    assert torch.equal(make("dropout 0.3"), defenses.dropout(images, sampling.generators(0, ROWS), rate=0.3))


def test_interactions_of_an_untransformed_image_are_its_own(model, pair):
    variants, labels = pair
    asked = {"baseline": BASELINE, "replicates": 4, "rows": ROWS, "seed": 0, "grid": 8}
    found = parts.interactions_of_transformed(
        model, variants, labels, **asked, fractions=(0.2, 0.8), transforms=("none", "rank 1/4")
    )
    alone = experiments.measure(model, variants, labels, orders=found.order.values.tolist(), **asked)
    assert np.allclose(found.transformed.sel(transform="none"), alone.mean(), atol=1e-5)
    assert abs(found.transformed.sel(transform="rank 1/4") - found.transformed.sel(transform="none")).max() > 1e-3


def test_dispersions_are_of_running_means_and_each_variant_plays_for_its_own_class(model, pair):
    variants, _ = pair
    given = {"normal": variants[0], "full": variants[1]}
    found = parts.attribution_dispersions(
        model, given, baseline=BASELINE, contexts=2, rows=ROWS, seed=0, fractions=(0.0, 0.5, 1.0), grid=2
    )
    assert found.attribution_order.values.tolist() == [0, 1, 3] and found.attrs["attribution_players"] == 4
    for name, images in given.items():
        assert np.allclose(found.confidence.sel(variant=name), model(images).log_softmax(1).amax(1), atol=1e-5)
        played = game.MaskingGame(
            model, players.grid(8, 8, side=2), images, parts.predicted(model, images), baseline=BASELINE
        )
        each = [
            detection.sample_attributions(
                played, n=4, orders=[0, 1, 3], contexts=1, generators=sampling.generators(0, ROWS, context)
            )
            for context in range(2)
        ]
        for count in (1, 2):
            mean = torch.stack(each[:count]).mean(0)
            expected = detection.dispersion(mean.movedim(1, 0).numpy())
            here = found.dispersion.sel(variant=name, contexts=count)
            assert np.allclose(here, expected, atol=1e-5)


def test_entropies_begin_at_the_baseline_and_end_at_the_image(model, pair):
    variants, labels = pair
    found = parts.entropies(model, variants, labels, baseline=BASELINE, rows=ROWS, seed=0, points=3, grid=4)
    assert found.size.values.tolist() == [0, 8, 16]
    empty, whole = found.isel(size=0), found.isel(size=-1)
    assert np.allclose(empty.entropy, game.predicted_entropy(model(BASELINE[None]), labels[:1]), atol=1e-5)
    for k in range(2):
        logits = model(variants[k])
        assert np.allclose(whole.log_probability[k], game.log_probability(logits, labels), atol=1e-5)
        assert np.allclose(whole.entropy[k], game.predicted_entropy(logits, labels), atol=1e-5)


def test_entropies_of_outputs_that_are_no_numbers_are_refused(model, pair, monkeypatch):
    variants, labels = pair
    monkeypatch.setattr(game, "log_probability", lambda logits, labels: torch.full(labels.shape, torch.nan))
    with pytest.raises(ValueError, match="v is not a finite number in some coalition"):
        parts.entropies(model, variants, labels, baseline=BASELINE, rows=ROWS, seed=0, points=3, grid=4)


def test_entropies_between_are_means_over_chains(model, pair):
    """The first chain of two is the one that is drawn alone."""
    variants, labels = pair
    how = {"baseline": BASELINE, "rows": ROWS, "seed": 0, "points": 3, "grid": 4}
    (first, of_two) = (parts.entropies(model, variants, labels, chains=k, **how).entropy.isel(size=1) for k in (1, 2))
    of = players.grid(*variants.shape[-2:], side=4)
    rank = torch.stack([torch.rand(2, 16, generator=g).argsort(1)[1:] for g in sampling.generators(0, ROWS)])
    value = {"baseline": BASELINE, "value": game.predicted_entropy}
    second = game.MaskingGame(model, of, variants, labels, **value)(rank < 8)[..., 0]
    assert np.allclose(of_two, (first + second.numpy()) / 2, atol=1e-5) and not np.allclose(of_two, first, atol=1e-4)


def test_amplitudes_keep_the_energy(pair):
    variants, _ = pair
    found = parts.amplitudes(variants)
    assert np.allclose((found.amplitude**2).sum("radius"), variants.square().sum((2, 3, 4)), rtol=1e-5)


def curves_and_games(images=4):
    """Order curves of five images, and games of the last four of them, in another order."""
    rng = np.random.default_rng(0)
    variants = ["normal", "untargeted 8", "untargeted 2"]
    of_model = {"dataset": "tiny", "model": "resnet18-standard"}
    curves = xr.Dataset(
        {
            "interaction": (("variant", "image", "order"), rng.normal(size=(3, 5, 2))),
            "sampling_error": (("variant", "image", "order"), rng.random((3, 5, 2))),
            "reached": (("attack", "image"), np.array([[True] * 5, [True, False, True, True, True]])),
        },
        coords={"variant": variants, "attack": variants[1:], "image": [7, 1, 2, 3, 4]},
        attrs=of_model,
    )
    games = xr.Dataset(
        {
            "amplitude": (("subject", "image", "radius"), rng.random((2, 4, 3))),
            "reached": ("image", np.array([True, False, True, True])),
        },
        coords={"subject": ["normal", "adversarial"], "image": [4, 3, 2, 1]},
        attrs={**of_model, "calibrated_attack": "untargeted 2"},
    )
    return curves, games


def test_same_images_are_joined_by_their_rows():
    curves, games = curves_and_games()
    found = parts.same_images(curves, games)
    assert found.image.values.tolist() == [4, 2], "3 was not reached in the games, 1 not where the curves were measured"
    expected = curves.interaction.sel(variant="untargeted 2", image=[4, 2])
    assert np.array_equal(found.interaction.sel(subject="adversarial"), expected)
    assert np.array_equal(found.interaction.sel(subject="normal"), curves.interaction[0][[4, 2]])
    assert np.array_equal(found.amplitude, games.amplitude[:, [0, 2]])


def test_other_models_attacks_or_images_are_not_joined():
    curves, games = curves_and_games()
    with pytest.raises(ValueError, match="do not have the attack 'untargeted 2' on all 4 images"):
        parts.same_images(curves.sel(attack=["untargeted 8"]), games)
    with pytest.raises(ValueError, match="do not have the attack 'untargeted 2' on all 4 images"):
        parts.same_images(curves.isel(image=slice(3)), games)
    with pytest.raises(ValueError, match="are of tiny/another, the frequencies of tiny/resnet18-standard"):
        parts.same_images(curves.assign_attrs(model="another"), games)


# Detectors.


def spread(separation, images=60, misled=None):
    """Dispersions in which order 3 lies ``separation`` deviations apart and order 1 not at all."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 2, 2, images, 3))  # variant, order, contexts, image, statistic
    table[1:, 1] += separation
    return xr.Dataset(
        {
            "dispersion": (("variant", "attribution_order", "contexts", "image", "statistic"), table),
            "misled": (("attack", "image"), np.ones((2, images), bool) if misled is None else misled),
        },
        coords={
            "variant": ["normal", "full", "stopped"],
            "attack": ["full", "stopped"],
            "attribution_order": [1, 3],
            "contexts": [1, 2],
        },
    )


def test_detectors_find_the_order_that_differs_on_the_same_images():
    found = parts.detectors(spread(3.0))
    assert list(found) == [1, 3] and np.array_equal(found[1].tested, found[3].tested)
    for attack in ("full", "stopped"):
        areas = [detection.area_under_roc(each.normal, each.adversarial[attack]) for each in found.values()]
        assert areas[1] > 0.95 and 0.2 < areas[0] < 0.8


def test_detectors_use_as_many_contexts_as_they_are_asked_to():
    measured = spread(3.0)
    measured.dispersion[:, :, 0] = measured.dispersion[::-1, :, 0].values  # with one context all is the other way round
    areas = [
        detection.area_under_roc(each[3].normal, each[3].adversarial["full"])
        for each in (parts.detectors(measured, contexts=1), parts.detectors(measured, contexts=2))
    ]
    assert areas[0] < 0.8 and areas[1] > 0.95

    assert np.array_equal(parts.detectors(measured)[3].normal, parts.detectors(measured, contexts=2)[3].normal)


def test_detectors_leave_out_images_that_an_attack_did_not_mislead():
    misled = np.ones((2, 60), bool)
    misled[1, :20] = False
    assert len(parts.detectors(spread(1.0, misled=misled))[1].tested) == 20


def test_detectors_need_images():
    with pytest.raises(ValueError, match="fitted on at least 2 images and tested on at least 2 others"):
        parts.detectors(spread(1.0, misled=np.zeros((2, 60), bool)))


# The measurement.


def test_results_are_labelled_and_count_their_passes(tiny):
    found = parts.defenses(ASKED, device=CPU)
    images, games = found["images"], found["games"]
    assert images.sizes["image"] == 5 and games.sizes["image"] == 3
    assert np.array_equal(games.image, images.image[:3]) and np.array_equal(games.misled, images.misled[:, :3])
    exact, sampled = 2, 4  # orders of the attributions of 16 players from 2 contexts: 0 and 15; the others
    played = (
        8 * 4 * 2 * 4 + 3 * 17 * (exact + sampled * 2) + 2 * 2 * 2 * 17
    )  # rank and dropout; attributions; entropies
    model, attacked = models.load("tiny", "resnet18-standard"), []
    model.register_forward_hook(lambda _, inputs, logits: attacked.append(len(logits)))
    _, x, y = experiments.correct_images(model, tiny, 3, seed=1)
    attacked.clear()
    parts.both_attacks(model, x, y)
    experiments.attack(model, x, y, ASKED.attack)
    looked = 3 + 2  # the class of each variant, and whether the two attacks misled
    probes = 1 + 4 + 1 + 3  # a game looks at its baseline once, not for each image: at most three of an image in all
    rest = games.passes.values[0] - played - sum(attacked) / 3 - looked
    assert 0 <= rest <= probes, rest
    assert games.attrs["passes"] == games.passes.sum() and images.attrs["passes"] == images.passes.sum()
    for result in found.values():
        assert result.attrs["command"] == ASKED.command()
        assert all(not variable.isnull().any() for variable in result.data_vars.values())


def test_each_part_is_of_the_attack_the_images_and_the_seed_that_it_names(tiny, monkeypatch):
    """Table 1 of the stopped attack, the way back of the full one, what takes games of the calibrated one."""
    given, corrections = [], parts.corrections
    monkeypatch.setattr(
        parts, "corrections", lambda _, pair, *a, **k: given.append(pair) or corrections(_, pair, *a, **k)
    )
    found = parts.defenses(replace(ASKED, attack="untargeted 0.012"), device=CPU)
    model = models.load("tiny", "resnet18-standard")
    rows, x, y = experiments.correct_images(model, tiny, 5, seed=1)
    of = {"baseline": experiments.baseline("mean", tiny), "rows": rows.tolist(), "seed": 1}
    attacked = parts.both_attacks(model, x, y)
    by_hand = corrections(model, torch.stack([x, attacked[parts.STOPPED]]), y, draws=2, **of)
    assert torch.equal(given[0], torch.stack([x, attacked[parts.STOPPED]])) and not torch.equal(*attacked.values())
    assert np.array_equal(found["images"].corrected, by_hand.corrected)
    for name, values in parts.recoveries(model, x, attacked[parts.FULL], y).data_vars.items():
        assert np.allclose(found["images"][name], values, atol=1e-4), name
    few, labels, of["rows"] = x[:3], y[:3], of["rows"][:3]
    calibrated = experiments.attack(model, few, labels, "untargeted 0.012")
    pair = torch.stack([few, calibrated.images])
    games = [
        parts.amplitudes(pair),
        parts.entropies(model, pair, labels, **of),
        parts.interactions_of_transformed(model, pair, labels, replicates=2, **of),
        parts.attribution_dispersions(
            model, {"normal": few, **parts.both_attacks(model, few, labels)}, contexts=2, **of
        ),
        xr.Dataset({"utility": ("image", calibrated.utility), "reached": ("image", calibrated.reached)}),
    ]
    assert calibrated.reached.any() and not calibrated.reached.all()
    for part in games:
        for name, values in part.data_vars.items():
            assert np.allclose(found["games"][name], values, atol=1e-4), name


def test_images_that_the_games_do_not_divide_are_refused_before_any_attack(tiny, monkeypatch):
    odd = replace(tiny, images=tiny.images[..., :12])
    monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root: odd)
    monkeypatch.setattr(experiments, "correct_images", lambda *_, **__: (torch.arange(5), *odd.batch(slice(0, 5))))
    monkeypatch.setattr(parts, "both_attacks", lambda *_: pytest.fail("attacked before"))
    with pytest.raises(ValueError, match="a grid of 16×16 players does not divide an image of 16×12"):
        parts.defenses(ASKED, device=CPU)


def test_interrupted_run_resumes_and_company_changes_no_number(tiny, monkeypatch):
    whole = parts.defenses(ASKED, device=CPU)
    with monkeypatch.context() as patched:
        patched.setattr(parts, "corrections", None)
        patched.setattr(parts, "entropies", None)
        again = parts.defenses(ASKED, device=CPU)
    few = parts.defenses(replace(ASKED, images=3, games=2), device=CPU)
    for name, count in (("images", 3), ("games", 2)):
        assert again[name].equals(whole[name])
        kept = whole[name].isel(image=slice(count)).drop_vars("passes")
        xr.testing.assert_allclose(few[name].drop_vars("passes"), kept, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "mnist"}, "no model for the dataset 'mnist'"),
        ({"model": "vgg"}, "unknown model 'vgg' for the dataset 'tiny'"),
        ({"attack": "sideways 8"}, "unknown attack 'sideways 8'"),
        ({"images": 1000}, "1000 images were asked for; the model classifies"),
        ({"games": 6}, "games are played on 1 to all 5 images; got 6: set games, or ask for more images"),
        ({"games": 0}, "games are played on 1 to all 5 images; got 0: set games, or ask for more images"),
        ({"draws": 0}, "at least 2 replicates, 1 context and 1 draw are needed; got 2, 2 and 0"),
        ({"replicates": 1}, "at least 2 replicates, 1 context and 1 draw are needed; got 1, 2 and 2"),
        ({"contexts": 0}, "at least 2 replicates, 1 context and 1 draw are needed; got 2, 0 and 2"),
    ],
)
def test_wrong_input_gives_one_clear_error_before_anything_is_measured(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        parts.defenses(replace(ASKED, **changes), device=CPU)
    assert not results.WORK.exists()


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (
            0.2,
            r"are a list of shares, as \[0\.1, 0\.2\]; got 0\.2: papermill sets a list by -y 'rates: ",
        ),
        ("[0.1, 0.2]", r"are a list of shares, as \[0\.1, 0\.2\]; got '\[0\.1, 0\.2\]'"),
        ([0.1, -0.1, 1.0], r"shares of the pixels in \[0, 1\), at least one; got \[-0\.1, 1\.0\]"),
        ([], r"shares of the pixels in \[0, 1\), at least one; got none"),
    ],
)
def test_rates_that_are_none_are_refused(rates, message):
    with pytest.raises(ValueError, match=message):
        parts.check_rates(rates)


def test_wrong_images_and_transforms_give_one_clear_error(model, pair):
    variants, labels = pair
    asked = {"baseline": BASELINE, "rows": ROWS, "seed": 0}
    with pytest.raises(ValueError, match="a grid of 16×16 players does not divide an image of 8×8 pixels"):
        parts.entropies(model, variants, labels, **asked)
    with pytest.raises(ValueError, match=r"the rank of a channel of 8×8 pixels is an integer in 1\.\.8; got 0"):
        parts.interactions_of_transformed(model, variants, labels, replicates=2, grid=8, **asked)
    with pytest.raises(ValueError, match=r"rates of dropout are shares .* in \[0, 1\), at least one; got \[1\.0\]"):
        parts.corrections(model, variants, labels, draws=1, rates=(1.0,), **asked)
    for name in ("blur", "rank 4", "rank", "rank 1/0", "rank 1/x", "dropout x", "dropout 1"):
        with pytest.raises(ValueError, match="unknown transform"):
            parts.transformed(variants[0], name, rows=ROWS, seed=0)
    tiny_images = torch.rand(2, 4, 1, 1, 1)
    with pytest.raises(ValueError, match=r"cutout masks half of each side: images need 2×2 pixels at least; got 1×1"):
        parts.corrections(model, tiny_images, labels, draws=1, **{**asked, "baseline": torch.zeros(1, 1, 1)})


# The command line.


def test_command_writes_both_results(tiny, tmp_path):
    few = ["--images", "3", "--games", "2", "--draws", "1", "--replicates", "2", "--contexts", "1", "--attack"]
    result = CliRunner().invoke(
        app, ["defenses", "--dataset", "tiny", *few, "untargeted 0.5", "--device", "cpu", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    for name, count in (("images", 3), ("games", 2)):
        assert results.read(tmp_path / f"resnet18-standard-defenses-{name}.nc").sizes["image"] == count


def test_published_corrections_rest_on_500_images():
    files = sorted(results.PUBLISHED.rglob("*-defenses-images.nc"))
    assert files and all(results.read(path).sizes["image"] >= 500 for path in files)
