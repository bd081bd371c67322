"""Means over images with 95% bootstrap intervals: the image is the unit of replication."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 10_000
"""Of the images, for an interval: the draw then moves an end by about 3% of the standard error over images."""


@dataclass(frozen=True)
class Interval:
    """A mean, or another statistic, of ``images`` images with the ends of its 95% interval; arrays of one shape."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    images: int

    def text(self, digits: int = 3) -> str:
        """The interval of a single number, as "0.060 [0.050, 0.071]"."""
        return f"{self.mean:z.{digits}f} [{self.low:z.{digits}f}, {self.high:z.{digits}f}]"


def interval(samples: ArrayLike, *, seed: int = 0) -> Interval:
    """Mean over the first axis (images) with its 95% percentile bootstrap interval.

    Raises ValueError for fewer than two images, for one image has no spread, and for a number that is not finite.
    """
    values = _finite(samples)
    bootstrap = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=1000,  # as many in memory at once
        axis=0,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = bootstrap.confidence_interval
    return Interval(values.mean(0), low, high, images=len(values))


def statistic_interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    paired: bool = False,
    method: str = "percentile",
    seed: int = 0,
) -> Interval:
    """A statistic of whole samples, the first axis of each the images, with its interval.

    ``method`` is scipy's: "percentile", as everywhere in the ledger, or "BCa", corrected for bias.

    Several samples, of different models, are resampled independently, or together where they are ``paired``: of the
    same images, row by row.
    What is not a number in a sample is left to the statistic. Raises ValueError for fewer than two images, an interval
    whose ends are not finite, or samples that are paired and not of one length.
    """
    values = [_images(sample) for sample in samples]
    bootstrap = stats.bootstrap(
        [np.arange(len(each)) for each in values],
        lambda *rows: statistic(*(each[row] for each, row in zip(values, rows, strict=True))),
        n_resamples=RESAMPLES,
        vectorized=False,
        paired=paired,
        method=method,
        rng=np.random.default_rng(seed),
    )
    low, high = bootstrap.confidence_interval
    if not np.isfinite([low, high]).all():
        raise ValueError(
            f"the statistic is not a finite number in all resamples of {', '.join(str(len(each)) for each in values)} "
            "images: it takes more images, or a denominator that is 0 on none of them"
        )
    return Interval(np.asarray(statistic(*values)), low, high, images=min(map(len, values)))


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike, *, paired: bool = False) -> Interval:
    """The ratio of two means over images with its interval; ``paired`` where both are of the same images.

    It says little where the interval of the denominator comes near to 0. Raises ValueError as ``statistic_interval``.
    """
    return statistic_interval(lambda a, b: float(a.mean() / b.mean()), numerator, denominator, paired=paired)


def sampling_share(samples: ArrayLike, errors: ArrayLike) -> NDArray[np.float64]:
    """Sampling error of one image, over the standard deviation between images, the first axis, without that error.

    ``errors`` are the standard errors of the ``samples``, of the draws. Below 1/2, sampling widens an interval over
    images by less than 12%. Not a number where the images differ no more than their draws do.
    """
    values, drawn = _finite(samples), np.mean(_finite(errors) ** 2, axis=0)
    between = values.var(0, ddof=1) - drawn
    return np.sqrt(drawn / np.where(between > 0, between, np.nan))


def _images(samples: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim == 0 or len(values) < 2:
        count = 0 if values.ndim == 0 else len(values)
        raise ValueError(f"an interval over images needs at least 2 images; got {count}")
    return values


def _finite(samples: ArrayLike) -> NDArray[np.float64]:
    values = _images(samples)
    if not np.isfinite(values).all():
        astray = values.size - int(np.isfinite(values).sum())
        raise ValueError(f"{astray} of {values.size} numbers of {len(values)} images are not finite: leave them out")
    return values
