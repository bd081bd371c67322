"""ImageNet's images: in every layout in which they are found, labelled, cut to size, drawn, refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import models as tv_models

from lib import datasets, imagenet, imagenet_weights

WNIDS = [f"n{number:08d}" for number in range(1, 1001)]
KINDS = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
"""The fields of the development kit's classes that are read."""


def picture(path: Path, shade: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 100, 200)).save(path)


def loaded(place: Path) -> dict[int, int]:
    """From the red of each image to its label."""
    data = datasets.load("imagenet", root=place)
    assert data.images.shape[1:] == (3, 224, 224) and data.images.dtype == torch.uint8
    assert len(data.classes) == 1000 and data.labels.dtype == torch.int64
    return dict(zip(data.images[:, 0, 100, 100].tolist(), data.labels.tolist(), strict=True))


@pytest.mark.parametrize("inside", ["", "val"])
def test_folders_of_a_subset_are_ranked_among_all_wnids(inside, local, tmp_path):
    picture(tmp_path / inside / WNIDS[999] / "b.png", 9)
    picture(tmp_path / inside / WNIDS[3] / "a.png", 3)
    picture(tmp_path / inside / WNIDS[3] / ".hidden.png", 4)
    (tmp_path / "weights").mkdir()
    (tmp_path / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
    assert loaded(tmp_path) == {3: 3, 9: 999}
    (tmp_path / "wnids.txt").rename(tmp_path / "LOC_synset_mapping.txt")
    assert loaded(tmp_path) == {3: 3, 9: 999}


def test_folders_of_all_classes_need_no_list(local, tmp_path):
    assert imagenet.class_index(tmp_path, list(reversed(WNIDS)))[WNIDS[7]] == 7


def test_labels_in_files(local, tmp_path):
    """Numbers as they are; Kaggle's with a heading and boxes; the first file counts."""
    for row in (1, 2):
        picture(tmp_path / "val" / f"ILSVRC2012_val_{row:08d}.png", row)
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS))
    (tmp_path / "LOC_val_solution.csv").write_text(
        f"ImageId,PredictionString\nILSVRC2012_val_00000002,{WNIDS[5]} 85 1 499 272 {WNIDS[5]} 1 2 3 4\n"
        f"ILSVRC2012_val_00000001,{WNIDS[6]} 85 1 499 272\n"
    )
    assert loaded(tmp_path) == {1: 6, 2: 5}
    (tmp_path / "labels.csv").write_text("ILSVRC2012_val_00000001.png,17\nILSVRC2012_val_00000002.png,999\n")
    (tmp_path / "wnids.txt").unlink()
    assert loaded(tmp_path) == {1: 17, 2: 999}


@pytest.fixture
def kit(tmp_path):
    """The development kit: number k is the wnid of rank 1000 − k, as if sorted the other way; a class above them."""
    folder = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    rows = [(number, wnid, 0) for number, wnid in enumerate(reversed(WNIDS), 1)] + [(1001, "n99999999", 3)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=KINDS)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n1000\n2\n")
    return folder


@pytest.mark.parametrize("beside", [True, False], ids=["in the folder", "in that of the kit"])
def test_the_development_kit_tells_the_rank_of_folders(beside, local, tmp_path, kit):
    picture(tmp_path / WNIDS[4] / "a.png", 7)
    if beside:
        (kit / "meta.mat").rename(tmp_path / "meta.mat")
    assert loaded(tmp_path) == {7: 4}


def test_the_development_kit_may_lie_beside_the_images(local, tmp_path, kit):
    picture(tmp_path / "ILSVRC2012_val_00000001.png", 10)
    for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
        (kit / name).rename(tmp_path / name)
    assert loaded(tmp_path) == {10: 999}


