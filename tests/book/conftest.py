"""The book, executed once and built once for every test of this folder."""

from pathlib import Path

import pytest

from lib import book


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the book's sources with every notebook executed."""
    return book.execute(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="session")
def site(executed: Path) -> Path:
    """The folder of the pages built from them; building fails at any warning."""
    return book.build(executed.parent).parent
