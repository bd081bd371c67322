"""The ledger: made from results, complete, equal to what is stored, and "not run" where a result is missing."""

import json
import shutil

import pytest

from lib import claims, ledger, models, results, training

FIELDS = ["id", "dataset", "model", "on", "claim", "effect", "low", "high", "images", "verdict"]


@pytest.fixture(scope="module")
def rows():
    return ledger.ledger()


def close(first, second):
    """The same rows, numbers to five digits."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value == (pytest.approx(other[name], rel=1e-5) if isinstance(value, float) else other[name]), one
    return True


def test_the_stored_ledger_is_what_the_results_say(rows):
    assert close(ledger.read(), rows)


def test_nothing_that_is_judged_is_left_unrun():
    assert not [(row["id"], row["model"], row["on"]) for row in ledger.read() if row["verdict"] == "not run"]


def test_every_row_says_what_it_rests_on(rows):
    for row in rows:
        assert set(FIELDS) <= set(row)
        if row["verdict"] == "not run":
            assert row["effect"] is None and row["images"] == 0 and row["source"] == []
        else:
            # A share of |mean ΔI| grows with noise, and so in every resample: where all is noise its interval may miss
            # the effect, and then it must decide nothing.
            assert row["low"] <= row["high"]
            assert row["low"] <= row["effect"] <= row["high"] or row["verdict"] == "inconclusive"
            assert all((results.PUBLISHED / name).exists() for name in row["source"])
            assert row["source"] or row["dataset"] == "exact games"


def test_a_row_is_the_verdict_of_its_claim(rows):
    (row,) = (
        row
        for row in rows
        if (row["id"], row["model"], row["on"]) == ("C05", "resnet18-standard", "neighbours, untargeted 8")
    )
    measured = results.read(results.PUBLISHED / "cifar10" / "resnet18-standard-neighbours.nc")
    used = measured.isel(image=measured.reached.sel(attack="untargeted 8").values)
    (verdict,) = claims.c05(used, "untargeted 8")
    assert row["effect"] == pytest.approx(float(verdict.effect.mean), rel=1e-5) and row["images"] == used.sizes["image"]
    assert row["verdict"] == verdict.verdict


def test_a_missing_result_is_not_run_and_does_not_hide_the_others(tmp_path):
    (tmp_path / "cifar10").mkdir()
    name = "resnet18-standard-neighbours.nc"
    shutil.copy(results.PUBLISHED / "cifar10" / name, tmp_path / "cifar10")
    rows = ledger.ledger(tmp_path)
    judged = {(row["id"], row["model"]) for row in rows if row["verdict"] != "not run" and row["source"]}
    assert judged == {("C03", "resnet18-standard"), ("C05", "resnet18-standard")}
    assert {row["model"] for row in rows if row["id"] == "C04"} == {
        name.partition("-")[0] for name in training.RECIPES["cifar10"]
    }
    written = ledger.write(tmp_path / "claims.json", folder=tmp_path)
    assert close(ledger.read(written), rows) and [path.name for path in tmp_path.glob("*.json")] == ["claims.json"]
    assert json.loads(written.read_text(encoding="utf-8"))


def test_a_result_that_cannot_be_judged_is_named(tmp_path):
    (tmp_path / "cifar10").mkdir()
    name = "cifar10/resnet18-standard-neighbours.nc"
    measured = results.read(results.PUBLISHED / name)
    results.write(measured.assign(reached=measured.reached & False), tmp_path / name)
    with pytest.raises(ValueError, match=f"C03 cannot be judged on {name}: an interval .* at least 2 images; got 0"):
        ledger.ledger(tmp_path)


def test_a_missing_ledger_says_how_to_write_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m lib claims --write"):
        ledger.read(tmp_path / "claims.json")


def test_a_damaged_ledger_says_so(tmp_path):
    (tmp_path / "claims.json").write_text('[{"id"')
    with pytest.raises(ValueError, match=r"claims\.json is no ledger: write it anew with 'python -m lib claims"):
        ledger.read(tmp_path / "claims.json")


def test_a_table_shows_the_stored_rows_of_its_claims():
    shown = ledger.table("C03", "C15")
    stored = [row for row in ledger.read() if row["id"] in ("C03", "C15") and row["verdict"] != "not run"]
    assert len(shown) == len(stored) > 2 and set(shown.index) == {"C03", "C15"}
    for (_, line), row in zip(shown.iterrows(), stored, strict=True):
        network = "–" if row["id"] == "C15" else models.title(row["model"])
        assert (line["claim"], line["verdict"], line["network"]) == (row["claim"], row["verdict"], network)
        largest = max(abs(row["low"]), abs(row["high"]))
        shown_as = line["effect and 95% interval"].replace("[", "").replace("]", "").replace(",", "").split()
        assert [float(each) for each in shown_as] == pytest.approx(
            [row["effect"], row["low"], row["high"]], abs=0.005 * largest
        )
    with pytest.raises(ValueError, match="no rows of the claims C99"):
        ledger.table("C03", "C99")


def test_side_claims_name_their_networks(rows):
    models = {row["model"] for row in rows if row["id"] == "C07"}
    assert models == {"resnet18-standard", "resnet50-standard", "densenet161-standard"}
    assert {row["model"] for row in rows if row["id"] == "C17"} == {"resnet50"}


def test_twins_of_a_seed_are_judged_as_the_ledger_judges(rows, tmp_path):
    ids = {"C03", "C04", "C05", "C10", "C11"}
    first = ledger.seed_rows(0)
    assert {row["id"] for row in first} == ids
    assert first == [row for row in rows if row["model"].startswith("resnet18") and row in first]
    (tmp_path / "cifar10").mkdir()
    for what in ("standard-neighbours", "adversarial-neighbours"):
        training_name, experiment = what.split("-")
        copy = tmp_path / "cifar10" / f"resnet18-{training_name}_seed7-{experiment}.nc"
        shutil.copy(results.PUBLISHED / "cifar10" / f"resnet18-{what}.nc", copy)
    other = ledger.seed_rows(7, folder=tmp_path)
    assert {row["id"] for row in other if row["verdict"] == "not run"} == {"C11"}
    assert {row["model"] for row in other} == {
        "resnet18_seed7",
        "resnet18-standard_seed7",
        "resnet18-adversarial_seed7",
    }
    same = [row for row in first if row["id"] != "C11"]
    judged = [row for row in other if row["verdict"] != "not run"]
    assert [(row["effect"], row["low"]) for row in judged] == [(row["effect"], row["low"]) for row in same]
    assert all("_seed7" in name for row in judged for name in row["source"])
