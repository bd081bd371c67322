"""The paper's claims as predicates on results, fixed before the published results were read but for what §5 names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from lib.detection import Detection, area_under_roc
from lib.sampling import check_orders
from lib.spectrum import fisher_ratio
from lib.statistics import Interval, interval, statistic_interval

HIGH = 0.8
"""Orders of at least this fraction of n are high."""
LOW = 0.5
"""Orders of at most this fraction of n are low or middle ones."""
LISTED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""The orders of S-Table 1, as fractions of n: claims on whole curves are judged on these, whatever else is measured."""
PAPER_SHARES = {
    "standard": (0.3, 0.5, 0.8, 1.4, 2.1, 4.0, 6.6, 10.3, 13.8, 21.9, 38.3),
    "adversarial": (1.6, 2.3, 5.5, 8.2, 9.5, 10.0, 10.0, 10.8, 11.7, 14.4, 16.0),
}
"""The paper's |ΔI^(m)| / Σ|ΔI^(m)| in per cent, at the orders ``LISTED``, ResNet-18 of each training (S-Table 1)."""


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


def even_share(difference: NDArray[np.float64], fractions: NDArray[np.float64]) -> float:
    """Share of high orders in ∫|ΔI| over the fractions measured, all orders weighing alike; linear between those.

    No claim is judged on it: of the orders that S-Table 1 lists, four of eleven are high, though they are 3 of 17
    twentieths of n, so that a ΔI which is the same at every order has a ``high_share`` of 0.36 and 0.18 here.
    """
    change, high = np.abs(difference.mean(0)), fractions >= HIGH
    return float(np.trapezoid(change[high], fractions[high]) / np.trapezoid(change, fractions))


def c01(residuals: ArrayLike) -> list[Verdict]:
    """C01: the output decomposes into interactions; ``residuals`` (games,) of Eq. 3 and 5, relative to the values."""
    return [_exact("C01", "Eqs. 3 and 5 hold to 6 decimals", residuals, 6)]


def c02(residuals: ArrayLike) -> list[Verdict]:
    """C02: the properties of I^(m) and φ^(m) (S-B); ``residuals`` (games,) relative to the values."""
    return [_exact("C02", "linearity, nullity, symmetry and I_ij = I_ji hold to 6 decimals", residuals, 6)]


def c03(changed: xr.Dataset, attack: str) -> list[Verdict]:
    """C03: attacks mainly affect high orders, in standard models."""
    difference, fractions = _difference(changed, attack)
    share = statistic_interval(lambda d: high_share(d, fractions), difference)
    low, high = order_at(fractions, 0.3), order_at(fractions, 0.95)
    contrast = interval(difference[:, high] - difference[:, low])
    return [
        Verdict("C03", "share of |ΔI| at m ≥ 0.8n is above 1/2", share, 0.5),
        Verdict("C03", "ΔI at 0.95n exceeds ΔI at 0.3n", contrast, 0.0),
    ]


def c04(standard: xr.Dataset, adversarial: xr.Dataset, attack: str, *, paired: bool = False) -> list[Verdict]:
    """C04: adversarial training makes high orders robust; both models attacked to one utility.

    ``paired`` says that both results are of the same images, row by row, which are then resampled together.
    """
    of_standard, fractions = _difference(standard, attack)
    of_adversarial, _ = _difference(adversarial, attack)
    share = statistic_interval(
        lambda s, a: high_share(s, fractions) - high_share(a, fractions), of_standard, of_adversarial, paired=paired
    )
    last = [each[:, order_at(fractions, 0.95)] for each in (of_standard, of_adversarial)]
    size = statistic_interval(lambda s, a: float(s.mean() - a.mean()), *last, paired=paired)
    return [
        Verdict("C04", "the share of high orders is smaller in the adversarially trained model", share, 0.0),
        Verdict("C04", "ΔI at 0.95n is smaller in the adversarially trained model", size, 0.0),
    ]


def c05(changed: xr.Dataset, attack: str) -> list[Verdict]:
    """C05: interactions of high order are lower in adversarial images, in every model."""
    difference, fractions = _difference(changed, attack)
    return [Verdict("C05", "ΔI at 0.95n is above 0", interval(difference[:, order_at(fractions, 0.95)]), 0.0)]


def c06(changed: xr.Dataset, attack: str) -> list[Verdict]:
    """C06: where v belongs to the target of the attack, or to all wrong classes, high orders increase."""
    difference, fractions = _difference(changed, attack)
    raised = -difference[:, order_at(fractions, 0.95)]
    return [Verdict("C06", "−ΔI at 0.95n is above 0", interval(raised), 0.0)]


def c07(changed: xr.Dataset) -> list[Verdict]:
    """C07: stronger attacks change high orders more; the attacks are "steps 4", "steps 8", … (S-Table 2)."""
    steps = np.array([float(name.removeprefix("steps ")) for name in changed.attack.values])
    change = change_at_high_order(changed, changed.attack.values)
    correlation = statistic_interval(lambda d: float(np.corrcoef(steps, d.mean(0))[0, 1]), change)
    return [Verdict("C07", "the correlation of ΔI at 0.95n with the steps is above 0.9", correlation, 0.9)]


