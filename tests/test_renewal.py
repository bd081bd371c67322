"""Renewal: what measuring all orders gives, at the cost of some of them."""

import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from lib import datasets, experiments, results
from lib.command_line import app
from lib.renewal import renewed

CPU = torch.device("cpu")
ASKED = experiments.OrderCurves(
    dataset="tiny",
    model="resnet18-standard",
    attacks=("untargeted 0.002", "targeted 0.002"),
    images=6,
    design="four_point",
    group=None,
    replicates=60,
    errors=(6e-5, 1e-4, 1e-4),
    fractions=(0.0, 0.5, 0.9),
    grid=4,
    steps=10,
)
SMALLER = replace(ASKED, errors=(6e-5, 8e-5, 1e-4))
HISTORY = ["date", "seconds_of_last_run", "renewed"]


@pytest.fixture
def earlier(tiny):
    return experiments.order_curves(ASKED, device=CPU)


@pytest.fixture
def orders_measured(monkeypatch):
    """The orders of each block that is measured from here on."""
    measured, measure = [], experiments.measure
    monkeypatch.setattr(experiments, "measure", lambda *a, **k: measured.append(k["orders"]) or measure(*a, **k))
    return measured


def same(one, other):
    xr.testing.assert_allclose(one, other, rtol=1e-5, check_dim_order=True)
    for name in ("replicates", "passes", "utility", "reached", "steps", "class_after", "label"):
        assert one[name].identical(other[name]), name
    assert all(one[name].attrs == other[name].attrs for name in other.data_vars)
    assert {k: v for k, v in one.attrs.items() if k not in HISTORY} == {
        k: v for k, v in other.attrs.items() if k not in HISTORY
    }


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"errors": (6e-5, 8e-5, 1e-4)}, [7]),
        ({"errors": (8e-5, 1e-4, 9e-5)}, [0, 12]),
        ({"fractions": (0.5, 0.7, 0.9), "errors": (1e-4,) * 3}, [9]),
        ({"fractions": (0.9, 0.5), "errors": (1e-4, 1e-4)}, []),
        ({"errors": (2e-4, 2e-4, 2e-4)}, [0, 7, 12]),
    ],
)
def test_it_is_what_measuring_all_orders_gives(anew, earlier, orders_measured, changes, missing):
    asked = replace(ASKED, **changes)
    found = renewed(asked, earlier, device=CPU)
    assert orders_measured == [missing] * bool(missing)
    same(found, anew(experiments.order_curves, asked, device=CPU))


def test_an_order_that_wanted_more_replicates_than_it_had_is_measured_again(tiny, anew, orders_measured):
    earlier = experiments.order_curves(replace(ASKED, replicates=40), device=CPU)
    orders_measured.clear()
    short = [order for order, count in zip((0, 7, 12), earlier.replicates.max("image"), strict=True) if count == 40]
    assert 0 < len(short) < 3, "some orders, not all, should have met the greatest number of replicates"
    found = renewed(ASKED, earlier, device=CPU)
    assert orders_measured == [short]
    same(found, anew(experiments.order_curves, ASKED, device=CPU))


def test_an_order_that_has_more_replicates_than_are_asked_for_is_measured_again(anew, earlier, orders_measured):
    """At 20 each, an order that took more had another count, and other draws."""
    asked = replace(ASKED, replicates=20)
    found = renewed(asked, earlier, device=CPU)
    more = [order for order, count in zip((0, 7, 12), earlier.replicates.max("image"), strict=True) if count > 20]
    assert more and orders_measured == [more]
    same(found, anew(experiments.order_curves, asked, device=CPU))


def test_it_says_which_orders_were_measured_again_and_how(earlier):
    first = renewed(SMALLER, earlier.assign_attrs(device="a GPU", date="2000-01-01"), device=CPU)
    assert first.attrs["device"] == "a GPU" and first.attrs["date"] == earlier.attrs["date"]
    assert re.fullmatch(r"0\.5: lib .*, CPU.*, \d{4}-\d\d-\d\d, \w.*", first.attrs["renewed"])
    again = renewed(replace(SMALLER, errors=(7e-5, 8e-5, 1e-4)), first, device=CPU)
    assert again.attrs["renewed"].startswith(first.attrs["renewed"] + "; 0.0: lib ")


