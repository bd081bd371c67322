"""Datasets: the photos task and its disjoint splits, CIFAR-10 in each of its forms, and what goes wrong."""

import pickle
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets import utils as tv_utils

from lib import attacks, datasets, experiments, game, models, players, training

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


# Photos.


@pytest.fixture
def few_photos(monkeypatch):
    """Ten photographs, but only eight train and four test windows of each."""
    monkeypatch.setattr(datasets, "PHOTO_COUNTS", {"train": 80, "test": 40})


@pytest.fixture
def shown_windows(monkeypatch):
    """The windows that are cut out of photographs, before they are resized."""
    shown = []
    resize = datasets.tv_functional.resize

    def spy(window, *args, **kwargs):
        shown.append(window.clone())
        return resize(window, *args, **kwargs)

    monkeypatch.setattr(datasets.tv_functional, "resize", spy)
    return shown


def test_each_cell_of_each_photograph_is_in_exactly_one_split():
    side = datasets.PHOTO_CELL
    photographs = datasets._photographs()
    assert len(photographs) == 10
    for photograph in photographs.values():
        assert photograph.ndim == 2 and photograph.min() >= 0 and photograph.max() <= 1
        height, width = photograph.shape
        splits = {split: datasets._cells(photograph, split) for split in ("train", "test")}
        every = splits["train"] + splits["test"]
        assert len(every) == len(set(every)) == (height // side) * (width // side)
        assert all(row % side == column % side == 0 for row, column in every)
        assert all(row + side <= height and column + side <= width for row, column in every)
        share = len(splits["test"]) / len(every)
        assert 0.3 < share < 0.36, "a third of the cells are test cells"


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_window_lies_inside_one_cell_of_its_split(split, shown_windows):
    """On a photograph whose pixels are their own addresses."""
    side, width = datasets.PHOTO_CELL, 480
    addresses = np.arange(400 * width, dtype=np.float64).reshape(400, width)
    cells = datasets._cells(addresses, split)
    rng = np.random.default_rng(0)
    for _ in range(100):
        assert datasets._window(addresses, cells, rng).shape == (1, 32, 32)
    used, sides = set(), set()
    for window in shown_windows:
        rows, columns = window[0].long() // width, window[0].long() % width
        (row,), (column,) = ((corner // side).unique().tolist() for corner in (rows, columns))
        used.add((row * side, column * side))
        sides.add(window.shape[-1])
        assert window.shape[-1] == window.shape[-2]
    assert used <= set(cells) and len(used) > len(cells) // 2
    least, largest = datasets.PHOTO_WINDOW
    assert least <= min(sides) and max(sides) <= largest <= side and len(sides) > 10


def test_windows_are_normalised_to_mean_one_half_and_deviation_one_quarter():
    """A gentle ramp, that is not cut off at 0 or 1, at any brightness and contrast."""
    ramp = np.linspace(0, 1, datasets.PHOTO_CELL)[:, None] * np.ones(datasets.PHOTO_CELL)
    for photograph in (ramp, 0.3 * ramp, 1 - 0.3 * ramp):
        window = datasets._window(photograph, [(0, 0)], np.random.default_rng(0))
        assert window.mean().item() == pytest.approx(0.5, abs=1e-5)
        assert window.std().item() == pytest.approx(0.25, abs=1e-5)


def test_flat_windows_are_drawn_again(shown_windows):
    """Of two cells one is flat: no window comes from it."""
    noise = np.random.default_rng(1).random((datasets.PHOTO_CELL, datasets.PHOTO_CELL))
    photograph = np.concatenate([np.full_like(noise, 0.5), noise], 1)
    for seed in range(20):
        datasets._window(photograph, [(0, 0), (0, datasets.PHOTO_CELL)], np.random.default_rng(seed))
    assert len(shown_windows) == 20
    assert min(window.std().item() for window in shown_windows) >= datasets.PHOTO_CONTRAST


@pytest.mark.parametrize("split", ["train", "test"])
def test_photos(split, few_photos):
    photos = datasets.load("photos", split)
    count = {"train": 80, "test": 40}[split]
    assert (photos.name, photos.split, len(photos)) == ("photos", split, count)
    assert photos.images.shape == (count, 1, 32, 32) and photos.images.dtype == torch.uint8
    assert photos.labels.dtype == torch.int64 and len(photos.classes) == len(set(photos.classes)) == 10
    assert photos.labels.bincount().tolist() == [count // 10] * 10
    pixels = photos.batch(slice(None))[0].flatten(1)
    assert (pixels.mean(1) - 0.5).abs().max() < 0.1
    assert pixels.std(1).max() < 0.26 and pixels.std(1).mean() > 0.2, "only what is cut off at 0 and 1 is lost"
    assert photos.labels[:10].unique().numel() > 3, "the order is shuffled"


def test_photos_are_those_that_the_published_networks_know():
    """What is embedded, and what was trained on it, do not change: on 300 images, within four standard errors."""
    photos = datasets.load("photos", "test")
    assert photos.labels[:20].tolist() == [0, 0, 8, 5, 5, 7, 6, 7, 5, 9, 1, 5, 6, 0, 9, 5, 1, 5, 6, 3]
    shades = (photos.images.float().mean((0, 1)) / 255)[::8, ::8].flatten()
    expected = [0.4939, 0.5034, 0.5057, 0.5131, 0.4903, 0.4820, 0.5095, 0.5159]
    expected += [0.4868, 0.4846, 0.4953, 0.5106, 0.4987, 0.4930, 0.4931, 0.4921]
    assert shades.tolist() == pytest.approx(expected, abs=1e-3)
    for name in ("resnet18-standard", "resnet18-adversarial"):
        stated = models.card("photos", name)["clean_accuracy"]
        found = training.accuracy(models.load("photos", name), *photos.shuffled(0).batch(slice(300)))
        assert abs(found - stated) < 4 * (stated * (1 - stated) / 300) ** 0.5


def test_photos_are_the_same_every_time(few_photos):
    first, second = datasets.load("photos", "test"), datasets.load("photos", "test")
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    torch.manual_seed(123)
    np.random.seed(123)
    assert torch.equal(datasets.load("photos", "test").images, first.images)
    train = datasets.load("photos", "train")
    assert not any(torch.equal(a, b) for a in first.images for b in train.images)


def test_labels_name_the_photograph(monkeypatch):
    """Photographs of different patterns: windows of vertical stripes are labelled so, those of horizontal ones too."""
    stripes = np.tile(np.arange(288) // 16 % 2 * 1.0, (288, 1))
    monkeypatch.setattr(datasets, "_photographs", lambda: {"vertical": stripes, "horizontal": stripes.T})
    monkeypatch.setattr(datasets, "PHOTO_COUNTS", {"test": 12})
    photos = datasets.load("photos")
    assert photos.classes == ("vertical", "horizontal")
    for image, label in zip(photos.images[:, 0].float(), photos.labels.tolist(), strict=True):
        down, across = image.diff(dim=0).abs().mean(), image.diff(dim=1).abs().mean()
        assert photos.classes[label] == ("vertical" if across > down else "horizontal")


def test_the_photographs_ship_with_the_packages(monkeypatch, tmp_path):
    """Nothing is fetched: with an empty cache, skimage's downloader is not asked."""
    from skimage.data import _fetchers

    class NoPooch:
        abspath = tmp_path / "cache"

        def fetch(self, *args, **kwargs):
            pytest.fail("a photograph would be downloaded")

    monkeypatch.setattr(_fetchers, "_image_fetcher", NoPooch())
    assert datasets._photographs.__wrapped__().keys() == datasets._photographs().keys()
    assert not (tmp_path / "cache").exists()


def test_photos_take_no_root(tmp_path, empty_folder):
    with pytest.raises(ValueError, match=r"photos ship inside scikit-image and scikit-learn: leave out root"):
        datasets.load("photos", root=tmp_path)


# The Dataset.


def toy(count=6):
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 2, 2).contiguous()
    return datasets.Dataset("toy", "test", images, torch.arange(count), tuple("abcdef"[:count]))


def test_batch_is_float_in_0_to_1():
    pixels, labels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1), torch.tensor([2, 1, 0])
    data = datasets.Dataset("toy", "test", pixels, labels, tuple("abc"))
    images, labels = data.batch(torch.tensor([2, 1]))
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.flatten(), torch.tensor([1.0, 0.2]))
    assert labels.tolist() == [0, 1]
    assert data.batch(slice(1))[0].shape == (1, 1, 1, 1)


def test_shuffled_keeps_images_and_labels_together():
    data = toy()
    state = torch.get_rng_state()
    orders = [data.shuffled(seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    for each in orders:
        assert torch.equal(each.images[:, 0, 0, 0].long(), each.labels)
        assert sorted(each.labels.tolist()) == list(range(6))
        assert (each.name, each.split, each.classes) == (data.name, data.split, data.classes)
    assert torch.equal(orders[0].labels, orders[1].labels) and not torch.equal(orders[0].labels, orders[2].labels)


# CIFAR-10.


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty working directory in which no environment variable helps and every download fails; counts them."""
    tried = []

    def fail(url, *args, **kwargs):
        tried.append(url)
        raise URLError("no network in this test")

    monkeypatch.setattr(tv_utils, "_urlretrieve", fail)
    monkeypatch.setattr("urllib.request.urlopen", fail)
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(datasets, "LOCAL_DATA", Path("data/datasets"))
    return tried


def image_folder(place: Path, *, shade: int = 0, suffix: str = "png", split: str = "test") -> Path:
    """Two images of each of three classes: red is 50 · label + index, green the shade."""
    for label, name in enumerate(["ant", "bee", "cow"]):
        (place / split / name).mkdir(parents=True)
        for index in range(2):
            pixels = np.full((32, 32, 3), (50 * label + index, shade, 200), dtype=np.uint8)
            pixels[0, 1] = (9, 99, 199)
            Image.fromarray(pixels).save(place / split / name / f"{index}.{suffix}")
    return place


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10_from_an_image_folder(split, no_network, tmp_path):
    cifar = datasets.load("cifar10", split, root=image_folder(tmp_path / "here", split=split, shade=7))
    assert (cifar.name, cifar.split, cifar.classes) == ("cifar10", split, ("ant", "bee", "cow"))
    assert cifar.images.shape == (6, 3, 32, 32) and cifar.images.dtype == torch.uint8
    assert cifar.labels.dtype == torch.int64 and cifar.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert cifar.images[:, 0, 5, 5].tolist() == [0, 1, 50, 51, 100, 101]
    assert cifar.images[3, :, 5, 5].tolist() == [51, 7, 200] and cifar.images[3, :, 0, 1].tolist() == [9, 99, 199]
    assert not no_network


def test_an_image_folder_may_hold_jpegs(no_network, tmp_path):
    cifar = datasets.load("cifar10", root=str(image_folder(tmp_path / "here", suffix="jpg")))
    assert cifar.images.shape == (6, 3, 32, 32)
    assert (cifar.images[:, 0, 16, 16].int() - torch.tensor([0, 1, 50, 51, 100, 101])).abs().max() < 12


def test_a_damaged_image_is_named(no_network, tmp_path):
    place = image_folder(tmp_path / "here")
    damaged = place / "test" / "cow" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"the image .*cow/1\.png cannot be read \(.+\): replace or remove it"):
        datasets.load("cifar10", root=place)


def test_a_class_without_images_is_named(no_network, tmp_path):
    place = image_folder(tmp_path / "here")
    (place / "test" / ".ipynb_checkpoints").mkdir()
    told = r"here/test must have a folder of images for each class \(Found no valid file for the classes \.ipynb"
    with pytest.raises(ValueError, match=told):
        datasets.load("cifar10", root=place)


@pytest.mark.parametrize(("odd", "first"), [("ant/1", "ant/0"), ("cow/0", "ant/0")])
def test_images_of_mixed_sizes(odd, first, no_network, tmp_path):
    """One error names the first image of another size, the size that it should have, and what to do."""
    place = image_folder(tmp_path / "here")
    for name in (odd, "cow/1"):
        Image.fromarray(np.zeros((48, 40, 3), dtype=np.uint8)).save(place / "test" / f"{name}.png")
    message = rf"of one size, but .*test/{first}\.png has 32×32 pixels and .*test/{odd}\.png 48×40: resize them all"
    with pytest.raises(ValueError, match=message):
        datasets.load("cifar10", root=place)


@pytest.fixture
def official(tmp_path, monkeypatch):
    """torchvision's official batches, of two images each, with checksums to match."""
    folder = tmp_path / "official" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    kept = {}

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, tv_utils.calculate_md5(folder / name)]

    def batch(name, labels):
        kept[name] = rng.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
        return write(name, {"data": kept[name].reshape(2, -1), "labels": labels})

    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [batch(f"data_batch_{k}", [k, 9 - k]) for k in range(1, 6)])
    monkeypatch.setattr(cifar, "test_list", [batch("test_batch", [3, 8])])
    name, md5 = write("batches.meta", {"label_names": CIFAR_CLASSES})
    monkeypatch.setattr(cifar, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return folder.parent, kept


def test_cifar10_from_the_official_batches(official, no_network):
    place, kept = official
    test, train = (datasets.load("cifar10", split, root=place) for split in ("test", "train"))
    assert test.classes == train.classes == tuple(CIFAR_CLASSES)
    assert test.images.dtype == torch.uint8 and test.labels.dtype == torch.int64
    assert np.array_equal(test.images.numpy(), kept["test_batch"]) and test.labels.tolist() == [3, 8]
    expected = np.concatenate([kept[f"data_batch_{k}"] for k in range(1, 6)])
    assert np.array_equal(train.images.numpy(), expected)
    assert train.labels.tolist() == [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
    assert not no_network


def test_cifar10_is_downloaded_where_it_is_nowhere_and_once(official, no_network, monkeypatch):
    place, kept = official
    asked = []

    def download(self):
        asked.append(self.root)
        shutil.copytree(place, self.root, dirs_exist_ok=True)

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", download)
    for _ in range(2):
        assert np.array_equal(datasets.load("cifar10", "test").images.numpy(), kept["test_batch"])
    assert len(asked) == 1 and (datasets.LOCAL_DATA / "cifar10" / "cifar-10-batches-py").is_dir()


def test_places_are_looked_at_in_order(no_network, tmp_path, monkeypatch):
    """root, then the environment variable's folder, then data/datasets."""
    image_folder(Path("data/datasets/cifar10"), shade=30)
    assert datasets.load("cifar10").images[0, 1, 5, 5] == 30
    image_folder(tmp_path / "variable" / "cifar10", shade=20)
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "variable"))
    assert datasets.load("cifar10").images[0, 1, 5, 5] == 20
    root = image_folder(tmp_path / "root", shade=10)
    assert datasets.load("cifar10", root=root).images[0, 1, 5, 5] == 10
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "nowhere"))
    assert datasets.load("cifar10").images[0, 1, 5, 5] == 30
    assert not no_network


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("variable", [None, "elsewhere"])
def test_a_miss_lists_every_place(split, variable, no_network, monkeypatch):
    if variable is not None:
        monkeypatch.setenv(datasets.DATA_VARIABLE, variable)
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("cifar10", split)
    message = str(caught.value)
    assert no_network, "the download should have been tried"
    for part in (
        "cifar10 was not found",
        "root (not given)",
        f"environment variable {datasets.DATA_VARIABLE} ({variable or 'not set'}",
        str(datasets.LOCAL_DATA / "cifar10"),
        "download",
        "no network in this test",
        f"{split}/<class>/",
        "cifar-10-batches-py",
    ):
        assert part in message


