"""Fixtures of the tests of hdarts.data."""

from pathlib import Path

import pytest
from helpers.images import encode, picture, write_parquet


@pytest.fixture(autouse=True)
def _empty_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the data of this machine from tests that do not name it."""
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "nothing"))


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """24 training and 6 test images of 3 classes, the training part in two files of several row groups."""
    folder = tmp_path / "set"
    names = ["cat", "dog", "owl"]
    for part, seeds in (("train-0", range(14)), ("train-1", range(14, 24)), ("test-0", range(100, 106))):
        write_parquet(
            folder / f"{part}.parquet", [encode(picture(s), "WEBP") for s in seeds], [s % 3 for s in seeds], names
        )
    return folder
