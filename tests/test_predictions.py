"""Predictions for the controls: each verdict can come out, and comes out right on curves made for it."""

import numpy as np
import pytest
import xarray as xr

from lib import predictions

FRACTIONS = np.array([0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
HIGH = np.where(FRACTIONS >= 0.8, 0.1, 0.01)
HIGH[-1] = 0.14  # no other order stands for 0.95n


def measured(curves, *, reached=None, noise=0.002, images=60):
    spread = noise * np.random.default_rng(0).normal(size=(len(curves), images, len(FRACTIONS)))
    hit = np.ones((len(curves), images), dtype=bool) if reached is None else reached
    return xr.Dataset(
        {
            "difference": (("attack", "image", "order"), np.stack(list(curves.values()))[:, None] + spread),
            "reached": (("attack", "image"), hit),
        },
        coords={"attack": list(curves), "fraction": ("order", FRACTIONS)},
    )


@pytest.mark.parametrize(("share", "verdict"), [(0.2, "replicated"), (-0.2, "replicated"), (0.3, "contradicted")])
def test_noise_must_leave_out_three_quarters(share, verdict):
    found = predictions.noise_is_harmless(
        measured({"untargeted 8": HIGH, "shuffled 8": share * HIGH}), "shuffled 8", "untargeted 8"
    )
    assert found.verdict == verdict and found.effect.mean == pytest.approx(1 - abs(share), abs=0.02)


@pytest.mark.parametrize(("curve", "verdict"), [(HIGH[::-1], "replicated"), (HIGH, "inconclusive")])
def test_masks_matter_where_the_share_falls(curve, verdict):
    plain = np.where(FRACTIONS >= 0.8, 0.1, 0.01)
    found = predictions.masks_matter(
        measured({"untargeted 8": plain, "masked 8": curve}, noise=0.02), "masked 8", "untargeted 8"
    )
    assert found.verdict == verdict


def test_doses_must_all_rise_on_the_images_that_reached_all():
    doses = {"untargeted 1": HIGH * 0.1, "untargeted 2": HIGH * 0.5, "untargeted 4": HIGH}
    hit = np.ones((3, 60), dtype=bool)
    hit[2, :20] = False
    found = predictions.grows(measured(doses, reached=hit), "utility")
    assert found.verdict == "replicated" and found.effect.images == 40
    assert found.effect.mean == pytest.approx(0.4 * 0.14, abs=0.001)
    back = {"untargeted 1": HIGH, "untargeted 2": HIGH * 0.5, "untargeted 4": HIGH * 2}
    assert predictions.grows(measured(back), "utility").verdict == "contradicted"


@pytest.mark.parametrize(("part", "verdict"), [(0.25, "replicated"), (0.05, "contradicted"), (0.1, "inconclusive")])
def test_log_p_saturates_where_the_logit_has_the_larger_part_at_low_utility(part, verdict):
    hit = np.ones((2, 60), dtype=bool)
    hit[1, :20] = False
    log_p = measured({"untargeted 8": HIGH, "untargeted 2": 0.1 * HIGH}, reached=hit[::-1])
    logit = measured({"untargeted 2": part * HIGH / 2, "untargeted 8": HIGH / 2}, reached=hit)
    found = predictions.log_p_saturates(log_p, logit, "untargeted 2", "untargeted 8")
    assert found.verdict == verdict and found.effect.images == 40
    assert found.effect.mean == pytest.approx(part - 0.1, abs=0.02)
