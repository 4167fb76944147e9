"""Functions that recompute, from the rows of the thesis's tables, numbers and words that the thesis states.

A search is selected as in section 4.7: the best validation accuracy, without the searches whose normal cell has no skip
connection (where the table has this column).
"""

import math
from statistics import fmean

from hdarts.workbook.analysis import Row
from hdarts.workbook.claims.thesis.read import Tables

DARTS_RATES = {"eta_w": 0.025, "eta_alpha": 3e-4}
HALF_AN_HOUR = 0.5  # hours are stated whole


def compare(first: float, second: float) -> str:
    """Return `higher`, `lower` or `equal`: the first compared with the second."""
    return "higher" if first > second else "lower" if first < second else "equal"


def compare_means(first: list[float], second: list[float]) -> str:
    """Return how the mean of the first compares with that of the second."""
    return compare(fmean(first), fmean(second))


def compare_hours_per_epoch(t: Tables, first: str, second: str) -> str:
    """Return how the hours per epoch of two experiments compare; `equal` where rounding the hours could explain it."""
    spans = []
    for name in (first, second):
        hours, epochs, runs = (t.cell("costs", column, name) for column in ("hours", "epochs", "runs"))
        spans.append(((hours - HALF_AN_HOUR) / (epochs * runs), (hours + HALF_AN_HOUR) / (epochs * runs)))
    (low, high), (least, most) = spans
    return "equal" if low <= most and least <= high else compare(low, least)


def ranked(t: Tables, name: int) -> list[Row]:
    """Return the searches of a table, the best validation accuracy first, whether or not they have skip connections."""
    return sorted(t.rows(name), key=lambda row: -row["validation_accuracy"])


def selected(t: Tables, name: int) -> Row:
    """Return the selected search of a table."""
    return next(row for row in ranked(t, name) if row.get("skip") != "no")


def rank_of_selected(t: Tables, name: int) -> int:
    """Return the rank of the selected search by validation accuracy among all searches: 1 is the best."""
    return 1 + ranked(t, name).index(selected(t, name))


def count_skips(t: Tables, name: int, skip: str) -> int:
    """Return the number of searches of a table whose normal cell has (`yes`) or lacks (`no`) a skip connection."""
    return [row["skip"] for row in t.rows(name)].count(skip)


def count_scaled_rates(t: Tables, name: int) -> int:
    """Return the number of rows whose learning rates are those of DARTS times the factor of the row."""
    return sum(
        all(math.isclose(row[rate], row["factor"] * start, rel_tol=1e-9) for rate, start in DARTS_RATES.items())
        for row in t.rows(name)
    )


def kernel_weights(t: Tables, cells: str) -> float:
    """Return the number of weights of the kernel in these cells of table 14."""
    return math.prod(t.cell(14, column, cells) for column in ("c_in", "c_out", "height", "width"))


def count_kernels(t: Tables) -> int:
    """Return the number of basic kernels of all cells of table 14: `0 & 1` are two cells with as many each."""
    return sum(len(row["cells"].split("&")) * row["basic_kernels"] for row in t.rows(14))