def test_the_development_kit_numbers_classes_in_its_own_order(local, tmp_path, kit):
    picture(tmp_path / "ILSVRC2012_val_00000001.png", 10)
    picture(tmp_path / "ILSVRC2012_val_00000003.png", 30)
    assert loaded(tmp_path) == {10: 999, 30: 998}
    truth = kit / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n1001\n")
    with pytest.raises(ValueError, match=r"'1001' in .* is no number of a class in"):
        datasets.load("imagenet", root=tmp_path)
    whole = (kit / "meta.mat").read_bytes()
    few = [(number, wnid, 0) for number, wnid in enumerate(WNIDS[:5], 1)]
    savemat(kit / "meta.mat", {"synsets": np.array(few, dtype=KINDS)})
    truth.write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"meta\.mat must name 1000 classes; it names 5: unpack it anew"):
        datasets.load("imagenet", root=tmp_path)
    (kit / "meta.mat").write_bytes(whole)
    for content in (b"nothing", (kit / "meta.mat").read_bytes()[:300]):
        (kit / "meta.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"is not the meta\.mat of the development kit, or is cut short"):
            datasets.load("imagenet", root=tmp_path)
    (kit / "meta.mat").unlink()
    with pytest.raises(ValueError, match=r"meta\.mat is missing: the development kit's numbers mean nothing without"):
        datasets.load("imagenet", root=tmp_path)


@pytest.mark.parametrize(
    ("size", "mode"), [((500, 375), "RGB"), ((300, 400), "L"), ((256, 256), "RGBA"), ((40, 31), "P")]
)
def test_images_are_cut_as_torchvisions_weights_want_them(size, mode, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "image.png")
    ours = imagenet.read_image(tmp_path / "image.png").float() / 255
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in imagenet_weights.NORMALIZER.values())
    theirs = tv_models.ResNet18_Weights.IMAGENET1K_V1.transforms()(Image.open(tmp_path / "image.png").convert("RGB"))
    torch.testing.assert_close((ours - mean) / deviation, theirs, rtol=1e-5, atol=1e-5)


def test_an_image_of_more_than_8_bits_is_named(tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (300, 300), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "image.png")
    with pytest.raises(ValueError, match=r"image\.png has more than 8 bits a channel \(I;16\): save it with 8"):
        imagenet.read_image(tmp_path / "image.png")


def test_a_broken_png_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    content = bytearray((tmp_path / "image.png").read_bytes())
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second] ^= 0x80
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"the image .*image\.png cannot be read \(broken PNG file"):
        imagenet.read_image(tmp_path / "image.png")


def test_some_are_drawn_by_the_seed(tmp_path):
    for row in range(12):
        picture(tmp_path / f"{row:02}.png", row)
    files = [(tmp_path / f"{row:02}.png", row) for row in range(12)]
    drawn = [imagenet.read(files, limit=5, seed=seed) for seed in (1, 1, 2)]
    for images, labels in drawn:
        assert len(images) == len(set(labels.tolist())) == 5
        assert images[:, 0, 0, 0].tolist() == labels.tolist()
    assert torch.equal(drawn[0][1], drawn[1][1]) and not torch.equal(drawn[0][1], drawn[2][1])
    assert imagenet.read(files)[1].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({f"{WNIDS[0]}/a.png": ""}, r"has 1 classes: which of the 1000 they are is told by all 1000 wnids"),
        ({f"{WNIDS[0]}/a.png": "", "wnids.txt": "n1 n2"}, r"wnids\.txt must name 1000 wnids, as n01440764; it names 1"),
        ({"n99999999/a.png": "", "wnids.txt": "\n".join(WNIDS)}, r"of which n99999999 is none of the 1000"),
        ({"a.png": ""}, r"have no labels: put them into folders named by wnid, or add labels\.csv"),
        ({"a.png": "", "b.png": "", "labels.csv": "a.png,3"}, r"1 images in .* have no label, such as b\.png"),
        ({"a.png": "", "labels.csv": "a.png, "}, r"1 images in .* have no label, such as a\.png"),
        ({"a.png": "", "labels.csv": "b.png,3\na.png,1000"}, r"'1000' in .*labels\.csv is no label"),
        ({"a.png": "", "labels.csv": "a.png,3\na.jpg,5"}, r"a has two labels in .*labels\.csv: leave one"),
        ({"a.png": "", "labels.csv": "a.png,3"}, r"the image .*a\.png cannot be read .*: replace or remove it"),
    ],
)
def test_what_cannot_be_told(files, message, local, tmp_path, empty_folder):
    for name, text in files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.load("imagenet", root=tmp_path / "there")


def test_places_are_looked_at_in_order_and_a_miss_lists_them(local, tmp_path, monkeypatch, empty_folder):
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("imagenet")
    for part in ("root (not given)", f"variable {datasets.DATA_VARIABLE} (not set", str(local / "imagenet"), "wnid"):
        assert part in str(caught.value)
    assert not local.exists()
    for place, shade in ((local / "imagenet", 1), (tmp_path / "variable" / "imagenet", 2)):
        picture(place / "a.png", shade)
        (place / "labels.csv").write_text(f"a.png,{shade}")
    assert datasets.load("imagenet").labels.tolist() == [1]
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "variable"))
    assert datasets.load("imagenet").labels.tolist() == [2]
    with pytest.raises(FileNotFoundError, match=r"at root \(.*nowhere\)"):
        datasets.load("imagenet", root=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"validation images alone, as the split 'test'"):
        datasets.load("imagenet", "train")
