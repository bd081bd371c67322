"""The published benchmark: every comparison is there, and its ratios are those of its numbers. No time is tested."""

import json
from collections.abc import Iterator

import pytest

from lib import results

PATH = results.PUBLISHED / "bench.json"
KEYS = {"id", "device", "what", "peer", "ours", "theirs", "ratio", "target"}


@pytest.fixture(scope="module")
def bench() -> Iterator[dict]:
    yield json.loads(PATH.read_text())


def test_every_comparison_is_there_with_its_machine(bench):
    assert {row["id"] for row in bench["rows"]} == set("abcdef")
    assert all(bench[key] for key in ("machine", "versions", "date"))


def test_every_row_is_whole_and_said_once(bench):
    for row in bench["rows"]:
        assert set(row) >= KEYS and set(row) - KEYS <= {"order", "design"}, row
        assert all(isinstance(row[key], str) and row[key] for key in ("id", "device", "what", "peer")), row
        assert row["target"] is None or row["target"] > 0, row
    said = [(row["id"], row["device"], row["what"], row["peer"]) for row in bench["rows"]]
    assert len(said) == len(set(said))


def test_ratios_follow_from_their_numbers(bench):
    for row in bench["rows"]:
        assert row["ours"] > 0 and row["theirs"] > 0, row
        of_speeds, of_costs = row["ours"] / row["theirs"], row["theirs"] / row["ours"]
        ratio = pytest.approx(row["ratio"], rel=2e-3)
        assert (of_speeds if "images/s" in row["what"] else of_costs) == ratio, row