def c08(residuals: ArrayLike) -> list[Verdict]:
    """C08: Proposition 1 on exact joints; ``residuals`` (joints,) are the largest differences of its two sides."""
    return [_exact("C08", "I_ij^(m) of v = H(Y|X_S) is the mean co-information, to 10 decimals", residuals, 10)]


def order_lead(images: NDArray[np.float64], count: int) -> float:
    """The greatest Fisher ratio of an order minus that of a frequency.

    ``images`` (I, 2, M + R) are normal and adversarial, each with I^(m) at ``count`` orders and F^(r) after them.
    """
    ratio = fisher_ratio(images[:, 0], images[:, 1])
    return float(ratio[:count].max() - ratio[count:].max())


def c09(interactions: ArrayLike, amplitudes: ArrayLike) -> list[Verdict]:
    """C09: orders separate adversarial from normal images better than frequencies do, each at its best.

    I^(m) (2, I, M) and F^(r) (2, I, R) of the same I normal and adversarial images. A maximum of noisy ratios is
    greater in the resamples than in the data; which of the two lists gains more depends on their noise (§4.1).
    """
    orders, radii = np.asarray(interactions, dtype=float), np.asarray(amplitudes, dtype=float)
    features = np.concatenate([orders, radii], -1).swapaxes(0, 1)
    lead = statistic_interval(lambda images: order_lead(images, orders.shape[-1]), features)
    return [Verdict("C09", "the greatest Fisher ratio of an order exceeds that of a frequency", lead, 0.0)]


def low_share(difference: NDArray[np.float64], orders: Sequence[int], n: int) -> float:
    """Share of Σ_m |ΔJ^(m)| at low and middle orders, ΔJ the mean over images of (images, orders) (Figure 4).

    ΔJ^(m) = (n − 1 − m) / (n (n − 1)) · ΔI^(m), at the ``orders`` m of n players that were measured.
    Raises ValueError for what is no order.
    """
    check_orders(orders, n)
    m = np.asarray(orders)
    change = np.abs(difference.mean(0)) * (n - 1 - m)
    return float(change[m <= LOW * (n - 2)].sum() / change.sum())


def c10(standard: xr.Dataset, adversarial: xr.Dataset, attack: str, *, paired: bool = False) -> list[Verdict]:
    """C10: low and middle orders carry more of ΔJ in the adversarially trained model; both attacked to one utility.

    ``paired`` as for C04.
    """
    (of_standard, _), (of_adversarial, _) = _difference(standard, attack), _difference(adversarial, attack)
    orders, n = listed(standard).order.values, int(standard.players)
    share = statistic_interval(
        lambda s, a: low_share(a, orders, n) - low_share(s, orders, n), of_standard, of_adversarial, paired=paired
    )
    return [Verdict("C10", "the share of |ΔJ| at m ≤ 0.5n is larger in the adversarially trained model", share, 0.0)]


def c11(standard: xr.Dataset, adversarial: xr.Dataset) -> list[Verdict]:
    """C11: low orders are more disentangled in the adversarially trained model: the mean of D^(m) over m ≤ 0.5n."""

    def low(measured: xr.Dataset) -> NDArray[np.float64]:
        shown = listed(measured)
        midpoint = shown.disentanglement.sel(estimate="midpoint")
        return midpoint.isel(order=np.flatnonzero(shown.fraction.values <= LOW)).mean("order").values

    gain = statistic_interval(lambda s, a: float(a.mean() - s.mean()), low(standard), low(adversarial))
    return [Verdict("C11", "D at m ≤ 0.5n is larger in the adversarially trained model", gain, 0.0)]


def c12(detected: Mapping[int, Detection], attack: str) -> list[Verdict]:
    """C12: φ^(n−1), the last of the orders, detects the attack better than the best of the lower orders.

    ``detected`` has a detector an order, all tested on the same images. The best of several lower orders is too good,
    in the resamples more so: "contradicted" comes too easily here, and "replicated" too hard. The other way about, an
    order whose attributions are sampled may detect less well than its own would.
    """
    every = [np.stack([detected[order].normal, detected[order].adversarial[attack]], 1) for order in sorted(detected)]

    def lead(images: NDArray[np.float64]) -> float:
        *lower, last = (area_under_roc(*scores.T) for scores in images.swapaxes(0, 1))
        return last - max(lower)

    claim = f"AUC of φ^(n−1) exceeds that of every lower order measured, attack: {attack}"
    return [Verdict("C12", claim, statistic_interval(lead, np.stack(every, 1)), 0.0)]


