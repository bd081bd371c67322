"""The ε × order view: a picture an order, its numbers those of the estimators, its cost as said."""

import io

import pytest
import torch
from PIL import Image

from lib import experiments, views

ORDERS = [25, 127, 229]


@pytest.fixture
def made(network, pictures):
    """A view of two images of 32 × 32 pixels, the second variant in other colours."""

    def make(changed: float = 0.1) -> views.View:
        images, labels = pictures(2, side=32)
        return views.View("a network", network(), images, (images + changed).clamp(0, 1), labels, rows=[3, 8])

    return make


def draw(*lines: views.View) -> list[bytes]:
    return views.order_pictures(
        lines, orders=ORDERS, baseline=torch.full((1, 32, 32), 0.5), heights=(-0.1, 0.1), contexts=4, replicates=2
    )


def test_a_picture_an_order_grows_with_the_views(made):
    one, two = draw(made()), draw(made(), made(0.2))
    assert len(one) == len(two) == len(ORDERS) and len(set(one)) == len(ORDERS)
    (width, height), (same, twice) = (Image.open(io.BytesIO(found[0])).size for found in (one, two))
    assert same == width and twice == 2 * height


def test_same_seed_draws_the_same_and_another_change_another_picture(made):
    assert draw(made()) == draw(made())
    assert all(a != b for a, b in zip(draw(made()), draw(made(0.2)), strict=True))


def test_what_is_shown_is_what_the_estimators_give(made):
    view, baseline = made(), torch.full((1, 32, 32), 0.5)
    settings = {"baseline": baseline, "replicates": 2, "seed": 5}
    found = views._measured(view, ORDERS, contexts=4, pair_sampling="neighbours", **settings)
    both = torch.stack([view.normal, view.changed])
    estimate = experiments.measure(view.model, both, view.labels, orders=ORDERS, rows=view.rows, **settings)
    normal, changed = estimate.mean()
    torch.testing.assert_close(found.change, (normal - changed).mean(0))
    shown = (found.masked != 0.5).any(1).flatten(1).sum(1)
    assert shown.tolist() == [4 * (m + 2) for m in ORDERS], "m players of 2 × 2 pixels and the pair"
    unchanged = views._measured(made(0.0), ORDERS, contexts=4, pair_sampling="neighbours", **settings)
    assert torch.equal(unchanged.delta[0], unchanged.delta[1]) and not unchanged.change.any()


def test_cost_is_four_passes_a_replicate_and_a_context(made):
    view = made()
    played = []
    view.model.register_forward_hook(lambda model, inputs, output: played.append(len(inputs[0])))
    draw(view)
    baselines = 2  # each of the two games asks once how many classes there are
    assert sum(played) == 4 * len(ORDERS) * (2 * 2 * 2 + 2 * 4) + baselines


def test_no_view_is_refused():
    with pytest.raises(ValueError, match="at least one view is needed"):
        draw()
