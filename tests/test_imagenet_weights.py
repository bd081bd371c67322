"""Public weights of ImageNet: checkpoints as they are published, downloads from a local server, two real runs.

The weights are random, in the true formats: nothing is known here of the accuracy of the public ones.
"""

import http.server
import re
import shlex
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import nn
from torchvision import models as tv_models
from typer.testing import CliRunner

from lib import datasets, experiments, imagenet, imagenet_weights, models, results
from lib.command_line import app
from lib.notebooks import ROOT

SAMPLE = Path(__file__).parent.parent.parent / "shared" / "datasets" / "imagenet_sample.zip"


# Checkpoints.


def published(state: dict[str, torch.Tensor], *, nested: bool = False) -> dict[str, torch.Tensor]:
    """A state as Salman et al. publish it: two copies, each with a normalisation; nested for DenseNet and VGG."""
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in imagenet_weights.NORMALIZER.values())
    tensors = {}
    for copy, normalizer in (("module.", "normalizer."), ("module.attacker.", "normalize.")):
        tensors |= {f"{copy}{normalizer}new_mean": mean, f"{copy}{normalizer}new_std": deviation}
        tensors |= {f"{copy}model.{'model.' if nested else ''}{key}": value for key, value in state.items()}
    return tensors


@pytest.fixture(scope="module")
def network18():
    """torchvision's ResNet-18 with random weights and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = tv_models.resnet18().eval()
        for buffer in made.buffers():
            if buffer.is_floating_point():
                buffer += 0.1 * torch.rand_like(buffer)
        nn.init.normal_(made.fc.weight, std=0.3)
    return models.freeze(made)


def logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in imagenet_weights.NORMALIZER.values())
    return network((images - mean) / deviation)


@pytest.mark.parametrize("name", imagenet_weights.WEIGHTS)
def test_every_model_takes_its_published_names_strictly(name):
    """On tensors without content: the names and shapes of torchvision's network, however a file prefixes them."""
    architecture = name.rpartition("-")[0]
    with torch.device("meta"):
        theirs = imagenet_weights.NETWORKS[architecture]()
    tensors = theirs.state_dict()
    if imagenet_weights.WEIGHTS[name].endswith(".ckpt"):
        tensors = published(tensors, nested=architecture in ("densenet161", "vgg16"))
    else:  # torchvision's own files count no batches, and that of DenseNet has names of old
        tensors = {key: tensor for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")}
        for part in ("norm", "conv"):
            tensors = {
                key.replace(f"{part}1.", f"{part}.1.").replace(f"{part}2.", f"{part}.2.")
                if "denselayer" in key
                else key: v
                for key, v in tensors.items()
            }
    held = imagenet_weights.chosen(Path(name), tensors)
    assert held.mean == pytest.approx([0.485, 0.456, 0.406]) and held.deviation == pytest.approx([0.229, 0.224, 0.225])
    made = imagenet_weights.network(architecture, held)
    assert {key: value.shape for key, value in made.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize(
    "prefix",
    [
        "module.model.model.",
        "module.model.",
        "module.attacker.model.model.",
        "module.attacker.model.",
        "module.",
        "",
    ],
)
def test_a_network_is_found_under_each_prefix_alone(prefix):
    with torch.device("meta"):
        state = imagenet_weights.NETWORKS["resnet18"]().state_dict()
    held = imagenet_weights.chosen(Path("own"), {f"{prefix}{key}": tensor for key, tensor in state.items()})
    assert held.state.keys() == state.keys()


def test_weights_of_half_precision_make_a_network_of_float32(network18):
    state = network18.state_dict()
    state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    made = imagenet_weights.network("resnet18", imagenet_weights.chosen(Path("own"), published(state))).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made(images), network18(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("densenet161", 28_681_000),
        ("vgg16", 138_365_992),
    ],
)
def test_networks_have_the_parameters_that_torchvision_states(architecture, parameters):
    with torch.device("meta"):
        made = imagenet_weights.NETWORKS[architecture]()
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters


APPENDIX = (ROOT / "book" / "appendix-imagenet.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"^ *python -m lib (.*)", APPENDIX, flags=re.MULTILINE))
def test_the_commands_of_the_appendix_can_be_given(line):
    """Each option is one of its command, and has a value of its kind."""
    name, *words = shlex.split(line.replace("$model-$training", "vgg16-adversarial"), comments=True)
    command = typer.main.get_command(app).commands[name]
    with command.make_context(name, words) as context:
        assert context.params


def test_the_appendix_counts_the_passes_of_its_commands():
    asked = experiments.OrderCurves(dataset="imagenet")
    for replicates in (asked.replicates, 20_000):
        passes = asked.images * len(asked.fractions) * 2 * replicates * 4
        assert f"= **{passes:,}**" in APPENDIX and f" {passes:,} passes |" in APPENDIX


def test_wide_network_is_ours_with_the_stem_of_imagenet():
    with torch.device("meta"):
        theirs = imagenet_weights.NETWORKS["wide_resnet50_4"]()
        ours = models.build("wide_resnet50_4", classes=1000, mean=[0.5] * 3, deviation=[0.25] * 3, width=64)
    count, small = (sum(parameter.numel() for parameter in made.parameters()) for made in (theirs, ours))
    assert count == small + 3 * 64 * (7 * 7 - 3 * 3)


@pytest.fixture
def folder(local):
    (local / "imagenet" / "weights").mkdir(parents=True)
    return local / "imagenet" / "weights"


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
def test_published_checkpoint(old, network18, folder, pictures):
    """As the collection's files are: with the state of the optimizer, and in the format of PyTorch before 1.6 too."""
    optimizer = {"state": {0: {"momentum_buffer": torch.rand(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content = {"model": published(network18.state_dict()), "optimizer": optimizer, "schedule": None, "amp": "N/A"}
    torch.save(content, folder / "resnet18_linf_eps4.0.ckpt", _use_new_zipfile_serialization=not old)
    images, _ = pictures(2, 3, side=64)
    restored = models.restore("imagenet", "resnet18-adversarial")
    assert torch.equal(restored(images), logits(network18, images))
    assert not restored.training and not any(parameter.requires_grad for parameter in restored.parameters())
    loaded = models.load("imagenet", "resnet18-adversarial")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in loaded.modules())
    torch.testing.assert_close(loaded(images), logits(network18, images), rtol=1e-4, atol=1e-4)


def test_the_normalisation_is_that_of_the_checkpoint(network18, folder, pictures):
    tensors = published(network18.state_dict()) | {"module.normalizer.new_mean": torch.tensor([0.1, 0.2, 0.3])}
    torch.save({"state_dict": tensors}, folder / "resnet18_linf_eps4.0.ckpt")
    restored = models.restore("imagenet", "resnet18-adversarial")
    assert restored[0].mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_weights_of_another_network(network18, folder):
    torch.save(published(network18.state_dict()), folder / "resnet34_linf_eps4.0.ckpt")
    with pytest.raises(ValueError, match=r"resnet34_linf_eps4\.0\.ckpt are not those of a resnet34: Missing key"):
        models.restore("imagenet", "resnet34-adversarial")


class Hostile:
    """What would be executed if it were read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(("extra", "old"), [("numpy scalar", True), ("hostile", False), ("hostile", True)])
def test_more_than_tensors_is_rewritten_and_not_executed(extra, old, network18, folder, tmp_path, pictures):
    more = np.float64(0.5) if extra == "numpy scalar" else [Hostile(tmp_path / "executed")]
    path = folder / "resnet18_linf_eps4.0.ckpt"
    content = {"schedule": more, "model": published(network18.state_dict())}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=r"cannot be read safely: .*'python -m lib convert .*eps4\.0\.ckpt' rewrites"):
        models.restore("imagenet", "resnet18-adversarial")
    done = CliRunner().invoke(app, ["convert", str(path)])
    rewritten = folder / "resnet18_linf_eps4.0.safetensors"
    assert done.exit_code == 0 and f"written to {rewritten}" in done.output
    assert not (tmp_path / "executed").exists()
    images, _ = pictures(2, 3, side=64)
    assert torch.equal(models.restore("imagenet", "resnet18-adversarial")(images), logits(network18, images))
    rewritten.write_bytes(rewritten.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match=r"safetensors are truncated or altered"):
        models.restore("imagenet", "resnet18-adversarial")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def page(path: Path) -> None:
    path.write_text("<html>Not found</html>")


def half(path: Path) -> None:
    torch.save({"model": {"weight": torch.rand(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])


def listed(path: Path) -> None:
    torch.save([torch.rand(3)], path)


def program(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")


@pytest.mark.parametrize("make", [nothing, page, half, listed, program], ids=lambda make: make.__name__)
def test_what_is_not_a_checkpoint(make, folder):
    path = folder / "resnet18_linf_eps4.0.ckpt"
    make(path)
    with pytest.raises(ValueError, match=r"cannot be read safely"):
        models.restore("imagenet", "resnet18-adversarial")
    with pytest.raises(ValueError, match=r"eps4\.0\.ckpt is (damaged or not a checkpoint|a program)"):
        imagenet_weights.convert(path)
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_damaged_weights_of_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"weights\.safetensors are damaged"):
        imagenet_weights.read_tensors(path)


@pytest.mark.parametrize("name", ["resnet18", "resnet101-standard", "resnet18-smoothed", ""])
def test_unknown_model(name, local, empty_folder):
    with pytest.raises(
        ValueError, match=rf"unknown model '{name}' for the dataset 'imagenet': choose one of resnet18-"
    ):
        models.load("imagenet", name)


def test_weights_that_nobody_publishes(local, empty_folder):
    with pytest.raises(
        FileNotFoundError, match=r"no public weights of resnet34-adversarial are known, so put your own"
    ):
        models.load("imagenet", "resnet34-adversarial")
    assert not local.exists()


# Downloads, from a server on this machine.

CONTENT = bytes(range(256)) * 400


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, by ranges unless ``plain``; ``breaks`` is after how many bytes the connection ends."""

    ranges: list[str | None]
    plain = False
    breaks: int | None = None

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and not self.plain else 0
        if self.path != "/file":
            return self.send_error(404)
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:][: self.breaks])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch):
    """The class of a running server, whose ``address`` has the file."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Server,), {"ranges": []})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as running:
        handler.address = f"http://127.0.0.1:{running.server_port}/file"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_records_the_checksum(server, tmp_path):
    path = tmp_path / "new" / "weights.ckpt"
    imagenet_weights.download(server.address, path)
    assert path.read_bytes() == CONTENT and names(path.parent) == ["weights.ckpt", "weights.ckpt.sha256"]
    assert imagenet_weights.beside(path).read_text() == f"{imagenet_weights.sha256(path)}  weights.ckpt\n"
    imagenet_weights.check(path)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match=r"weights\.ckpt are truncated or altered: their SHA-256 is"):
        imagenet_weights.check(path)


def test_a_download_must_be_the_file_that_was_recorded(server, tmp_path):
    path = tmp_path / "weights.ckpt"
    imagenet_weights.beside(path).write_text(f"{'0' * 64}  weights.ckpt\n")
    with pytest.raises(ValueError, match=r"by weights\.ckpt\.sha256 it was to be 0{64}; remove the file"):
        imagenet_weights.download(server.address, path)
    assert names(tmp_path) == ["weights.ckpt.sha256"] and imagenet_weights.beside(path).read_text().startswith("000")


@pytest.mark.parametrize("plain", [False, True], ids=["by ranges", "without ranges"])
def test_an_interrupted_download_is_gone_on_with(plain, server, tmp_path):
    path = tmp_path / "weights.ckpt"
    server.breaks, server.plain = 30_000, plain
    with pytest.raises(OSError, match=r"weights\.ckpt\.part has 30000 of 102400 bytes: run it again"):
        imagenet_weights.download(server.address, path)
    assert names(tmp_path) == ["weights.ckpt.part"]
    server.breaks = None
    imagenet_weights.download(server.address, path)
    assert path.read_bytes() == CONTENT and server.ranges == [None, "bytes=30000-"]
    assert names(tmp_path) == ["weights.ckpt", "weights.ckpt.sha256"]


def test_a_part_that_is_too_long_is_begun_anew(server, tmp_path):
    path = tmp_path / "weights.ckpt"
    path.with_name("weights.ckpt.part").write_bytes(CONTENT + b"x")
    imagenet_weights.download(server.address, path)
    assert path.read_bytes() == CONTENT and server.ranges == [f"bytes={len(CONTENT) + 1}-", None]


def test_a_part_that_is_whole_is_not_downloaded_again(server, tmp_path):
    """As where the process was ended between the last byte and the new name."""
    path = tmp_path / "weights.ckpt"
    path.with_name("weights.ckpt.part").write_bytes(CONTENT)
    imagenet_weights.download(server.address, path)
    assert path.read_bytes() == CONTENT and server.ranges == [f"bytes={len(CONTENT)}-"]
    assert names(tmp_path) == ["weights.ckpt", "weights.ckpt.sha256"]


@pytest.mark.parametrize("text", ["", "\n", "abc  weights.ckpt\n", "<html>no</html>"])
def test_a_checksum_that_is_none_is_refused(text, tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(CONTENT)
    imagenet_weights.beside(path).write_text(text)
    with pytest.raises(ValueError, match=r"weights\.ckpt\.sha256 holds no SHA-256, as sha256sum writes it"):
        imagenet_weights.check(path)
    imagenet_weights.beside(path).write_text(f"{imagenet_weights.sha256(path).upper()} *weights.ckpt\n")
    imagenet_weights.check(path)


@pytest.mark.parametrize("right", [True, False])
def test_torchvisions_names_tell_the_checksum(right, server, tmp_path):
    (tmp_path / "content").write_bytes(CONTENT)
    digits = imagenet_weights.sha256(tmp_path / "content")[:8] if right else "0badc0de"
    path = tmp_path / "new" / f"resnet18-{digits}.pth"
    if right:
        imagenet_weights.download(server.address, path)
        assert path.read_bytes() == CONTENT
    else:
        told = r"truncated or altered: .* by resnet18-0badc0de\.pth it was to be 0badc0de; remove the file"
        with pytest.raises(ValueError, match=told):
            imagenet_weights.download(server.address, path)
        assert names(path.parent) == []


def test_missing_weights_are_downloaded_once(server, local, monkeypatch):
    """The address of the file is that of the table; a failure names it and the folders, and leaves nothing."""
    monkeypatch.setitem(imagenet_weights.WEIGHTS, "vgg16-standard", server.address.replace("file", "none"))
    with pytest.raises(
        FileNotFoundError, match=r"weights none of imagenet/vgg16-standard are not in .*weights, and not"
    ):
        models.load("imagenet", "vgg16-standard")
    assert not local.exists()
    monkeypatch.setitem(imagenet_weights.WEIGHTS, "vgg16-standard", server.address)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cannot be read safely"):
            models.load("imagenet", "vgg16-standard")
    assert names(local / "imagenet" / "weights") == ["file", "file.sha256"] and len(server.ranges) == 2


def test_missing_weights_go_to_the_last_place(server, tmp_path, monkeypatch):
    monkeypatch.setitem(imagenet_weights.WEIGHTS, "vgg16-standard", server.address)
    with pytest.raises(ValueError, match=r"cannot be read safely"):
        imagenet_weights.weights("vgg16-standard", [tmp_path / "named", tmp_path / "own"])
    assert names(tmp_path) == ["own"]


def test_addresses_carry_what_is_checked():
    assert set(imagenet_weights.WEIGHTS) == {
        f"{each}-{how}" for each in imagenet_weights.NETWORKS for how in ("standard", "adversarial")
    }
    for address in imagenet_weights.WEIGHTS.values():
        if "huggingface" not in address and "://" in address:
            assert re.search(r"-[0-9a-f]{8}\.pth$", address)


# From end to end.


def measured_by_command(network, weights, images, out):
    """Puts the network among the public ``weights``, labels the ``images`` as it does, and measures two of them.

    The paper's size: 224×224 pixels, 16×16 players.
    """
    torch.save({"model": published(network.state_dict())}, weights / "resnet18_linf_eps4.0.ckpt")
    files = [(path, int(logits(network, imagenet.read_image(path)[None] / 255).argmax())) for path in images.iterdir()]
    (images / "labels.csv").write_text("\n".join(f"{path.name},{label}" for path, label in files))
    few = ["--images", "2", "--replicates", "2", "--steps", "1", "--orders", "0.95", "--batch-size", "8"]
    where = ["--dataset", "imagenet", "--model", "resnet18-adversarial", "--root", str(images)]
    done = CliRunner().invoke(app, ["interactions", *few, *where, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "32 evaluations of v" in done.output
    found = results.read(out)
    assert found.interaction.notnull().all() and (found.steps <= 1).all()
    changed = found.utility.values[0]
    assert np.abs(changed).min() > 0, "the attack moved every image"


def test_interactions_by_the_command_line(network18, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    noise = np.random.default_rng(0).integers(0, 256, (3, 7, 7, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for row, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((256, 256)).save(tmp_path / "images" / f"{row}.png")
    measured_by_command(network18, folder, tmp_path / "images", tmp_path / "out.nc")


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of ImageNet is not at hand")
def test_interactions_of_the_sample(network18, folder, tmp_path, monkeypatch):
    """Two hundred photographs, one a class, of which some are measured; the list of wnids is made up but for theirs."""
    with zipfile.ZipFile(SAMPLE) as archive:
        members = [name for name in archive.namelist() if name.endswith(".JPEG")]
        archive.extractall(tmp_path, members[::20])
        (tmp_path / "photographs").mkdir()
        for name in members[:3]:
            (tmp_path / "photographs" / Path(name).name).write_bytes(archive.read(name))
    place = tmp_path / "imagenet_sample"
    wnids = sorted({Path(name).parent.name for name in members})
    made_up = [f"n{number:08d}" for number in range(1, 1001 - len(wnids))]
    (place / "wnids.txt").write_text("\n".join(wnids + made_up))
    data = datasets.load("imagenet", root=place)
    assert len(wnids) == 200 and data.images.shape == (10, 3, 224, 224)
    assert data.labels.tolist() == list(range(800, 1000, 20)), "the made-up wnids come before all real ones"
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    measured_by_command(network18, folder, tmp_path / "photographs", tmp_path / "out.nc")
