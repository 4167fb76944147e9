"""Differences of arms: pairs of one seed, means over the evaluations of a cell, and what so few pairs would miss."""

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.results import MadeUpStudy

from hdarts import plots
from hdarts.workbook.analysis.differences import TESTED, VALIDATED, conclusions, differences, pairs
from hdarts.workbook.analysis.statistics import smallest_difference, summary

VALUES = {"first": {2: 90.0, 20: 91.0, 200: 92.0}, "second": {2: 91.0, 20: 93.0, 200: 92.0}, "third": {20: 80.0}}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpStudy:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    for arm, seeds in VALUES.items():
        for seed, value in seeds.items():
            study.add("search", f"{arm}-{seed}", {"best_validation_accuracy": value}, arm=arm, search_seed=seed)
    return study


def test_each_arm_is_compared_with_the_first_over_pairs_of_one_seed(study: MadeUpStudy):
    second, third = differences("mine").to_dict("records")
    assert (second["measure"], second["arm"], second["against"]) == (VALIDATED, "second", "first")
    own, mean = [1.0, 2.0, 0.0], summary([1.0, 2.0, 0.0])
    assert (second["n"], second["difference"], second["low"], second["high"]) == (3, 1.0, mean.low, mean.high)
    assert second["shows_from"] == smallest_difference(own) > 2
    assert (third["n"], third["difference"]) == (1, -11.0) and math.isnan(third["low"] + third["shows_from"])
    assert pairs("mine").query("arm == 'second'").set_index("seed")["difference"].to_dict() == {2: 1, 20: 2, 200: 0}


def test_each_setting_of_an_arm_is_compared_on_its_own(study: MadeUpStudy):
    result = {"best_validation_accuracy": 99.0}
    study.add("search", "third-again", result, arm="third", search_seed=2, batch_size=32)
    found = differences("mine").set_index("arm")["difference"].to_dict()
    assert found == {"second": 1.0, "third": -11.0, "third, batch size 32": 9.0}


def test_a_cell_counts_once_with_the_mean_over_its_evaluations(study: MadeUpStudy):
    for arm, accuracies in {"first": [70.0, 74.0], "second": [75.0, 76.0, 80.0]}.items():
        for seed, accuracy in enumerate(accuracies):
            tested = {"best_test_accuracy": 99.0, "last_test_accuracy": accuracy, "parameters": 7}
            labels = {"arm": arm, "search_seed": 2, "evaluation_seed": seed}
            study.add("evaluate", f"{arm}-{seed}", tested, f"mine/search/{arm}-2", {"evaluation_seed": seed}, **labels)
    (row,) = differences("mine").query("measure == @TESTED").to_dict("records")
    assert (row["arm"], row["n"], row["difference"]) == ("second", 1, pytest.approx(77.0 - 72.0))


def test_the_figure_has_every_pair_and_the_brackets_of_each_row(study: MadeUpStudy):
    (axes,) = plots.differences(differences("mine"), pairs("mine")).axes
    dots, left, right, means, _ = axes.get_lines()
    assert sorted(np.asarray(dots.get_xdata()).tolist()) == [-11.0, 0.0, 1.0, 2.0]
    assert np.asarray(means.get_xdata()).tolist() == [1.0, -11.0]
    ends = [float(np.asarray(line.get_xdata())[0]) for line in (left, right)]
    assert ends == [-smallest_difference([1.0, 2.0, 0.0]), smallest_difference([1.0, 2.0, 0.0])]
    assert axes.get_xlabel() == "difference from first (points)" and [t.get_text() for t in axes.get_yticklabels()] == [
        "second",
        "third",
    ]
    assert TESTED not in axes.get_title(loc="left")


def test_a_study_of_one_arm_has_no_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    MadeUpStudy(tmp_path).add("search", "one", {"best_validation_accuracy": 1.0}, arm="one", search_seed=2)
    assert differences("mine").empty and pairs("mine").empty


def test_conclusions_name_what_differs_and_what_would_be_missed(study: MadeUpStudy):
    (few,) = conclusions(differences("mine").query("arm == 'third'"))
    assert few.startswith(
        "Search-validation accuracy, each arm minus first: third -11.00 points, over 1 pair of searches"
    )
    assert few.endswith("So few are an example, not a test.")
    (none,) = conclusions(differences("mine"))
    assert "no difference shows; the others -11.00 to +1.00 points. By 95 % t intervals;" in none
    shown = smallest_difference([1.0, 2.0, 0.0])
    assert none.endswith(f"; differences smaller than {shown:.2f} points would mostly be missed (80 % power).")
    for seed, value in {2: 80.0, 20: 80.5, 200: 82.0}.items():
        study.add("search", f"low-{seed}", {"best_validation_accuracy": value}, arm="low", search_seed=seed)
    (some,) = conclusions(differences("mine"))
    mean = summary([-10.0, -10.5, -10.0])
    assert f"first: low -10.17 ({mean.low:.2f} to {mean.high:.2f}; 3 pairs) points; the others" in some
    assert "not corrected for 2 comparisons" in some
