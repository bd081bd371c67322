"""Intervals: their coverage on samples with a known mean, and their statistic."""

import numpy as np
import pytest
from scipy import stats

from lib.statistics import interval, ratio_interval, sampling_share, statistic_interval


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(60, 1500))  # 1,500 independent measurements of 60 images each
    found = interval(samples)
    covered = ((found.low <= 1) & (found.high >= 1)).mean()
    assert 0.90 <= covered <= 0.96  # the percentile bootstrap of 60 skewed values falls a little short of 95%


def test_interval_is_decided_by_the_seed_and_ordered():
    samples = np.random.default_rng(1).normal(size=(20, 3))
    first, again, other = interval(samples, seed=3), interval(samples, seed=3), interval(samples, seed=4)
    assert np.array_equal(first.low, again.low) and not np.array_equal(first.low, other.low)
    assert np.all(first.low < first.mean) and np.all(first.mean < first.high)
    assert first.images == 20 and np.allclose(first.mean, samples.mean(0))


def test_identical_images_have_an_interval_of_no_width():
    found = interval(np.zeros((5, 2)))
    assert np.all(found.low == 0) and np.all(found.high == 0)


def test_statistic_interval_of_the_mean_is_the_interval_of_the_mean():
    samples = np.random.default_rng(2).normal(size=50)
    by_statistic, by_mean = statistic_interval(np.mean, samples), interval(samples)
    assert by_statistic.mean == pytest.approx(by_mean.mean)
    assert by_statistic.low == pytest.approx(by_mean.low, abs=0.01)
    assert by_statistic.high == pytest.approx(by_mean.high, abs=0.01)


def test_samples_of_different_images_are_resampled_apart():
    samples = np.random.default_rng(3).normal(size=200)
    samples /= samples.std()
    found = statistic_interval(lambda a, b: a.mean() - b.mean(), samples, samples)
    assert found.mean == 0 and found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 200), rel=0.03)


def test_an_interval_corrected_for_bias_is_that_of_scipy():
    samples = np.random.default_rng(7).exponential(size=40)
    plain, found = statistic_interval(np.std, samples), statistic_interval(np.std, samples, method="BCa")
    theirs = stats.bootstrap([samples], np.std, n_resamples=10_000, rng=np.random.default_rng(8)).confidence_interval
    assert [found.low, found.high] == pytest.approx([theirs.low, theirs.high], rel=0.03)
    assert plain.low < 0.95 * found.low


def test_paired_samples_are_resampled_together():
    """Of images that go up and down together, the interval of the difference is that of the differences by image."""
    rng = np.random.default_rng(5)
    first = 10 * rng.normal(size=60)
    second = first + rng.normal(size=60)
    found = statistic_interval(lambda a, b: b.mean() - a.mean(), first, second, paired=True)
    by_image = statistic_interval(np.mean, second - first)
    assert [found.low, found.high] == pytest.approx([by_image.low, by_image.high])
    with pytest.raises(ValueError, match="the same length"):
        statistic_interval(lambda a, b: b.mean() - a.mean(), first, second[:-1], paired=True)


def test_a_ratio_of_the_same_images_knows_that_they_are_the_same():
    below = np.random.default_rng(5).gamma(4.0, size=60)
    together, apart = (ratio_interval(3 * below, below, paired=paired) for paired in (True, False))
    assert [float(end) for end in (together.mean, together.low, together.high)] == pytest.approx([3.0, 3.0, 3.0])
    assert float(apart.mean) == pytest.approx(3.0)
    assert apart.low < 2.8 < 3.2 < apart.high


def test_sampling_share_is_that_of_the_draws():
    """Images of standard deviation 2 with draws of errors between 0.5 and 1.5; and images that are all alike."""
    rng = np.random.default_rng(4)
    errors = rng.uniform(0.5, 1.5, size=(100_000, 2))
    samples = rng.normal(scale=[2.0, 0.0], size=errors.shape) + rng.normal(size=errors.shape) * errors
    found = sampling_share(samples, errors)
    assert found[0] == pytest.approx(np.sqrt((1 + 1 / 12) / 4), rel=0.02)
    assert np.isnan(found[1]) or found[1] > 5


def test_sampling_share_by_hand():
    """Three images at −1, 0, 1: variance 1, of which 0.36 is of the draws."""
    assert sampling_share([-1, 0, 1], [0.6, 0.6, 0.6]) == pytest.approx(0.6 / 0.8)
    assert np.isnan(sampling_share([-1, 0, 1], [1.1, 1.1, 1.1]))


@pytest.mark.parametrize("samples", [np.zeros(()), np.zeros((1, 4)), []])
def test_fewer_than_two_images_have_no_interval(samples):
    with pytest.raises(ValueError, match=r"at least 2 images; got [01]"):
        interval(samples)


@pytest.mark.parametrize("astray", [np.nan, np.inf])
def test_a_number_that_is_not_finite_has_no_interval(astray):
    samples = np.ones((10, 2))
    samples[3, 1] = astray
    for made in (interval, lambda some: sampling_share(some, some)):
        with pytest.raises(ValueError, match="1 of 20 numbers of 10 images are not finite: leave them out"):
            made(samples)


def test_a_statistic_may_leave_out_what_is_not_a_number():
    found = statistic_interval(np.nanmean, [1.0, np.nan, 2.0, 3.0] * 10)
    assert found.mean == 2 and 1.5 < found.low < 2 < found.high < 2.5


@pytest.mark.filterwarnings("ignore::scipy.stats.DegenerateDataWarning")
def test_a_statistic_that_few_images_leave_undefined_has_no_interval():
    """Of two images a resample may hold one alone, twice: its variance is 0."""
    with pytest.raises(ValueError, match="not a finite number in all resamples of 2 images: it takes more images"):
        statistic_interval(lambda some: np.mean(some) / np.var(some) if np.var(some) else np.nan, [1.0, 2.0])
