"""The order of the modules that ``lib`` states: it names them all, and each imports only from those before it."""

import ast
import re

import pytest

import lib
from lib.notebooks import ROOT

ORDER = re.findall(r"\w+", lib.__doc__.split(":\n\n")[-1])
MODULES = {path.stem: path for path in (ROOT / "lib").glob("*.py") if not path.stem.startswith("__")}


def test_every_module_is_named_once():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_downward_only(name):
    imported = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "lib":
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            imported.add(node.module.removeprefix("lib."))
    later = set(ORDER[ORDER.index(name) :]) - {name}
    assert not imported & later
