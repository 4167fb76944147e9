"""True accuracies of NAS-Bench-201: every search is in the figures."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.figures import TRUTH
from matplotlib.text import Text

from hdarts import plots

ARMS = ["darts-second", "hyperdarts-centred"]


def test_true_accuracy_over_time_has_every_seed_of_every_arm_that_has_epochs():
    figure = plots.truth_over_time(TRUTH, {"best cell": 94.37, "mean of all cells": 87.06})
    left = figure.axes[::2]
    assert [axes.get_title(loc="left") for axes in left] == ARMS
    for axes, skips in zip(left, figure.axes[1::2], strict=True):
        assert len(axes.get_lines()) == 3 + 1 + 2 and len(skips.get_lines()) == 3 + 1
    mean = left[0].get_lines()[3]
    rows = TRUTH.query("arm == 'darts-second'").sort_values(["seed", "epoch"])
    for data, column in ((mean.get_xdata(), "seconds"), (mean.get_ydata(), "cifar10_test")):
        assert np.allclose(np.asarray(data), rows[column].to_numpy().reshape(3, 10).mean(axis=0))


def test_a_table_without_epochs_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="no arm has more than one epoch"):
        plots.truth_over_time(TRUTH.query("arm == 'random'"))


def test_error_against_truth_has_one_point_per_search():
    (axes,) = plots.error_against_truth(rows := TRUTH.query("epoch == 10")).axes
    (points,) = axes.collections
    assert np.array_equal(np.asarray(points.get_offsets()), rows[["relative_error", "cifar10_test"]])
    assert axes.get_xscale() == "log"


def test_true_accuracy_over_operations_has_every_search_and_the_mean_of_each_arm():
    rows = TRUTH.query("epoch == 10").assign(flops=lambda t: 1e12 * (1 + t["seed"]))
    (axes,) = plots.truth_over_flops(rows).axes
    rings, means = axes.get_lines()
    assert np.allclose(np.asarray(rings.get_xdata()), rows["flops"] / 1e12)
    arms = {arm: rows.loc[rows["arm"] == arm] for arm in dict.fromkeys(rows["arm"])}
    x, y = ([np.mean(one[column]) for one in arms.values()] for column in ("flops", "cifar10_test"))
    assert np.allclose(np.asarray(means.get_xdata()), np.divide(x, 1e12))
    assert np.allclose(np.asarray(means.get_ydata()), y)
    best_first = sorted(zip(y, arms, strict=True), reverse=True)
    assert [text.get_text() for text in axes.texts] == [arm for _, arm in best_first]


def test_names_of_equal_points_do_not_overlap():
    same = TRUTH.query("epoch == 10").assign(flops=1e12, cifar10_test=90.0)
    figure = plots.truth_over_flops(same)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the line to its point
    assert len(boxes) > 1 and not any(a.overlaps(b) for a, b in pairwise(boxes))