def c13(standard: xr.Dataset, adversarial: xr.Dataset) -> list[Verdict]:
    """C13: led back, images come nearer to the normal ones in adversarially trained models, and not in standard ones.

    Only images that the attack misled count (S-Table 3).
    """

    def nearer(measured: xr.Dataset) -> Interval:
        used = measured.isel(image=np.flatnonzero(measured.misled.sel(attack="full").values))
        return interval((used.adversarial_distance - used.recovered_distance).values)

    of_standard, of_adversarial = nearer(standard), nearer(adversarial)
    farther = Interval(-of_standard.mean, -of_standard.high, -of_standard.low, of_standard.images)
    return [
        Verdict("C13", "‖x_adv − x‖ − ‖x̂ − x‖ is above 0 in the adversarially trained model", of_adversarial, 0.0),
        Verdict("C13", "‖x̂ − x‖ − ‖x_adv − x‖ is above 0 in the standard model", farther, 0.0),
    ]


def c14(measured: xr.Dataset) -> list[Verdict]:
    """C14: reducing the rank raises interactions of high order in adversarial images, more than in normal ones.

    Judged on the difference of the two, which is above 0 too where normal images fall and adversarial ones stay.
    Only images that reached the utility of the attack count.
    """
    used = listed(measured).isel(image=np.flatnonzero(measured.reached.values))
    high = used.transformed.isel(order=np.flatnonzero(used.fraction.values >= HIGH)).mean("order")
    verdicts = []
    for rank in ("rank 1/4", "rank 1/16"):
        raised = high.sel(transform=rank) - high.sel(transform="none")
        more = raised.sel(subject="adversarial") - raised.sel(subject="normal")
        claim = f"{rank}: I at m ≥ 0.8n rises more, or falls less, in adversarial than in normal images"
        verdicts.append(Verdict("C14", claim, interval(more.values), 0.0))
    return verdicts


def c15(residuals: ArrayLike) -> list[Verdict]:
    """C15: dropout leaves orders up to k−2; ``residuals`` (games,) of S-H on exact games, relative to the values."""
    return [_exact("C15", "E_K v(K) is the sum of the orders up to k−2, to 6 decimals", residuals, 6)]


def c16(measured: xr.Dataset) -> list[Verdict]:
    """C16: dropout corrects more of the adversarial images that mislead the model than cutout, rate by rate."""
    used = measured.isel(image=np.flatnonzero(measured.misled.sel(attack="stopped").values))
    share = used.corrected.sel(subject="adversarial")
    return [
        Verdict(
            "C16",
            f"{way} corrects more adversarial images than cutout",
            interval((share.sel(defense=way) - share.sel(defense="cutout")).values),
            0.0,
        )
        for way in share.defense.values
        if way != "cutout"
    ]


def c17(standard: xr.Dataset, smoothed: xr.Dataset, attack: str) -> list[Verdict]:
    """C17: training for randomized smoothing does what adversarial training does: C04 and C10 with that model."""
    return [
        Verdict("C17", found.claim.replace("adversarially trained", "smoothed"), found.effect, found.threshold)
        for found in c04(standard, smoothed, attack) + c10(standard, smoothed, attack)
    ]


def c20(measured: xr.Dataset) -> list[Verdict]:
    """C20: strong contexts of low order are local, those of high order global (Figure 2).

    The locality of ``contexts.locality`` is 0 for contexts that have nothing to do with the place of the pair.
    """
    low, high = (measured.locality.isel(order=order_at(measured.fraction.values, f)) for f in (0.1, 0.9))
    return [
        Verdict("C20", "the locality of strong contexts at 0.1n is above 0", interval(low.values), 0.0),
        Verdict("C20", "it is greater at 0.1n than at 0.9n", interval((low - high).values), 0.0),
    ]


def _exact(id: str, claim: str, residuals: ArrayLike, decimals: int) -> Verdict:
    """The decimals to which an identity holds on every one of some exact games: there is nothing to resample."""
    worst = np.asarray(residuals, dtype=float)
    reached = np.asarray(-np.log10(max(worst.max(), 1e-16)))
    return Verdict(id, claim, Interval(reached, reached, reached, images=worst.size), float(decimals))


def _difference(changed: xr.Dataset, attack: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ΔI^(m) (images, orders) at the fractions that S-Table 1 lists, and these fractions."""
    shown = listed(changed)
    return shown.difference.sel(attack=attack).values.astype(float), shown.fraction.values


def listed(measured: xr.Dataset) -> xr.Dataset:
    """What was measured at the orders that S-Table 1 lists."""
    return measured.isel(order=np.flatnonzero(np.isin(measured.fraction.values.round(6), LISTED)))


def order_at(fractions: NDArray[np.float64], wanted: float) -> int:
    """Where the order of a fraction of n stands among those measured; raises ValueError where it does not."""
    at = np.flatnonzero(np.isclose(fractions, wanted))
    if not len(at):
        raise ValueError(f"the claim needs the order {wanted}n; measured were {', '.join(map(str, fractions))}")
    return int(at[0])


def change_at_high_order(measured: xr.Dataset, attacks: ArrayLike) -> NDArray[np.float64]:
    """ΔI at 0.95n (images, attacks)."""
    last = measured.difference.isel(order=order_at(measured.fraction.values, 0.95))
    return last.sel(attack=attacks).transpose("image", "attack").values.astype(np.float64)
