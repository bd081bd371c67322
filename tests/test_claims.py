"""Predicates: each verdict can come out, and comes out right on curves made for it."""

import numpy as np
import pytest
import xarray as xr

from lib import claims
from lib.sampling import orders

FRACTIONS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])


def changed(curve, noise=0.005, images=50, seed=0):
    rng = np.random.default_rng(seed)
    difference = np.asarray(curve) + noise * rng.normal(size=(1, images, len(FRACTIONS)))
    return xr.Dataset(
        {"difference": (("attack", "image", "order"), difference)},
        coords={"attack": ["untargeted 8"], "order": orders(256, FRACTIONS), "fraction": ("order", FRACTIONS)},
    )


HIGH = np.where(FRACTIONS >= 0.8, 0.1, 0.01)
LOW = HIGH[::-1]


def test_share_of_high_orders_by_hand():
    share = claims.high_share(np.array([[1.0, -2.0, 1.0], [1.0, -2.0, 3.0]]), np.array([0.5, 0.7, 0.8]))
    assert share == pytest.approx(2 / 5)


def test_even_share_by_hand():
    """Between 0.5 and 0.8 the mean change falls from 1 to 0.5, then stays: 0.1 of it lies up to 1, 0.225 below."""
    difference = np.array([[1.0, 0.5, -0.5], [1.0, 0.5, -0.5]])
    share = claims.even_share(difference, np.array([0.5, 0.8, 1.0]))
    assert share == pytest.approx(0.1 / (0.1 + 0.225))
    listed = np.array(claims.LISTED)
    flat = np.ones((2, len(listed)))
    assert claims.even_share(flat, listed) == pytest.approx(3 / 17)
    assert claims.high_share(flat, listed) == pytest.approx(4 / 11)


def test_orders_that_s_table_1_does_not_list_are_not_judged():
    whole = changed(HIGH)
    between = whole.isel(order=[0]).assign_coords(order=[190], fraction=("order", [0.75])) + 1
    more = xr.concat([whole.isel(order=slice(7)), between, whole.isel(order=slice(7, None))], "order")
    assert more.sizes["order"] == 12 and claims.listed(more).equals(whole)
    assert claims.c03(more, "untargeted 8") == claims.c03(whole, "untargeted 8")


@pytest.mark.parametrize(("curve", "verdict"), [(HIGH, "replicated"), (LOW, "contradicted")])
def test_c03_follows_the_curve(curve, verdict):
    assert [v.verdict for v in claims.c03(changed(curve), "untargeted 8")] == [verdict, verdict]


def test_c04_compares_the_twins():
    standard, flat = changed(HIGH), changed(np.full(11, 0.01), seed=1)
    assert [v.verdict for v in claims.c04(standard, flat, "untargeted 8")] == ["replicated"] * 2
    assert [v.verdict for v in claims.c04(flat, standard, "untargeted 8")] == ["contradicted"] * 2


@pytest.mark.parametrize("judge", [claims.c04, claims.c10])
def test_paired_comparison_of_a_result_with_itself_is_certain(judge):
    same = changed(HIGH).assign_attrs(players=256)
    for paired in judge(same, same, "untargeted 8", paired=True):
        assert paired.effect.low == paired.effect.high == 0
    for apart in judge(same, same, "untargeted 8"):
        assert apart.effect.low < 0 < apart.effect.high


def test_c05_is_inconclusive_where_the_interval_straddles_zero():
    (verdict,) = claims.c05(changed(np.zeros(11), noise=1.0), "untargeted 8")
    assert verdict.verdict == "inconclusive" and verdict.effect.images == 50


@pytest.mark.parametrize(("curve", "verdict"), [(-HIGH, "replicated"), (HIGH, "contradicted")])
def test_c06_wants_high_orders_to_increase(curve, verdict):
    (found,) = claims.c06(changed(curve), "untargeted 8")
    assert found.verdict == verdict and found.effect.mean == pytest.approx(-curve[-1], abs=0.005)


@pytest.mark.parametrize(
    ("at_high", "verdict"),
    [
        ([0.1, 0.2, 0.4, 0.8], "replicated"),
        ([0.8, 0.4, 0.2, 0.1], "contradicted"),
        ([0.1, 0.8, 0.1, 0.8], "contradicted"),
    ],
)
def test_c07_correlates_with_the_steps(at_high, verdict):
    curves = np.zeros((4, 1, len(FRACTIONS)))
    curves[:, 0, -1] = at_high
    made = xr.Dataset(
        {"difference": (("attack", "image", "order"), curves + np.random.default_rng(0).normal(0, 0.01, (4, 50, 11)))},
        coords={"attack": [f"steps {steps}" for steps in (4, 8, 16, 32)], "fraction": ("order", FRACTIONS)},
    )
    (found,) = claims.c07(made)
    assert found.verdict == verdict
    assert found.effect.mean == pytest.approx(np.corrcoef([4, 8, 16, 32], at_high)[0, 1], abs=0.02)


