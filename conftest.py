"""What is added to nbval: its kernels find ``lib``, and what a cell glues is held against the pinned key numbers."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

from lib import book

os.environ["PYTHONPATH"] = str(Path(__file__).parent)
PINNED = book.pinned_numbers()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    yield
    if isinstance(item, IPyNbCell):
        wrong = book.astray(book.key_numbers(item.test_outputs), PINNED)
        assert not wrong, "; ".join(wrong)
