"""The theorems on exact games: they hold there, and a broken identity shows."""

import pytest
import torch

from lib import exact, interactions
from lib.sampling import generator

RESIDUALS = [
    exact.efficiency_residuals,
    exact.property_residuals,
    exact.proposition_residuals,
    exact.dropout_residuals,
]


@pytest.mark.parametrize("residuals", RESIDUALS, ids=lambda function: function.__name__)
def test_identities_hold_on_every_game(residuals):
    found = residuals(generator(3))
    assert found.shape == (exact.GAMES,) and (found < 1e-12).all()
    assert torch.equal(found, residuals(generator(3))) and not torch.equal(found, residuals(generator(4)))


@pytest.mark.parametrize(
    ("name", "residuals"),
    [
        ("exact_effects", exact.efficiency_residuals),
        ("exact_interactions", exact.proposition_residuals),
        ("exact_interactions", exact.dropout_residuals),
        ("exact_shapley", exact.efficiency_residuals),
    ],
)
def test_a_broken_identity_shows(monkeypatch, name, residuals):
    right = getattr(exact, name)
    monkeypatch.setattr(exact, name, lambda values: 1.01 * right(values))
    assert (residuals(generator(3)) > 1e-5).all()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda found: found**2,  # not linear
        lambda found: found + 1e-3,  # a player that adds nothing gets something
        lambda found: found * torch.arange(1.0, found.shape[-1] + 1),  # not the same for players that may be exchanged
        lambda found: found + 0.01 * found.triu(),  # not that of (j, i)
    ],
)
def test_a_broken_property_shows(monkeypatch, break_it):
    right = exact.exact_interactions
    monkeypatch.setattr(exact, "exact_interactions", lambda values: break_it(right(values)))
    assert (exact.property_residuals(generator(3)) > 1e-5).all()


def test_what_the_first_of_a_pair_does_not_share_with_the_second_shows(monkeypatch):
    """Though ``exact_interactions`` works out each pair once and writes it down twice."""
    monkeypatch.setattr(interactions, "delta_v", lambda v_ij, v_i, v_j, v: v_ij - v_i - v_j + v + 0.01 * (v_i - v_j))
    assert (exact.property_residuals(generator(3)) > 1e-5).all()


def test_efficiency_is_judged_at_every_order(monkeypatch):
    """Eq. 5 fails at one middle order."""
    right = exact.exact_shapley

    def broken(values):
        found = right(values)
        found[:, 2] += 0.01
        found[:, 3] -= 0.01
        return found

    monkeypatch.setattr(exact, "exact_shapley", broken)
    assert (exact.efficiency_residuals(generator(3)) > 1e-5).all()