def test_a_miss_writes_nothing(no_network):
    with pytest.raises(FileNotFoundError):
        datasets.load("cifar10")
    assert not [str(path) for path in Path().rglob("*")]


def test_a_missing_root_lists_it_and_downloads_nothing(no_network, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"at root \(.*nowhere\) alone\. .*no download is tried where root is given"
    ):
        datasets.load("cifar10", root=tmp_path / "nowhere")
    assert not no_network and not list(Path().rglob("*")) and not (tmp_path / "nowhere").exists()


def test_truncated_official_batches(official, no_network):
    """An interrupted unpacking is one clear error that names the folder, not torchvision's advice to download."""
    place, _ = official
    path = place / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        (ValueError, FileNotFoundError),
        match=r"the official batches in .* are incomplete or altered: remove the folder",
    ):
        datasets.load("cifar10", root=place)


# ModelNet10.


def model_net(place, **changes):
    """A file of four training and two test clouds of five points each."""
    place.mkdir(parents=True)
    points = np.linspace(-0.57, 0.57, 4 * 5 * 3).reshape(4, 5, 3).astype(np.float16)
    arrays = {
        "train_points": points,
        "train_labels": np.arange(4, dtype=np.uint8) % 2,
        "test_points": points[1:3],
        "test_labels": np.array([1, 0], dtype=np.uint8),
        "classes": np.array(["bed", "chair"]),
    }
    np.savez(place / datasets.MODELNET10, **{**arrays, **changes})
    return place


