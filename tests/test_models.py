"""Models: the network against torchvision's, checkpoints that are whole or refused, devices."""

import hashlib
import json
import re

import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import nn

from lib import models

OPTIONS = {"classes": 3, "mean": [0.4], "deviation": [0.2], "width": 4}


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A folder of checkpoints with ``toy/resnet18-standard`` and ``other/resnet18-adversarial``; and the toy model."""
    torch.manual_seed(0)
    model = models.build("resnet18", **OPTIONS)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer += torch.rand_like(buffer)
    model.half()
    content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    measured = {"recipe": {}, "clean_accuracy": 0.9, "pgd20_accuracy": 0.1, "device": "cpu"}
    card = {"architecture": "resnet18", "options": OPTIONS, "sha256": hashlib.sha256(content).hexdigest(), **measured}
    for dataset, name in (("toy", "resnet18-standard"), ("other", "resnet18-adversarial")):
        folder = tmp_path / "checkpoints" / dataset
        folder.mkdir(parents=True)
        (folder / f"{name}.safetensors").write_bytes(content)
        (folder / f"{name}.json").write_text(json.dumps(card))
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path / "checkpoints")
    return tmp_path / "checkpoints", model.float()


# The network.


def test_normalize_by_hand():
    normalize = models.Normalize([0.5, 0.2], [0.25, 0.1])
    images = torch.tensor([[[[1.0, 0.0]], [[0.3, 0.2]]]])
    torch.testing.assert_close(normalize(images), torch.tensor([[[[2.0, -2.0]], [[1.0, 0.0]]]]))
    assert not list(normalize.parameters())


PUBLISHED = {"resnet18": 64, "resnet34": 64, "resnet50": 64, "vgg16": 64, "densenet161": 48, "wide_resnet50_4": 64}
"""The widths at which our networks are those of the papers, up to the stem."""


def torchvisions(name):
    """torchvision's network of that name with 10 classes and our stem."""
    if name == "wide_resnet50_4":  # torchvision names the twofold one alone
        block = torchvision.models.resnet.Bottleneck
        theirs = torchvision.models.ResNet(block, [3, 4, 6, 3], num_classes=10, width_per_group=256)
    else:
        theirs = getattr(torchvision.models, {"vgg16": "vgg16_bn"}.get(name, name))(num_classes=10)
    if "resnet" in name:
        theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    if name == "densenet161":
        theirs.features.conv0, theirs.features.pool0 = nn.Conv2d(3, 96, 3, 2, 1, bias=False), nn.Identity()
    if name == "vgg16":
        theirs.avgpool = nn.AdaptiveAvgPool2d(1)
        theirs.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
        )
    return theirs.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_are_those_of_torchvision_with_another_stem(name):
    """At the published width, the same weights in the same order give the same logits as torchvision's network."""
    torch.manual_seed(0)
    theirs = torchvisions(name)
    options = {"classes": 10, "mean": [0.5] * 3, "deviation": [0.25] * 3, "width": PUBLISHED[name]}
    ours = models.freeze(models.build(name, **options))
    names = [key for key in ours.state_dict() if key not in ("0.mean", "0.deviation")]
    for buffer in theirs.buffers():
        if buffer.is_floating_point():
            buffer += torch.rand_like(buffer)
    ours.load_state_dict(dict(zip(names, theirs.state_dict().values(), strict=True)), strict=False)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs((images - 0.5) / 0.25)
        scale = expected.std().item()
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("name", PUBLISHED)
def test_slim_networks_fold_and_take_any_channels(name):
    torch.manual_seed(0)
    options = {"classes": 7, "mean": [0.5], "deviation": [0.25], "width": 8}
    model = models.freeze(models.build(name, **options))
    images = torch.rand(3, 1, 32, 32)
    assert model(images).shape == (3, 7)
    torch.testing.assert_close(models.fold(model)(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "other"), [(1, 3), (3, 1)])
def test_images_of_other_channels_are_refused(channels, other):
    options = {"classes": 4, "mean": [0.5] * channels, "deviation": [0.25] * channels, "width": 4}
    model = models.freeze(models.build("resnet18", **options))
    for network in (model, models.fold(model)):
        with pytest.raises(ValueError, match=re.escape(f"(B, {channels}, H, W); got (2, {other}, 32, 32)")):
            network(torch.rand(2, other, 32, 32))


@pytest.mark.parametrize(("channels", "width", "classes"), [(1, 4, 10), (3, 8, 7)])
def test_resnet18_has_the_parameters_that_its_description_says(channels, width, classes):
    """Counted by hand: stem, four stages of two blocks with shortcuts where they widen, linear layer."""
    model = models.build("resnet18", classes=classes, mean=[0.5] * channels, deviation=[0.25] * channels, width=width)
    count = 9 * channels * width + 2 * width
    before = width
    for out in (width, 2 * width, 4 * width, 8 * width):
        count += 9 * before * out + 3 * 9 * out * out + 4 * 2 * out
        count += before * out + 2 * out if before != out else 0
        before = out
    count += 8 * width * classes + classes
    assert sum(p.numel() for p in model.parameters()) == count
    assert model(torch.rand(2, channels, 32, 32)).shape == (2, classes)
    features = model[:-3](torch.rand(2, channels, 32, 32))
    assert features.shape == (2, 8 * width, 4, 4), "32×32 images keep their size in the stem and are halved thrice"


