"""Settings of all tests: one thread per process, and the same examples in every run.

Several processes with two threads on two cores spend their time waiting for each other. Hypothesis draws its examples
from a fixed seed, so that a failure comes from the change; `make soak` draws new ones.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["helpers.processes"]  # the fixture `together`

settings.register_profile("fixed", derandomize=True)
settings.register_profile("drawn", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


LONG = ("test_each_notebook_runs_by_itself", "test_a_study_ends_as_on_one_machine", "test_a_study_reports_a_killed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first: at the end, one would run alone for minutes while the other process has none."""
    items.sort(key=lambda item: not item.name.startswith(LONG))


@pytest.fixture(scope="session")
def thesis_lines() -> list[str]:
    """The lines of the source thesis, line n at index n; skips the test without the file."""
    default = Path(os.environ.get("HDARTS_DATA", "") or "nowhere").parent / "thesis" / "report.md"
    path = Path(os.environ.get("HDARTS_THESIS", "") or default)
    if not path.is_file():
        pytest.skip(f"the thesis is not at {path}; HDARTS_THESIS names its file")
    return ["", *path.read_text(encoding="utf-8").splitlines()]