def test_modelnet10_is_clouds_as_images(no_network, tmp_path):
    train, test = (datasets.load("modelnet10", split, root=model_net(tmp_path / split)) for split in ("train", "test"))
    assert (train.name, train.classes, len(train), len(test)) == ("modelnet10", ("bed", "chair"), 4, 2)
    assert train.labels.tolist() == [0, 1, 0, 1] and test.labels.tolist() == [1, 0]
    assert train.images.shape == (4, 3, 5, 1) and train.images.dtype == torch.float32
    coordinates = np.linspace(-0.57, 0.57, 60).reshape(4, 5, 3)
    images, labels = train.batch(torch.tensor([2, 0]))
    assert torch.equal(images, train.images[[2, 0]]) and labels.dtype == torch.int64
    for cloud, point, axis in [(0, 0, 0), (2, 3, 1), (3, 4, 2)]:
        expected = (coordinates[cloud, point, axis] + 1) / 2
        assert train.images[cloud, axis, point, 0].item() == pytest.approx(expected, abs=1e-3)
    datasets.check_images(train.images)
    assert datasets.is_cloud(train.images) and datasets.is_cloud(train.images[0])
    assert not datasets.is_cloud(toy().images) and not datasets.is_cloud(torch.rand(2, 1, 5, 1))


