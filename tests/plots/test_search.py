"""The panel of one search: learning curves, softmax(alpha), norms of the hypergradient."""

from typing import Any

import numpy as np
import pytest
from helpers.figures import ALPHA, HYPERGRADIENTS, METRICS, NOTHING, words

from hdarts import plots
from hdarts.space import DARTS, NASBENCH201, SearchSpace


def heat_maps(alpha: np.ndarray, space: SearchSpace) -> list[Any]:
    """Return the axes of softmax(alpha) in the panel of a search, which follow those of loss and accuracy."""
    return plots.search_panel(METRICS, HYPERGRADIENTS, alpha, space).axes[2 : 2 + len(space.kinds)]


def test_the_heat_map_shows_alpha_and_marks_the_strongest_operations():
    for kind, axes in enumerate(heat_maps(ALPHA, DARTS)):
        assert np.array_equal(np.asarray(axes.collections[0].get_array()), ALPHA[kind])
        assert axes.get_title() == DARTS.kinds[kind]
        assert [text.get_text() for text in axes.get_xticklabels()] == list(DARTS.operations)
        strongest = ALPHA[kind][:, 1:].argmax(-1) + 1
        assert np.array_equal(np.asarray(axes.lines[0].get_xdata()) - 0.5, strongest), "`none` is never marked"
        assert kind or {"$c_{k-2}$ → 0", "2 → 3"} <= {text.get_text() for text in axes.get_yticklabels()}


def test_colours_of_the_heat_map_separate_weights_but_not_the_noise_of_the_start():
    noise = np.full(DARTS.alpha_shape, 0.125)
    noise[0, 0, :2] += (0.0001, -0.0001)
    assert heat_maps(noise, DARTS)[0].collections[0].get_clim() == pytest.approx((0.1225, 0.1275))
    assert heat_maps(ALPHA, DARTS)[0].collections[0].get_clim() == pytest.approx((ALPHA.min(), ALPHA.max()))


def test_the_heat_map_knows_the_other_space_and_refuses_other_shapes():
    alpha = np.full(NASBENCH201.alpha_shape, 0.2)
    (axes,) = heat_maps(alpha, NASBENCH201)
    named = {text.get_text() for text in axes.get_yticklabels()}
    assert {"$c_{k-1}$ → 1", "1 → 2", "2 → $c_{k}$"} <= named, "the names that the drawn cell has"
    assert set(axes.lines[0].get_xdata()) == {0.5}, "of equal ones the first, which is none"
    with pytest.raises(ValueError, match=r"shape \(1, 6, 5\) are not of space darts: \(2, 14, 8\)"):
        heat_maps(alpha, DARTS)


def test_the_first_epoch_alone_is_at_a_whole_number():
    axes = plots.learning_curves(METRICS.head(1)).axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [METRICS["epoch"].iloc[0]]


def test_learning_curves_show_test_or_validation_as_the_table_has_it():
    loss, accuracy = plots.learning_curves(METRICS).axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy (%)")
    assert np.array_equal(np.asarray(accuracy.lines[1].get_ydata()), METRICS["validation_accuracy"])
    tested = METRICS.rename(columns=lambda name: name.replace("validation", "test"))
    assert {"training", "test"} <= set(words(plots.learning_curves(tested)))


def test_a_part_of_the_hypergradient_that_vanishes_is_named():
    figure = plots.search_panel(METRICS, HYPERGRADIENTS, ALPHA, DARTS)
    assert figure.axes[-1].get_yscale() == "log"
    assert {"direct, normal", "response, normal", "response, reduce (0)"} <= set(words(figure))


def test_random_cells_have_a_panel_without_hypergradients():
    assert "no hypergradients logged" in words(plots.search_panel(METRICS, NOTHING, ALPHA, DARTS))
