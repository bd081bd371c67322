"""The ε × order widget: its pictures and its button; that its sliders work is tested in the browser."""

import pytest

from lib import widgets

EPSILONS, ORDERS = [0, 8 / 255], [25, 127, 241]


@pytest.fixture
def drawn():
    return []


@pytest.fixture
def view(drawn):
    def draw(epsilons):
        drawn.append(epsilons)
        return [[f"{epsilon * 255:g} {order}".encode() for order in ORDERS] for epsilon in epsilons]

    return widgets.epsilon_order(draw, epsilons=EPSILONS, orders=ORDERS, n=256)


def test_every_picture_is_drawn_once_and_in_its_place(view, drawn):
    assert drawn == [EPSILONS], "all at once"
    columns = view.children[2].children
    assert [[image.value for image in column.children] for column in columns] == [
        [b"0 25", b"0 127", b"0 241"],
        [b"8 25", b"8 127", b"8 241"],
    ]
    assert view.children[2].selected_index == 1 and all(column.selected_index == 2 for column in columns)
    assert view.children[0].index == 1 and view.children[1].index == 2


def test_button_draws_the_chosen_column_at_the_readers_epsilon(view):
    epsilon, _, stack, live = view.children
    epsilon.index = 0
    live.children[0].value = 12
    live.children[1].click()
    assert [image.value for image in stack.children[0].children] == [b"12 25", b"12 127", b"12 241"]
    assert stack.children[1].children[0].value == b"8 25" and not live.children[1].disabled


def test_button_can_be_pressed_again_after_an_error():
    view = widgets.chooser(lambda place, image: bytes(1 // (1 - image)), names=["a"], description="x", images=2)
    button = view.children[2].children[1]
    button.click()  # the error is logged
    assert not button.disabled


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="at least one epsilon and one order"):
        widgets.epsilon_order(lambda epsilons: [], epsilons=[], orders=ORDERS, n=256)


def test_chooser_draws_each_place_and_another_image_at_the_readers_wish():
    view = widgets.chooser(
        lambda place, image: f"{place} of {image}".encode(), names=["a", "b"], description="x", images=5
    )
    slider, stack, live = view.children
    assert [picture.value for picture in stack.children] == [b"0 of 0", b"1 of 0"]
    assert slider.index == stack.selected_index == 1 and slider.options == ("a", "b")
    slider.index = 0
    live.children[0].value = 3
    live.children[1].click()
    assert [picture.value for picture in stack.children] == [b"0 of 3", b"1 of 0"] and not live.children[1].disabled
    live.children[0].value = 99
    assert live.children[0].value == 4, "there are five images"
    first = widgets.chooser(lambda place, image: b"", names=["a", "b"], description="x", images=1, last=False)
    assert first.children[0].index == first.children[1].selected_index == 0
    with pytest.raises(ValueError, match="at least one name and one image are needed; got 0 and 3"):
        widgets.chooser(lambda place, image: b"", names=[], description="x", images=3)
