"""Figures of notebook 04: every method, part, epoch and arm has its mark."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.figures import BATCHES, EDGES, METHOD_ERRORS, METHODS, SNAPSHOTS, STEP_MAGNITUDES
from matplotlib.axes import Axes

from hdarts import plots
from hdarts.space import DARTS


def marks(axes: Axes) -> np.ndarray:
    """Return (x, row) of all marks, in the order of x and row."""
    points: Any = np.concatenate([np.asarray(marks.get_offsets()) for marks in axes.collections])
    return points[np.lexsort(points.T[::-1])]


def rows_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_every_method_part_and_epoch_has_its_mark():
    figure = plots.method_agreement(METHOD_ERRORS, grey=METHODS[2:])
    assert len(figure.axes) == 2 * 3
    for row, epoch in enumerate((2, 6)):
        for axes, column in zip(figure.axes[3 * row :], ("cosine", "relative_error"), strict=False):
            rows = METHOD_ERRORS.query(f"epoch == {epoch} and {column}.notna()").sort_values(column, kind="stable")
            assert np.allclose(marks(axes)[:, 0], rows[column])
            assert [METHODS[round(place)] for place in marks(axes)[:, 1]] == list(rows["method"])
        assert np.allclose(marks(figure.axes[3 * row + 2])[:, 0], [1, 7, 13])
    assert rows_of(figure.axes[0]) == list(METHODS)


def test_the_reference_itself_is_not_drawn():
    itself = SNAPSHOTS.head(1).assign(method="reference", relative_error=0.0, cosine=1.0)
    assert "reference" not in rows_of(plots.method_agreement(pd.concat([METHOD_ERRORS, itself])).axes[0])


def test_every_snapshot_of_every_arm_is_a_mark():
    figure = plots.agreement_by_arm(SNAPSHOTS, grey=METHODS[2:])
    for axes, column in zip(figure.axes, ("cosine", "relative_error"), strict=False):
        values = SNAPSHOTS.loc[SNAPSHOTS["part"] == "total", column]
        assert np.allclose(marks(axes)[:, 0], np.sort(values))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["darts-second", "hyperdarts-2"]


def test_the_heat_map_has_a_row_for_each_method_and_a_column_for_each_edge():
    normal, reduce, _ = plots.edge_agreement(EDGES, DARTS).axes
    for axes, kind in ((normal, "normal"), (reduce, "reduce")):
        assert axes.get_title() == kind
        values = np.asarray(axes.collections[0].get_array())
        assert values.shape == (len(METHODS), len(DARTS.edges))
        names = [text.get_text() for text in axes.get_xticklabels()]
        assert (names[0], names[-1]) == ("$c_{k-2}$ → 0", "2 → 3"), "as in every other figure"
        assert values[1, 0] == pytest.approx(0.1 * 2 * 2), "second method, edge 0-2"


def test_figure_32_marks_the_drawn_steps_and_the_other_side_fixes_the_model():
    left, right = plots.batch_magnitudes(STEP_MAGNITUDES, BATCHES).axes
    marked = [line for line in left.lines if line.get_linestyle() == "None"]
    assert [np.asarray(line.get_xdata()).tolist() for line in marked] == [[1, 4, 5], [1, 4, 5]]
    assert [line.get_label() for line in marked] == ["linear, batch of 48", "MLP, batch of 64"]
    law = np.asarray(right.lines[-1].get_ydata())
    assert law[0] == pytest.approx(3 / 16) and law[2] == pytest.approx(law[0] / 2), "as 1/sqrt(batch size)"
