"""Rankings over their cost: a line for each size, a point with its interval for every other ranking."""

import numpy as np
from helpers.figures import FIDELITY

from hdarts import plots


def test_every_size_has_a_line_with_a_band_and_every_other_ranking_an_interval():
    (axes,) = plots.tau_over_flops(FIDELITY).axes
    lines = axes.get_lines()[:-1]  # without the one at 0
    of = ["trained", "trained", "extrapolated", "extrapolated", "shared weights"]
    assert len(lines) == len(of) and axes.get_xscale() == "log"
    parts = [FIDELITY.query("predictor == 'trained' and size == @n") for n in ("5,000 images", "20,000 images")]
    for line, part in zip(lines, parts, strict=False):
        assert np.allclose(np.asarray(line.get_xdata()), part["flops"] / 1e12)
        assert np.allclose(np.asarray(line.get_ydata()), part["tau"])
    bands, intervals = axes.collections[:2], axes.collections[2:]
    assert [len(strokes.get_paths()) for strokes in intervals] == [1, 1, 3] and len(bands) == 2
    assert lines[2].get_color() == lines[0].get_color() and lines[2].get_fillstyle() == "none"
