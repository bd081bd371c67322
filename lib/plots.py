"""Figures: order curves with their intervals, and pictures of images, perturbations and contexts."""

import io
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lib import results
from lib.models import TITLES
from lib.statistics import Interval, interval

NORMAL, ADVERSARIAL, TARGETED, DIFFERENCE = "#0072B2", "#D55E00", "#9B4F96", "#007A5E"
"""Colours that a colour-blind reader can tell apart, on white and on dark ground (after Okabe and Ito)."""
KEPT = (NORMAL, ADVERSARIAL, TARGETED, DIFFERENCE, "red", "white")
"""Colours that ``png`` shows as they are: those of lines, outlines and the ground."""


def band(
    axes: Axes, fractions: Sequence[float], over_images: Interval, *, label: str, color: str, style: str = "o-"
) -> None:
    """A mean over images against the order m/(n − 2), with its 95% interval as a band."""
    axes.fill_between(fractions, over_images.low, over_images.high, color=color, alpha=0.2, linewidth=0)
    axes.plot(fractions, over_images.mean, style, color=color, label=label, markersize=4)


def order_figure(measured: Sequence[tuple[str, xr.Dataset]], attack: str, *, unit: str = "images") -> Figure:
    """Figure 3: I^(m) of normal and adversarial images above, ΔI^(m) below; one column per titled result.

    Only images, or what the ``unit`` is, on which the attack reached its utility count; fewer than two leave a column
    empty.
    """
    figure, table = plt.subplots(
        2,
        len(measured),
        figsize=(4.6 * len(measured), 5.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, (title, result) in zip(table.T, measured, strict=True):
        used = results.reached(result, attack)
        count, total = used.sizes["image"], result.sizes["image"]
        how = f"pairs: {result.sampling}, {result.design}"
        column[0].set_title(f"{title}, {attack}, {count} of {total} {unit}\n{how}", fontsize=10)
        for axes in column:
            axes.axhline(0, color="grey", linewidth=0.8)
            axes.set_xlim(-0.02, 1)
        if count < 2:
            column[0].text(0.5, 0.5, f"too few {unit}\nreached the utility", ha="center", transform=column[0].transAxes)
            continue
        fractions = used.fraction.values
        for variant, label, color, style in (
            ("normal", "normal", NORMAL, "o-"),
            (attack, "adversarial", ADVERSARIAL, "s--"),
        ):
            curve = interval(used.interaction.sel(variant=variant).values)
            band(column[0], fractions, curve, label=label, color=color, style=style)
        change = interval(used.difference.sel(attack=attack).values)
        band(column[1], fractions, change, label="normal − adversarial", color=DIFFERENCE, style="^-")
        column[1].set_xlabel("order m / (n − 2)")
        for axes in column:
            axes.legend(frameon=False, fontsize=9)
    table[0, 0].set_ylabel("interaction $I^{(m)}$")
    table[1, 0].set_ylabel(r"change $\Delta I^{(m)}$")
    return figure


def disentanglement_curve(axes: Axes, result: xr.Dataset, *, label: str, color: str, style: str) -> None:
    """Figure 5: D^(m) of normal images against the order.

    The band is the 95% interval over images of the midpoint estimate; the dotted lines are the lower and the upper one.
    """
    fractions = result.fraction.values
    curves = {str(name): result.disentanglement.sel(estimate=name) for name in result.estimate.values}
    band(axes, fractions, interval(curves["midpoint"].values), label=label, color=color, style=style)
    for bound in ("lower", "upper"):
        axes.plot(fractions, curves[bound].mean("image"), ":", color=color, linewidth=1)


def small_multiples(names: Sequence[str], draw: Callable[[Axes, str], None], *, title: str, y: str) -> Figure:
    """A panel each for architectures, three in a row, drawn by ``draw(axes, name)``; one scale, against the order."""
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    size = (max(10 * columns / 3, 5), 3 * lines)
    figure, table = plt.subplots(
        lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes in table.flat[len(names) :]:
        axes.set_axis_off()
    for place, (axes, name) in enumerate(zip(table.flat, names, strict=False)):
        draw(axes, name)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xlim(-0.02, 1)
        axes.set_title(TITLES[name], fontsize=10)
        if place + columns >= len(names):  # nothing below it
            axes.set_xlabel("order m / (n − 2)", fontsize=9)
            axes.tick_params(labelbottom=True)
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=8)
    for axes in table[:, 0]:
        axes.set_ylabel(y)
    figure.suptitle(title, fontsize=10)
    return figure


def show(axes: Axes, image: Tensor, *, title: str = "", limit: float | None = None) -> AxesImage:
    """An image (C, H, W): in grey or colour over [0, 1], or signed from −limit (blue) to limit (red), NaN in grey."""
    least, most, colors = (0.0, 1.0, "gray") if limit is None else (-limit, limit, "RdBu_r")
    shades = colormaps[colors].with_extremes(bad="silver")
    shown = axes.imshow(pixels(image, signed=limit is not None), cmap=shades, vmin=least, vmax=most)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    return shown


def pixels(image: Tensor, *, signed: bool = False) -> NDArray[np.float32]:
    """An image (C, H, W) as matplotlib has it: colours (H, W, C), or one value a pixel (H, W): grey, or the mean."""
    if signed:
        return image.mean(0).numpy()
    return image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()


def outline(axes: Axes, players: Sequence[int], *, side: int, pixels: int) -> None:
    """Red squares around the cells of the players in a grid of ``side`` × ``side`` over an image of ``pixels``."""
    cell = pixels / side
    for player in players:
        row, column = divmod(int(player), side)
        corner = (column * cell - 0.5, row * cell - 0.5)
        axes.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor="red", linewidth=1.5))


def png(figure: Figure, *, dpi: int = 80, colors: int = 64) -> bytes:
    """The figure as a small PNG of few colours, those ``KEPT`` among them; closes the figure."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once, where savefig would go through the figure twice
    plt.close(figure)
    small = io.BytesIO()
    whole = np.asarray(canvas.buffer_rgba())[..., :3]
    others = Image.fromarray(whole).quantize(colors - len(KEPT)).getpalette() or []
    palette = np.array([*(np.multiply(255, to_rgb(color)).round() for color in KEPT), *np.reshape(others, (-1, 3))])
    shades, shade_of = np.unique(whole @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    shades = np.stack([shades >> 16, shades >> 8 & 255, shades & 255], -1)
    nearest = ((shades[:, None] - palette) ** 2).sum(-1).argmin(1).astype(np.uint8)  # Pillow's own is not the nearest
    few = Image.fromarray(nearest[shade_of].reshape(whole.shape[:2]), "P")
    few.putpalette(palette.astype(np.uint8).tobytes())
    few.save(small, "png", optimize=True)
    return small.getvalue()
