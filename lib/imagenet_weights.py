"""Public weights of the six networks of the paper on ImageNet: found, downloaded, checked, read.

None of them is in this repository: they are looked for in local folders, and downloaded where they are missing.
Tensors alone are read from a checkpoint; nothing in it is executed. ``python -m lib convert FILE`` rewrites a
checkpoint that holds more than PyTorch reads safely.
"""

import hashlib
import http.client
import pickle
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.progress import wrap_file
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models as tv_models
from torchvision.models.resnet import Bottleneck, ResNet

from lib.files import console, replacing

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": tv_models.resnet18,
    "resnet34": tv_models.resnet34,
    "resnet50": tv_models.resnet50,
    "wide_resnet50_4": partial(ResNet, Bottleneck, [3, 4, 6, 3], width_per_group=256),
    "densenet161": tv_models.densenet161,
    "vgg16": tv_models.vgg16_bn,
}

SALMAN = "https://huggingface.co/madrylab/robust-imagenet-models/resolve/main"
"""The models of Salman et al. (2020): "linf_eps4.0" is trained at 4/255 in ℓ∞, "l2_eps3" at 3 in ℓ2, "eps0" not at all.

Their published list has ℓ∞ models of ResNet-18, ResNet-50 and Wide-ResNet-50-2 alone, and no robust ResNet-34.
"""

WEIGHTS: dict[str, str] = {
    "resnet18-standard": tv_models.ResNet18_Weights.IMAGENET1K_V1.url,
    "resnet34-standard": tv_models.ResNet34_Weights.IMAGENET1K_V1.url,
    "resnet50-standard": tv_models.ResNet50_Weights.IMAGENET1K_V1.url,
    "wide_resnet50_4-standard": f"{SALMAN}/wide_resnet50_4_l2_eps0.ckpt",
    "densenet161-standard": tv_models.DenseNet161_Weights.IMAGENET1K_V1.url,
    "vgg16-standard": tv_models.VGG16_BN_Weights.IMAGENET1K_V1.url,
    "resnet18-adversarial": f"{SALMAN}/resnet18_linf_eps4.0.ckpt",
    "resnet34-adversarial": "resnet34_linf_eps4.0.ckpt",
    "resnet50-adversarial": f"{SALMAN}/resnet50_linf_eps4.0.ckpt",
    "wide_resnet50_4-adversarial": f"{SALMAN}/wide_resnet50_4_l2_eps3.ckpt",
    "densenet161-adversarial": f"{SALMAN}/densenet_l2_eps3.ckpt",
    "vgg16-adversarial": f"{SALMAN}/vgg16_bn_l2_eps3.ckpt",
}
"""From the name of a model to the address of its weights; a file name alone is of weights that nobody publishes."""

PREFIXES = ("module.model.model.", "module.model.", "module.attacker.model.model.", "module.attacker.model.", "module.")
"""Before the names of the network's tensors in a checkpoint: the double "model" is that of its DenseNet and VGG."""

NORMALIZER = {
    "module.normalizer.new_mean": [0.485, 0.456, 0.406],
    "module.normalizer.new_std": [0.229, 0.224, 0.225],
}
"""Where a checkpoint says how it normalises images, and how torchvision's weights want them, which do not say it."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a network under torchvision's names, with the mean and deviation of the images it was trained on.

    They are of the file ``path``.
    """

    path: Path
    state: dict[str, Tensor]
    mean: list[float]
    deviation: list[float]


def weights(name: str, places: Sequence[Path]) -> Weights:
    """The weights of the model ``name``, such as "resnet18-adversarial".

    They are looked for in the folder ``weights`` of each of the places, else downloaded into the last. Raises
    ValueError for an unknown name and an altered or unreadable file, FileNotFoundError where there is none.
    """
    if name not in WEIGHTS:
        raise ValueError(f"unknown model {name!r} for the dataset 'imagenet': choose one of {', '.join(WEIGHTS)}")
    file = Path(WEIGHTS[name].rpartition("/")[2])
    local = [place / "weights" / each for place in places for each in (file.with_suffix(".safetensors"), file)]
    path = next((each for each in local if each.exists()), None)
    if path is None:
        path = local[-1]
        try:
            if "://" not in WEIGHTS[name]:
                raise OSError(f"no public weights of {name} are known, so put your own there")
            download(WEIGHTS[name], path)
        except (OSError, http.client.HTTPException) as error:
            folders = ", ".join(str(place / "weights") for place in places)
            raise FileNotFoundError(
                f"the weights {file} of imagenet/{name} are not in {folders}, and not downloaded: {error}. "
                "The appendix on ImageNet says where they come from"
            ) from error
    check(path)
    return chosen(path, read_tensors(path))


def network(architecture: str, held: Weights) -> nn.Module:
    """torchvision's network for normalised 224×224 images with these weights, as float32.

    Raises ValueError where they misfit.
    """
    with torch.device("meta"):
        made = NETWORKS[architecture]()
    try:
        made.load_state_dict(held.state, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()[:200]
        raise ValueError(f"the weights {held.path} are not those of a {architecture}: {first}") from error
    return made.float()


def chosen(path: Path, tensors: dict[str, Tensor]) -> Weights:
    """The network's own tensors among all those of a checkpoint, and its normalisation."""
    prefix = next((each for each in PREFIXES if any(key.startswith(each) for key in tensors)), "")
    mean, deviation = (
        tensors[key].flatten().tolist() if key in tensors else torchvisions for key, torchvisions in NORMALIZER.items()
    )
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # the names in torchvision's file of DenseNet
    state = {
        old.sub(r"\1\2", key.removeprefix(prefix)): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix) and key not in NORMALIZER
    }
    return Weights(path, state, mean, deviation)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def beside(path: Path) -> Path:
    """The file beside ``path`` with its SHA-256, in the form of ``sha256sum``."""
    return path.with_name(f"{path.name}.sha256")


