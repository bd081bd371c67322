"""Published results: each is measured again, two images of it, by the command that it records."""

import itertools
import re
import shlex
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from lib import datasets, experiments, models, results
from lib.command_line import app

FILES = results.published()
SAME = {
    "disentanglement": 0.01,
    "locality": 0.01,
    "alone": 0.1,  # a sum over 256 players; the attack ends elsewhere in its window
    "whole": 0.5,
    "right": 0,
    "radius": 0.005,  # some of a thousand noisy copies may tip over
    "misled": 0,
    "corrected": 0.21,  # one of five draws may tip over
    "adversarial_distance": 0.02,
    "recovered_distance": 0.1,  # the way back starts where the rounding of twenty steps has led
    "amplitude": 0.02,
    "entropy": 0.02,
    "log_probability": 0.05,
    "dispersion": 0.05,
    "transformed": 0.02,
}
"""What two runs with the same seeds have in common, up to this much."""
OF_THE_GREATEST = {"transformed": 0.25}
"""And, where that is less, up to this part of the greatest value: in adversarially trained networks these are small."""
AUTOATTACKED = ("resnet18-adversarial", "resnet50-adversarial")
"""The networks on which AutoAttack is run again, half a minute each: the others lack it in the second measurement."""
REPLICATES = 12
THREE_ERRORS = stats.t.isf(stats.norm.sf(3), REPLICATES - 1)
"""The bound, as rare as three errors of a normal distribution: so few replicates know their error roughly.

They are drawn again with their own seeds: what is inside once is inside on every machine, up to rounding.
"""
ROUNDING = 0.05
"""Of a sampling error: how far apart two devices put the mean of the same draws. The most seen is 0.004, by TF32."""
PERTURBED = 0.5
"""The same for images attacked on processors: rounding tips single pixels. The most seen is 0.03; from a GPU, 1.2."""

SHIFTED = (0.2, 0.3, 0.4, 0.6, 0.7, 0.75, 0.8, 0.85)
"""Orders at which ``signed_groups`` has other draws since revision 07b8e64 (book/data.md)."""


def once(function):
    """The function, called once for arguments that are equal, tensors by their values: many files share an attack."""
    made = {}

    def remembered(*arguments, **options):
        parts = [*arguments, *itertools.chain(*sorted(options.items()))]
        key = tuple(part.cpu().numpy().tobytes() if isinstance(part, torch.Tensor) else part for part in parts)
        if key not in made:
            made[key] = function(*arguments, **options)
        return made[key]

    return remembered


ONCE = [(datasets, "load"), (models, "load"), (experiments, "attack"), (experiments, "baseline")]
"""What is made for the first file that needs it, and kept for all."""


@pytest.fixture(scope="module")
def measured_again(tmp_path_factory):
    """Two images of a published file, measured by the command that it records, at some of its orders.

    Of interactions these are the orders at the ``places``, with so many replicates: the draws of an order follow from
    the seed and their number alone. Of D^(m) there are the first two, for an order's draws follow those of the orders
    before; contexts are common to their orders.
    """

    kept = [(module, name, once(getattr(module, name))) for module, name in ONCE]

    @cache
    def run(command, places, replicates):
        some = {"interactions": places, "disentanglement": range(2), "contexts": range(1)}
        folder = tmp_path_factory.mktemp("again")
        kind, *options = shlex.split(re.sub(r"--errors \S+", "", command))[3:]
        fewer = {"interactions": ["--replicates", str(replicates)], "defenses": ["--games", "2"]}.get(kind, [])
        if kind in some:
            orders = options[options.index("--orders") + 1].split(",")
            fewer += ["--orders", ",".join(orders[place] for place in some[kind])]
        of_kind = {"robustness": ["--certified", "2" if "--certified 0" not in command else "0"]}.get(kind, [])
        out = folder if kind == "defenses" else folder / "again.nc"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(results, "WORK", folder / "work")
            for part in kept:
                patched.setattr(*part)
            left_out = [] if options[options.index("--model") + 1] in AUTOATTACKED else ["--autoattack"]
            words = [kind, *options, "--images", "2", *fewer, *of_kind, "--out", str(out)]
            done = CliRunner().invoke(app, [word for word in words if word not in left_out])
        assert done.exit_code == 0, done.output
        return folder

    return run


def same_perturbation(again, two):
    """Whether an attack ended at the same utility (attack, image): rounding may tip the sign of a gradient over.

    Each step multiplies that: 32 that nothing stops led 0.07 apart on one kind of device.
    """
    tolerance = [[0.2 if name.startswith("steps") else 0.05] for name in two.attack.values]
    return abs(again.utility - two.utility) <= tolerance


