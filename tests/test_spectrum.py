"""Frequencies against sums over waves in plain Python, ranks against their optimum, Fisher's ratio by hand."""

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lib import spectrum
from tests.helpers import close


def random_images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Frequency.


@pytest.mark.parametrize("size", [(4, 4), (5, 5), (4, 3)])
def test_amplitude_is_the_sum_over_waves(size):
    """Every F(h,w) as a sum over pixels, gathered by h² + w²."""
    height, width = size
    images = random_images(2, 3, height, width)
    radii, amplitude = spectrum.radial_amplitude(images)
    for image, found in zip(images, amplitude, strict=True):
        power = {}
        for h in range(-(height // 2), (height + 1) // 2):
            for w in range(-(width // 2), (width + 1) // 2):
                for channel in image.tolist():
                    f = sum(
                        channel[y][x] * cmath.exp(-2j * math.pi * (h * y / height + w * x / width))
                        for y in range(height)
                        for x in range(width)
                    )
                    power[h**2 + w**2] = power.get(h**2 + w**2, 0) + abs(f) ** 2 / (height * width)
        squares = sorted(power)
        close(radii, torch.tensor(squares, dtype=torch.float64).sqrt())
        close(found, torch.tensor([power[square] for square in squares], dtype=torch.float64).sqrt())


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 1000))
def test_energy_is_conserved_and_the_first_radius_is_the_mean(height, width, channels, seed):
    images = random_images(2, channels, height, width, seed=seed)
    radii, amplitude = spectrum.radial_amplitude(images)
    assert radii[0] == 0 and (radii.diff() > 0).all()
    close(amplitude.square().sum(1), images.square().sum((1, 2, 3)))
    close(amplitude[:, 0].square(), height * width * images.mean((2, 3)).square().sum(1))


def test_a_wave_has_its_own_radius():
    """3 cycles down and 4 across, of 16 pixels: r = 5, nothing else but the mean."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    wave = 0.5 + 0.5 * torch.cos(2 * math.pi * (3 * y + 4 * x) / 16).double()
    radii, amplitude = spectrum.radial_amplitude(wave[None, None])
    present = radii[amplitude[0] > 1e-5]
    close(present, torch.tensor([0.0, 5.0], dtype=torch.float64))
    close(amplitude[0, radii == 5], torch.tensor([math.sqrt(0.25 / 2) * 16], dtype=torch.float64), 1e-6)


def test_images_do_not_depend_on_their_batch():
    images = random_images(3, 3, 8, 8).float()
    _, together = spectrum.radial_amplitude(images)
    assert together.dtype == torch.float32
    close(together[[1]], spectrum.radial_amplitude(images[[1]])[1], 1e-6)


def test_low_pass_keeps_the_wave_inside_the_radius_and_the_mean():
    """Two waves about a mean of 0.5, of the radii 5 and 13: from each radius on the wave is there."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    slow, fast = (0.2 * torch.cos(2 * math.pi * (h * y + w * x) / 32).double() for h, w in ((3, 4), (5, 12)))
    image = (0.5 + slow + fast)[None, None]
    for radius, expected in ((0, 0.5 + 0 * slow), (4.9, 0.5 + 0 * slow), (5, 0.5 + slow), (12.9, 0.5 + slow)):
        close(spectrum.low_pass(image, radius), expected[None, None], 1e-6)
    for radius in (13, 99):
        close(spectrum.low_pass(image, radius), image, 1e-6)


def test_low_pass_gives_images_and_wants_a_radius():
    images = random_images(2, 3, 8, 7).round()
    assert spectrum.low_pass(images, 2).min() >= 0 and spectrum.low_pass(images, 2).max() <= 1
    with pytest.raises(ValueError, match="0 or more cycles over the image; got -1"):
        spectrum.low_pass(images, -1)
    with pytest.raises(ValueError, match="0 or more cycles over the image; got nan"):
        spectrum.low_pass(images, float("nan"))


# Fisher's ratio.


def test_fisher_ratio_by_hand():
    first = [[0.0, 1.0], [2.0, 1.0]]
    second = [[3.0, 1.0], [5.0, 2.0], [7.0, 6.0]]
    found = spectrum.fisher_ratio(first, second)
    assert found == pytest.approx([(1 - 5) ** 2 / (2 + 4), (1 - 3) ** 2 / (0 + 7)])


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_fisher_ratio_has_no_units_and_no_sides(seed, scale, shift):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(6, 4)), rng.normal(1, 2, size=(9, 4))
    found = spectrum.fisher_ratio(first, second)
    assert found == pytest.approx(spectrum.fisher_ratio(second, first))
    assert found == pytest.approx(spectrum.fisher_ratio(scale * first + shift, scale * second + shift))
    one_by_one = [float(spectrum.fisher_ratio(first[:, k], second[:, k])) for k in range(4)]
    assert found.tolist() == pytest.approx(one_by_one)


def test_fisher_ratio_is_the_criterion_of_scikit_learns_discriminant():
    """One feature, equal sizes: the squared distance of the means over the pooled variance is twice the ratio."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 1)), rng.normal(1, 2, size=(50, 1))
    discriminant = LinearDiscriminantAnalysis(store_covariance=True, solver="lsqr")
    discriminant.fit(np.concatenate([first, second]), np.repeat([0, 1], 50))
    distance = np.diff(discriminant.means_, axis=0) ** 2 / (discriminant.covariance_ * 50 / 49)
    assert spectrum.fisher_ratio(first, second) == pytest.approx(distance[0] / 2)


def test_constant_features():
    """The same constant separates nothing, two different ones all."""
    assert spectrum.fisher_ratio(np.zeros((3, 2)), np.tile([0.0, 1.0], (4, 1))).tolist() == [0, math.inf]
    same = [0.1, 0.7]  # whose means are rounded, otherwise for three than for ninety
    assert spectrum.fisher_ratio(np.tile(same, (3, 1)), np.tile(same, (90, 1))).tolist() == [0, 0]


def test_tensors_are_samples_too():
    first, second = random_images(5, 3), random_images(4, 3, seed=1)
    assert spectrum.fisher_ratio(first, second) == pytest.approx(spectrum.fisher_ratio(first.numpy(), second.numpy()))


# Rank.


@given(st.integers(1, 7), st.integers(1, 7), st.data())
def test_rank_is_reduced_and_the_error_is_the_lost_singular_values(height, width, data):
    """Eckart–Young, on images around 0.5 whose approximations need no clamp."""
    rank = data.draw(st.integers(1, min(height, width)))
    images = 0.45 + 0.1 * random_images(2, 3, height, width, seed=data.draw(st.integers(0, 1000)))
    reduced = spectrum.reduce_rank(images, rank)
    values = np.linalg.svd(images.numpy(), compute_uv=False)
    for b in range(2):
        for c in range(3):
            assert np.linalg.matrix_rank(reduced[b, c].numpy(), tol=1e-10) <= rank
            lost = math.sqrt((values[b, c, rank:] ** 2).sum())
            assert np.linalg.norm((reduced - images)[b, c]) == pytest.approx(lost, abs=1e-10)


def test_full_rank_is_the_image_itself_and_a_low_rank_image_stays():
    images = random_images(2, 3, 6, 8)
    close(spectrum.reduce_rank(images, 6), images)
    outer = random_images(1, 2, 6, 1) @ random_images(1, 2, 1, 8, seed=1)
    close(spectrum.reduce_rank(outer, 1), outer)
    close(spectrum.reduce_rank(images, np.int64(2)), spectrum.reduce_rank(images, 2))


def test_the_result_is_clamped_to_0_to_1():
    images = (random_images(1, 1, 8, 8) > 0.5).double()
    u, s, vh = np.linalg.svd(images.numpy())
    unclamped = (u[..., :2] * s[..., None, :2]) @ vh[..., :2, :]
    assert unclamped.min() < 0 and unclamped.max() > 1
    close(spectrum.reduce_rank(images, 2), torch.from_numpy(unclamped.clip(0, 1)))


# Errors.


@pytest.mark.parametrize("rank", [0, -1, 5, 2.0, 8 / 3])
def test_a_wrong_rank_is_one_clear_error(rank, empty_folder):
    message = rf"the rank of a channel of 4×6 pixels is an integer in 1\.\.4; got {rank}"
    with pytest.raises(ValueError, match=message):
        spectrum.reduce_rank(random_images(1, 3, 4, 6), rank)


@pytest.mark.parametrize("call", [spectrum.radial_amplitude, lambda images: spectrum.reduce_rank(images, 1)])
def test_images_must_be_images(call, empty_folder):
    with pytest.raises(ValueError, match=r"images must be a float tensor \(B, C, H, W\); got \(3, 4, 4\)"):
        call(random_images(3, 4, 4))
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
        call(2 + random_images(1, 3, 4, 4))


@pytest.mark.parametrize(("first", "second"), [((1, 3), (4, 3)), ((4, 3), (4, 2)), ((4, 3), (4,)), ((), ())], ids=str)
def test_a_fisher_ratio_needs_two_samples(first, second, empty_folder):
    with pytest.raises(ValueError, match=r"two samples of at least 2 images, with the same features.*; got \("):
        spectrum.fisher_ratio(np.zeros(first), np.zeros(second))
