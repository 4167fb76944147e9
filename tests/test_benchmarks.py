"""The benchmarks at a tiny size: their tables, and one row per machine."""

from pathlib import Path

import pandas as pd

from benchmarks.__main__ import ratios, table, with_row
from benchmarks.machine import distance
from benchmarks.measure import answer
from benchmarks.setting import Setting
from hdarts.space import NASBENCH201

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
