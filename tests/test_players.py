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


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_neighbours_of_a_grid(side):
    pairs = as_sets(players.grid(side * 2, side * 3, side=side).neighbours)
    assert len(pairs) == len(set(pairs)) == 2 * side * (side - 1) + 2 * (side - 1) ** 2
    assert set(pairs) == touching(side, side)


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


def a_cloud(points=120, *, seed=0):
    """A random point cloud (3, points, 1) in [0, 1]."""
    return torch.rand(3, points, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("n", "nearest"), [(2, 1), (8, 3), (32, 3)])
def test_regions_of_a_cloud_by_brute_force(n, nearest, seed):
    cloud = a_cloud(seed=seed)
    regions = players.regions(cloud, n=n, nearest=nearest)
    assert regions.n == n and regions.partition.shape == (120, 1) and regions.partition.dtype == torch.int64
    points = cloud[:, :, 0].T
    centres = [max(range(120), key=lambda p: (points[p] - 0.5).norm().item())]
    while len(centres) < n:
        centres.append(max(range(120), key=lambda p: min((points[p] - points[c]).norm().item() for c in centres)))
    for p in range(120):
        gaps = [(points[p] - points[c]).norm().item() for c in centres]
        assert regions.partition[p, 0] == min(range(n), key=gaps.__getitem__)
    wanted = set()
    for i in range(n):
        others = sorted(set(range(n)) - {i}, key=lambda j: (points[centres[i]] - points[centres[j]]).norm().item())
        wanted |= {frozenset((i, j)) for j in others[:nearest]}
    pairs = as_sets(regions.neighbours)
    assert len(pairs) == len(set(pairs)) and set(pairs) == wanted


def test_regions_by_default_are_32_with_the_three_nearest():
    regions = players.regions(a_cloud())
    assert regions.n == 32 and regions.partition.unique().tolist() == list(range(32))
    assert torch.equal(regions.neighbours, players.regions(a_cloud(), n=32, nearest=3).neighbours)
    assert 48 <= len(regions.neighbours) <= 96 and regions.neighbours.unique().tolist() == list(range(32))


def test_expand_keeps_the_pixels_of_each_coalition_by_its_own_partition():
    partitions = torch.stack([players.regions(a_cloud(seed=seed), n=5).partition for seed in (0, 1, 2)])
    coalitions = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    masks = players.expand(partitions, coalitions)
    assert masks.shape == (3, 1, 120, 1)
    for b, p in itertools.product(range(3), range(120)):
        assert masks[b, 0, p, 0] == coalitions[b, partitions[b, p, 0]]


@pytest.mark.parametrize(
    ("cloud", "options", "message"),
    [
        (torch.rand(3, 8, 8), {}, r"a point cloud is \(3, points, 1\); got \(3, 8, 8\)"),
        (torch.rand(2, 3, 8, 1), {}, r"a point cloud is \(3, points, 1\); got \(2, 3, 8, 1\)"),
        (torch.rand(3, 8, 1), {}, r"8 points make 2\.\.8 regions, .*; got 32 regions and 3 nearest"),
        (torch.rand(3, 8, 1), {"n": 1}, r"got 1 regions and 3 nearest"),
        (torch.rand(3, 8, 1), {"n": 4, "nearest": 4}, r"got 4 regions and 4 nearest"),
        (torch.rand(3, 8, 1), {"n": 4, "nearest": 0}, r"got 4 regions and 0 nearest"),
        (torch.full((3, 8, 1), 0.25), {"n": 4}, r"4 regions need as many different points; the cloud has 1$"),
    ],
)
def test_regions_that_cannot_be(cloud, options, message, empty_folder):
    with pytest.raises(ValueError, match=message):
        players.regions(cloud, **options)


TWO = torch.tensor([[0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("n", "partition", "neighbours", "message"),
    [
        (3, TWO, [[0, 1]], r"into 3 players names each of 0\.\.2 and no other; got 2 names, 0 to 1"),
        (2, TWO + 1, [[0, 1]], r"into 2 players names each of 0\.\.1 and no other; got 2 names, 1 to 2"),
        (2, TWO, [[0, 2]], r"neighbours are players of 0\.\.1; got 0 to 2"),
        (2, TWO, [0, 1], r"neighbours must be an int64 tensor \(pairs, 2\); got \(2,\) of torch\.int64"),
        (2, TWO, [[0.0, 1.0]], r"neighbours must be an int64 tensor \(pairs, 2\); got \(1, 2\) of torch\.float32"),
        (2, TWO.float(), [[0, 1]], r"a partition is an int64 tensor \(H, W\); got .* of torch\.float32"),
        (2, TWO.numpy(), [[0, 1]], r"a partition is an int64 tensor \(H, W\); got a ndarray"),
        (2, TWO.flatten(), [[0, 1]], r"a partition is an int64 tensor \(H, W\); got \(\d+,\) of torch\.int64"),
        (0, TWO[:0], [[0, 1]], "a partition is of at least one pixel; got none"),
        (2, TWO, [[1, 1]], "two different players; got one beside itself"),
    ],
)
def test_players_of_ones_own_that_do_not_fit_are_refused(n, partition, neighbours, message):
    with pytest.raises(ValueError, match=message):
        players.Players(n, partition, torch.tensor(neighbours))
