"""The Pareto front: by hand, against its definition, and as drawn."""

import numpy as np
import pytest
from helpers.figures import SIZES
from hypothesis import given
from hypothesis import strategies as st

from hdarts import plots
from hdarts.plots.pareto import on_front


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_front_has_the_points_that_no_other_beats(points: list[tuple[int, int]]):
    def beaten(a: tuple[int, int]) -> bool:
        return any(b != a and b[0] <= a[0] and b[1] >= a[1] for b in points)

    cost, value = zip(*points, strict=True)
    assert on_front(cost, value).tolist() == [not beaten(point) for point in points]


@pytest.mark.parametrize(
    ("axes", "costs", "values"),
    [(0, [2.8, 2.9, 3.3], [95.0, 96.5, 97.0]), (1, [470, 500, 510, 528], [95.0, 96.0, 96.5, 97.0])],
)
def test_the_steps_are_the_front_and_every_cell_is_a_point(axes: int, costs: list[float], values: list[float]):
    steps, *points = plots.accuracy_over_size(SIZES, "last_test_accuracy").axes[axes].get_lines()
    assert np.asarray(steps.get_xdata()).tolist() == pytest.approx(costs)
    assert np.asarray(steps.get_ydata()).tolist() == values
    assert sum(len(np.asarray(point.get_xdata())) for point in points) == len(SIZES)


def test_small_networks_are_counted_in_thousands():
    small = SIZES.assign(parameters=SIZES["parameters"] / 1000)
    left, right = plots.accuracy_over_size(small, "last_test_accuracy").axes
    assert (left.get_xlabel(), right.get_xlabel()) == (
        "parameters (thousands)",
        "multiply-adds per image (millions)",
    )