def in_the_same_window(again, two):
    """Whether each attack that seeks a utility found the same, up to its window of a sixteenth, where it says so twice.

    Rounding may lead it elsewhere in the window, on whatever device.
    """
    sought = [name for name in two.attack.values if name.split()[0] in ("untargeted", "targeted")]
    first, second = again.sel(attack=sought), two.sel(attack=sought)
    width = np.array([float(name.split()[1]) / 16 + 1e-4 for name in sought])[:, None]
    return bool(((abs(first.utility - second.utility) <= width) | ~(first.reached & second.reached)).all())


@cache
def fewest_draws():
    """Of each model, and of each experiment, the file whose cheapest order costs the least, its place and replicates.

    Orders that are ``SHIFTED`` do not count: there the published draws cannot be drawn again.
    """
    found = {}
    for dataset, model, experiment, path in FILES:
        measured = results.read(path)
        if "interaction" in measured:
            shifted = np.isin(measured.fraction.round(3), SHIFTED) & (measured.design == "signed_groups")
            counts = measured.replicates[0].where(~shifted, np.inf).values.tolist()
            cost = measured.sizes["variant"] * min(counts)
            for group in (model, experiment):
                found.setdefault((dataset, group), []).append((cost, path, counts.index(min(counts)), int(min(counts))))
    return {path: (range(place, place + 1), count) for _, path, place, count in map(min, found.values())}


@pytest.mark.parametrize("number", range(len(FILES)), ids=lambda number: FILES[number][-1].stem)
def test_two_images_measured_again_are_inside_their_interval(number, measured_again):
    """On the same seeds: what differs is a matter of the sampling errors, or of rounding where nothing is sampled.

    Of interactions one file a model, and an experiment, has all the draws of an order, which are then those that were
    published. The others have fewer, of their own, at three orders: from file to file another of the first four is
    the first. Twelve draws have errors many times those of the published hundreds or thousands: they would miss a small
    error of sign or scale in a twin's small interactions, which the exact comparison of its model's one file finds.
    """
    path = FILES[number][-1]
    published = results.read(path)
    if not any(place.exists() for place in datasets.places(published.attrs["dataset"])):
        pytest.skip(f"{published.attrs['dataset']} is not here")
    orders = published.sizes["order"] if "interaction" in published else 0
    places, replicates = fewest_draws().get(path, (range(number % 4, orders, 4), REPLICATES))
    folder = measured_again(published.attrs["command"], places, replicates)
    again = results.read(folder / (path.name if "defenses" in path.stem else "again.nc"))
    two = published.isel(image=slice(2))
    for part in {"under", "order"} & set(again.dims):
        two = two.sel({part: again[part]})
    assert again.image.values.tolist() == two.image.values.tolist(), "the seed chooses the same images"
    if "interaction" in published:
        error = np.hypot(again.sampling_error, two.sampling_error)
        apart = abs(again.interaction - two.interaction) / error
        same = same_perturbation(again, two)
        assert in_the_same_window(again, two)
        if published.attrs["device"].startswith("CPU"):
            assert same.all()
        compared = [apart.sel(variant="normal").values.ravel()]  # from another perturbation, other interactions follow
        compared += [apart.sel(variant=name).values[same.sel(attack=name)].ravel() for name in two.attack.values]
        assert np.concatenate(compared).max() < THREE_ERRORS
        if path in fewest_draws():
            normal, *adversarial = compared
            assert normal.max() < ROUNDING
            if published.attrs["device"].startswith("CPU"):
                assert all(each.max(initial=0) < PERTURBED for each in adversarial)
        return
    for name, tolerance in SAME.items():
        if name in published:
            if name in OF_THE_GREATEST:
                tolerance = min(tolerance, OF_THE_GREATEST[name] * float(abs(two[name]).max()))
            assert np.allclose(again[name], two[name], atol=tolerance, equal_nan=True), name


def test_a_published_name_is_its_model_and_experiment(tmp_path):
    for dataset, model, experiment, path in FILES:
        assert path == results.PUBLISHED / dataset / f"{model}-{experiment}.nc"
        assert results.read(path).attrs["model"] == model
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "resnet18-standard-disentanglement-uniform.nc").touch()
    ((dataset, model, experiment, _),) = results.published(tmp_path)
    assert (dataset, model, experiment) == ("toy", "resnet18-standard", "disentanglement-uniform")