def check(path: Path, known_as: Path | None = None) -> str:
    """The SHA-256 of the file; raises ValueError where its name, or the file beside it, tells of another, or of none.

    torchvision's names end in the first eight digits. The name, and the file beside, are those of ``known_as`` where a
    download is on its way to that path.
    """
    found, called = sha256(path), known_as or path
    in_name = re.search(r"-([0-9a-f]{8})\.pth$", called.name)
    expected = {called.name: in_name[1]} if in_name else {}
    if beside(called).exists():
        recorded = (beside(called).read_text().split() or [""])[0].lower()
        if not re.fullmatch(r"[0-9a-f]{64}", recorded):
            raise ValueError(f"{beside(called)} holds no SHA-256, as sha256sum writes it: remove it, or write it anew")
        expected[beside(called).name] = recorded
    for where, digits in expected.items():
        if not found.startswith(digits):
            raise ValueError(
                f"the weights {path} are truncated or altered: their SHA-256 is {found}, by {where} it was to be "
                f"{digits}; remove the file: a public one is downloaded again"
            )
    return found


def download(url: str, path: Path) -> None:
    """Download a file, whole or not at all, and record its SHA-256 beside it.

    What an interrupted download left in ``path``.part is gone on from, which neither pooch nor PyTorch's hub does.
    Raises OSError or HTTPException where the download fails, ValueError where it is not the file that its name tells.
    """
    part = path.with_name(f"{path.name}.part")
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        _receive(urllib.request.urlopen(request, timeout=60), part, start=start)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers["Content-Range"] != f"bytes */{start}":  # else all of it is here already
            part.unlink()  # longer than the file: begin anew
            return download(url, path)
    try:
        found = check(part, path)
    except ValueError:
        part.unlink()
        raise
    beside(path).write_text(f"{found}  {path.name}\n")
    part.replace(path)


def _receive(answer: http.client.HTTPResponse, part: Path, *, start: int) -> None:
    """Write an answer to ``part``, after the ``start`` bytes that are there; raises OSError where it breaks off."""
    with answer:
        start = start if answer.status == 206 else 0
        length = int(answer.headers["Content-Length"] or -1)
        if length < 0:
            raise OSError(f"{answer.url} does not say how long it is: nothing would tell an interruption from its end")
        part.parent.mkdir(parents=True, exist_ok=True)
        with (
            part.open("ab" if start else "wb") as file,
            wrap_file(answer, total=length, description=part.stem, console=console) as shown,
        ):
            shutil.copyfileobj(shown, file)
    if (have := part.stat().st_size) != start + length:
        raise OSError(f"{part} has {have} of {start + length} bytes: run it again, it goes on from there")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by PyTorch or safetensors; raises ValueError where it cannot be read safely."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"the weights {path} are damaged: remove the file and put a whole one there") from error
    try:
        return tensors_in(torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # of a damaged file PyTorch raises whatever its bytes lead to
        raise ValueError(
            f"the weights {path} cannot be read safely: they are damaged, or hold more than tensors "
            f"({type(error).__name__}). 'python -m lib convert {path}' rewrites them as tensors alone, executing "
            "nothing in them; if that fails too, remove the file to have it downloaded again"
        ) from error


def tensors_in(content: Any) -> dict[str, Tensor]:
    """The tensors by name in what a checkpoint holds: itself, or its entry "model" or "state_dict"."""
    for key in ("model", "state_dict"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError("a checkpoint is a dictionary of tensors, or has one as 'model' or 'state_dict'")
    return content


class Inert:
    """Stands for all in a checkpoint that is not a tensor: it can be made, called and filled, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> "Inert":
        return self

    def __setitem__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...


class TensorsAlone(pickle.Unpickler):
    """An unpickler that knows how to make tensors and dictionaries; all else is inert, so that nothing is executed."""

    KNOWN = (
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
    )

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name if it is a known one, else ``Inert``."""
        return super().find_class(module, name) if (module, name) in self.KNOWN else Inert


def convert(path: Path) -> Path:
    """Rewrite a checkpoint that holds more than tensors as .safetensors beside it, with its SHA-256.

    ``weights`` prefers the new file, whose path is given back. Raises ValueError where ``path`` is not a checkpoint.
    """
    check(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):  # torch.load would run it
                raise ValueError(f"{path} is a program by TorchScript, not a checkpoint")
    pickler = SimpleNamespace(
        __name__="tensors_alone",
        Unpickler=TensorsAlone,
        load=lambda file, **options: TensorsAlone(file, **options).load(),
    )
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=pickler)
        held = chosen(path, tensors_in(content))
    except OSError:
        raise
    except Exception as error:  # as above
        raise ValueError(f"{path} is damaged or not a checkpoint of PyTorch: {error}") from error
    state = {f"module.model.{key}": tensor.detach().clone().contiguous() for key, tensor in held.state.items()}
    normalisation = dict(zip(NORMALIZER, (torch.tensor(held.mean), torch.tensor(held.deviation)), strict=True))
    target = path.with_suffix(".safetensors")
    with replacing(target) as fresh:
        save_file(state | normalisation, fresh)
        beside(target).write_text(f"{sha256(fresh)}  {target.name}\n")
    return target
