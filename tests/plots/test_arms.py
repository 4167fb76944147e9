"""Comparisons of arms: every run is a point, means and deviations are those of the table."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.figures import ARMS, COSTS, RUNS, TABLES, words

from hdarts import plots


@pytest.mark.parametrize("equal", [False, True])
def test_a_strip_shows_all_values_apart_and_bars_at_the_means(equal: bool):
    runs = RUNS.assign(last_test_accuracy=96.0) if equal else RUNS
    axes = plots.strip(runs, "arm", "last_test_accuracy").axes[0]
    points: Any = np.concatenate([np.asarray(swarm.get_offsets()) for swarm in axes.collections])
    assert np.allclose(np.sort(points[:, 1]), np.sort(runs["last_test_accuracy"]))
    assert len({tuple(point) for point in points.round(6)}) == len(runs), "no point is behind another"
    means = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
    assert np.allclose(np.sort(means), np.sort(np.asarray(runs.groupby("arm")["last_test_accuracy"].mean())))
    assert [text.get_text() for text in axes.get_xticklabels()][-1] == "random\nn = 3"


def test_reference_lines_have_their_labels():
    table, draw = TABLES["strip"]
    assert {"thesis: 97.3", "random average: 96.2"} <= set(words(draw(table)))


def test_validation_against_test_has_a_point_per_run_and_names_each_arm():
    figure = plots.validation_against_test(RUNS)
    (points,) = figure.axes[0].collections
    assert np.array_equal(np.asarray(points.get_offsets()), RUNS[["validation_accuracy", "last_test_accuracy"]])
    assert set(ARMS) <= set(words(figure))


@pytest.mark.parametrize(("scale", "unit"), [(1e-3, "s"), (1, "min"), (100, "h")])
def test_times_have_the_unit_that_suits(scale: float, unit: str):
    axes = plots.seconds_by_arm(RUNS.assign(seconds=RUNS["seconds"] * scale)).axes[0]
    assert axes.get_ylabel() == f"time ({unit})"
    assert axes.get_ylim()[0] == 0


def test_each_panel_of_a_comparison_has_its_models_and_a_bar_only_where_a_deviation_is_known():
    theirs, ours = plots.accuracy_and_cost(COSTS).axes
    assert (theirs.get_xlabel(), ours.get_xlabel()) == ("search cost (GPU days)", "search cost (min)")
    assert [name for axes in (theirs, ours) for name in axes.get_legend_handles_labels()[1]] == ["DARTS", "SNAS", *ARMS]
    bars: list[Any] = [*theirs.collections, *ours.collections]
    lengths = [np.ptp(bar.get_segments()[0][:, 1]) for bar in bars]
    assert np.allclose(lengths, [0.2, 0, 1.0, 0, 0, 0])


def test_the_names_of_many_arms_are_upright_and_do_not_overlap():
    names = [f"nasbench201-{letter}-darts" for letter in "abcdefghijklmnopqrst"]
    rows = pd.concat([RUNS.head(2).assign(arm=name) for name in names])
    ticks = plots.seconds_by_arm(rows).axes[0].get_xticklabels()
    boxes = [tick.get_window_extent() for tick in ticks]
    assert [tick.get_text() for tick in ticks] == [f"{name}, n = 2" for name in names]
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_a_published_cost_is_a_stroke_joined_to_the_marker_of_its_model():
    rows = COSTS.assign(published=np.where(COSTS["model"] == "SNAS", 1.0, np.nan))
    theirs, ours = plots.accuracy_and_cost(rows).axes
    (stroke,) = [line for line in theirs.lines if line.get_marker() == "|"]
    assert np.asarray(stroke.get_xydata()).tolist() == [[1.0, 97.2]]
    joined = [segment.tolist() for bars in theirs.collections for segment in bars.get_segments()]  # type: ignore
    assert [[2.0, 97.2], [1.0, 97.2]] in joined
    assert [axes.get_legend_handles_labels()[1].count("published cost") for axes in (theirs, ours)] == [1, 0]
