"""Random draws: pairs of players and contexts, each image from its own generator, so that nothing else matters."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lib.players import Players

SAMPLINGS = ("neighbours", "uniform")
"""How pairs are drawn: 8-neighbours, as in the authors' code, or any two players, as in the paper's text."""


def generator(seed: int, *keys: int) -> torch.Generator:
    """An independent generator for each (seed, key, …), such as (seed, image, 1): one of 2^32.

    Raises ValueError for a seed below 0, or one that a result's file cannot hold.
    """
    if not 0 <= seed < 2**31:
        raise ValueError(f"a seed is an integer from 0 to 2^31 − 1; got {seed}")
    state = np.random.SeedSequence(seed, spawn_key=keys).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def generators(seed: int, rows: Sequence[int], *keys: int) -> list[torch.Generator]:
    """A generator for each image, by its row in the dataset: its draws do not depend on its company."""
    return [generator(seed, row, *keys) for row in rows]


def check_sampling(sampling: str) -> None:
    """Raise ValueError unless it is one of ``SAMPLINGS``."""
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown pair sampling {sampling!r}: choose one of {', '.join(SAMPLINGS)}")


def candidates(players: Players, sampling: str) -> Tensor:
    """The pairs (P, 2) of players that a sampling draws from; raises ValueError for an unknown sampling."""
    check_sampling(sampling)
    return players.neighbours if sampling == "neighbours" else torch.combinations(torch.arange(players.n))


def ranks(keys: Tensor) -> Tensor:
    """The rank of each key among those of its row, the last dimension; of equal keys the first comes first."""
    return keys.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)


def pairs(players: Players, count: int, *, sampling: str, generator: torch.Generator) -> Tensor:
    """``count`` different pairs (count, 2) of players, drawn evenly among "neighbours" or among all ("uniform").

    Raises ValueError for an unknown sampling or more pairs than there are.
    """
    every = candidates(players, sampling)
    if not 1 <= count <= len(every):
        raise ValueError(
            f"{count} {sampling} pairs were asked for; {players.n} players have {len(every)}: "
            f"choose between 1 and {len(every)}"
        )
    return every[torch.randperm(len(every), generator=generator)[:count]]


def context_ranks(pairs: Tensor, contexts: int, n: int, *, generator: torch.Generator) -> Tensor:
    """Nested random contexts for the pairs (P, 2): ranks int32 (P, contexts, n) of the players in random orders.

    The players of rank below m are an evenly drawn context of order m; the pair itself ranks last, at n−2 and n−1.
    """
    keys = torch.rand(len(pairs), contexts, n, generator=generator)
    keys.scatter_(2, pairs[:, None, :].expand(-1, contexts, -1), 2.0)
    return ranks(keys).int()


def orders(n: int, fractions: Sequence[float]) -> list[int]:
    """Orders m = int((n − 2)·f) of the fractions f in [0, 1]; raises ValueError for others, none, or one twice."""
    check_list(fractions, "fractions", what="orders are a list of fractions of n−2", example=[0.5, 0.95])
    if n < 2:
        raise ValueError(f"an interaction is of two players at least; there are {n}: choose a finer grid")
    if not len(fractions):
        raise ValueError("at least one order is needed; got none")
    given: dict[int, float] = {}
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise ValueError(f"an order is given as a fraction of n−2 in [0, 1]; got {fraction}")
        order = int((n - 2) * fraction)
        if order in given:
            raise ValueError(
                f"{given[order]} and {fraction} of n−2 are both the order {order} of {n} players: leave one out, "
                "or take more players"
            )
        given[order] = fraction
    return list(given)


def check_list(given: object, name: str, *, what: str, example: list[float]) -> None:
    """Raise ValueError for a number or a text where a list is wanted, which papermill sets by ``name``."""
    if isinstance(given, int | float | str):
        raise ValueError(f"{what}, as {example}; got {given!r}: papermill sets a list by -y '{name}: {example}'")


def check_orders(orders: Sequence[int], n: int) -> None:
    """Raise ValueError for no orders, and unless every order is an integer in 0..n−2."""
    if not len(orders):
        raise ValueError("at least one order is needed; got none")
    for order in orders:
        if not isinstance(order, int | np.integer) or not 0 <= order <= n - 2:
            raise ValueError(
                f"an interaction of {n} players has an order that is an integer in 0..{n - 2}; got {order!r}: "
                "sampling.orders makes orders of fractions"
            )
