"""Predicates of §4.1's theory and §4.3: each verdict can come out, and comes out right on results made for it."""

import numpy as np
import pytest
import xarray as xr

from lib import claims
from lib.detection import Detection

VERDICTS = [(1.0, "replicated"), (-1.0, "contradicted"), (0.0, "inconclusive")]
each_verdict = pytest.mark.parametrize(("effect", "verdict"), VERDICTS)


def noise(*shape, size=0.1, seed=0):
    return size * np.random.default_rng(seed).normal(size=shape)


def verdicts(found):
    return [each.verdict for each in found]


@pytest.mark.parametrize(("claim", "allowed"), [(claims.c08, 1e-10), (claims.c15, 1e-6)])
def test_identities_hold_to_their_decimals(claim, allowed):
    assert verdicts(claim([0.0, allowed / 2])) == ["replicated"]
    assert verdicts(claim([0.0, allowed * 2])) == ["contradicted"]
    (found,) = claim([0.0, 0.0])
    assert found.effect.images == 2 and np.isfinite(found.effect.mean)


def test_c09_compares_the_best_order_with_the_best_frequency():
    rng = np.random.default_rng(0)
    far, near = (rng.normal(size=(2, 80, 5)) for _ in range(2))
    far[1, :, 3] += 4
    assert verdicts(claims.c09(far, near)) == ["replicated"]
    assert verdicts(claims.c09(near, far)) == ["contradicted"]
    assert verdicts(claims.c09(far, far + 1e-9)) == ["inconclusive"]


def test_c09_is_the_difference_of_the_maxima():
    orders, radii = noise(2, 20, 3, seed=3), noise(2, 20, 4, seed=4)
    ratio = [(x[0].mean(0) - x[1].mean(0)) ** 2 / x.var(1, ddof=1).sum(0) for x in (orders, radii)]
    (found,) = claims.c09(orders, radii)
    assert found.effect.mean == pytest.approx(ratio[0].max() - ratio[1].max()) and found.effect.images == 20


def detected(lower, last, images=150):
    normal, wide = noise(images, size=1.0), noise(images, size=1.0, seed=1)
    rows = np.arange(images)
    return {m: Detection(rows, normal, {"full": wide + shift}) for m, shift in ((1, lower), (0, -0.5), (7, last))}


def test_c12_compares_the_last_order_with_the_best_lower_one():
    assert verdicts(claims.c12(detected(0.0, 2.0), "full")) == ["replicated"]
    assert verdicts(claims.c12(detected(2.0, 0.0), "full")) == ["contradicted"]
    assert verdicts(claims.c12(detected(1.0, 1.0), "full")) == ["inconclusive"]


def distances(nearer, misled=True, images=60, seed=0):
    adversarial = 2 + noise(images, size=0.01, seed=seed)
    recovered = adversarial - nearer + noise(images, size=0.5, seed=seed + 1)
    return xr.Dataset(
        {
            "adversarial_distance": ("image", adversarial),
            "recovered_distance": ("image", recovered),
            "misled": (("attack", "image"), np.full((1, images), misled)),
        },
        coords={"attack": ["full"]},
    )


@each_verdict
def test_c13_wants_the_twins_to_differ(effect, verdict):
    assert verdicts(claims.c13(distances(-effect), distances(effect, seed=5))) == [verdict, verdict]


def test_c13_leaves_out_images_that_were_not_misled():
    mixed = xr.concat([distances(1.0), distances(-9.0, misled=False)], "image")
    found = claims.c13(mixed, mixed)
    assert [each.effect.images for each in found] == [60, 60] and found[0].verdict == "replicated"


def ranked(effect, images=80):
    """Interactions that rank reduction raises by 0.5 in all images, and by ``effect`` more in adversarial ones."""
    table = noise(2, 3, images, 3, seed=2)
    table[:, 1:] += 0.5
    table[1, 1:, :, 1:] += effect
    table[:, :, :, 0] += 50 * noise(2, 3, images, seed=1)  # a low order, which does not count
    reached = np.arange(images) < images // 2
    table[:, :, ~reached] *= -100
    return xr.Dataset(
        {"transformed": (("subject", "transform", "image", "order"), table), "reached": ("image", reached)},
        coords={
            "subject": ["normal", "adversarial"],
            "transform": ["none", "rank 1/4", "rank 1/16"],
            "fraction": ("order", [0.5, 0.8, 0.95]),
        },
    )


@each_verdict
def test_c14_is_a_difference_in_differences(effect, verdict):
    found = claims.c14(ranked(effect))
    assert verdicts(found) == [verdict, verdict] and found[0].effect.images == 40
    between = ranked(effect).isel(order=[0]).assign_coords(fraction=("order", [0.82]))
    more = xr.concat([ranked(effect), between], "order", data_vars="minimal")
    assert claims.c14(more) == found, "0.82n is not listed"


def corrected(effect, images=80):
    """Half of the images are misled; of these dropout corrects ``effect``/4 more. Of the others it corrects none."""
    share = np.full((3, 2, images), 0.5) + noise(3, 2, images)
    share[1:, 1] += effect / 4
    share[1:, :, images // 2 :] = 0
    return xr.Dataset(
        {
            "corrected": (("defense", "subject", "image"), share),
            "misled": (("attack", "image"), np.arange(images)[None] < images // 2),
        },
        coords={
            "attack": ["stopped"],
            "defense": ["cutout", "dropout 0.1", "dropout 0.3"],
            "subject": ["normal", "adversarial"],
        },
    )


@each_verdict
def test_c16_is_paired_and_only_over_misled_images(effect, verdict):
    found = claims.c16(corrected(effect))
    assert verdicts(found) == [verdict, verdict] and found[0].effect.images == 40
    assert [each.claim.split(" corrects")[0] for each in found] == ["dropout 0.1", "dropout 0.3"]
