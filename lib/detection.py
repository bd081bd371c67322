"""Detection of adversarial images by their attributions, order by order; φ^(n−1) is ML-LOO (§4.3, S-G)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from lib.game import Game, play
from lib.statistics import Interval, statistic_interval

DISPERSIONS = ("standard deviation", "median absolute deviation", "interquartile range")
"""The statistics of ML-LOO (Yang et al., 2020), in the order of ``dispersion``."""


def sample_attributions(
    game: Game, *, n: int, orders: list[int], contexts: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Attributions φ^(m)(i) (..., I, M, n): the mean gain v(S∪i) − v(S) of player i over contexts |S| = m (§4.3).

    One random order of the players gives each player i a context: the first m of the others. These n gains take n + 1
    evaluations of v: all sets are the first m with one player more, or the first m + 1 with one player less. Contexts
    are nested over the orders, common to all variants that the game plays, and the same for generators of the same
    seed. An order of which a player has no more than ``contexts`` contexts is exact: 0 and n − 1 have one,
    φ^(n−1)(i) = v(N) − v(N∖i) being ML-LOO's attribution; 1 and n − 2 have n − 1.
    Costs exactly (n + 1) · contexts passes an image, variant and order; C(n, m) + C(n, m + 1) where it is exact.
    Raises ValueError for no order or one outside 0..n−1, for fewer than one context, and as ``game.play`` does.
    """
    if not len(orders):
        raise ValueError("at least one order is needed; got none")
    for order in orders:
        if not isinstance(order, int | np.integer) or not 0 <= order <= n - 1:
            raise ValueError(
                f"an attribution of {n} players has an order that is an integer in 0..{n - 1}; got {order!r}"
            )
    if contexts < 1:
        raise ValueError(f"contexts must be at least 1; got {contexts}")
    ranks = torch.stack([torch.rand(contexts, n, generator=g).argsort(1) for g in generators])
    means = []
    for order in orders:
        if is_exact(n, order, contexts=contexts):
            mean = _exact_gains(game, len(ranks), n, order)
        else:
            mean = torch.stack([_gains(game, ranks[:, k], order) for k in range(contexts)]).mean(0)
        means.append(mean.cpu())
    return torch.stack(means, -2)


def is_exact(n: int, order: int, *, contexts: int) -> bool:
    """Whether a player has no more contexts of this order than ``contexts``: ``sample_attributions`` plays them all."""
    return comb(n - 1, order) <= contexts


def _exact_gains(game: Game, images: int, n: int, order: int) -> Tensor:
    """φ^(m)(i) (..., I, n) of I ``images``: the mean of v over m + 1 players with i minus that over m without."""
    smaller, larger = (_subsets(n, size) for size in (order, order + 1))
    values = play(game, torch.cat([smaller, larger]).expand(images, -1, -1))
    v_smaller, v_larger = values.split([len(smaller), len(larger)], -1)
    without, within = (~smaller).to(values), larger.to(values)
    return v_larger @ (within / within.sum(0)) - v_smaller @ (without / without.sum(0))


def _subsets(n: int, size: int) -> Tensor:
    """Every coalition of ``size`` players, bool (C(n, size), n)."""
    members = torch.tensor(list(combinations(range(n), size)), dtype=torch.long).view(comb(n, size), size)
    return torch.zeros(len(members), n, dtype=torch.bool).scatter_(1, members, True)


def _gains(game: Game, rank: Tensor, order: int) -> Tensor:
    """v(S∪i) − v(S) (..., I, n) of each player i, S the first ``order`` of the others in the order ``rank`` (I, n)."""
    n = rank.shape[1]
    first, early = rank < order, (rank < order)[:, :, None]
    more = rank <= order
    one_changed = torch.where(early, more[:, None], first[:, None]) ^ torch.eye(n, dtype=torch.bool)
    values = play(game, torch.cat([one_changed, first[:, None]], 1))
    changed, v_first = values[..., :n], values[..., n:]
    last = (rank == order).nonzero()[:, 1:].to(values.device)
    v_more = changed.gather(-1, last.expand(*changed.shape[:-1], 1))
    return torch.where(first.to(values.device), v_more - changed, changed - v_first)


