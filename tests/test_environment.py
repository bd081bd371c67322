"""The pins, the ranges and the conda environment agree."""

import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lib.notebooks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if not line.startswith("#")]


def test_every_pin_is_exact_and_free_of_places():
    for pin in PINS:
        assert pin.url is None
        assert str(pin.specifier).startswith("=="), pin
        assert "*" not in str(pin.specifier) and "+" not in str(pin.specifier), pin
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("line", RANGES)
def test_direct_dependency_is_pinned_within_its_range(line: str):
    wanted = Requirement(line)
    pins = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}
    assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)])


def test_conda_environment_installs_the_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["--requirement requirements.txt"]
    (python,) = [entry.removeprefix("python=") for entry in conda if entry.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert not {canonicalize_name(Requirement(line).name) for line in RANGES} & set(conda)