def test_share_of_low_orders_by_hand():
    """n = 11: of the orders 4, 6 and 9 the first is at most half of 9; the weights n − 1 − m are 6, 4 and 1."""
    share = claims.low_share(np.array([[1.0, -2.0, 3.0], [3.0, -2.0, 3.0]]), [4, 6, 9], 11)
    assert share == pytest.approx(12 / (12 + 8 + 3))
    with pytest.raises(ValueError, match=r"an order that is an integer in 0\.\.9; got 0\.5"):
        claims.low_share(np.ones((2, 1)), [0.5], 11)


def test_c10_compares_the_twins():
    standard, low = (changed(curve).assign_attrs(players=256) for curve in (HIGH, LOW))
    assert [v.verdict for v in claims.c10(standard, low, "untargeted 8")] == ["replicated"]
    assert [v.verdict for v in claims.c10(low, standard, "untargeted 8")] == ["contradicted"]


def test_c11_compares_low_orders_alone():
    def measured(low, high, seed):
        curve = np.where(FRACTIONS <= 0.5, low + FRACTIONS - 0.3, high)  # from 0.1 to 0.5, the mean is ``low``
        noise = 0.01 * np.random.default_rng(seed).normal(size=(3, 50, 11))
        return xr.Dataset(
            {"disentanglement": (("estimate", "image", "order"), curve + noise)},
            coords={"estimate": ["lower", "midpoint", "upper"], "fraction": ("order", FRACTIONS)},
        )

    standard, adversarial = measured(0.4, 0.9, 0), measured(0.5, 0.1, 1)
    (found,) = claims.c11(standard, adversarial)
    assert found.verdict == "replicated" and found.effect.mean == pytest.approx(0.1, abs=0.005)
    between = [each.isel(order=[0]).assign_coords(fraction=("order", [0.45])) * 7 for each in (standard, adversarial)]
    more = [xr.concat([*pair], "order") for pair in zip((standard, adversarial), between, strict=True)]
    assert claims.c11(*more) == [found], "0.45n is not listed"
    assert claims.c11(adversarial, standard)[0].verdict == "contradicted"


def test_c17_is_c04_and_c10_of_the_smoothed_model():
    standard, flat = (changed(curve).assign_attrs(players=256) for curve in (HIGH, np.full(11, 0.01)))
    found = claims.c17(standard, flat, "untargeted 8")
    assert [v.verdict for v in found] == ["replicated"] * 3 and {v.id for v in found} == {"C17"}
    assert all("smoothed model" in v.claim for v in found)
    assert [v.verdict for v in claims.c17(flat, standard, "untargeted 8")] == ["contradicted"] * 3


@pytest.mark.parametrize(
    ("low", "high", "verdicts"),
    [
        (0.2, 0.0, ["replicated", "replicated"]),
        (0.2, 0.3, ["replicated", "contradicted"]),
        (-0.2, -0.3, ["contradicted", "replicated"]),
        (0.0, 0.0, ["inconclusive", "inconclusive"]),
    ],
)
def test_c20_compares_localities_of_the_same_images(low, high, verdicts):
    noise = np.random.default_rng(0).normal(size=(80, 3))
    noise = 0.05 * (noise - noise.mean(0))
    made = xr.Dataset(
        {"locality": (("image", "order"), np.array([low, 0.1, high]) + noise)},
        coords={"fraction": ("order", [0.1, 0.5, 0.9])},
    )
    assert [v.verdict for v in claims.c20(made)] == verdicts


def test_thresholds_are_those_that_the_book_states():
    steps = xr.concat([changed(HIGH, seed=k) for k in range(3)], "attack").assign_coords(
        attack=["steps 4", "steps 8", "steps 16"]
    )
    twins = [changed(HIGH, seed=k).assign_attrs(players=256) for k in range(2)]
    assert [v.threshold for v in claims.c03(changed(HIGH), "untargeted 8")] == [0.5, 0]
    assert [v.threshold for v in claims.c07(steps)] == [0.9]
    for judge in (claims.c04, claims.c10, claims.c17):
        assert {v.threshold for v in judge(*twins, "untargeted 8")} == {0}
    for judge in (claims.c05, claims.c06):
        assert [v.threshold for v in judge(changed(HIGH), "untargeted 8")] == [0]
    assert (claims.HIGH, claims.LOW) == (0.8, 0.5)


def test_missing_order_is_named():
    with pytest.raises(ValueError, match=r"needs the order 0\.95n"):
        claims.c05(changed(HIGH).isel(order=slice(5)), "untargeted 8")
