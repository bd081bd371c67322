"""The paper's claims as predicates on results, fixed before the published results were read (PAPER: C03–C05)."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lib.statistics import Interval, interval, statistic_interval

HIGH = 0.8
"""Orders of at least this fraction of n are high."""
LOW = 0.5
"""Orders of at most this fraction of n are low or middle ones."""


@dataclass(frozen=True)
class Verdict:
    """A claim, its measured effect with the 95% interval over images, and what the interval says of it."""

    id: str
    claim: str
    effect: Interval
    threshold: float

    @property
    def verdict(self) -> str:
        """ "replicated" where the whole interval is above the threshold, "contradicted" below, else "inconclusive"."""
        if self.effect.low > self.threshold:
            return "replicated"
        return "contradicted" if self.effect.high < self.threshold else "inconclusive"


def high_share(difference: NDArray[np.float64], fractions: NDArray[np.float64]) -> float:
    """Share of Σ_m |ΔI^(m)| at high orders, ΔI^(m) being the mean over images of (images, orders) (S-Table 1)."""
    change = np.abs(difference.mean(0))
    return float(change[fractions >= HIGH].sum() / change.sum())


def c03(changed: xr.Dataset, attack: str) -> list[Verdict]:
    """C03: attacks mainly affect high orders, in standard models."""
    difference, fractions = _difference(changed, attack)
    share = statistic_interval(lambda d: high_share(d, fractions), difference)
    low, high = _order(fractions, 0.3), _order(fractions, 0.95)
    contrast = interval(difference[:, high] - difference[:, low])
    return [
        Verdict("C03", "share of |ΔI| at m ≥ 0.8n is above 1/2", share, 0.5),
        Verdict("C03", "ΔI at 0.95n exceeds ΔI at 0.3n", contrast, 0.0),
    ]


def c04(standard: xr.Dataset, adversarial: xr.Dataset, attack: str) -> list[Verdict]:
    """C04: adversarial training makes high orders robust; both models attacked to one utility."""
    of_standard, fractions = _difference(standard, attack)
    of_adversarial, _ = _difference(adversarial, attack)
    share = statistic_interval(
        lambda s, a: high_share(s, fractions) - high_share(a, fractions), of_standard, of_adversarial
    )
    high = _order(fractions, 0.95)
    size = statistic_interval(lambda s, a: float(s.mean() - a.mean()), of_standard[:, high], of_adversarial[:, high])
    return [
        Verdict("C04", "the share of high orders is smaller in the adversarially trained model", share, 0.0),
        Verdict("C04", "ΔI at 0.95n is smaller in the adversarially trained model", size, 0.0),
    ]


def c05(changed: xr.Dataset, attack: str) -> list[Verdict]:
    """C05: interactions of high order are weaker in adversarial images, in every model."""
    difference, fractions = _difference(changed, attack)
    return [Verdict("C05", "ΔI at 0.95n is above 0", interval(difference[:, _order(fractions, 0.95)]), 0.0)]


def c06(changed: xr.Dataset, attack: str) -> list[Verdict]:
    """C06: where v belongs to the class attacked to, or to all wrong classes, high orders increase."""
    difference, fractions = _difference(changed, attack)
    raised = -difference[:, _order(fractions, 0.95)]
    return [Verdict("C06", "−ΔI at 0.95n is above 0", interval(raised), 0.0)]


def c07(changed: xr.Dataset) -> list[Verdict]:
    """C07: stronger attacks change high orders more; the attacks are "steps 4", "steps 8", … (S-Table 2)."""
    steps = np.array([float(name.removeprefix("steps ")) for name in changed.attack.values])
    high = _order(changed.fraction.values, 0.95)
    difference = changed.difference.isel(order=high).transpose("image", "attack").values.astype(float)
    correlation = statistic_interval(lambda d: float(np.corrcoef(steps, d.mean(0))[0, 1]), difference)
    return [Verdict("C07", "the correlation of ΔI at 0.95n with the steps is above 0.9", correlation, 0.9)]


def low_share(difference: NDArray[np.float64], fractions: NDArray[np.float64], n: int) -> float:
    """Share of Σ_m |ΔJ^(m)| at low and middle orders, ΔJ the mean over images of (images, orders) (Figure 4).

    ΔJ^(m) = (n − 1 − m) / (n (n − 1)) · ΔI^(m), at the orders m = int((n − 2) · fraction) that were measured.
    """
    orders = np.floor((n - 2) * fractions)
    change = np.abs(difference.mean(0)) * (n - 1 - orders)
    return float(change[fractions <= LOW].sum() / change.sum())


def c10(standard: xr.Dataset, adversarial: xr.Dataset, attack: str) -> list[Verdict]:
    """C10: low and middle orders carry more of ΔJ in the adversarially trained model; both attacked to one utility."""
    of_standard, fractions = _difference(standard, attack)
    of_adversarial, _ = _difference(adversarial, attack)
    n = int(standard.players)
    share = statistic_interval(
        lambda s, a: low_share(a, fractions, n) - low_share(s, fractions, n), of_standard, of_adversarial
    )
    return [Verdict("C10", "the share of |ΔJ| at m ≤ 0.5n is larger in the adversarially trained model", share, 0.0)]


def c11(standard: xr.Dataset, adversarial: xr.Dataset) -> list[Verdict]:
    """C11: low orders are more disentangled in the adversarially trained model: the mean of D^(m) over m ≤ 0.5n."""

    def low(measured: xr.Dataset) -> NDArray[np.float64]:
        midpoint = measured.disentanglement.sel(estimate="midpoint")
        return midpoint.isel(order=np.flatnonzero(measured.fraction.values <= LOW)).mean("order").values

    gain = statistic_interval(lambda s, a: float(a.mean() - s.mean()), low(standard), low(adversarial))
    return [Verdict("C11", "D at m ≤ 0.5n is larger in the adversarially trained model", gain, 0.0)]


def _difference(changed: xr.Dataset, attack: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ΔI^(m) (images, orders) at the fractions from 0.1 up that S-Table 1 lists, and these fractions."""
    listed = changed.isel(order=np.flatnonzero(changed.fraction.values >= 0.1))
    return listed.difference.sel(attack=attack).values.astype(float), listed.fraction.values


def _order(fractions: NDArray[np.float64], wanted: float) -> int:
    at = np.flatnonzero(np.isclose(fractions, wanted))
    if not len(at):
        raise ValueError(f"the claim needs the order {wanted}n; measured were {', '.join(map(str, fractions))}")
    return int(at[0])
