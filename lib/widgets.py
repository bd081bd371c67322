"""Widgets that are alive in a static page: pictures drawn beforehand, chosen by sliders in the reader's browser."""

from collections.abc import Callable, Iterable, Sequence

import ipywidgets


def epsilon_order(
    draw: Callable[[Sequence[float]], list[list[bytes]]], *, epsilons: Sequence[float], orders: Sequence[int], n: int
) -> ipywidgets.VBox:
    """Two sliders, ε and order, over PNG pictures; the last ones first.

    ``draw(epsilons)`` gives for each ε one picture an order. An order is shown as m and as its percentage of n−2.

    Without a kernel the sliders choose among the pictures drawn beforehand. With one, the button draws those of an ε of
    the reader's own and adds it to the slider, where the next one takes its place.
    """
    if not epsilons or not orders:
        raise ValueError("at least one epsilon and one order are needed")
    columns = [ipywidgets.Stack(children=_images(drawn), selected_index=len(orders) - 1) for drawn in draw(epsilons)]
    view = ipywidgets.Stack(children=columns, selected_index=len(epsilons) - 1)
    wide = ipywidgets.Layout(width="95%")
    given = [f"{value * 255:g}/255" for value in epsilons]
    epsilon = ipywidgets.SelectionSlider(options=given, index=len(epsilons) - 1, description="epsilon", layout=wide)
    order = ipywidgets.SelectionSlider(
        options=[f"{m} ({m / (n - 2):.0%})" for m in orders],
        index=len(orders) - 1,
        description="order m",
        layout=wide,
    )
    ipywidgets.jslink((epsilon, "index"), (view, "selected_index"))
    for column in columns:
        ipywidgets.jslink((order, "index"), (column, "selected_index"))

    own = ipywidgets.BoundedFloatText(value=12.0, min=0.0, max=255.0, step=1.0, description="own ε·255")

    def recompute() -> None:
        (drawn,) = draw([own.value / 255])
        column = ipywidgets.Stack(children=_images(drawn), selected_index=order.index)
        ipywidgets.jslink((order, "index"), (column, "selected_index"))
        view.children = [*columns, column]
        epsilon.options = [*given, f"own: {own.value:g}/255"]
        epsilon.index = view.selected_index = len(columns)

    return ipywidgets.VBox([epsilon, order, view, _live(own, recompute, "adds your ε to the slider")])


def chooser(
    draw: Callable[[int, int], bytes], *, names: Sequence[str], description: str, images: int, last: bool = True
) -> ipywidgets.VBox:
    """One slider, ``names`` its places, over PNG pictures: ``draw(place, image)`` gives the one there, of image 0.

    Without a kernel the slider chooses among the pictures drawn beforehand. With one, the button draws all of them
    anew, of another of the ``images``.
    """
    if not names or images < 1:
        raise ValueError(f"at least one name and one image are needed; got {len(names)} and {images}")
    chosen = len(names) - 1 if last else 0
    pictures = _images(draw(place, 0) for place in range(len(names)))
    view = ipywidgets.Stack(children=pictures, selected_index=chosen)
    slider = ipywidgets.SelectionSlider(
        options=list(names), index=chosen, description=description, layout=ipywidgets.Layout(width="95%")
    )
    ipywidgets.jslink((slider, "index"), (view, "selected_index"))

    other = ipywidgets.BoundedIntText(value=min(1, images - 1), min=0, max=images - 1, description="own image")

    def recompute() -> None:
        drawn = [draw(place, other.value) for place in range(len(names))]
        for picture, png in zip(pictures, drawn, strict=True):
            picture.value = png

    return ipywidgets.VBox([slider, view, _live(other, recompute, "draws the pictures anew, of your image")])


def _images(pngs: Iterable[bytes]) -> list[ipywidgets.Image]:
    """The pictures, as wide as the page at most; a margin beside that width would make the reader scroll."""
    fit = ipywidgets.Layout(max_width="100%", margin="0")
    return [ipywidgets.Image(value=png, format="png", layout=fit) for png in pngs]


def _live(own: ipywidgets.Widget, recompute: Callable[[], None], tooltip: str) -> ipywidgets.HBox:
    """The reader's own value and the button that recomputes with it, for a page with a running kernel.

    What goes wrong then stands beside the button, and goes on to where the kernel reports errors.
    """
    button = ipywidgets.Button(description="Recompute", tooltip=f"{tooltip}; needs a kernel")
    state = ipywidgets.Label("(needs a running kernel)")

    def pressed(_: ipywidgets.Button) -> None:
        button.disabled, state.value = True, "computing …"
        try:
            recompute()
        except BaseException as error:
            state.value = f"failed: {str(error) or type(error).__name__}"
            raise
        else:
            state.value = ""
        finally:
            button.disabled = False

    button.on_click(pressed)
    wrapped = ipywidgets.Layout(flex_flow="row wrap")
    return ipywidgets.HBox([own, button, state], layout=wrapped)