def test_modelnet10_with_labels_of_no_class_or_too_few_is_refused(no_network, tmp_path):
    for labels, message in (
        (np.array([0, 7]), "labels must lie in 0..1"),
        (np.array([0]), "labels must be 2 integers"),
        (np.array([0.5, 1]), "Cannot cast array data"),
    ):
        with pytest.raises(ValueError, match=f"truncated or altered: copy it anew \\({message}"):
            datasets.load("modelnet10", root=model_net(tmp_path / message[:13], test_labels=labels))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_modelnet10_may_have_labels_of_any_integers(dtype, no_network, tmp_path):
    labels = datasets.load("modelnet10", root=model_net(tmp_path / "here", test_labels=np.array([1, 0], dtype))).labels
    assert labels.dtype == torch.int64 and labels.tolist() == [1, 0]


def test_ten_classes_of_other_names_are_refused(no_network, tmp_path):
    """Models number the classes by their names: a car would be taken for a cat."""
    for name in (*datasets.CIFAR10[:1], *datasets.CIFAR10[2:], "car"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "test" / name / "0.png")
    with pytest.raises(ValueError, match=r"has CIFAR-10's names, .* automobile, .* has car: rename"):
        datasets.load("cifar10", root=tmp_path)
    (tmp_path / "test" / "car").rename(tmp_path / "test" / "automobile")
    assert datasets.load("cifar10", root=tmp_path).classes == datasets.CIFAR10


