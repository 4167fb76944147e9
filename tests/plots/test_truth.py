"""Figures of the benchmark's judgement: every search is in them, and the words say what was drawn."""

import numpy as np
import pandas as pd
import pytest

from hdarts import plots

ARMS = ("darts-second", "hyperdarts-centred", "random")


def truth() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, "epoch": e, "seconds": e * 9.0 + seed / 9, "skips": min(e, 6),
         "cifar10_test": 92 - 3.5 * e * (arm == "darts-second") + draw.normal()}
        for arm in ARMS for seed in (2, 20, 200) for e in ([0] if arm == "random" else range(1, 11))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_true_accuracy_over_time_has_every_seed_of_every_arm_that_has_epochs():
    figure = plots.truth_over_time(truth(), {"best cell": 94.37, "mean of all cells": 87.06})
    left = figure.axes[::2]
    assert [axes.get_title(loc="left") for axes in left] == list(ARMS[:2])
    for axes, skips in zip(left, figure.axes[1::2], strict=True):
        assert len(axes.get_lines()) == 3 + 1 + 2 and len(skips.get_lines()) == 3 + 1
    mean = left[0].get_lines()[3]
    own = truth().query("arm == 'darts-second'").sort_values(["seed", "epoch"])
    for data, column in ((mean.get_xdata(), "seconds"), (mean.get_ydata(), "cifar10_test")):
        assert np.allclose(np.asarray(data), own[column].to_numpy().reshape(3, 10).mean(axis=0))


def test_a_table_without_epochs_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="no arm has more than one epoch"):
        plots.truth_over_time(truth().query("arm == 'random'"))


def test_error_against_truth_has_one_point_per_search():
    frame = truth().query("epoch == 10").assign(relative_error=[0.5, 0.7, 0.9, 1.5, 2.0, 3.0])
    figure = plots.error_against_truth(frame)
    (axes,) = figure.axes
    assert sum(len(line.get_xdata()) for line in axes.get_lines()) == 6  # type: ignore[arg-type]
    assert axes.get_xscale() == "log"