def dispersion(attribution: ArrayLike) -> NDArray[np.float64]:
    """How far the attributions (..., n) of the players lie apart: the ``DISPERSIONS`` (..., 3), in units of v (S-G)."""
    values = np.asarray(attribution, dtype=np.float64)
    return np.stack([values.std(-1), stats.median_abs_deviation(values, axis=-1), stats.iqr(values, axis=-1)], axis=-1)


def area_under_roc(normal: ArrayLike, adversarial: ArrayLike) -> float:
    """The chance that the score of an adversarial image is above that of a normal one, ties counting half.

    Raises ValueError for no scores, or one that is not a number.
    By counting, which a bootstrap can afford: scikit-learn's ``roc_auc_score`` takes a hundred times as long.
    """
    for scores in (normal, adversarial):
        if not np.size(scores) or np.isnan(scores).any():
            raise ValueError(f"an area under ROC takes scores, each a number; got {scores}")
    ordered = np.sort(normal)
    below, up_to = (np.searchsorted(ordered, adversarial, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(ordered))


@dataclass(frozen=True)
class Detection:
    """Log-odds of being adversarial of the T held-out images, which the detector was not fitted on.

    ``tested`` (T,) are their positions among the images given; ``normal`` (T,) of the normal images, ``adversarial``
    (T,) of their versions by each attack.
    """

    tested: NDArray[np.int64]
    normal: NDArray[np.float64]
    adversarial: dict[str, NDArray[np.float64]]

    def auc(self, attack: str) -> Interval:
        """Area under the ROC curve of normal images against an attack, with its interval over images."""
        pairs = np.stack([self.normal, self.adversarial[attack]], 1)
        return statistic_interval(lambda each: area_under_roc(*each.T), pairs)

    def roc(self, attack: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The shares of normal images and of adversarial images that are flagged, threshold by threshold."""
        from sklearn.metrics import roc_curve  # takes seconds, which every chapter and command would wait for

        flagged_normal, flagged_adversarial, _ = roc_curve(*_pooled(self.normal, self.adversarial[attack]))
        return flagged_normal, flagged_adversarial


def _pooled(normal: ArrayLike, adversarial: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What is adversarial (2T,), and the rows or scores of normal and adversarial images together."""
    pooled = np.concatenate([normal, adversarial])
    return np.repeat([0, 1], len(pooled) // 2), pooled


def detect(
    normal: ArrayLike, adversarial: Mapping[str, ArrayLike], *, seen: str, share: float = 0.5, seed: int = 0
) -> Detection:
    """Fit a logistic regression on features of normal images and of one attack; score the other images (§4.3, S-G).

    ``normal`` is (I, F), and so are the features of the ``adversarial`` versions by each attack, row by row of the same
    images. The regression is fitted to the attack ``seen``, on a ``share`` of the images drawn by the seed, and scores
    every attack on the rest: no image is on both sides, as itself or attacked.
    Raises ValueError for an attack that is not given, features that do not fit, or fewer than 2 images on a side.
    """
    if seen not in adversarial:
        raise ValueError(f"the attack {seen!r} to be seen is not given: choose one of {', '.join(adversarial)}")
    plain = np.asarray(normal, dtype=np.float64)
    attacked = {attack: np.asarray(features, dtype=np.float64) for attack, features in adversarial.items()}
    for attack, features in {"normal": plain, **attacked}.items():
        if features.ndim != 2 or features.shape != plain.shape or not np.isfinite(features).all():
            raise ValueError(
                f"features must be finite and (images, F), the same for all; got {features.shape} of {attack!r} "
                f"with {int((~np.isfinite(features)).sum())} infinite or not a number, and {plain.shape} of 'normal'"
            )
    fitted = round(len(plain) * share)
    if not 2 <= fitted <= len(plain) - 2:
        raise ValueError(
            f"a detector is fitted on at least 2 images and tested on at least 2 others; got {fitted} and "
            f"{len(plain) - fitted} of {len(plain)} images at a share of {share}"
        )
    order = np.random.default_rng(seed).permutation(len(plain))
    train, test = order[:fitted], np.sort(order[fitted:])
    target, features = _pooled(plain[train], attacked[seen][train])
    from sklearn.linear_model import LogisticRegression  # as above
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    detector = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, target)
    scores = {attack: detector.decision_function(each[test]) for attack, each in attacked.items()}
    return Detection(test, detector.decision_function(plain[test]), scores)