def test_modelnet10_is_looked_up_in_order(no_network, tmp_path, monkeypatch):
    model_net(Path("data/datasets/modelnet10"))
    assert datasets.load("modelnet10").classes == ("bed", "chair")
    model_net(tmp_path / "variable" / "modelnet10", classes=np.array(["there"] * 2))
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "variable"))
    assert datasets.load("modelnet10").classes == ("there", "there")
    root = model_net(tmp_path / "root", classes=np.array(["here"] * 2))
    assert datasets.load("modelnet10", root=root).classes == ("here", "here")
    assert not no_network


def test_a_missing_modelnet10_lists_every_place(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.DATA_VARIABLE, "elsewhere")
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("modelnet10")
    for part in ("root (not given)", f"variable {datasets.DATA_VARIABLE} (elsewhere, its folder modelnet10)"):
        assert part in str(caught.value)
    assert str(datasets.LOCAL_DATA / "modelnet10") in str(caught.value)
    assert f"Put there {datasets.MODELNET10}" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"root \(.*nowhere\)"):
        datasets.load("modelnet10", root=tmp_path / "nowhere")
    assert not no_network and not list(Path().rglob("*"))


@pytest.mark.parametrize("keep", [0, 100, 900])
def test_a_truncated_modelnet10(keep, no_network, tmp_path):
    path = model_net(tmp_path / "here") / datasets.MODELNET10
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"{datasets.MODELNET10} is truncated or altered: copy it anew"):
        datasets.load("modelnet10", root=tmp_path / "here")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(4, 3), r"clouds must be \(clouds, points, 3\); got \(4, 3\)"),
        (torch.zeros(2, 3, 4), r"clouds must be \(clouds, points, 3\); got \(2, 3, 4\)"),
        (torch.full((1, 4, 3), 1.0), r"clouds must lie in the unit sphere; got points 1\.73 from its centre: scale"),
        (torch.full((1, 4, 3), torch.nan), r"clouds must lie in the unit sphere; got points nan from its centre"),
    ],
)
def test_clouds_that_are_none(points, message):
    with pytest.raises(ValueError, match=message):
        datasets.as_images(points)