def test_an_image_has_reached_a_utility_where_both_attacks_have_and_led_to_one_class(earlier):
    reached = np.argwhere(earlier.reached.sel(attack="untargeted 0.002").values).ravel()
    other = earlier.copy(deep=True)
    other.reached[0, reached[0]] = False
    other.class_after[0, reached[1]] += 1
    found = renewed(SMALLER, other, device=CPU)
    expected = earlier.reached.copy(deep=True)
    expected[0, reached[:2]] = False
    assert found.reached.equals(expected) and found.utility.equals(earlier.utility)


def test_an_image_whose_attack_had_another_target_does_not_count(tiny):
    """Its other orders are of another v."""
    asked = replace(ASKED, attacks=("targeted 0.002",), category="attacked")
    earlier = experiments.order_curves(asked, device=CPU)
    first = np.flatnonzero(earlier.reached[0])[0]
    earlier.category[first] += 1
    found = renewed(replace(asked, errors=SMALLER.errors), earlier, device=CPU)
    expected = earlier.reached.copy(deep=True)
    expected[0, first] = False
    assert found.reached.equals(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"errors": None}, "both need --errors"),
        ({"errors": (0.1,)}, r"errors must be one for each of 3 orders; got \[0.1\]"),
        (
            {"fractions": (0.5, 0.5, 0.95)},
            "0.5 and 0.5 of n−2 are both the order 7 of 16 players: leave one out",
        ),
        ({"seed": 1}, "only --orders, --errors and --replicates may differ"),
        ({"images": 5}, "only --orders, --errors and --replicates may differ"),
        ({"attacks": ("untargeted 0.002",)}, "only --orders, --errors and --replicates may differ"),
    ],
)
def test_another_question_is_refused(earlier, orders_measured, changes, message):
    with pytest.raises(ValueError, match=message):
        renewed(replace(SMALLER, **changes), earlier, device=CPU)
    assert not orders_measured


def test_a_result_of_another_folder_is_refused(tiny, orders_measured, tmp_path):
    of_folder = experiments.order_curves(ASKED, device=CPU, root=tmp_path / "own images")
    assert of_folder.attrs["command"].endswith(f" --root '{tmp_path / 'own images'}'")
    orders_measured.clear()
    for root in (None, tmp_path):
        with pytest.raises(ValueError, match="only --orders, --errors and --replicates may differ"):
            renewed(SMALLER, of_folder, device=CPU, root=root)
    assert not orders_measured
    again = renewed(SMALLER, of_folder, device=CPU, root=tmp_path / "own images")
    assert again.attrs["command"] == of_folder.attrs["command"].replace("0.0001,0.0001", "8e-05,0.0001")


def test_an_earlier_result_without_wanted_errors_is_refused(earlier):
    command = re.sub(r"--errors \S+ ", "", earlier.attrs["command"])
    with pytest.raises(ValueError, match="both need --errors; the earlier one is\npython -m lib interactions"):
        renewed(SMALLER, earlier.assign_attrs(command=command), device=CPU)
    with pytest.raises(ValueError, match=r"the earlier one is\n.a command that the file does not tell"):
        renewed(SMALLER, earlier.drop_attrs(), device=CPU)


def test_images_of_other_weights_are_refused(earlier):
    other = earlier.assign_coords(image=earlier.image.values[::-1])
    with pytest.raises(ValueError, match="classifies other images correctly than it did earlier"):
        renewed(SMALLER, other, device=CPU)


def test_other_images_under_the_same_rows_are_refused(tiny, earlier, monkeypatch):
    other = tiny.images.clone()
    other[earlier.image.values[0], 0, 0, 0] ^= 1  # the least that an image can change
    monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root: replace(tiny, images=other))
    with pytest.raises(ValueError, match="the dataset has other images than it had for the earlier measurement"):
        renewed(SMALLER, earlier, device=CPU)
    monkeypatch.setitem(datasets.LOADERS, "tiny", lambda split, root: tiny)
    with pytest.raises(ValueError, match="the dataset has other images than it had for the earlier measurement"):
        renewed(SMALLER, earlier.assign_attrs(of_images="another"), device=CPU)
    unknown = earlier.copy()
    del unknown.attrs["of_images"]
    assert "renewed" in renewed(SMALLER, unknown, device=CPU).attrs


def test_the_command_line_renews(earlier, orders_measured, tmp_path):
    before, after = results.write(earlier, tmp_path / "before.nc"), tmp_path / "after.nc"
    words = shlex.split(SMALLER.command())[3:]
    done = CliRunner().invoke(app, [*words, "--earlier", str(before), "--out", str(after)])
    assert done.exit_code == 0, done.output
    assert orders_measured == [[7]]
    same(results.read(after), renewed(SMALLER, earlier, device=CPU))
