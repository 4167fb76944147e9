"""The cells of a search are looked up in the benchmark's table, which never influences the search."""

import signal
from pathlib import Path

import pandas as pd
import pytest
from helpers.small_runs import SEARCH, computed, differences, params, signal_at
from helpers.small_table import random_table, write_table

from hdarts.data.nasbench201_table import BenchmarkTable
from hdarts.errors import ParameterError, Stopped
from hdarts.runs.run import Run
from hdarts.space import Genotype, every_cell, skip_count

SMALL = {**SEARCH, "limit": 64, "epochs": 2}
KIND = {**SMALL, "space": "nasbench201", "layers": 1, "method": "darts-second", "alpha_learning_rate": 0.5}
RANDOM = {**KIND, "method": "random"}


def searched(runs: Path, data: Path, monkeypatch: pytest.MonkeyPatch, kind=KIND) -> pd.DataFrame:
    """Search with the tables in a data folder; return truth.csv."""
    monkeypatch.setenv("HDARTS_RUNS", str(runs))
    monkeypatch.setenv("HDARTS_DATA", str(data))
    list(computed(kind))
    return Run.open(params(kind)).table("truth")


def test_the_cell_of_each_epoch_is_looked_up_without_influence_on_the_search(tmp_path: Path, monkeypatch):
    results = {}
    for name, seed in {"none": None, "one": 0, "other": 1}.items():
        data = tmp_path / name
        results[name] = searched(
            tmp_path / f"runs-{name}", data if seed is None else write_table(data, seed), monkeypatch
        )
    assert results["none"].empty
    assert differences(tmp_path / "runs-none", tmp_path / "runs-one") == ["run/truth.csv"]
    assert differences(tmp_path / "runs-one", tmp_path / "runs-other") == ["run/truth.csv"]
    table, rows = BenchmarkTable.from_frame(random_table(0)), results["one"]
    run = Run.open(params(KIND))
    assert rows["epoch"].tolist() == run.table("metrics")["epoch"].tolist() == [1, 2]
    for row in rows.to_dict("records"):
        assert {"epoch": row["epoch"], **table.lookup(row["cell"])} == row
    last = Genotype.from_json((run.folder / "genotype.json").read_text())
    assert rows["cell"].iloc[-1] == last.to_string()
    assert rows["skips"].iloc[-1] == skip_count(last)
    assert rows["cell"].nunique() > 1  # alpha moves far in these few steps, so that epochs differ


def test_a_stopped_and_resumed_search_has_the_same_truth_file(tmp_path: Path, monkeypatch):
    data = write_table(tmp_path / "data")
    searched(tmp_path / "whole", data, monkeypatch)
    with monkeypatch.context() as patch:
        signal_at(patch, 2, 1, signal.SIGTERM)
        with pytest.raises(Stopped):
            searched(tmp_path / "stopped", data, patch)
    searched(tmp_path / "stopped", data, monkeypatch)
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []


def test_the_cells_that_are_looked_up_are_those_of_the_selection(tmp_path: Path, monkeypatch):
    data, kind = write_table(tmp_path / "data"), KIND | {"max_skips": 0}
    assert max(searched(tmp_path / "free", data, monkeypatch)["skips"].tolist()) > 0
    rows = searched(tmp_path / "capped", data, monkeypatch, kind)
    run = Run.open(params(kind))
    assert {*rows["skips"].tolist(), *run.table("metrics")["skips_normal"].tolist()} == {0}
    assert rows["cell"].iloc[-1] == Genotype.from_json((run.folder / "genotype.json").read_text()).to_string()


def test_a_random_cell_is_looked_up_too(tmp_path: Path, monkeypatch):
    (row,) = searched(tmp_path / "runs", write_table(tmp_path / "data"), monkeypatch, RANDOM).to_dict("records")
    assert row["epoch"] == 0
    assert row["cell"] in {cell.to_string() for cell in every_cell()}


def test_a_damaged_table_is_refused_before_any_step(tmp_path: Path, monkeypatch):
    data = write_table(tmp_path / "data")
    random_table().head(9).to_parquet(data / "nasbench201" / "nasbench201.parquet")
    with pytest.raises(ParameterError, match="lacks 15616 of the 15,625 cells"):
        searched(tmp_path / "runs", data, monkeypatch)
    assert Run.open(params(KIND)).table("metrics").empty


def test_another_space_has_no_truth_file(tmp_path: Path, monkeypatch):
    assert searched(tmp_path / "runs", write_table(tmp_path / "data"), monkeypatch, SMALL).empty
