"""Figures of one step of a search."""

import numpy as np
import pandas as pd

from hdarts import plots
from hdarts.space import DARTS, NASBENCH201


def test_edge_maps_have_a_map_of_each_name_and_kind_on_a_scale_around_zero_and_dots_at_the_smallest():
    slopes = np.random.default_rng(0).normal(size=DARTS.alpha_shape)
    figure = plots.edge_maps({"direct": slopes, "response": slopes / 100}, DARTS, DARTS.operations, "nats", dots=True)
    *maps, direct, response = figure.axes
    assert [axes.get_title() for axes in maps] == [*DARTS.kinds, *DARTS.kinds]
    assert [bar.get_xlabel() for bar in (direct, response)] == ["direct (nats)", "response (nats)"]
    for number, axes in enumerate(maps):
        (mesh,), shown = axes.collections, slopes[number % 2] / (1 if number < 2 else 100)
        np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(shown.shape), shown)
        low, high = mesh.get_clim()
        assert -low == high == np.abs(slopes).max() / (1 if number < 2 else 100)
        x, y = axes.lines[0].get_data()
        np.testing.assert_array_equal(np.asarray(x) - 0.5, shown.argmin(1))
        np.testing.assert_array_equal(np.asarray(y) - 0.5, range(len(shown)))


def test_a_part_that_is_zero_and_pruned_operations_are_drawn():
    nothing = np.zeros(NASBENCH201.alpha_shape)
    nothing[..., 0] = -np.inf
    figure = plots.edge_maps({"response": nothing}, NASBENCH201, NASBENCH201.operations, "nats", dots=True)
    assert figure.axes[0].collections[0].get_clim() == (-1.0, 1.0)
    assert set(np.asarray(figure.axes[0].lines[0].get_xdata())) == {1.5}


def test_changes_of_weights_are_written_into_their_cells_and_absent_parts_are_blank():
    shares = pd.DataFrame({"0": [4.5, np.nan], "outside": [np.nan, 0.3]}, ["sep_conv_3x3", "stem"])
    axes, bar = plots.weight_change_map(shares).axes
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [("4.5", (0.5, 0.5)), ("0.3", (1.5, 1.5))]
    assert bar.get_ylabel() == "relative change (%)" and axes.get_xlabel() == "cell"
