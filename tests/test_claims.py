"""Predicates: each verdict can come out, and comes out right on curves made for it."""

import numpy as np
import pytest
import xarray as xr

from lib import claims

FRACTIONS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])


def changed(curve, noise=0.005, images=50, seed=0):
    rng = np.random.default_rng(seed)
    difference = np.asarray(curve) + noise * rng.normal(size=(1, images, len(FRACTIONS)))
    return xr.Dataset(
        {"difference": (("attack", "image", "order"), difference)},
        coords={"attack": ["untargeted 8"], "fraction": ("order", FRACTIONS)},
    )


HIGH = np.where(FRACTIONS >= 0.8, 0.1, 0.01)
LOW = HIGH[::-1]


def test_share_of_high_orders_by_hand():
    share = claims.high_share(np.array([[1.0, -2.0, 1.0], [1.0, -2.0, 3.0]]), np.array([0.5, 0.7, 0.8]))
    assert share == pytest.approx(2 / 5)


@pytest.mark.parametrize(("curve", "verdict"), [(HIGH, "replicated"), (LOW, "contradicted")])
def test_c03_follows_the_curve(curve, verdict):
    assert [v.verdict for v in claims.c03(changed(curve), "untargeted 8")] == [verdict, verdict]


def test_c04_compares_the_twins():
    standard, flat = changed(HIGH), changed(np.full(11, 0.01), seed=1)
    assert [v.verdict for v in claims.c04(standard, flat, "untargeted 8")] == ["replicated"] * 2
    assert [v.verdict for v in claims.c04(flat, standard, "untargeted 8")] == ["contradicted"] * 2


def test_c05_is_inconclusive_where_the_interval_straddles_zero():
    (verdict,) = claims.c05(changed(np.zeros(11), noise=1.0), "untargeted 8")
    assert verdict.verdict == "inconclusive" and verdict.effect.images == 50


def test_missing_order_is_named():
    with pytest.raises(ValueError, match=r"needs the order 0\.95n"):
        claims.c05(changed(HIGH).isel(order=slice(5)), "untargeted 8")
