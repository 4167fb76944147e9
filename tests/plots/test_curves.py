"""Curves of a study's searches: every run of every arm, and what a selection chose."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.figures import ARMS, CURVES, EPOCHS, SEARCHES, STEPS, selected, words
from matplotlib.figure import Figure

from hdarts import plots
from hdarts.plots.style import FAINT


@pytest.mark.parametrize("draw", [plots.validation_curves, plots.skips_over_epochs])
def test_each_arm_has_its_axes_with_every_run(draw: Callable[[pd.DataFrame], Figure]):
    shown = [axes for axes in draw(CURVES).axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(ARMS)
    for axes in shown:
        assert len(axes.lines) == 2 * 3 + 2 + 1, "the runs of other arms, its runs, and their mean"


def test_validation_curves_draw_the_values_of_each_seed_and_their_mean():
    axes = plots.validation_curves(CURVES).axes[0]
    *runs, mean = (np.asarray(line.get_ydata()) for line in axes.lines[6:])
    values = CURVES.query("arm == 'darts-second'")["validation_accuracy"].to_numpy().reshape(2, -1)
    assert np.array_equal(runs, values) and np.allclose(mean, values.mean(0))


def test_equal_runs_do_not_hide_each_other():
    axes = plots.skips_over_epochs(CURVES).axes[0]
    first, second = (np.asarray(line.get_ydata()) for line in axes.lines[6:8])
    assert np.allclose(second - first, 0.1)


def test_entropy_shows_both_kinds_of_cell():
    assert {"normal, one seed", "reduce, mean of seeds"} <= set(words(plots.entropy_over_epochs(CURVES)))


def test_arms_of_two_search_spaces_have_the_entropies_of_their_kinds_of_cells():
    first, *_ = CURVES["arm"].unique()
    other = CURVES["arm"] == first
    both = CURVES.assign(entropy_cell=CURVES["entropy_normal"].where(other))
    both.loc[other, ["entropy_normal", "entropy_reduce"]] = np.nan
    drawn = [axes.get_legend_handles_labels()[1] for axes in plots.entropy_over_epochs(both).axes]
    assert {name.split(",")[0] for name in drawn[0]} == {"cell"}
    assert all({name.split(",")[0] for name in names} == {"normal", "reduce"} for names in drawn[1:])


@pytest.mark.parametrize("draw", [plots.validation_curves, plots.skips_over_epochs, plots.entropy_over_epochs])
def test_searches_of_one_epoch_are_points(draw: Callable[[pd.DataFrame], Any]):
    figure = draw(CURVES.query("epoch == 1"))
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines if not str(line.get_label()).startswith("_"))
    assert not any(line.get_marker() == "o" for line in draw(CURVES).axes[0].lines)


def test_an_arm_whose_response_vanishes_has_its_direct_part():
    first, other = plots.hypergradient_parts(STEPS).axes
    assert (first.get_title(), other.get_title()) == ("darts-first", "hyperdarts-1")
    assert (first.get_yscale(), first.get_xlabel()) == ("log", "search step")
    assert np.allclose(np.asarray(first.lines[0].get_ydata()), 0.1 / EPOCHS)
    assert plots.hypergradient_parts(STEPS.query("arm == 'darts-first'")).axes, "an arm alone has a figure too"


def test_magnitudes_are_geometric_means_without_zeros():
    direct, response = plots.hypergradient_magnitudes(STEPS.assign(direct=STEPS["seed"] * STEPS["direct"])).axes
    assert np.allclose(np.asarray(direct.lines[0].get_ydata()), 40**0.5 * 0.1 / EPOCHS)
    assert [len(np.asarray(line.get_ydata())) for line in response.lines] == [0, len(EPOCHS)]


def test_a_selection_shows_each_search_its_best_epoch_and_why_it_was_not_chosen():
    *curves, rings = plots.selection_curves(SEARCHES, selected()).axes[0].lines
    named = ["seed 20, chosen", "seed 2, kept", "seed 200, disregarded: no skip connection"]
    assert [line.get_label() for line in curves] == named
    assert [line.get_linewidth() for line in curves] == [3, 1, 1] and curves[2].get_color() == FAINT
    for line, run in zip(curves, ("s20", "s2", "s200"), strict=True):
        rows = SEARCHES.loc[SEARCHES["run"] == f"s/search/{run}", "validation_accuracy"]
        assert np.array_equal(np.asarray(line.get_ydata()), rows)
    assert np.asarray(rings.get_xdata()).tolist() == [EPOCHS[-1]] * 3


def test_searches_of_one_seed_are_named_after_their_runs():
    assert {"s2, kept", "s20, chosen"} <= set(words(plots.selection_curves(SEARCHES, selected((2, 2, 2)))))
