"""What holds for all tests: one thread a process, and examples that are the same in every run.

Several processes with two threads on two cores spend their time waiting for each other. The examples of hypothesis are
drawn from a fixed seed, so that a change is judged by what it changed; `make soak` draws new ones.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("fixed", derandomize=True)
settings.register_profile("drawn", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def thesis_lines() -> list[str]:
    """The lines of the source thesis, line n at place n; skips where the thesis is not."""
    beside = Path(os.environ.get("HDARTS_DATA", "") or "nowhere").parent / "thesis" / "report.md"
    path = Path(os.environ.get("HDARTS_THESIS", "") or beside)
    if not path.is_file():
        pytest.skip(f"the thesis is not at {path}; HDARTS_THESIS names its file")
    return ["", *path.read_text(encoding="utf-8").splitlines()]
