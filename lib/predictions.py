"""What the controls should show, as predicates on results, fixed before the published controls were measured."""

import numpy as np
import xarray as xr

from lib import claims
from lib.claims import change_at_high_order
from lib.results import reached
from lib.statistics import statistic_interval

LEAST_LACKING = 0.75
"""The least share of the attack's ΔI that noise must lack."""


def noise_is_harmless(measured: xr.Dataset, name: str, attack: str) -> claims.Verdict:
    """Prediction: noise of the attack's norm has less than a quarter of its ΔI at 0.95n, on the same images."""
    both = change_at_high_order(reached(measured, attack), [attack, name])
    lacking = statistic_interval(lambda d: 1 - abs(float(d[:, 1].mean())) / abs(float(d[:, 0].mean())), both)
    return claims.Verdict(name, f"{name}: less than a quarter of the attack's ΔI at 0.95n", lacking, LEAST_LACKING)


def masks_matter(measured: xr.Dataset, name: str, attack: str) -> claims.Verdict:
    """Prediction of the objection that masks only destroy the perturbation: one made for masks acts at lower orders.

    The share of |ΔI| at m ≥ 0.8n is then smaller, on the images that both attacks brought to the utility.
    """
    used = claims.listed(reached(reached(measured, attack), name))
    fractions = used.fraction.values
    both = used.difference.sel(attack=[attack, name]).transpose("image", "attack", "order").values
    fall = statistic_interval(
        lambda d: claims.high_share(d[:, 0], fractions) - claims.high_share(d[:, 1], fractions), both
    )
    return claims.Verdict(name, f"{name}: the share of |ΔI| at m ≥ 0.8n is smaller", fall, 0.0)


def grows(measured: xr.Dataset, name: str) -> claims.Verdict:
    """Prediction: ΔI at 0.95n grows with every dose, on the images that reached all of them."""
    used = measured.isel(image=measured.reached.all("attack").values.nonzero()[0])
    changes = change_at_high_order(used, used.attack.values)
    least = statistic_interval(lambda d: float((d[:, 1:] - d[:, :-1]).mean(0).min()), changes)
    return claims.Verdict(name, f"{name}: the least rise of ΔI at 0.95n from a dose to the next is above 0", least, 0.0)


def log_p_saturates(log_p: xr.Dataset, logit: xr.Dataset, weak: str, strong: str) -> claims.Verdict:
    """Prediction: ΔI at 0.95n of the weak attack is a larger part of the strong one's if v is the logit, not log p.

    A confident network's log p hardly falls at first; its logit falls by what the utility says. On the images that both
    attacks brought to their utility, the same for both values.
    """
    used = xr.align(
        *(reached(reached(each, weak), strong) for each in (log_p, logit)), join="inner", exclude=["attack", "variant"]
    )
    changes = np.stack([change_at_high_order(each, [weak, strong]) for each in used], 1)
    rise = statistic_interval(
        lambda d: float(d[:, 1, 0].mean() / d[:, 1, 1].mean() - d[:, 0, 0].mean() / d[:, 0, 1].mean()), changes
    )
    return claims.Verdict("logit", f"{weak}: its part of ΔI at 0.95n, {strong}, is larger with the logit", rise, 0.0)
