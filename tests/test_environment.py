"""environment.yml (conda) and pyproject.toml (pip) ask for the same packages, and the pinned versions fit both."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# packages that conda-forge names otherwise than PyPI
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[Requirement]:
    """All packages with their bounds, those of the extras among them."""
    extras = [word for words in project()["optional-dependencies"].values() for word in words]
    asked = map(Requirement, [*project()["dependencies"], *extras])
    return [one for one in asked if one.name != project()["name"]]  # an extra may name another one


def asked_by_pip() -> dict[str, str]:
    return {canonicalize_name(one.name): str(one.specifier) for one in requirements()}


def asked_by_conda() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    asked = {}
    for word in environment["dependencies"]:
        if isinstance(word, dict):
            continue
        name, bound = re.findall(r"^([a-z0-9-]+)(.*)$", word)[0]
        asked[CONDA_NAMES.get(name, name)] = bound
    return asked


def test_conda_and_pip_ask_for_the_same() -> None:
    conda = asked_by_conda()
    assert conda.pop("python") == project()["requires-python"]
    assert conda.pop("pip") == ""
    assert conda == asked_by_pip()


def test_conda_installs_this_checkout_itself_by_pip() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == project()["name"]
    assert [word for word in environment["dependencies"] if isinstance(word, dict)] == [{"pip": ["-e ."]}]


def test_every_package_is_pinned_at_a_version_that_fits() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    for asked in requirements():
        assert versions[canonicalize_name(asked.name)] in asked.specifier, asked
