"""The book is printed whole by one command, ``make pdf``."""

import re
from pathlib import Path

from lib import book
from lib.notebooks import chapters, notebooks


def test_book_is_printed(offline_site: Path, chromium: str):
    printed = book.pdf(offline_site.parent).read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 3 * len(chapters())
    assert len(re.findall(rb"/Subtype\s*/Image", printed)) >= len(notebooks())
