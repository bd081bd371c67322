"""Players: partitions of the pixels, their neighbours, and pixel masks of coalitions."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib import players


def touching(rows: int, columns: int) -> set[frozenset[int]]:
    """Brute force: pairs of cells, numbered row by row, that share an edge or a corner."""
    cells = list(itertools.product(range(rows), range(columns)))
    return {
        frozenset((a[0] * columns + a[1], b[0] * columns + b[1]))
        for a, b in itertools.combinations(cells, 2)
        if max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1
    }


def as_sets(pairs: torch.Tensor) -> list[frozenset[int]]:
    return [frozenset(pair) for pair in pairs.tolist()]


@given(side=st.integers(1, 5), cell_height=st.integers(1, 3), cell_width=st.integers(1, 3))
def test_grid_numbers_its_cells_row_by_row(side, cell_height, cell_width):
    grid = players.grid(side * cell_height, side * cell_width, side=side)
    assert grid.n == side * side
    for row in range(side * cell_height):
        for column in range(side * cell_width):
            assert grid.partition[row, column] == row // cell_height * side + column // cell_width


def test_grid_is_16_by_16_by_default():
    grid = players.grid(32, 32)
    assert grid.n == 256
    assert grid.partition.dtype == torch.int64
    assert grid.partition.flatten().bincount().tolist() == [4] * 256


def test_pixels_are_players_row_by_row():
    every = players.pixels(3, 5)
    assert every.n == 15
    assert every.partition.tolist() == [list(range(0, 5)), list(range(5, 10)), list(range(10, 15))]


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_neighbours_of_a_grid(side):
    pairs = as_sets(players.grid(side * 2, side * 3, side=side).neighbours)
    assert len(pairs) == len(set(pairs)) == 2 * side * (side - 1) + 2 * (side - 1) ** 2
    assert set(pairs) == touching(side, side)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (2, 2), (3, 5), (4, 2)])
def test_neighbours_of_pixels(height, width):
    pairs = as_sets(players.pixels(height, width).neighbours)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == touching(height, width)


@given(seed=st.integers(0, 1000), side=st.sampled_from([1, 2, 3]), count=st.integers(1, 4))
def test_expand_keeps_exactly_the_pixels_of_the_coalition(seed, side, count):
    grid = players.grid(6, 6, side=side)
    coalitions = torch.rand(count, grid.n, generator=torch.Generator().manual_seed(seed)) < 0.5
    masks = grid.expand(coalitions)
    assert masks.shape == (count, 1, 6, 6) and masks.dtype == torch.bool
    for b, row, column in itertools.product(range(count), range(6), range(6)):
        assert masks[b, 0, row, column] == coalitions[b, grid.partition[row, column]]


@pytest.mark.parametrize("side", [0, -4, 3, 64])
def test_a_grid_that_does_not_divide_the_image(side, empty_folder):
    message = rf"grid of {side}×{side} players .*image of 32×32 pixels: choose a side among 2, 4, 8, 16, 32$"
    with pytest.raises(ValueError, match=message):
        players.grid(32, 32, side=side)


def test_a_grid_must_divide_both_sides(empty_folder):
    with pytest.raises(ValueError, match=r"4×4 players .* 12×30 pixels: choose a side among 2, 3, 6$"):
        players.grid(12, 30, side=4)
    with pytest.raises(ValueError, match=r"5×5 players .* 12×30 pixels"):
        players.grid(12, 30, side=5)
