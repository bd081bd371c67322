"""Meshes: points drawn evenly from their surface, and the file of clouds that a folder of them gives."""

import pytest
import torch
from typer.testing import CliRunner

from lib import datasets, meshes
from lib.command_line import app

BOX = """OFF
8 6 12
0 0 0
4 0 0
4 2 0
0 2 0
0 0 1
4 0 1
4 2 1
0 2 1
4 3 2 1 0
4 4 5 6 7
4 0 1 5 4
4 1 2 6 5
4 2 3 7 6
4 3 0 4 7
"""


@pytest.mark.parametrize("glued", [False, True])
def test_a_mesh_is_sampled_evenly_by_area(glued, tmp_path):
    """A box of 4 × 2 × 1: every point on a side, each side by its share of the area, and evenly over it."""
    path = tmp_path / "box.off"
    path.write_text(BOX.replace("OFF\n", "OFF") if glued else "# a box\n" + BOX)
    points = meshes.sample_mesh(path, points=20_000)
    assert points.shape == (20_000, 3) and points.dtype == torch.float32
    assert points.mean(0).abs().max() < 1e-4 and points.norm(dim=1).max().item() == pytest.approx(1, abs=1e-4)
    datasets.as_images(points[None])
    lower, upper = points.amin(0), points.amax(0)
    places = (points - lower) / (upper - lower)  # in the unit cube
    assert torch.allclose((upper - lower) / (upper - lower)[2], torch.tensor([4.0, 2.0, 1.0]), rtol=1e-3)
    for axis, area in ((0, 2.0), (1, 4.0), (2, 8.0)):
        for end in (0.0, 1.0):
            side = (places[:, axis] - end).abs() < 1e-5
            share = area / 28
            assert abs(side.float().mean() - share) < 4.5 * (share * (1 - share) / 20_000) ** 0.5
            others = places[side][:, [k for k in range(3) if k != axis]]
            assert (others.mean(0) - 0.5).abs().max() < 4.5 * (1 / 12 / side.sum()) ** 0.5
            assert (others.var(0) - 1 / 12).abs().max() < 0.01
    assert ((places < 1e-5) | (places > 1 - 1e-5)).any(1).all()
    assert torch.equal(meshes.sample_mesh(path), meshes.sample_mesh(path))
    assert not torch.equal(meshes.sample_mesh(path), meshes.sample_mesh(path, seed=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no OFF mesh, or is truncated or altered: the first line is not 'OFF'"),
        ("PLY\n1 2 3\n", "the first line is not 'OFF'"),
        ("OFF\n", "is no OFF mesh"),
        (BOX[:60], "8 vertices and 6 faces are promised, 9 lines follow"),
        (BOX.replace("4 3 2 1 0", "4 3 2 1 8"), "a face has wrong vertices: 4 3 2 1 8"),
        (BOX.replace("4 3 2 1 0", "4 3 2 1"), "a face has wrong vertices: 4 3 2 1"),
        (BOX.replace("4 3 2 1 0", "x"), "is no OFF mesh"),
        ("OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n", "has no surface"),
        ("OFF\n3 0 0\n0 0 0\n1 1 1\n2 2 2\n", "has no surface"),
        ("OFF\n3 1 0\n0 0 0\n1e200 1 1\n2 1e200 2\n3 0 1 2\n", "has no surface, or none that is finite"),
        ("OFF\n0 0 0\n", "a vertex has three coordinates, and there is at least one"),
        ("OFF\n3 1 0\n0 0\n1 0\n0 1\n3 0 1 2\n", "a vertex has three coordinates"),
    ],
)
def test_a_mesh_that_is_none(text, message, tmp_path):
    (tmp_path / "mesh.off").write_text(text)
    with pytest.raises(ValueError, match=message):
        meshes.sample_mesh(tmp_path / "mesh.off")


@pytest.fixture
def model_net(tmp_path):
    """ModelNet10's folders, of two classes: flat boxes and tall ones."""
    for name, height in (("desk", 1), ("bed", 9)):
        for split, count in (("train", 3), ("test", 2)):
            folder = tmp_path / "ModelNet10" / name / split
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{name}_{number:04d}.off").write_text(BOX.replace(" 1\n", f" {height}\n", 4))
    (tmp_path / "ModelNet10" / "README.txt").touch()
    (tmp_path / "ModelNet10" / ".hidden").mkdir()
    return tmp_path / "ModelNet10"


def test_the_clouds_of_a_folder_of_meshes_are_a_dataset(model_net, tmp_path):
    path = tmp_path / "made" / datasets.MODELNET10
    assert meshes.convert(model_net, path=path) == path
    train, test = (datasets.load("modelnet10", split, root=path.parent) for split in ("train", "test"))
    assert train.classes == test.classes == ("bed", "desk")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] and test.labels.tolist() == [0, 0, 1, 1]
    assert train.images.shape == (6, 3, 1024, 1)
    tall, flat = (train.images[row, :, :, 0].std(1) for row in (0, 3))
    assert tall[2] > tall[0] and flat[2] < flat[0]
    every = torch.cat([train.images, test.images]).flatten(1)
    assert len(every.unique(dim=0)) == 10, "each mesh has draws of its own"
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is there already: move it away to have it made anew"):
        meshes.convert(model_net, path=path)
    assert path.read_bytes() == before
    again = meshes.convert(model_net, path=tmp_path / "again" / datasets.MODELNET10)
    assert torch.equal(datasets.load("modelnet10", root=again.parent).images, test.images)


def test_where_nothing_can_be_written_no_mesh_is_sampled(model_net, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(meshes, "sample_mesh", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(OSError, match=r"nothing can be written at .*file"):
        meshes.convert(model_net, path=tmp_path / "file" / datasets.MODELNET10)


def test_a_folder_without_meshes_or_with_a_broken_one_leaves_nothing(model_net, tmp_path):
    path = tmp_path / "made" / datasets.MODELNET10
    with pytest.raises(ValueError, match=r"no meshes \*\.off in .*<class>/train: unpack ModelNet10\.zip"):
        meshes.convert(tmp_path / "nowhere", path=path)
    (model_net / "desk" / "test" / "desk_0001.off").write_text(BOX[:60])
    with pytest.raises(ValueError, match=r"desk_0001\.off is no OFF mesh"):
        meshes.convert(model_net, path=path)
    for file in (model_net / "desk" / "test").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"no meshes \*\.off in .*desk/test"):
        meshes.convert(model_net, path=path)
    assert not path.parent.exists() or not list(path.parent.iterdir())


def test_the_command_says_where_the_clouds_are(monkeypatch):
    monkeypatch.setattr(meshes, "convert", lambda folder: folder / "made.npz")
    done = CliRunner().invoke(app, ["clouds", "ModelNet10"])
    assert done.exit_code == 0 and done.output == "written to ModelNet10/made.npz\n"
