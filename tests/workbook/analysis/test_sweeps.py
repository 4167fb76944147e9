"""Sweeps group searches that differ only in their labels, whatever the names of their arms."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.results import MadeUpStudy

from hdarts.workbook.analysis import sweeps

SEARCHES = [
    ("rate-1", {"learning_rate": 0.025}, {"batch_size": 48}),
    ("rate-1.5", {"learning_rate": 0.0375}, {"batch_size": 48}),
    ("other-1", {"learning_rate": 0.05}, {"batch_size": 64}),
    ("grid", {"learning_rate": 0.05, "batch_size": 16}, {}),
    ("grid", {"learning_rate": 0.1, "batch_size": 16}, {}),
    ("plain", {}, {"learning_rate": 0.025, "batch_size": 48}),
]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    for number, (arm, labels, params) in enumerate(SEARCHES):
        for seed in (2, 20):
            newer = {"stream": False, "workers": 2} if seed == 20 else {}  # parameters of a newer version
            name = f"{arm}-{number}-{seed}"
            other = {"run": f"mine/search/{name}", "search_seed": seed, "channels": 4, **newer}
            study.add("search", name, {}, params={**labels, **params, **other}, arm=arm, search_seed=seed, **labels)
    return "mine"


def test_sweep_differs_only_in_its_labels_and_has_the_common_name_of_its_arms(study: str):
    found = sweeps.find_sweeps(study)
    assert list(found) == ["rate", "grid"], "another batch size is another sweep, and one setting is none"
    assert found["rate"]["setting"].tolist() == ["0.025", "0.025", "0.0375", "0.0375"]
    assert found["rate"]["seed"].tolist() == [2, 20, 2, 20]
    assert found["grid"]["setting"].tolist() == ["0.05", "0.05", "0.1", "0.1"], "constant labels are left out"
    assert [sweeps.label_names(sweep) for sweep in found.values()] == ["learning rate", "learning rate"]
    assert [sweeps.numeric_labels(sweep) for sweep in found.values()] == [["learning_rate"], ["learning_rate"]]


def test_of_labels_that_vary_together_the_first_is_an_axis():
    rates = {"rate": [1.0, 2.0] * 2, "alpha_rate": [3.0, 6.0] * 2}
    sweep = pd.DataFrame({"seed": 2, **rates, "batch_size": [16, 16, 32, 32]})
    assert sweeps.numeric_labels(sweep) == ["rate", "batch_size"]


def test_searches_outside_of_sweeps_are_kept(study: str):
    table = pd.DataFrame({"run": ["mine/search/rate-1-0-2", "mine/search/plain-5-2"]})
    assert sweeps.outside_sweeps(table, sweeps.find_sweeps(study))["run"].tolist() == ["mine/search/plain-5-2"]
    assert sweeps.outside_sweeps(pd.DataFrame(), {}).empty
