"""The numbers that the chapters glue are the pinned ones, each within its stated tolerance."""

import json
from pathlib import Path

from lib import book


def test_key_numbers_are_as_pinned(executed: Path):
    pinned = {}
    for path in sorted((book.ROOT / "data" / "key_numbers").glob("*.json")):
        pinned.update(json.loads(path.read_text(encoding="utf-8")))
    found = book.found_numbers(executed)
    assert set(found) == set(pinned)
    astray = {
        name: f"found {found[name]}, pinned {entry['value']} ± {entry['tolerance']} ({entry['what']})"
        for name, entry in pinned.items()
        if not abs(found[name] - entry["value"]) <= entry["tolerance"]
    }
    assert not astray
