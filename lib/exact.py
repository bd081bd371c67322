"""The claims that are theorems, on random exact games: how far each identity is from holding (C01, C02, C08, C15).

Every claim takes one generator and gives one residual a game: relative to the size of its values, or, of entropies,
in nats.
"""

import torch
from torch import Tensor

from lib.defenses import dropout_mean
from lib.information import entropy_values, order_co_information
from lib.interactions import all_coalitions, exact_effects, exact_interactions, exact_shapley

PLAYERS, GAMES = 6, 20


def random_games(generator: torch.Generator) -> Tensor:
    """Values (GAMES, 2^n) of generic games: every entry drawn by itself."""
    return torch.randn(GAMES, 2**PLAYERS, generator=generator, dtype=torch.float64)


def efficiency_residuals(generator: torch.Generator) -> Tensor:
    """C01: Eq. 3, of a normal and an adversarial game; Eq. 5 at every order; v(N) − v(∅) as the mean of φ^(m)."""
    normal, adversarial = random_games(generator), random_games(generator)
    interaction, shapley = exact_interactions(normal), exact_shapley(normal)
    single = shapley[:, 0] - exact_shapley(adversarial)[:, 0]
    effects = exact_effects(interaction) - exact_effects(exact_interactions(adversarial))
    change = normal - adversarial
    of_attack = change[:, -1] - change[:, 0] - single.sum(-1) - effects.sum((-3, -2, -1))
    accumulated = shapley[:, :1] + interaction.sum(-1).cumsum(1) / (PLAYERS - 1)
    of_orders = (shapley[:, 1:] - accumulated).abs().amax((-2, -1))
    of_attributions = normal[:, -1] - normal[:, 0] - shapley.sum((-2, -1)) / PLAYERS
    return torch.stack([of_attack.abs(), of_orders, of_attributions.abs()]).amax(0) / normal.abs().amax(-1)


def property_residuals(generator: torch.Generator) -> Tensor:
    """C02: linearity, nullity, symmetry of I_ij^(m) and φ^(m)(i), and I_ij^(m) = I_ji^(m) (S-B)."""
    values, others = random_games(generator), random_games(generator)
    coalitions = torch.arange(2**PLAYERS)
    without_first = values[:, coalitions & ~1]  # player 0 adds nothing to any coalition
    first, second = coalitions & 1, coalitions >> 1 & 1
    swapped = (coalitions & ~3) | (first << 1) | second
    symmetric = (values + values[:, swapped]) / 2  # players 0 and 1 may be exchanged
    worst = torch.zeros(GAMES, dtype=torch.float64)
    for function in (exact_interactions, exact_shapley):
        linear = function(2 * values - 3 * others) - 2 * function(values) + 3 * function(others)
        null = function(without_first)[..., 0]
        exchanged = function(symmetric)
        same = exchanged[..., 0] - exchanged[..., 1]
        if function is exact_interactions:
            same = same[..., 2:]  # with a third player
        for residual in (linear, null, same):
            worst = torch.maximum(worst, residual.abs().flatten(1).amax(1))
    backwards = values.unflatten(1, (2,) * PLAYERS).permute(0, *range(PLAYERS, 0, -1)).flatten(1)  # i is n − 1 − i
    roles_exchanged = exact_interactions(backwards).flip(-1, -2)  # of each pair the other player comes first
    worst = torch.maximum(worst, (exact_interactions(values) - roles_exchanged).abs().flatten(1).amax(1))
    return worst / values.abs().amax(-1)


def proposition_residuals(generator: torch.Generator) -> Tensor:
    """C08: I_ij^(m) of v = H(Y|X_S) minus the mean co-information, on joints of four variables and Y."""
    residuals = []
    for _ in range(GAMES):
        joint = torch.rand(2, 3, 2, 2, 3, generator=generator, dtype=torch.float64) ** 3
        joint /= joint.sum()
        apart = exact_interactions(entropy_values(joint)) - order_co_information(joint)
        residuals.append(apart.abs().max())
    return torch.stack(residuals)


def dropout_residuals(generator: torch.Generator) -> Tensor:
    """C15: E_K v(K) over all K of k players minus what the orders up to k − 2 give, at every k (S-H)."""
    values = random_games(generator)
    sizes = all_coalitions(PLAYERS).sum(1)
    single = exact_shapley(values)[:, 0].mean(-1)
    spectrum = exact_interactions(values).sum((-2, -1)) / (PLAYERS * (PLAYERS - 1))
    apart = [
        values[:, sizes == kept].mean(-1) - dropout_mean(values[:, 0], single, spectrum, kept=kept)
        for kept in range(PLAYERS + 1)
    ]
    return torch.stack(apart).abs().amax(0) / values.abs().amax(-1)
