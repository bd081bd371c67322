"""PointNet++: sampling, groups and layers against naive loops; clouds as sets; masked points; gradients; folding."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib import attacks, datasets, models, pointnet, training

HALVES = {"mean": [0.5] * 3, "deviation": [0.5] * 3}


def cloud(count, points=200, *, seed=0):
    """Random clouds (count, 3, points, 1) in [0, 1], on spheres of coordinates: radius 0.3 to 1."""
    generator = torch.Generator().manual_seed(seed)
    places = nn.functional.normalize(torch.randn(count, 3, points, 1, generator=generator))
    places *= 0.3 + 0.7 * torch.rand(count, 1, points, 1, generator=generator)
    return 0.5 + 0.5 * places


@pytest.fixture(scope="module")
def model():
    """A small random PointNet++ of ten classes whose statistics fit random clouds, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = models.build("pointnet2", classes=10, width=4, **HALVES)
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    built(cloud(8, seed=1))
    return models.freeze(built)


def farthest_by_hand(points, count):
    chosen = [max(range(len(points)), key=lambda i: points[i].norm().item())]
    while len(chosen) < count:
        gaps = [min((points[i] - points[j]).square().sum().item() for j in chosen) for i in range(len(points))]
        best = max(range(len(points)), key=gaps.__getitem__)
        chosen.append(best if gaps[best] > 0 else chosen[0])
    return chosen


