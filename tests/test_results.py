"""Results on disk: whole or not at all, with provenance, keyed by what was asked."""

import pytest
import torch
import xarray as xr

from lib import files, results


def test_round_trip_keeps_values_names_and_attributes(tmp_path):
    data = xr.Dataset({"reached": ("image", [True, False])}, coords={"image": [3, 5]}, attrs={"seed": 1})
    path = results.write(data, tmp_path / "deep" / "one.nc")
    again = results.read(path)
    assert again.equals(data) and again.attrs["seed"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["one.nc"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = results.write(xr.Dataset({"a": 1}), tmp_path / "one.nc")

    def interrupted(data, path, **_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_netcdf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.write(xr.Dataset({"a": 2}), path)
    assert int(results.read(path).a) == 1


def test_missing_result_names_those_at_hand(tmp_path):
    results.write(xr.Dataset({"a": 1}), tmp_path / "there.nc")
    with pytest.raises(FileNotFoundError, match=r"at hand in that folder: there\.nc"):
        results.read(tmp_path / "not.nc")


def test_misled_are_those_of_another_class_attack_by_attack():
    result = xr.Dataset(
        {"label": ("image", [4, 7, 7]), "class_after": (("attack", "image"), [[4, 7, 4], [7, 7, 7]])},
        coords={"image": [0, 1, 2], "attack": ["untargeted 2", "untargeted 8"]},
    )
    found = results.misled(result)
    assert found.dims == ("attack", "image")
    assert found.values.tolist() == [[False, False, True], [True, False, False]]


def test_reached_in_both_are_the_same_images_in_the_same_order():
    def measured(images, hit, attacks):
        return xr.Dataset(
            {
                "reached": (("attack", "image"), [hit] * len(attacks)),
                "difference": (("attack", "image"), [[10.0 * image for image in images]] * len(attacks)),
            },
            coords={"image": images, "attack": attacks},
        )

    first = measured([5, 3, 8, 1], [True, True, False, True], ["untargeted 2", "untargeted 8"])
    second = measured([1, 8, 5, 2], [True, True, True, True], ["untargeted 2"])
    one, other = results.reached_in_both(first, second, "untargeted 2")
    assert one.image.values.tolist() == other.image.values.tolist() and set(one.image.values) == {1, 5}
    for each in (one, other):
        assert each.difference.sel(attack="untargeted 2").values.tolist() == [10.0 * i for i in each.image.values]
    assert one.sizes["attack"] == 2 and other.sizes["attack"] == 1


def test_an_attack_that_was_not_measured_is_named():
    measured = xr.Dataset(
        {"reached": (("attack", "image"), [[True]])}, coords={"attack": ["untargeted 8"], "image": [3]}
    )
    with pytest.raises(ValueError, match="has no attack 'untargetted 8': choose one of untargeted 8"):
        results.reached(measured, "untargetted 8")
    with pytest.raises(ValueError, match="has no attack 'untargeted 8': it has no utility to be reached"):
        results.reached(xr.Dataset({"strength": ("image", [0.1])}), "untargeted 8")


def test_reached_are_the_images_that_count():
    attacks = ["untargeted 8", "targeted 2"]
    data = xr.Dataset(
        {
            "reached": (("attack", "image"), [[True, False, True], [False, False, True]]),
            "interaction": ("image", [0.1, 0.2, 0.3]),
        },
        coords={"attack": attacks, "image": [7, 8, 9]},
    )
    for attack, rows in zip(attacks, ([0, 2], [2]), strict=True):
        assert results.reached(data, attack).interaction.equals(data.interaction.isel(image=rows))


def test_published_results_come_in_the_order_of_the_papers_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PUBLISHED", tmp_path)
    models = ("vgg16-standard", "resnet18-smoothed", "resnet18-adversarial", "resnet18-standard")
    for model in models:
        for experiment in ("uniform", "neighbours", "zero"):
            results.write(xr.Dataset(attrs={"model": model}), tmp_path / "cifar10" / f"{model}-{experiment}.nc")
    results.write(xr.Dataset(), tmp_path / "photos" / "resnet18-standard-neighbours.nc")
    found = results.read_published("cifar10", "neighbours", "uniform", "disentanglement")
    in_order = ("resnet18-standard", "resnet18-adversarial", "resnet18-smoothed", "vgg16-standard")
    assert list(found) == [(model, experiment) for model in in_order for experiment in ("neighbours", "uniform")]
    assert all(result.attrs["model"] == model for (model, _), result in found.items())


def test_published_results_of_another_seed_are_read_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PUBLISHED", tmp_path)
    for model in ("resnet18-adversarial_seed1", "resnet18-standard", "resnet18-standard_seed1"):
        results.write(xr.Dataset(attrs={"model": model}), tmp_path / "cifar10" / f"{model}-neighbours.nc")
    assert list(results.read_published("cifar10", "neighbours")) == [("resnet18-standard", "neighbours")]
    other = results.read_published("cifar10", "neighbours", seed=1)
    assert [model for model, _ in other] == ["resnet18-standard", "resnet18-adversarial"]
    assert all(result.attrs["model"] == f"{model}_seed1" for (model, _), result in other.items())
    assert not results.read_published("cifar10", "neighbours", seed=2)


def test_a_file_of_another_name_among_the_published_ones_is_named(tmp_path):
    results.write(xr.Dataset(), tmp_path / "cifar10" / "notes.nc")
    with pytest.raises(ValueError, match=r"notes\.nc is not named as a result"):
        results.published(tmp_path)


def test_what_is_no_result_is_refused_by_its_name(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("no netCDF")
    with pytest.raises(ValueError, match=r"README\.md is not a result in netCDF-3"):
        results.read(str(path))


def test_a_result_that_is_cut_short_is_refused_wherever_it_is_cut(tmp_path):
    data = xr.Dataset({"passes": ("image", [1, 2])}, coords={"image": [3, 5]}, attrs={"command": "x"})
    whole = results.write(data, tmp_path / "whole.nc").read_bytes()
    cut = tmp_path / "cut.nc"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.nc is not a result in netCDF-3, or is cut short"):
            results.read(cut)


def test_key_changes_with_the_command_and_with_what_it_is_carried_out_on():
    some, others = torch.zeros(3), torch.tensor([0.0, 0.0, 1e-30])
    keys = [files.key("a"), files.key("b"), files.key("a", inputs=[some]), files.key("a", inputs=[others])]
    assert len(set(keys)) == 4 and files.key("a", inputs=[some.clone()]) == keys[2]


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """Measures two images, and says how often a block was carried out."""
    monkeypatch.setattr(results, "WORK", tmp_path)
    calls = []

    class Asked:
        images, seed = 2, 0

        def command(self):
            return "python -m lib x"

    def block(chosen):
        calls.append(1)
        return xr.Dataset({"passes": ("image", [1] * len(chosen))}, coords={"image": chosen})

    def measure(*inputs):
        found = results.measured(block, Asked(), inputs=inputs, device=torch.device("cpu"), description="x")
        return found.attrs["code_revision"], len(calls)

    return measure


def test_blocks_of_other_weights_are_not_taken_for_these(counting):
    counts = [counting(torch.tensor(weight))[1] for weight in (0.0, 0.0, 1.0, 0.0)]
    assert counts == [1, 1, 2, 2]


def test_blocks_of_an_earlier_run_are_named(counting, capsys):
    counting()
    assert "earlier run" not in capsys.readouterr().err
    counting()
    assert "1 of 1 blocks are of an earlier run: to measure them anew, remove" in capsys.readouterr().err


def test_where_no_block_can_be_written_none_is_measured(counting, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "WORK", tmp_path / "file" / "work")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"nothing can be written at .*: Not a directory"):
        counting(torch.tensor(0.0))
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    assert counting(torch.tensor(0.0))[1] == 1, "the first"


def test_a_damaged_block_is_measured_again(counting):
    assert counting()[1] == 1
    (path,) = results.WORK.glob("*/*.nc")
    path.write_bytes(path.read_bytes()[:100])
    assert counting()[1] == 2 and counting()[1] == 2


def test_resumed_blocks_keep_the_revision_that_made_them(counting, monkeypatch):
    about = results.provenance
    monkeypatch.setitem(results.AT_ONCE, "cpu", 1)
    monkeypatch.setattr(results, "provenance", lambda **given: about(**given) | {"code_revision": "old"})
    assert counting() == ("old", 2)
    next(results.WORK.glob("*/0001-of-1.nc")).unlink()
    monkeypatch.setattr(results, "provenance", lambda **given: about(**given) | {"code_revision": "new"})
    assert counting() == ("old, new", 3)


def test_a_machine_without_git_does_not_know_the_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert results.provenance(command="x", device=torch.device("cpu"))["code_revision"] == "unknown"


def test_provenance_says_how_and_with_what():
    found = results.provenance(command="python -m lib x", device=torch.device("cpu"))
    assert found["command"] == "python -m lib x" and torch.__version__ in found["versions"]
    assert set(found) == {"command", "versions", "device", "date", "code_revision"} and all(found.values())


def test_more_passes_than_32_bits_count_can_be_written(counting, tmp_path):
    block = xr.Dataset({"passes": ("image", [2**31 - 1] * 2)}, coords={"image": [0, 1]})

    class Asked:
        images, seed = 2, 0

        def command(self):
            return "python -m lib x"

    found = results.measured(lambda _: block, Asked(), inputs=[], device=torch.device("cpu"), description="x")
    assert results.read(results.write(found, tmp_path / "long.nc")).attrs["passes"] == 2**32 - 2
