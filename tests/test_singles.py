"""Players alone: with the interactions they make the output, in exact games; labelled, counted, resumed, refused."""

from dataclasses import replace

import pytest
import torch

from lib import datasets, experiments, game, interactions, models, players, results, singles

CPU = torch.device("cpu")
ASKED = singles.Singles(dataset="tiny", attacks=("untargeted 0.5", "steps 2"), images=12, grid=4)


def test_what_is_not_alone_is_the_interactions():
    """Eq. 3 on exact games, two variants of three: v(N) − v(∅) = Σ_i φ^(0)(i) + Σ_ij Σ_m J_ij^(m)."""
    n = 5
    values = torch.randn(2, 3, 2**n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def played(coalitions):
        number = (coalitions * 2 ** torch.arange(n)).sum(-1)
        return values.gather(-1, number.expand(2, -1, -1))

    alone, whole = singles.alone_and_whole(played, n, images=3)
    weights = torch.tensor([interactions.j_weight(n, m) for m in range(n - 1)], dtype=torch.float64)
    between = (interactions.exact_interactions(values) * weights[:, None, None]).sum((-3, -2, -1))
    torch.testing.assert_close(alone + between, whole, rtol=1e-12, atol=1e-12)
    assert (alone - whole).abs().min() > 1e-3


def test_outputs_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="v is not a finite number in some coalition"):
        singles.alone_and_whole(lambda coalitions: torch.full(coalitions.shape[:2], torch.nan), 5, images=3)


def test_measured_are_the_images_with_one_cell_and_with_all(tiny, monkeypatch):
    found = singles.players_alone(ASKED, device=CPU)
    assert dict(found.sizes) == {"variant": 3, "image": 12, "attack": 2}
    assert found.attrs["passes"] == 12 * 3 * (16 + 2)
    assert found.attrs["command"].startswith("python -m lib singles --dataset tiny")
    model, data = models.load("tiny", "resnet18-standard"), datasets.load("tiny", "test")
    _, images, labels = experiments.correct_images(model, data, 12, seed=0)
    hidden, of = experiments.baseline("mean", data), players.grid(*images.shape[-2:], side=4)

    def v(x):
        return game.log_probability(model(x), labels)

    nothing = v(hidden.expand_as(images))
    one = [v(torch.where(of.partition == i, images, hidden)) - nothing for i in range(of.n)]
    assert torch.allclose(torch.tensor(found.alone.sel(variant="normal").values), torch.stack(one).sum(0), atol=1e-4)
    assert torch.allclose(torch.tensor(found.whole.sel(variant="normal").values), v(images) - nothing, atol=1e-4)
    for k, name in enumerate(ASKED.attacks):
        made = experiments.attack(model, images, labels, name)
        assert found.reached.values[k].tolist() == made.reached.tolist(), name
        assert torch.allclose(torch.tensor(found.utility.values[k]), made.utility, atol=1e-4), name
    assert not found.reached.sel(attack="untargeted 0.5").all() and found.reached.sel(attack="steps 2").all()
    monkeypatch.setattr(singles, "alone_and_whole", lambda *a, **k: pytest.fail("measured again"))
    assert singles.players_alone(ASKED, device=CPU).alone.equals(found.alone)


def test_the_change_is_normal_minus_adversarial_where_the_attack_got_there(tiny):
    found = singles.players_alone(ASKED, device=CPU)
    found.reached.loc["untargeted 0.5"] = torch.arange(12) % 3 == 0
    changed = singles.change(found, "untargeted 0.5")
    assert changed.image.values.tolist() == found.image.values[::3].tolist()
    for name in ("alone", "whole"):
        normal, adversarial = found[name].values[:2, ::3]
        assert abs(normal - adversarial).max() > 0 and (changed[name].values == normal - adversarial).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": ("sideways 8",)}, "unknown attack 'sideways 8'"),
        ({"attacks": ("steps 2", "steps 2")}, "each attack is measured once; got steps 2, steps 2"),
        ({"baseline": "grey"}, "unknown baseline 'grey'"),
        ({"images": 0}, "at least one image"),
        ({"grid": 5}, "grid"),
    ],
)
def test_wrong_input_gives_one_clear_error_and_writes_nothing(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        singles.players_alone(replace(ASKED, **changes), device=CPU)
    assert not results.WORK.exists() or not list(results.WORK.rglob("*.nc*"))
