"""What a cheap evaluation is worth: rank correlations with the truth over the cost of the ranking."""

import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.axes import legend_above, plain_log_ticks
from hdarts.plots.style import FAINT, line_styles, new_figure, styled
from hdarts.plots.tables import require


@styled
def tau_over_flops(frame: pd.DataFrame) -> Figure:
    """Return Kendall's tau of rankings of cells with the truth over their floating-point operations.

    Columns: `predictor`, `size`, `epoch`, `tau`, `low`, `high`, `flops`. Each size of `trained` cells has a line over
    its epochs with its interval as a pale band. Every other ranking is a point with its interval: each `extrapolated`
    one in the colour of its size and hollow, the others in that of their predictor.
    """
    rows = require(frame, ["predictor", "size", "tau", "flops"], "rank correlation over operations")
    rows = rows.assign(flops=rows["flops"] / 1e12)
    figure = new_figure(3.6)
    axes = figure.subplots()
    named = rows["size"].where(rows["predictor"].isin(["trained", "extrapolated"]), rows["predictor"])
    styles = line_styles(named)
    for key, part in rows.groupby(["predictor", named], sort=False):
        assert isinstance(key, tuple)
        predictor, name = key
        style = {**styles[name], "markersize": 3.5}
        if predictor == "trained":
            axes.fill_between(part["flops"], part["low"], part["high"], color=style["color"], alpha=0.13, linewidth=0)
            axes.plot(part["flops"], part["tau"], label=str(name), **style)
            continue
        shown = "first half of the epochs, extrapolated" if predictor == "extrapolated" else str(name)
        axes.vlines(part["flops"], part["low"], part["high"], color=style["color"], linewidth=0.9)
        alone = {"linestyle": "", "markersize": 6, "fillstyle": "none" if predictor == "extrapolated" else "full"}
        axes.plot(part["flops"], part["tau"], label=shown, **{**style, **alone})
    axes.axhline(0, color=FAINT, linewidth=1.0, zorder=0.9)
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set(xlabel="floating-point operations of the ranking ($10^{12}$)", ylabel="Kendall's τ with true accuracy")
    axes.set_ylim(max(-1.05, axes.get_ylim()[0]), 1.05)
    legend_above(figure)
    return figure
