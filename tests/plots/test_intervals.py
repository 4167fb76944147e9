"""Rank correlations are drawn where they are, with the intervals that they have."""

import pandas as pd
import pytest

from hdarts import plots


def test_each_source_has_its_point_and_interval_in_the_axes_of_its_reference() -> None:
    rows = [
        {"source": "shared", "of": "own accuracy", "tau": 0.5, "low": 0.2, "high": 0.7},
        {"source": "shared", "of": "true accuracy", "tau": -0.25, "low": -0.5, "high": 0.0},
        {"source": "own", "of": "true accuracy", "tau": 0.75, "low": float("nan"), "high": float("nan")},
    ]
    first, second = plots.rank_intervals(pd.DataFrame(rows)).axes
    assert first.get_title(loc="left") == "with the own accuracy" and "τ" in first.get_xlabel()
    assert [label.get_text() for label in first.get_yticklabels()] == ["shared", "own"]
    assert second.lines[0].get_xydata().tolist() == [[-0.25, 0], [0.75, 1]]  # type: ignore[union-attr]
    (interval,) = second.collections[0].get_segments()[:1]  # type: ignore[attr-defined]
    assert interval.tolist() == [[-0.5, 0], [0.0, 0]]


def test_seeds_lie_one_below_the_other_with_a_stroke_at_their_mean() -> None:
    rows = [
        {"source": source, "of": "own accuracy", "tau": tau, "low": tau - 0.1, "high": tau + 0.1}
        for tau in (0.25, 0.75)
        for source in ("shared", "own")
    ]
    (axes,) = plots.rank_intervals(pd.DataFrame(rows)).axes
    points = axes.lines[0].get_xydata().tolist()  # type: ignore[union-attr]
    assert points == [[0.25, -0.175], [0.25, 0.825], [0.75, 0.175], [0.75, 1.175]]
    strokes = [stroke.tolist() for stroke in axes.collections[1].get_segments()]  # type: ignore[attr-defined]
    assert [[x for x, _ in stroke] for stroke in strokes] == [[0.5, 0.5], [0.5, 0.5]]


def test_no_rows_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="rank correlations: the table is empty"):
        plots.rank_intervals(pd.DataFrame())
