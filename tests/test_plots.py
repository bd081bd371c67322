"""Figures show the numbers that they are given: means and ends of the intervals, on the images that count."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.colors import to_rgba
from PIL import Image

from lib import plots
from lib.statistics import interval

ORDERS, FRACTIONS = [25, 127, 241], [0.1, 0.5, 0.95]


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.fixture
def result():
    """Random interactions of six images, of which the attack reached its utility on four."""
    rng = np.random.default_rng(0)
    interaction = rng.normal(size=(2, 6, 3))
    return xr.Dataset(
        {
            "interaction": (("variant", "image", "order"), interaction),
            "difference": (("attack", "image", "order"), interaction[:1] - interaction[1:]),
            "reached": (("attack", "image"), [[True, False, True, True, False, True]]),
            "fraction": ("order", FRACTIONS),
        },
        coords={"variant": ["normal", "untargeted 8"], "attack": ["untargeted 8"], "order": ORDERS},
        attrs={"sampling": "neighbours", "design": "signed_groups"},
    ).set_coords("fraction")


def drawn(axes, label):
    """The line of this label (orders, values), and the band that was drawn just before it (orders, ends)."""
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    place = [line.get_label() for line in lines].index(label)
    ends = {x: [] for x in FRACTIONS}
    for x, y in axes.collections[place].get_paths()[0].vertices:
        ends[round(float(x), 6)].append(y)
    x, y = lines[place].get_data()
    return x, y, [min(ends[each]) for each in FRACTIONS], [max(ends[each]) for each in FRACTIONS]


def same(found, values):
    x, mean, low, high = found
    expected = interval(values)
    assert np.allclose(x, FRACTIONS) and np.allclose(mean, expected.mean)
    assert np.allclose(low, expected.low) and np.allclose(high, expected.high)


def test_band_is_the_mean_with_its_interval(axes):
    values = np.random.default_rng(1).normal(size=(9, 3))
    plots.band(axes, FRACTIONS, interval(values), label="a", color=plots.NORMAL, style="s--")
    same(drawn(axes, "a"), values)
    assert axes.lines[0].get_color() == plots.NORMAL and axes.lines[0].get_linestyle() == "--"
    assert tuple(axes.collections[0].get_facecolor()[0]) == pytest.approx(to_rgba(plots.NORMAL, 0.2))


def test_order_figure_shows_the_images_that_count(result):
    figure = plots.order_figure([("a network", result)], "untargeted 8")
    above, below = figure.axes
    used = result.isel(image=[0, 2, 3, 5])
    same(drawn(above, "normal"), used.interaction.values[0])
    same(drawn(above, "adversarial"), used.interaction.values[1])
    same(drawn(below, "normal − adversarial"), used.difference.values[0])
    assert above.get_title() == "a network, untargeted 8, 4 of 6 images\npairs: neighbours, signed_groups"
    plt.close(figure)


def test_order_figure_leaves_a_column_of_too_few_images_empty(result):
    result["reached"][:] = False
    figure = plots.order_figure([("a", result)], "untargeted 8")
    assert figure.axes[0].texts[0].get_text() == "too few images\nreached the utility"
    assert not figure.axes[1].collections
    plt.close(figure)


def test_disentanglement_is_the_midpoint_between_dotted_bounds(axes):
    values = np.random.default_rng(2).random((3, 5, 3))
    found = xr.Dataset(
        {"disentanglement": (("estimate", "image", "order"), values)},
        coords={"estimate": ["lower", "midpoint", "upper"], "order": ORDERS, "fraction": ("order", FRACTIONS)},
    )
    plots.disentanglement_curve(axes, found, label="D", color=plots.NORMAL, style="o-")
    same(drawn(axes, "D"), values[1])
    assert all(np.allclose(line.get_ydata(), values[k].mean(0)) for line, k in zip(axes.lines[1:], (0, 2), strict=True))
    assert {line.get_linestyle() for line in axes.lines[1:]} == {":"}


def test_small_multiples_have_a_panel_for_every_name():
    asked = []
    names = ["resnet18", "vgg16", "resnet50", "densenet161"]
    figure = plots.small_multiples(
        names, lambda axes, name: asked.append(name) or axes.plot([0, 1], label=name), title="all", y="$I$"
    )
    assert asked == names and [axes.get_title() for axes in figure.axes if axes.axison] == [
        "ResNet-18",
        "VGG-16",
        "ResNet-50",
        "DenseNet-161",
    ]
    plt.close(figure)


def test_pixels_are_grey_coloured_or_signed():
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(plots.pixels(image), image.permute(1, 2, 0))
    assert np.array_equal(plots.pixels(image[:1]), image[0])
    assert np.allclose(plots.pixels(image, signed=True), image.mean(0))


def test_shown_images_have_one_scale(axes):
    shown = plots.show(axes, torch.full((1, 2, 2), 0.5), title="grey")
    assert shown.get_clim() == (0, 1) and axes.get_title() == "grey"
    signed = plots.show(axes, torch.tensor([[[0.0, torch.nan]]]), limit=0.1)
    assert signed.get_clim() == (-0.1, 0.1)
    nothing, unknown = signed.to_rgba(signed.get_array())[0, :, :3]
    assert unknown.max() - unknown.min() < 0.01 < nothing.min() - unknown.max(), "grey, where 0 is nearly white"


def test_outline_goes_around_the_cells(axes):
    plots.outline(axes, [0, 6], side=4, pixels=8)
    assert [patch.get_bbox().bounds for patch in axes.patches] == [(-0.5, -0.5, 2, 2), (3.5, 1.5, 2, 2)]


@pytest.mark.parametrize("color", plots.KEPT)
def test_png_keeps_the_colour_of_a_line_beside_pictures(color):
    figure, (left, right) = plt.subplots(1, 2, figsize=(4, 2))
    left.imshow(np.random.default_rng(0).random((32, 32, 3)))
    right.plot([0, 1], color=color, linewidth=3)
    figure.set_dpi(80)
    figure.canvas.draw()
    drawn, wanted = np.asarray(figure.canvas.buffer_rgba())[..., :3], np.round(255 * np.array(to_rgba(color)[:3]))
    of_color = (drawn == wanted).all(-1)
    with Image.open(io.BytesIO(plots.png(figure))) as image:
        shown = np.asarray(image.convert("RGB"))
    assert of_color.sum() > 20 and (shown[of_color] == wanted).all()
    assert np.abs(shown - drawn.astype(float)).mean() < 10


def test_png_is_small_and_closes_the_figure():
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1])
    content = plots.png(figure, dpi=80, colors=8)
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG" and image.size == (160, 80) and len(image.getcolors()) <= 8
    assert not plt.fignum_exists(figure.number)