def test_freeze():
    model = models.freeze(models.build("resnet18", **OPTIONS))
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_unknown_architecture(empty_folder):
    with pytest.raises(ValueError, match=r"unknown architecture 'vgg': choose one of resnet18, "):
        models.build("vgg", classes=3)


# Checkpoints.


def test_round_trip(checkpoints):
    _, model = checkpoints
    state = torch.get_rng_state()
    loaded = models.restore("toy", "resnet18-standard")
    assert set(loaded.state_dict()) == set(model.state_dict())
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
        assert not value.is_floating_point() or value.dtype == torch.float32
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), models.freeze(model)(images))
    assert models.card("toy", "resnet18-standard")["options"] == OPTIONS
    assert torch.equal(state, torch.get_rng_state())


def test_loaded_model_is_the_stored_one_with_its_normalisation_folded(checkpoints):
    """On random statistics, so that a forgotten mean, variance, weight or bias would show."""
    loaded, stored = models.load("toy", "resnet18-standard"), models.restore("toy", "resnet18-standard")
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in loaded.modules())
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(loaded(images), stored(images), rtol=1e-5, atol=1e-5)


def test_fold_leaves_the_model_alone_and_what_it_cannot_fold():
    shared = nn.Conv2d(2, 2, 1)

    class Twice(nn.Module):
        """A convolution whose output is used both with and without normalisation, and one that none follows."""

        def __init__(self):
            super().__init__()
            self.shared, self.norm, self.free = shared, nn.BatchNorm2d(2), nn.BatchNorm2d(2)

        def forward(self, x):
            out = self.shared(x)
            return self.norm(out) + out + self.free(x.relu())

    model = Twice().double()
    with torch.no_grad():
        for norm in (model.norm, model.free):
            norm.running_mean.uniform_()
            norm.running_var.uniform_(0.5, 2)
    model = models.freeze(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = models.fold(model)
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(folded(x), model(x))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules()) == 2


@pytest.mark.parametrize(
    "chosen",
    [lambda x: x.mean() > 0.5, lambda x: len(x) > 2, lambda x: list(range(x.shape[0]))],
    ids=["value", "length", "range"],
)
def test_what_cannot_be_traced_is_left_as_it_is(chosen):
    class Moody(nn.Module):
        """A network whose way depends on its input."""

        def __init__(self):
            super().__init__()
            self.bright, self.dark, self.norm = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(self.bright(x) if chosen(x) else self.dark(x))

    model = models.freeze(Moody())
    folded = models.fold(model)
    assert isinstance(folded, Moody) and folded is not model
    assert not folded.training and not any(p.requires_grad for p in folded.parameters())
    for x in (torch.rand(2, 1, 4, 4) / 4, 1 - torch.rand(2, 1, 4, 4) / 4):
        torch.testing.assert_close(folded(x), model(x))


def test_available(checkpoints, monkeypatch, tmp_path):
    assert models.available() == ["other/resnet18-adversarial", "toy/resnet18-standard"]
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path / "nowhere")
    assert models.available() == []


def truncate(content):
    return content[: len(content) // 2]


def flip_a_bit_of_the_weights(content):
    return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]


def flip_a_bit_of_the_header(content):
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]


def lengthen(content):
    return content + b"\0"


def empty(content):
    return b""


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ('{"sha', "a JSON object"),
        ("[]", "a JSON object"),
        ("{}", "architecture, clean_accuracy, device, options, pgd20_accuracy, recipe, sha256"),
    ],
)
def test_a_damaged_card(text, lacks, checkpoints):
    folder, _ = checkpoints
    (folder / "toy" / "resnet18-standard.json").write_text(text)
    with pytest.raises(ValueError, match=rf"resnet18-standard\.json is damaged, it lacks {lacks}"):
        models.load("toy", "resnet18-standard")


@pytest.mark.parametrize(
    "alter", [truncate, flip_a_bit_of_the_weights, flip_a_bit_of_the_header, lengthen, empty], ids=lambda f: f.__name__
)
def test_truncated_or_altered_weights(alter, checkpoints, empty_folder):
    folder, _ = checkpoints
    path = folder / "toy" / "resnet18-standard.safetensors"
    path.write_bytes(alter(path.read_bytes()))
    with pytest.raises(ValueError, match=r"resnet18-standard\.safetensors are truncated or altered: their SHA-256 is"):
        models.load("toy", "resnet18-standard")
    assert models.load("other", "resnet18-adversarial"), "the other checkpoint is whole"


def test_a_channel_without_deviation_is_refused():
    with pytest.raises(ValueError, match=r"deviation of each channel must be above 0; got \[0\.2, 0\.0, 0\.2\]"):
        models.Normalize([0.5] * 3, [0.2, 0.0, 0.2])


def test_public_models_have_no_card():
    with pytest.raises(ValueError, match="'resnet18-standard' has no model card: the models for imagenet are public"):
        models.card("imagenet", "resnet18-standard")


