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


def test_button_adds_the_readers_epsilon_to_the_slider_in_place_of_the_one_before(view):
    epsilon, order, stack, live = view.children
    epsilon.index, order.index = 0, 1
    for own in (12, 4.5):
        live.children[0].value = own
        live.children[1].click()
        assert [[image.value for image in column.children] for column in stack.children] == [
            [b"0 25", b"0 127", b"0 241"],
            [b"8 25", b"8 127", b"8 241"],
            [f"{own:g} {order}".encode() for order in ORDERS],
        ]
        assert epsilon.options == ("0/255", "8/255", f"own: {own:g}/255")
        assert epsilon.index == stack.selected_index == 2 and stack.children[2].selected_index == 1
        assert not live.children[1].disabled and live.children[2].value == ""
    epsilon.index = 1
    assert epsilon.value == "8/255", "the others are still there"


def test_an_error_stands_beside_the_button_which_can_be_pressed_again(caplog):
    def draw(place, image):
        if image == place == 1:
            raise ValueError("no such image")
        return f"{place} of {image}".encode()

    view = widgets.chooser(draw, names=["a", "b"], description="x", images=2)
    _, stack, (_, button, state) = *view.children[:2], view.children[2].children
    assert state.value == "(needs a running kernel)"
    button.click()
    assert "no such image" in caplog.text, "its traceback is logged"
    assert state.value == "failed: no such image" and not button.disabled
    assert [picture.value for picture in stack.children] == [b"0 of 0", b"1 of 0"], "all or none"


def test_an_interruption_does_not_leave_it_computing():
    def draw(place, image):
        if image:
            raise KeyboardInterrupt
        return b""

    _, button, state = widgets.chooser(draw, names=["a"], description="x", images=2).children[2].children
    with pytest.raises(KeyboardInterrupt):
        button.click()
    assert state.value == "failed: KeyboardInterrupt" and not button.disabled


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
    assert [picture.value for picture in stack.children] == [b"0 of 3", b"1 of 3"] and not live.children[1].disabled
    assert slider.index == 0
    live.children[0].value = 99
    assert live.children[0].value == 4, "there are five images"
    first = widgets.chooser(lambda place, image: b"", names=["a", "b"], description="x", images=1, last=False)
    assert first.children[0].index == first.children[1].selected_index == 0
    with pytest.raises(ValueError, match="at least one name and one image are needed; got 0 and 3"):
        widgets.chooser(lambda place, image: b"", names=[], description="x", images=3)