# Errors.


@pytest.mark.parametrize("name", ["mnist", "", "Photos"])
def test_unknown_dataset(name, empty_folder):
    with pytest.raises(ValueError, match=rf"unknown dataset '{name}': choose one of photos, cifar10"):
        datasets.load(name)


@pytest.mark.parametrize("name", ["photos", "cifar10", "modelnet10"])
def test_unknown_split(name, empty_folder):
    with pytest.raises(ValueError, match=r"unknown split 'validation': choose 'train' or 'test'"):
        datasets.load(name, "validation")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0.5]], r"must be a float tensor \(B, C, H, W\); got a list"),
        (torch.rand(3, 8, 8), r"float tensor \(B, C, H, W\); got \(3, 8, 8\) of torch\.float32: add a batch"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"got .* of torch\.uint8: .*images\.float\(\) / 255"),
        (torch.full((1, 1, 2, 2), 255.0), r"must lie in \[0, 1\]; got values from 255 to 255: divide 8-bit"),
        (torch.full((1, 1, 2, 2), -0.01), r"must lie in \[0, 1\]; got values from -0\.01 to -0\.01"),
        (torch.tensor([0.5, torch.nan]).view(1, 1, 1, 2), r"must lie in \[0, 1\]; got values from nan"),
    ],
)
def test_check_images(images, message):
    with pytest.raises(ValueError, match=message):
        datasets.check_images(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_images_at_the_bounds_are_fine(dtype):
    datasets.check_images(torch.tensor([0.0, 1.0], dtype=dtype).view(1, 1, 1, 2))
    datasets.check_images(torch.empty(0, 3, 8, 8, dtype=dtype))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 10]), r"labels must lie in 0\.\.9 for a model of 10 classes; got values from 0 to 10"),
        (torch.tensor([-1, 3]), r"labels must lie in 0\.\.9 .*; got values from -1 to 3"),
        (torch.tensor([1, 2, 3]), r"labels must be 2 integers, one an image; got \(3,\) of torch\.int64"),
        (torch.tensor([[1], [2]]), r"labels must be 2 integers, one an image; got \(2, 1\)"),
        (torch.tensor([1.0, 2.0]), r"labels must be 2 integers, one an image; got \(2,\) of torch\.float32"),
        (torch.tensor([1, 2], dtype=torch.int32), r"got \(2,\) of torch\.int32 \(wanted is torch\.int64"),
        (torch.tensor([True, False]), r"got \(2,\) of torch\.bool"),
    ],
)
def test_check_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        datasets.check_labels(labels, images=2, classes=10)


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (torch.zeros(4), r"got \(4,\) of torch\.float32"),
        (torch.zeros(4, 1), r"got \(4, 1\) of torch\.float32"),
        (torch.zeros(4, 10, 7), r"got \(4, 10, 7\) of torch\.float32"),
        ({"logits": torch.zeros(4, 10)}, "got a dict"),
    ],
)
def test_a_model_without_logits_is_told_so(output, got):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            return output

    model, data = Model().eval(), datasets.load("photos")
    images, labels = data.batch(torch.arange(4))
    ways = (
        lambda: datasets.class_count(output),
        lambda: experiments.correct_images(model, data, 4, seed=0),
        lambda: game.MaskingGame(model, players.grid(32, 32, side=4), images, labels, baseline=images.mean(0)),
        lambda: attacks.pgd(model, images, labels, epsilon=0.1, step_size=0.1, steps=1),
        lambda: attacks.calibrated_pgd(model, images, labels, steps=1),
        lambda: attacks.calibrated_path(model, images, labels, lambda amount: images, steps=1),
    )
    for way in ways:
        with pytest.raises(ValueError, match=rf"a model must give logits \(B, classes\), .*{got}: wrap the model"):
            way()


def test_labels_at_the_bounds_are_fine():
    datasets.check_labels(torch.tensor([0, 9]), images=2, classes=10)
    datasets.check_labels(torch.empty(0, dtype=torch.int64), images=0, classes=10)
