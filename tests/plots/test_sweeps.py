"""Searches that differ in a parameter: means over seeds, the best of a row, schedules drawn once."""

import numpy as np
import pandas as pd
from helpers.figures import ARMS, CURVES, EPOCHS, GRID, MEMORY

from hdarts import plots


def test_a_setting_is_a_line_with_the_mean_of_its_seeds():
    axes = plots.sweep_curves(CURVES, "learning rate, batch size").axes[0]
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert [line.get_label() for line in named][:2] == ["0.025, 48 (n = 2)", "0.05, 48 (n = 2)"]
    assert np.allclose(np.asarray(named[0].get_ydata()), 80 - 40 / EPOCHS + (2 + 20) / 2 / 20)


def test_the_map_of_two_parameters_has_means_and_frames_the_best_of_each_row():
    axes = plots.sweep_map(GRID, "learning_rate", "batch_size").axes[0]
    assert [text.get_text() for text in axes.texts][-3:] == ["61.0", "63.2", "67.7"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["64", "32", "16"]
    framed = {patch.get_extents().x0 for patch in axes.patches}
    assert len(axes.patches) == 6 and len(framed) == 1, "two frames around the largest learning rate in each row"


def test_memory_starts_at_0_and_shows_every_run():
    axes = plots.sweep_memory(MEMORY, "embedding").axes[0]
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 1.05 * np.max(MEMORY["peak_memory_mib"])
    runs, means = (np.asarray(line.get_ydata()) for line in axes.lines)
    assert runs.tolist() == MEMORY["peak_memory_mib"].tolist() and means.tolist() == [600, 810, 2000]


def test_arms_of_one_schedule_share_a_line():
    twin = CURVES[CURVES["arm"] == ARMS[0]].assign(arm="twin")
    figure = plots.schedules(pd.concat([CURVES, twin]))
    assert len(figure.axes[0].lines) == len(ARMS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{ARMS[0]} and 1 more", *ARMS[1:]]