def test_a_mean_and_a_deviation_for_each_channel():
    with pytest.raises(ValueError, match=r"one each a channel; got \[0\.5, 0\.4\] and \[0\.2\]"):
        models.Normalize([0.5, 0.4], [0.2])


def test_weights_of_another_network(checkpoints, empty_folder):
    folder, _ = checkpoints
    path = folder / "toy" / "resnet18-standard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architecture": "resnet34"}))
    with pytest.raises(
        ValueError, match=r"resnet18-standard\.safetensors are not those of the resnet34 of their card: "
    ):
        models.load("toy", "resnet18-standard")


def test_missing_weights(checkpoints, empty_folder):
    folder, _ = checkpoints
    (folder / "toy" / "resnet18-standard.safetensors").unlink()
    with pytest.raises(ValueError, match=r"weights .*resnet18-standard\.safetensors are missing: restore them"):
        models.load("toy", "resnet18-standard")


@pytest.mark.parametrize(
    ("dataset", "name", "message"),
    [
        (
            "toy",
            "resnet50-standard",
            "unknown model 'resnet50-standard' for the dataset 'toy': choose one of resnet18-standard, "
            "or train one of these from another seed with 'python -m lib train --seed'",
        ),
        (
            "cifar100",
            "resnet18-standard",
            "no model for the dataset 'cifar100': choose one of other, toy, imagenet, "
            "or write a recipe in lib.training",
        ),
    ],
)
def test_unknown_model(dataset, name, message, checkpoints, empty_folder):
    with pytest.raises(ValueError, match=message):
        models.load(dataset, name)


def test_unknown_model_where_there_is_none(monkeypatch, tmp_path, empty_folder):
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path / "nowhere")
    with pytest.raises(
        ValueError,
        match=r"no model for the dataset 'toy': choose one of imagenet, or write a recipe in lib.training",
    ):
        models.card("toy", "resnet18-standard")


# Devices.


@pytest.mark.parametrize("present", [True, False])
def test_device(present, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert models.device("cpu") == torch.device("cpu")
    assert models.device() == models.device("auto") == torch.device("cuda" if present else "cpu")
    if present:
        assert models.device("cuda") == torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "allowed", "told"),
    [((9, 0), True, "a GPU, TF32 convolutions"), ((9, 0), False, "a GPU"), ((7, 5), True, "a GPU")],
    ids=["Hopper", "Hopper in float32", "Turing, which has no TF32"],
)
def test_a_gpu_is_described_as_it_computes(capability, allowed, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    assert models.describe(torch.device("cuda")) == told


@pytest.mark.parametrize("room", [1, 5])
def test_logits_are_taken_in_halves_where_memory_runs_out(room, network, pictures):
    model, (images, _) = network(3), pictures(12, 3)
    passed = []

    class Small(nn.Module):
        def forward(self, batch):
            if len(batch) > room:
                raise torch.OutOfMemoryError("no room")
            passed.append(len(batch))
            return model(batch)

    torch.testing.assert_close(models.logits(Small().eval(), images), model(images))
    assert sum(passed) == 12 and max(passed) <= room
    with pytest.raises(torch.OutOfMemoryError):
        models.in_halves(lambda _: (Small()(images),), images[:1])


def test_cuda_asked_for_and_absent(monkeypatch, empty_folder):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'cuda' was asked for but PyTorch finds no CUDA device: use 'cpu' or 'auto'"):
        models.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:0"])
def test_unknown_device(name, empty_folder):
    with pytest.raises(ValueError, match=rf"unknown device '{name}': choose 'auto', 'cpu' or 'cuda'"):
        models.device(name)


class Twice(nn.Module):
    """One convolution before two normalisations."""

    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x)).relu()))


class LooksUp(nn.Module):
    """Goes by a table of sizes, which fx has no key for."""

    def forward(self, x):
        return {8: x, 16: 2 * x}[x.shape[-1]]


@pytest.mark.parametrize("network", [Twice, LooksUp])
def test_networks_that_cannot_be_folded_are_left_as_they_are(network):
    torch.manual_seed(0)
    model = network()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean += 1
            layer.running_var *= 4
    model, images = models.freeze(model), torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(models.fold(model)(images), model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet18-adversarial_seed1", "ResNet-18, adversarially trained, seed 1"),
        ("resnet50-smoothed", "ResNet-50, trained on noise"),
        ("vgg16", "VGG-16"),
        ("mine-own", "mine, own"),
    ],
)
def test_what_a_reader_is_told_of_a_model(name, told):
    assert models.title(name) == told


@pytest.mark.parametrize(
    ("model", "other"),
    [
        ("resnet18-standard", "resnet18-adversarial"),
        ("densenet161-standard_seed2", "densenet161-adversarial_seed2"),
        ("resnet18-adversarial_seed1", "resnet18-standard_seed1"),
        ("resnet50-smoothed", "resnet50-standard"),
    ],
)
def test_a_standard_network_is_compared_with_its_twin_and_others_with_it(model, other):
    assert models.other_training(model) == other
