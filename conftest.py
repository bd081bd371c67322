"""What is added to nbval: its kernels find ``lib``, and what a cell glues is held against the pinned key numbers."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

from lib import key_numbers

os.environ["PYTHONPATH"] = str(Path(__file__).parent)
PINNED = key_numbers.pinned_numbers()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    yield
    if isinstance(item, IPyNbCell):
        found, stored = (key_numbers.glued(outputs) for outputs in (item.test_outputs, item.cell.outputs))
        assert found.keys() == stored.keys(), "executed, the cell glues other numbers than those stored with it"
        wrong = key_numbers.astray(found, PINNED)
        assert not wrong, "; ".join(wrong)
