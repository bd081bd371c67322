"""The ε × order view: a picture an ε and order, its numbers those of the estimators, its cost as said."""

import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from lib import attacks, experiments, views

ORDERS = [25, 127, 229]
EPSILONS = [0.1, 0.2]


@pytest.fixture
def made(network, pictures):
    """A view of two images of 32 × 32 pixels, changed to other colours, by each of the ``changes``."""

    def make(*changes: float) -> views.View:
        images, labels = pictures(2, side=32)
        changed = torch.stack([(images + change).clamp(0, 1) for change in changes or EPSILONS])
        return views.View("a network", network(), images, changed, labels, rows=[3, 8])

    return make


def draw(*lines: views.View, **changes: Any) -> list[list[bytes]]:
    settings = {
        "epsilons": EPSILONS,
        "orders": ORDERS,
        "baseline": torch.full((1, 32, 32), 0.5),
        "heights": (-0.1, 0.1),
        "contexts": 4,
        "replicates": 2,
    }
    return views.order_pictures(lines, **settings | changes)


def test_images_attacked_at_each_epsilon(network, pictures):
    images, labels = pictures(2, side=32)
    found = views.attacked(network(), images, labels, epsilons=[0, 4 / 255, 16 / 255])
    assert found.shape == (3, *images.shape) and torch.equal(found[0], images)
    assert [round(255 * (each - images).abs().max().item(), 3) for each in found] == [0, 4, 16]
    assert torch.equal(found[1], attacks.pgd(network(), images, labels, epsilon=4 / 255, step_size=0.5 / 255, steps=20))


def test_a_picture_an_epsilon_and_order_grows_with_the_views(made):
    one, two = draw(made()), draw(made(), made())
    assert [len(column) for column in one] == [len(ORDERS)] * len(EPSILONS)
    assert len({picture for column in one for picture in column}) == len(ORDERS) * len(EPSILONS)
    (width, height), (same, twice) = (Image.open(io.BytesIO(found[0][0])).size for found in (one, two))
    assert same == width and twice == 2 * height


def test_same_seed_draws_the_same_whatever_else_is_drawn(made):
    assert draw(made()) == draw(made())
    assert draw(made(0.2), epsilons=[0.2]) == draw(made())[1:]


@pytest.mark.parametrize("changes", [{"sampling": "uniform"}, {"seed": 1}, {"heights": (-0.2, 0.1)}], ids=str)
def test_every_picture_heeds_what_is_asked(made, changes):
    plain, changed = ([png for column in draw(made(), **asked) for png in column] for asked in ({}, changes))
    assert all(one != other for one, other in zip(plain, changed, strict=True))


def test_what_is_shown_is_what_the_estimators_give(made):
    view, baseline = made(), torch.full((1, 32, 32), 0.5)
    settings = {"baseline": baseline, "replicates": 2, "seed": 5}
    found = views._measured(view, ORDERS, contexts=4, sampling="neighbours", **settings)
    for k in range(len(EPSILONS)):
        both = torch.stack([view.normal, view.changed[k]])
        estimate = experiments.measure(view.model, both, view.labels, orders=ORDERS, rows=view.rows, **settings)
        normal, changed = estimate.mean()
        torch.testing.assert_close(found.change[k], (normal - changed).mean(0))
    shown = (found.masked != 0.5).any(2).flatten(2).sum(2)
    assert shown.tolist() == [[4 * (m + 2) for m in ORDERS]] * 2, "m players of 2 × 2 pixels and the pair"
    unchanged = views._measured(made(0.0), ORDERS, contexts=4, sampling="neighbours", **settings)
    assert torch.equal(unchanged.delta[0], unchanged.delta[1]) and not unchanged.change.any()


def test_turning_sets_every_panel_to_its_epsilon_and_order(made):
    view = made()
    settings = {"baseline": torch.full((1, 32, 32), 0.5), "replicates": 2, "seed": 5}
    found = views._measured(view, ORDERS, contexts=4, sampling="neighbours", **settings)
    figure, line = plt.subplots(1, 5)
    turn = views._draw(line, view, found, epsilons=EPSILONS, orders=ORDERS, heights=(-0.1, 0.1))
    image, change, masked, histogram, curve = line
    for k, epsilon in enumerate(EPSILONS):
        for place, m in enumerate(ORDERS):
            turn(k, place)
            shown = [axes.images[0].get_array() for axes in (image, change, masked)]
            for pixels, wanted in zip(
                shown, (view.changed[k, 0], view.changed[k, 0] - view.normal[0], found.masked[k, place]), strict=True
            ):
                np.testing.assert_allclose(pixels, wanted[0])
            assert change.get_title() == f"the change, ε = {epsilon * 255:g}/255"
            assert masked.get_title() == f"m = {m} and the pair"
            normal, changed = (patch.get_data() for patch in histogram.patches)
            for steps, delta in ((normal, found.delta[0, place]), (changed, found.delta[1 + k, place])):
                assert steps.values.sum() == len(delta)
                assert steps.edges[0] <= delta.min() <= delta.max() <= steps.edges[-1]
            _, means, mark = curve.lines
            np.testing.assert_array_equal(means.get_ydata(), found.change[k])
            assert (*mark.get_xdata(), *mark.get_ydata()) == (m / 254, found.change[k, place])
    plt.close(figure)


@pytest.mark.parametrize("epsilons", [[0.1], [0.0, 0.1], EPSILONS])
def test_cost_is_four_passes_a_replicate_and_a_context_of_the_normal_images_and_each_change(made, epsilons):
    view = made(*epsilons)
    played = []
    view.model.register_forward_hook(lambda model, inputs, output: played.append(len(inputs[0])))
    draw(view, epsilons=epsilons)
    baselines = 2  # each of the two games asks once how many classes there are
    changes = sum(epsilon > 0 for epsilon in epsilons)
    assert sum(played) == 4 * len(ORDERS) * (1 + changes) * (2 * 2 + 4) + baselines


def test_changes_that_are_not_one_an_epsilon_are_refused(made):
    with pytest.raises(ValueError, match="'a network' has 1 changes for 2 epsilons: one each"):
        draw(made(0.1))


def test_no_view_is_refused():
    with pytest.raises(ValueError, match="at least one view is needed"):
        draw()
