"""The command line: help with examples, real runs on photos, and one clear line for every wrong input."""

import re
import runpy
import shlex
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import xarray as xr
from typer.testing import CliRunner

from lib import (
    contexts,
    datasets,
    defense_experiments,
    disentanglement,
    experiments,
    ledger,
    models,
    results,
    robustness,
    singles,
    training,
)
from lib.command_line import app, main, over_images, place

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands])
def test_help_of_each_command_ends_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0 and f"Example: python -m lib {command}" in result.output


def test_datasets_lists_datasets_and_checkpoints():
    output = CliRunner().invoke(app, ["datasets"], env={"COLUMNS": "200"}).output
    for name in ("photos", "cifar10", "photos/resnet18-standard", "cifar10/resnet18-adversarial"):
        assert name in output


def test_interactions_measures_photos_and_writes_the_result(tmp_path):
    for name in ("lib", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    out = tmp_path / "result.nc"
    few = ["--images", "2", "--replicates", "2", "--steps", "2", "--orders", "0.5,0.95"]
    run = subprocess.run(
        [sys.executable, "-m", "lib", "interactions", *few, "--out", str(out)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    # 4 corners, 2 replicates, 2 orders, 2 variants, 2 images
    assert out.exists() and "64 evaluations of v" in run.stdout


def test_ctrl_c_ends_it_quietly_even_while_it_is_loaded(monkeypatch):
    class Interrupted(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "lib.command_line", Interrupted("lib.command_line"))
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lib", run_name="__main__")
    assert ended.value.code == 130


def test_a_result_may_go_to_the_home_folder(tmp_path, monkeypatch):
    """A shell leaves ~ alone after a sign of equality."""
    monkeypatch.setenv("HOME", str(tmp_path))
    few = ["--images", "2", "--replicates", "2", "--steps", "1", "--orders", "0.5"]
    result = CliRunner().invoke(app, ["interactions", *few, "--out=~/here.nc"])
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["here.nc"]
    assert results.read("~/here.nc").equals(results.read(tmp_path / "here.nc"))


def test_attack_says_what_it_reached(tiny):
    options = ["--dataset", "tiny", "--images", "5", "--steps", "3"]
    model = models.load("tiny", "resnet18-standard")
    _, images, labels = experiments.correct_images(model, tiny, 5, seed=0)
    for name in ("untargeted 0.001", "steps 3"):
        result = CliRunner().invoke(app, ["attack", *options, "--attack", name], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        told = dict(re.findall(r"│ (\w[^│]*?) +│ (\S[^│]*?) +│", result.output))
        found = experiments.attack(model, images, labels, name, steps=3)
        assert told["images"] == "5" and told["misclassified"] == str(int((found.classes != labels).sum()))
        assert told["utility: mean, least, greatest"].startswith(f"{found.utility.mean():.2f}, ")
        assert told.get("reached the utility") == (str(int(found.reached.sum())) if "targeted" in name else None)


def test_results_are_listed_with_what_they_cost():
    output = CliRunner().invoke(app, ["results"], env={"COLUMNS": "200"}).output
    published = results.published()
    for dataset, model, experiment, path in (published[0], published[-1]):
        passes = int(results.read(path).attrs["passes"])
        assert re.search(rf"│ {dataset} +│ {model} +│ {experiment} +│.*│ {passes} +│", output)
    assert len(re.findall(r"│ \d{4}-\d\d-\d\d", output)) == len(published)


@pytest.mark.parametrize("options", [[], ["--missing"], ["--write"]], ids=" ".join)
def test_claims_are_listed_and_written_where_asked(options, monkeypatch):
    row = {"id": "C03", "claim": "a share", "dataset": "cifar10", "model": "vgg16", "on": "neighbours", "source": []}
    judged = {**row, "effect": 0.5, "low": 0.25, "high": 0.75, "images": 7, "verdict": "replicated"}
    waiting = {**row, "id": "C04", "claim": None, "effect": None, "images": None, "verdict": "not run"}
    monkeypatch.setattr(ledger, "ledger", lambda: [judged, waiting])
    monkeypatch.setattr(ledger, "write", lambda: "there")
    monkeypatch.setattr(ledger, "read", lambda place: [judged] if place == "there" else pytest.fail("read elsewhere"))
    result = CliRunner().invoke(app, ["claims", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "0.500 [0.250, 0.750]" in result.output and "replicated" in result.output
    assert ("not run" in result.output) == ("--missing" in options)
    assert ("written to" in result.output) == ("--write" in options)


@pytest.mark.parametrize(
    ("options", "done"),
    [
        ([], ["execute", "build"]),
        (["--stored"], ["stage", "build"]),
        (["--keep"], ["execute", "store", "build"]),
        (["--pin"], ["execute", "pin", "build"]),
        (["--keep", "--pin"], ["execute", "store", "pin", "build"]),
    ],
    ids=str,
)
def test_book_does_what_its_options_say(options, done, monkeypatch):
    """What an execution found is stored before the pins and the build, which may refuse it."""
    steps = []
    for step in ("book.execute", "book.stage", "book.build", "key_numbers.pin", "book.store"):
        monkeypatch.setattr(f"lib.{step}", lambda step=step: steps.append(step.partition(".")[2]))
    assert CliRunner().invoke(app, ["book", *options]).exit_code == 0
    assert steps == done


def test_train_changes_what_is_asked_of_the_published_recipe(tmp_path, monkeypatch):
    asked = []

    def train_and_save(data, test, about, *, device):
        asked.append(about)
        card = tmp_path / "card.json"
        card.write_text("{}")
        return card

    monkeypatch.setattr(training, "check_new", lambda *_: None)
    monkeypatch.setattr(training, "train_and_save", train_and_save)
    for options in ([], ["--epochs", "3", "--precision", "float32", "--seed", "1"]):
        assert CliRunner().invoke(app, ["train", *options]).exit_code == 0
    published = training.recipe("photos", "resnet18-standard")
    assert asked == [published, replace(published, epochs=3, precision="float32", seed=1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack", "--dataset", "mnist"], "no model for the dataset 'mnist': choose one of"),
        (["attack", "--model", "vgg"], "unknown model 'vgg'"),
        (["attack", "--epsilon", "-1"], "epsilon must be at least 0"),
        (["interactions", "--orders", "a,b"], "orders are numbers with commas"),
        (["train", "--dataset", "mnist"], "no recipe for the model 'resnet18-standard' on 'mnist'"),
        (["train", "--precision", "float99"], "unknown precision 'float99'"),
        (["attack", "--device", "tpu"], "unknown device 'tpu'"),
        (["book", "--stored", "--keep"], "--stored executes nothing"),
        (["attack", "--model", "[/b]"], "unknown model '[/b]'"),
        (["interactions", "--errors", "0.1", "--earlier", "README.md"], "README.md is not a result"),
    ],
)
def test_wrong_input_ends_with_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lib", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(("written", "number"), [("8/255", 8 / 255), ("0.03", 0.03), ("1e-3", 0.001), ("-1", -1.0)])
def test_epsilon_is_written_as_a_quotient_or_a_number(written, number, monkeypatch):
    def instead(asked, **_):
        raise Asked(asked.epsilon, asked.step_size)

    monkeypatch.setattr(experiments, "order_curves", instead)
    options = ["interactions", "--epsilon", written, "--step-size", written]
    with pytest.raises(Asked) as found:
        CliRunner().invoke(app, options, standalone_mode=False, catch_exceptions=False)
    assert found.value.args == (number, number)


@pytest.mark.parametrize("written", ["eight", "8/0", "nan", "8/255/2", "1e400", ""])
def test_an_epsilon_that_is_no_number_is_refused(written):
    with pytest.raises(typer.BadParameter, match=r"is no number: write one as 8/255 or 0\.03"):
        CliRunner().invoke(app, ["attack", "--epsilon", written], standalone_mode=False, catch_exceptions=False)


def test_printing_without_a_browser_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr("lib.book.BROWSERS", ())
    monkeypatch.setattr(sys, "argv", ["lib", "pdf"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: printing the book needs one of")


def test_a_full_disk_ends_with_one_line(monkeypatch, capsys):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "available", full)
    monkeypatch.setattr(sys, "argv", ["lib", "datasets"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(("command", "kind"), [("interactions", "directory"), ("defenses", "file")])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(command, kind, tmp_path):
    there = tmp_path / "there"
    there.mkdir() if kind == "directory" else there.touch()
    with pytest.raises(typer.BadParameter, match=f"{there.name}. is a {kind}"):
        CliRunner().invoke(app, [command, "--out", str(there)], standalone_mode=False, catch_exceptions=False)


@pytest.mark.parametrize("command", ["interactions", "defenses"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(command, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(OSError, match=r"nothing can be written at .*x\.nc: "):
        CliRunner().invoke(app, [command, "--out", str(tmp_path / "file" / "x.nc")], catch_exceptions=False)


@pytest.mark.parametrize("command", ["interactions", "defenses"])
def test_a_refused_command_leaves_no_folder_behind(command, tmp_path):
    options = ["--model", "vgg", "--out", str(tmp_path / "deep" / "x.nc")]
    assert CliRunner().invoke(app, [command, *options]).exit_code != 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "place", "message"),
    [
        ("interactions", "data/results/cifar10/resnet18-standard-neighbours.nc", "is among the published results"),
        ("contexts", "data/results/new.nc", "is among the published results"),
        ("defenses", "data/results/cifar10", "is among the published results"),
        ("interactions", "README.md", r"a result is a file whose name ends in \.nc; got .*README\.md"),
        ("contexts", "new/curves", r"a result is a file whose name ends in \.nc; got .*curves"),
    ],
)
def test_published_results_and_other_files_are_not_overwritten(command, place, message, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(ValueError, match=message):
        CliRunner().invoke(app, [command, "--out", str(ROOT / place)], catch_exceptions=False)


def test_attacks_are_made_in_blocks(tiny, monkeypatch):
    seen, attack = [], experiments.attack
    monkeypatch.setattr(results, "AT_ONCE", {"cpu": 4})
    monkeypatch.setattr(experiments, "attack", lambda _, x, *a, **k: seen.append(len(x)) or attack(_, x, *a, **k))
    done = CliRunner().invoke(app, ["attack", "--dataset", "tiny", "--images", "9", "--device", "cpu", "--steps", "2"])
    assert done.exit_code == 0 and seen == [4, 4, 1]


def test_one_image_is_shown_without_an_interval_and_no_number_as_none(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    few = ["contexts", "--images", "1", "--pairs", "1", "--contexts", "2", "--orders", "0.5"]
    result = CliRunner().invoke(app, [*few, "--out", str(tmp_path / "one.nc")])
    assert result.exit_code == 0, result.output
    assert "of one image" in result.output
    for values in ([], [0.5, np.nan]):
        assert over_images(np.array(values)) == "not defined"


def test_the_table_of_defences_has_intervals(tmp_path, monkeypatch):
    shares = np.array([[[0.5, 0.25, 0.75, 0.0], [1.0, 1.0, 0.5, 0.5]]])  # of adversarial and of normal images
    found = xr.Dataset(
        {
            "corrected": (("defense", "subject", "image"), shares),
            "misled": (("attack", "image"), [[True, True, False, True]]),
        },
        coords={"defense": ["cutout"], "subject": ["adversarial", "normal"], "attack": [defense_experiments.STOPPED]},
        attrs={"passes": 7},
    )
    monkeypatch.setattr(defense_experiments, "defenses", lambda *_, **__: {"images": found})
    result = CliRunner().invoke(app, ["defenses", "--images", "4", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for values in (shares[0, 0, [0, 1, 3]], shares[0, 1]):
        assert over_images(values) in result.output
    assert "7 forward passes; written to " in result.output


TABLES = [
    (
        "interactions --attack 'untargeted 2'",
        (experiments, "order_curves"),
        "densenet161-adversarial-neighbours",
        lambda found: {"127": found.difference.values[0, found.reached.values[0], 4]},
    ),
    (
        "disentanglement",
        (disentanglement, "disentanglement"),
        "vgg16-adversarial-disentanglement",
        lambda found: {"25": found.disentanglement.sel(estimate="midpoint").values[:, 0]},
    ),
    (
        "contexts",
        (contexts, "localities"),
        "resnet50-standard-contexts",
        lambda found: {"127": found.locality.values[:, 1]},
    ),
    (
        "singles --attack 'untargeted 2'",
        (singles, "players_alone"),
        "resnet18-standard-singles",
        lambda found: {"untargeted 2": (found.alone[0] - found.alone[2]).values[found.reached.values[1]]},
    ),
    (
        "robustness",
        (robustness, "robustness"),
        "resnet50-smoothed-robustness",
        lambda found: {
            "PGD-20": found.right.sel(under="PGD-20").values,
            "certified above 0.25": found.radius.values[np.isfinite(found.radius)] > 0.25,
        },
    ),
]


@pytest.mark.parametrize(("words", "measure", "file", "rows"), TABLES)
def test_the_tables_say_what_the_files_hold(words, measure, file, rows, tmp_path, monkeypatch):
    """Each measurement is replaced by its published result: what the table says is taken from that in another way."""
    found = results.read(results.PUBLISHED / "cifar10" / f"{file}.nc")
    monkeypatch.setattr(*measure, lambda *_, **__: found)
    copy = tmp_path / ("far" * 50) / "copy.nc"  # a path longer than a line is not broken
    done = CliRunner().invoke(app, [*shlex.split(words), "--out", str(copy)], terminal_width=200)
    assert done.exit_code == 0, done.output
    for head, values in rows(found).items():
        digits = {"digits": 4} if "interactions" in words else {}
        line = next(line for line in done.output.splitlines() if f" {head} " in line)
        assert over_images(values, **digits) in line
    counted = "forward passes" if words == "robustness" else "evaluations of v"
    assert f"{found.attrs['passes']} {counted}; written to {copy}\n" in done.output


def test_training_anew_is_refused_before_any_data_are_read(monkeypatch, capsys):
    monkeypatch.setattr(datasets, "load", lambda *_, **__: pytest.fail("too late"))
    monkeypatch.setattr(sys, "argv", ["lib", "train"])
    with pytest.raises(SystemExit):
        main()
    assert "photos/resnet18-standard is trained already" in capsys.readouterr().err


class Asked(Exception):
    """Raised instead of measuring, with what is asked."""


MEASURING = pytest.mark.parametrize(
    ("command", "module", "function", "asked"),
    [
        ("interactions", experiments, "order_curves", experiments.OrderCurves()),
        ("disentanglement", disentanglement, "disentanglement", disentanglement.Disentanglement()),
        ("contexts", contexts, "localities", contexts.Contexts()),
        ("singles", singles, "players_alone", singles.Singles()),
        ("defenses", defense_experiments, "defenses", defense_experiments.Defenses()),
        ("robustness", robustness, "robustness", robustness.Robustness()),
    ],
)


@MEASURING
def test_a_command_without_options_asks_what_its_specification_does_without_arguments(
    command, module, function, asked, monkeypatch
):
    def instead(asked, **_):
        raise Asked(asked)

    monkeypatch.setattr(module, function, instead)
    with pytest.raises(Asked) as found:
        CliRunner().invoke(app, [command], standalone_mode=False, catch_exceptions=False)
    assert found.value.args == (asked,)


OTHER = {"design": "other", "group": 2, "sampling": "uniform"}
"""Values of options whose default is None, or which is one of a few."""


def other_than(value):
    """Another value of the same kind as this default."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return "other"
    return ("other 1", "other 2") if value == ("untargeted 8",) else (0.25, 0.5)


@MEASURING
def test_the_command_of_a_specification_asks_for_it(command, module, function, asked, monkeypatch):
    """Every option is in the recorded command, and the command line heeds every one."""

    def instead(asked, **given):
        raise Asked(asked, given)

    monkeypatch.setattr(module, function, instead)
    wanted = replace(asked, **{name: OTHER.get(name, other_than(value)) for name, value in vars(asked).items()})
    rest = {"device": torch.device("cpu"), "root": Path("here"), "batch_size": 3}
    if command == "robustness":
        del rest["batch_size"]
    words = [word for name, value in rest.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command_line = [*shlex.split(wanted.command())[3:], *words]
    with pytest.raises(Asked) as found:
        CliRunner().invoke(app, command_line, standalone_mode=False, catch_exceptions=False)
    assert found.value.args == (wanted, rest)


@pytest.mark.parametrize("command", ["attack", "train"])
def test_the_other_commands_read_the_folder_that_is_given(command, monkeypatch):
    def instead(*_, root):
        raise Asked(root)

    monkeypatch.setattr(training, "check_new", lambda *_: None)
    monkeypatch.setattr(datasets, "load", instead)
    with pytest.raises(Asked) as found:
        CliRunner().invoke(app, [command, "--root", "here"], standalone_mode=False, catch_exceptions=False)
    assert found.value.args == (Path("here"),)


def test_results_of_one_command_on_two_folders_do_not_meet(tmp_path):
    asked = experiments.OrderCurves()
    looked_up, one, other = (place(asked, root) for root in (None, tmp_path / "one", tmp_path / "other"))
    assert len({looked_up, one, other}) == 3 and place(asked, tmp_path / "one") == one
