"""The benchmarks at a tiny size: their tables, and one row per machine."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import gpu
from benchmarks.__main__ import ratios, table, with_row
from benchmarks.machine import distance
from benchmarks.measure import answer
from benchmarks.setting import Setting
from hdarts.data import DatasetInfo
from hdarts.params import SearchParams, read_yaml
from hdarts.runs.paths import with_defaults
from hdarts.space import NASBENCH201
from hdarts.workbook.study.flops import flops_of_steps

TINY = Setting(channels=2, cells=1, batch=4, size=8, space=NASBENCH201.name)


def test_a_step_is_compared_with_the_plain_one_and_with_the_rates_of_the_machine() -> None:
    found = table([("first-order alpha step", TINY)], rounds=1, threads=1)
    faster = ratios(found)
    assert list(faster.index) == ["nasbench201, first-order alpha step, batch 4"]
    assert faster.iloc[0] == found["plain_s"].iloc[0] / found["ours_s"].iloc[0] > 0
    far = distance(TINY, 0.5)
    assert far["ours_GFLOP_s"] == far["step_GFLOP"] / 0.5
    assert far["share"] == far["ours_GFLOP_s"] / far["product_GFLOP_s"] > 0


def test_the_memory_of_a_step_is_measured_in_its_only_call() -> None:
    request = {**vars(TINY), "side": "ours", "name": "weight step", "threads": 1, "rounds": 0}
    assert answer(request)["seconds"] > 0


def test_each_machine_keeps_one_row(tmp_path: Path) -> None:
    file = tmp_path / "machines.csv"
    for machine, threads, share in (("a", 2, 0.3), ("b", 2, 0.4), ("a", 2, 0.5), ("a", 1, 0.6)):
        with_row(file, {"machine": machine, "threads": threads, "share": share}).to_csv(file, index=False)
    rows = pd.read_csv(file).to_dict("records")
    assert [(row["machine"], row["threads"], row["share"]) for row in rows] == [
        ("b", 2, 0.4),
        ("a", 2, 0.5),
        ("a", 1, 0.6),
    ]


def test_the_gpu_script_writes_its_rows_and_a_search_that_goes_on(tmp_path: Path, monkeypatch, capsys) -> None:
    """In small sizes on the CPU, where a step is launched in both columns and nothing is captured."""
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HDARTS_RUNS", "")  # the script sets it; this restores it
    monkeypatch.setattr(gpu, "SPACES", ("nasbench201",))
    monkeypatch.setattr(gpu, "METHODS", ("darts-first", "hyperdarts-1"))
    cpu, rate = torch.device("cpu"), {"float32": 0.5, "tf32": 0.25, "bfloat16": 0.125}
    rows = list(gpu.step_rows(cpu, gpu.TINY, rate, math.inf))
    assert len(rows) == 2 * 3 * 2 and not any(row["captured"] for row in rows)
    for row in rows:
        assert row["share"] == pytest.approx(row["TFLOP_s"] / rate[row["precision"]]) and row["GFLOP"] > 0
        assert math.isnan(row["plain_s"]) == (row["method"] != "darts-first" or row["precision"] == "bfloat16")
    images = DatasetInfo(4, 4, (3, 8, 8), 10)
    small = {"space": "nasbench201", "layers": 1, "channels": 2, "batch_size": 4, "device": "cpu"}
    params = with_defaults(SearchParams, read_yaml(gpu.ROOT / "params/search/hyperdarts-1.yaml") | small)
    whole = flops_of_steps(params, images)
    found = {row["phase"]: row["GFLOP"] for row in rows if row["method"] == "hyperdarts-1"}
    assert found == {"alpha step": whole[0, "hypergradient"] / 1e9, "weight step": whole[0, "weight_step"] / 1e9}
    assert list(gpu.step_rows(cpu, gpu.TINY, rate, 0.0)) == []
    for _ in range(2):  # no time is left: one epoch each
        gpu.search_until(cpu, gpu.TINY, tmp_path / "runs", 0.0)
    printed = capsys.readouterr().out
    assert "generated images take its place" in printed
    assert "epoch 1:" in printed and "epoch 2:" in printed
    assert len(pd.read_csv(tmp_path / "runs" / "search" / "metrics.csv")) == 2