@given(seed=st.integers(0, 1000), count=st.integers(1, 25))
def test_farthest_points_by_brute_force(seed, count):
    points = torch.randn(3, 20, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points[1, 5:] = 0  # six places alone
    chosen = pointnet.farthest_points(points, count)
    assert chosen.tolist() == [farthest_by_hand(of, count) for of in points]


def test_farthest_points_of_one_place_alone():
    assert pointnet.farthest_points(torch.zeros(2, 7, 3), 4).tolist() == [[0] * 4] * 2


def test_at_least_one_point_is_chosen(empty_folder):
    with pytest.raises(ValueError, match="at least 1 point must be chosen; got 0"):
        pointnet.farthest_points(torch.zeros(1, 7, 3), 0)


@given(seed=st.integers(0, 1000), radius=st.floats(0.1, 2.0), count=st.integers(1, 10))
def test_a_ball_has_the_nearest_points_inside_it(seed, radius, count):
    points = torch.randn(2, 15, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    centres = torch.tensor([[0, 3, 7], [1, 1, 14]])
    found = pointnet.ball(points, centres, radius=radius, count=count)
    assert found.shape == (2, 3, count)
    for b, m in itertools.product(range(2), range(3)):
        distance = (points[b] - points[b, centres[b, m]]).norm(dim=1)
        inside = [i for i in distance.argsort().tolist() if distance[i] <= radius][:count]
        assert set(found[b, m].tolist()) == set(inside)


def test_clouds_too_small_for_a_ball(model, empty_folder):
    with pytest.raises(ValueError, match="a ball of 16 points was asked for; the clouds have 15: use larger ones"):
        model(cloud(2, 15))


def test_set_abstraction_is_a_loop_over_centres_and_their_points():
    torch.manual_seed(0)
    layer = models.freeze(pointnet.SetAbstraction(5, 6, 7, groups=9, radius=0.8, count=6).double())
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)
    points = torch.randn(2, 5, 30, 1, dtype=torch.float64)
    out = layer(points)
    assert out.shape == (2, 3 + 7, 9, 1)
    for b in range(2):
        rows = points[b, :, :, 0].T
        for m, centre in enumerate(farthest_by_hand(rows[:, :3], 9)):
            distance = (rows[:, :3] - rows[centre, :3]).norm(dim=1)
            members = [i for i in distance.argsort().tolist() if distance[i] <= 0.8][:6]
            features = []
            for i in members:
                h = torch.cat([rows[i, :3] - rows[centre, :3], rows[i, 3:]])
                for linear, norm in zip(layer.layers[0][::3], layer.layers[0][1::3], strict=True):
                    h = linear.weight[:, :, 0, 0] @ h
                    h = (h - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
                    h = h.relu()
                features.append(h)
            expected = torch.cat([rows[centre, :3], torch.stack(features).amax(0)])
            torch.testing.assert_close(out[b, :, m, 0], expected)


def test_logits_do_not_depend_on_the_order_of_the_points(model):
    clouds = cloud(4)
    clouds[2, :, 20:] = 0.5
    logits = model(clouds)
    assert logits.shape == (4, 10) and (logits - logits.mean(0)).abs().max() > 1e-3
    for seed in range(3):
        order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(model(clouds[:, :, order]), logits, rtol=1e-4, atol=1e-5)


def test_clouds_of_a_batch_do_not_matter_to_each_other(model):
    clouds = cloud(5)
    torch.testing.assert_close(model(clouds)[3:4], model(clouds[3:4]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [0, 1, 10, 199])
def test_masked_points_all_lie_at_the_origin(kept, model):
    """Logits and gradients stay finite; a moved masked point may matter, one that is moved far must."""
    clouds, labels = cloud(3), torch.tensor([0, 4, 9])
    clouds[:, :, kept:] = 0.5
    gradient, logits = attacks.loss_gradient(model, clouds, labels)
    assert logits.isfinite().all() and gradient.isfinite().all()
    if kept == 0:
        assert (logits == logits[0]).all()
    more = clouds.clone()
    more[:, :, -1] = 1.0
    assert not torch.allclose(model(more), logits, atol=1e-4)


def test_the_gradient_reaches_the_coordinates(model):
    """In the direction of the gradient, the loss changes as it says: by finite differences in double precision."""
    network = models.build("pointnet2", classes=10, width=4, **HALVES)
    network.load_state_dict(model.state_dict())
    network = models.freeze(network).double()
    clouds, labels = cloud(3).double(), torch.tensor([0, 4, 9])
    gradient, _ = attacks.loss_gradient(network, clouds, labels)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    size = 1e-7
    with torch.no_grad():
        for b in range(3):
            step = size * gradient[b : b + 1] / gradient[b].norm()
            ends = [attacks.cross_entropy(network(clouds[b : b + 1] + s * step), labels[b : b + 1]) for s in (1, -1)]
            slope = (ends[0] - ends[1]).item() / (2 * size)
            assert slope == pytest.approx(gradient[b].norm().item(), rel=1e-3)


def test_an_attack_moves_points_inside_the_ball_and_raises_the_loss(model):
    clouds = cloud(3)
    labels = model(clouds).argmax(1)
    attacked = attacks.pgd(model, clouds, labels, epsilon=0.05, step_size=0.01, steps=5)
    assert 0.03 < (attacked - clouds).abs().max() <= 0.05 + 1e-6
    before, after = (attacks.cross_entropy(model(x), labels) for x in (clouds, attacked))
    assert (after > before).all()


def test_every_batch_normalisation_is_folded(model):
    folded = models.fold(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    clouds = cloud(4)
    torch.testing.assert_close(folded(clouds), model(clouds), rtol=1e-4, atol=1e-5)


def test_it_is_a_model_like_the_others(model):
    """Coordinates are restored by the normalisation: a cloud in image units gives what the bare layers give."""
    clouds = cloud(2)
    torch.testing.assert_close(model(clouds), model[1:](2 * clouds - 1), rtol=1e-4, atol=1e-5)
    assert "pointnet2" in models.ARCHITECTURES and sum(p.numel() for p in model.parameters()) < 20_000


@pytest.mark.skipif(
    not any((place / datasets.MODELNET10).exists() for place in datasets.places("modelnet10")),
    reason="ModelNet10 is not on this machine",
)
@pytest.mark.parametrize("name", ["pointnet2-standard", "pointnet2-adversarial"])
def test_published_networks_classify_modelnet10(name):
    """On 200 test clouds, within four standard errors of what the model card says of all 908."""
    test = datasets.load("modelnet10")
    assert len(test) == 908 and test.images.shape == (908, 3, 1024, 1) and len(test.classes) == 10
    stated = models.card("modelnet10", name)["clean_accuracy"]
    found = training.accuracy(models.load("modelnet10", name), *test.shuffled(0).batch(slice(200)))
    assert abs(found - stated) < 4 * (stated * (1 - stated) / 200) ** 0.5
