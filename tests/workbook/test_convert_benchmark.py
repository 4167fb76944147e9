"""The command `hdarts convert-benchmark`, with an object in place of the official file."""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers.command import called
from helpers.small_table import random_table
from pandas.testing import assert_frame_equal

from hdarts.data.nasbench201_table import BenchmarkTable
from hdarts.workbook.convert_benchmark import convert


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return random_table()


class Api:
    """The part of the object from `nats_bench.create` that `convert` uses."""

    def __init__(self, frame: pd.DataFrame):
        self.count, self.columns = len(frame), frame.to_dict("list")

    def __len__(self) -> int:
        return self.count

    def arch(self, index: int) -> str:
        return self.columns["architecture"][index]

    def get_unique_str(self, index: int) -> str:
        return self.columns["unique_string"][index]

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True) -> dict[str, float]:
        assert (iepoch, hp, is_random) == (None, "200", False)  # the last epoch of 200, all trainings averaged
        name = {"cifar10-valid": "cifar10", "ImageNet16-120": "imagenet16_120"}.get(dataset, dataset)
        valid, test = (self.columns[f"{name}_{part}_200ep"][index] for part in ("valid", "test"))
        if dataset == "cifar10-valid":  # trained on half of the images: its test accuracy is not the one of papers
            return {"valid-accuracy": valid, "test-accuracy": -1.0}
        return {"test-accuracy": test} | ({} if dataset == "cifar10" else {"valid-accuracy": valid})


def test_the_official_table_converts_to_the_columns_of_the_file(frame: pd.DataFrame):
    few = frame.head(40)
    assert_frame_equal(convert(Api(few)), few.loc[:, list(convert(Api(few)).columns)])


def test_the_command_converts_a_complete_file_only(tmp_path: Path, monkeypatch, capsys, frame: pd.DataFrame):
    tables = iter([frame, frame.head(100)])
    fake = SimpleNamespace(create=lambda path, space, fast_mode, verbose: Api(next(tables)))
    monkeypatch.setitem(sys.modules, "nats_bench", fake)
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path))
    (source := tmp_path / "NATS-tss").touch()

    converted = partial(called, monkeypatch, "convert-benchmark")
    assert converted(source) == 0
    assert_frame_equal(BenchmarkTable.read().cells, BenchmarkTable.from_frame(frame).cells)
    capsys.readouterr()
    assert converted(source, "--output", tmp_path / "less.parquet") == 2
    assert "NATS-tss: lacks 15525 of the 15,625 cells" in capsys.readouterr().err
    assert not (tmp_path / "less.parquet").exists()
    assert converted(tmp_path / "elsewhere") == 2
    assert "elsewhere: no such file; NATS-tss-v1_0 is at" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    assert converted(source) == 2
    assert "pip install nats_bench" in capsys.readouterr().err
