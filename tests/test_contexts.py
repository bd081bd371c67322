"""Strong contexts and their locality: by hand, zero where chance decides, found where a game has it, refused."""

import math
from dataclasses import replace

import pytest
import torch

from lib import contexts, interactions, pair_experiments, players, results, sampling

CPU = torch.device("cpu")
ASKED = contexts.Contexts(dataset="tiny", images=12, pairs=3, contexts=20, fractions=(0.2, 0.6), grid=4)


@pytest.mark.parametrize(("share", "chosen"), [(0.1, 2), (0.5, 10), (1.0, 20)])
def test_strong_contexts(share, chosen):
    """The mean of the strongest contexts whose Δv has the sign of the mean, weighted by |Δv|, in plain Python."""
    generator = torch.Generator().manual_seed(0)
    changes = torch.randn(3, 20, generator=generator, dtype=torch.float64) + torch.tensor([[0.5], [-0.5], [0.0]])
    context = torch.rand(3, 20, 5, generator=generator) < 0.5
    maps = contexts.strong_contexts(changes, context, share=share)
    assert maps.shape == (3, 5)
    for p in range(3):
        sign = 1 if sum(changes[p].tolist()) > 0 else -1
        strongest = sorted(range(20), key=lambda k: -abs(changes[p, k].item()))[:chosen]
        kept = [k for k in strongest if sign * changes[p, k].item() > 0]
        weights = [abs(changes[p, k].item()) for k in kept]
        for player in range(5):
            total = sum(w for k, w in zip(kept, weights, strict=True) if context[p, k, player])
            expected = total / sum(weights) if kept else math.nan
            assert maps[p, player].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_pair_without_a_strong_context_gives_nan():
    """The mean is positive, the one strongest context negative; and a pair that never interacts at all."""
    changes = torch.tensor([[-2.0, *[1.0] * 9], [0.0] * 10])
    maps = contexts.strong_contexts(changes, torch.ones(2, 10, 4, dtype=torch.bool))
    assert maps.isnan().all()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_outside_0_to_1(share, empty_folder):
    with pytest.raises(ValueError, match=rf"share must lie in \(0, 1\]; got {share}"):
        contexts.strong_contexts(torch.ones(1, 4), torch.ones(1, 4, 3, dtype=torch.bool), share=share)


def test_locality_by_hand():
    """Two rows of two cells, the pair above: each of the other cells is at distance 1 from its nearer one."""
    pair = torch.tensor([[0, 1]])
    assert contexts.locality(torch.tensor([[9.0, 9.0, 1.0, 0.2]]), pair, side=2).item() == pytest.approx(0)
    # 3 × 3 cells and the pair 0, 1: cells 2 3 4 5 6 7 8 at distances 1 1 1 √2 2 2 √5
    near = torch.tensor([[0.0, 0, 0, 1, 1, 0, 0, 0, 0]])
    even = (1 + 1 + 1 + 2**0.5 + 2 + 2 + 5**0.5) / 7
    assert contexts.locality(near, pair, side=3).item() == pytest.approx(1 - 1 / even)
    far = torch.tensor([[0.0, 0, 0, 0, 0, 0, 0, 0, 1]])
    assert contexts.locality(far, pair, side=3).item() == pytest.approx(1 - 5**0.5 / even)


@pytest.mark.parametrize("reach", [1.5, None], ids=["neighbours decide", "chance decides"])
def test_locality_finds_where_the_contexts_are(reach):
    """Δv is the number of near players in the context, or a coin that has nothing to do with it."""
    side, order, pairs = 8, 6, 40
    draw = sampling.generator(0)
    of = players.grid(side, side, side=side)
    pair = sampling.pairs(of, pairs, sampling="neighbours", generator=draw)
    context = sampling.context_ranks(pair, 200, of.n, generator=draw) < order
    if reach is None:
        delta = torch.rand(pairs, 200, generator=draw)
    else:
        cells = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
        near = torch.cdist(cells[pair].float(), cells.float()).amin(1) <= reach
        delta = (context & near[:, None]).sum(2).float()
    found = contexts.locality(contexts.strong_contexts(delta, context.float()), pair, side=side)
    error = (found.std() / pairs**0.5).item()
    if reach is None:
        assert abs(found.mean().item()) < 3 * error and error < 0.03
    else:
        assert found.mean().item() > 0.15


def test_result_is_labelled_costs_what_it_says_and_resumes(tiny, monkeypatch):
    found = contexts.localities(ASKED, device=CPU)
    assert dict(found.sizes) == {"image": 12, "order": 2} and found.order.values.tolist() == [2, 8]
    assert found.attrs["passes"] == 12 * 3 * 20 * 4 * 2  # images, pairs, contexts, corners, orders
    assert found.attrs["command"].startswith("python -m lib contexts --dataset tiny")
    assert (found.locality <= 1).all()
    monkeypatch.setattr(contexts, "contextual_delta_v", lambda *a, **k: pytest.fail("measured again"))
    assert contexts.localities(ASKED, device=CPU).locality.equals(found.locality)


def test_the_seed_decides_images_and_draws(tiny):
    """The pairs of an image are drawn from the seed and its row; which images there are, from the seed alone."""
    of = [pair_experiments.setting(replace(ASKED, seed=s), device=CPU, root=None, batch_size=None) for s in (0, 1)]
    assert not torch.equal(of[0].subjects.rows, of[1].subjects.rows)
    same = replace(of[1], subjects=of[0].subjects)
    assert not torch.equal(of[0].play(torch.arange(12))[2], same.play(torch.arange(12))[2])


def test_batch_size_changes_no_number(tiny, anew):
    one, many = (anew(contexts.localities, ASKED, device=CPU, batch_size=b) for b in (1, 512))
    assert abs(one.locality - many.locality).max() < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contexts": 0}, "at least 1 context is needed, for each pair and order; got 0"),
        *(({"fractions": (0.5, f)}, "at order 0 no other player is present, at order n−2 all are") for f in (0.0, 1.0)),
        ({"fractions": ()}, "at least one order is needed; got none"),
        ({"grid": 2}, "on a grid of 2 × 2 every player is as near to a pair: choose 3 at least"),
        ({"value": "entropy"}, "unknown value 'entropy'"),
        ({"pairs": 999}, "999 neighbours pairs were asked for; 16 players have 42"),
        ({"fractions": (1.5,)}, r"fraction of n−2 in \[0, 1\]"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny, change, message):
    with pytest.raises(ValueError, match=message):
        contexts.localities(replace(ASKED, **change), device=CPU)
    assert not results.WORK.exists()


def test_each_context_keeps_its_own_strength(tiny):
    """The locality of an image worked out again, pair by pair."""
    found = contexts.localities(ASKED, device=CPU)
    of = pair_experiments.setting(ASKED, device=CPU, root=None, batch_size=None)
    played, (draw,), (pairs,) = of.play(torch.tensor([3]))
    expected = []
    for pair, ranks in zip(pairs, sampling.context_ranks(pairs, 20, 16, generator=draw), strict=True):
        both = (torch.arange(16)[:, None] == pair).any(1)
        kept = ranks < 8
        corners = [kept | both, kept | (torch.arange(16) == pair[0]), kept | (torch.arange(16) == pair[1]), kept]
        delta = interactions.delta_v(*(played(corner[None])[0] for corner in corners))
        expected.append(
            contexts.locality(contexts.strong_contexts(delta[None], kept[None].float()), pair[None], side=4)
        )
    assert found.locality[3, 1].item() == pytest.approx(torch.cat(expected).nanmean().item(), abs=1e-5)
