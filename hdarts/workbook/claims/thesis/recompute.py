"""Rules that give anew, from the rows of the thesis's tables, a number or word that the thesis states.

A rule takes a reader of tables and the words behind it in the column `of` of `stated.csv`; it returns a number, or a
word where the thesis states one. A search is selected as section 4.7 says: the best validation accuracy, searches
without a skip connection in the normal cell left out where the table tells of skip connections.
"""

import math
from collections.abc import Callable
from statistics import fmean, pstdev
from typing import Any

from hdarts.workbook.claims.thesis.counts import SHAPES, memory, parameters
from hdarts.workbook.claims.thesis.read import Read, rows, values

Row = dict[str, Any]
ACCURACY = "validation_accuracy"
DARTS_RATES = {"eta_w": 0.025, "eta_alpha": 3e-4}
HALF_AN_HOUR = 0.5  # hours are stated whole


def _all(read: Read, references: tuple[str, ...]) -> list[list[float]]:
    return [values(read, reference) for reference in references]


def _mean(read: Read, column: str) -> float:
    return fmean(values(read, column))


def _deviation(read: Read, column: str) -> float:
    """Population standard deviation: what the thesis used, as `checks.deviations` shows."""
    return pstdev(values(read, column))


def _best(read: Read, column: str) -> float:
    return max(values(read, column))


def _count(read: Read, column: str) -> float:
    return len(values(read, column))


def _difference(read: Read, *columns: str) -> float:
    """Difference of two means."""
    first, second = _all(read, columns)
    return fmean(first) - fmean(second)


def _cell(read: Read, reference: str) -> float:
    (value,) = values(read, reference)
    return value


def _product(read: Read, *references: str) -> float:
    return math.prod(_cell(read, reference) for reference in references)


def _ratio(read: Read, *references: str) -> float:
    above, below = (_cell(read, reference) for reference in references)
    return above / below


def _proportion(read: Read, *references: str) -> float:
    """First times second over third: the hours of another number of epochs."""
    value, this, that = (_cell(read, reference) for reference in references)
    return value * this / that


def _word(first: float, second: float) -> str:
    return "higher" if first > second else "lower" if first < second else "equal"


def _compare(read: Read, *columns: str) -> str:
    """Is the mean of the first higher or lower than that of the second?"""
    first, second = _all(read, columns)
    return _word(fmean(first), fmean(second))


def _compare_best(read: Read, *columns: str) -> str:
    first, second = _all(read, columns)
    return _word(max(first), max(second))


def _hours_an_epoch(read: Read, *experiments: str) -> str:
    """Hours an epoch of the first against the second; `equal` where rounding the hours could make the difference."""
    spans = []
    for name in experiments:
        hours, epochs, runs = (_cell(read, f"costs.{column}@{name}") for column in ("hours", "epochs", "runs"))
        spans.append(((hours - HALF_AN_HOUR) / (epochs * runs), (hours + HALF_AN_HOUR) / (epochs * runs)))
    (low, high), (least, most) = spans
    return "equal" if low <= most and least <= high else _word(low, least)


def _ranked(searches: list[Row]) -> list[Row]:
    return sorted(searches, key=lambda row: -row[ACCURACY])


def _chosen(searches: list[Row]) -> Row:
    return _ranked([row for row in searches if row.get("skip") != "no"])[0]


def _asked(row: Row, column: str) -> float | str:
    """A column of a search; without a name the first one, the run's number."""
    return row[column or next(iter(row))]


def _selected(read: Read, reference: str) -> float | str:
    """A column of the selected search."""
    name, _, column = reference.partition(".")
    return _asked(_chosen(rows(read, name)), column)


def _overall(read: Read, reference: str) -> float | str:
    """A column of the search with the best validation accuracy, skip connections or not."""
    name, _, column = reference.partition(".")
    return _asked(_ranked(rows(read, name))[0], column)


def _runner_up(read: Read, reference: str) -> float | str:
    name, _, column = reference.partition(".")
    return _asked(_ranked(rows(read, name))[1], column)


def _place(read: Read, name: str) -> float:
    """1 where the selected search has the best validation accuracy of all, 2 the second best, ..."""
    searches = rows(read, name)
    return 1 + _ranked(searches).index(_chosen(searches))


def _with_skip(read: Read, name: str) -> float:
    return list(read(name)["skip"]).count("yes")


def _without_skip(read: Read, name: str) -> float:
    return list(read(name)["skip"]).count("no")


def _scaled(read: Read, name: str) -> float:
    """The number of rows whose learning rates are those of DARTS times the factor of the row."""
    return sum(
        all(math.isclose(row[rate], row["factor"] * start, rel_tol=1e-9) for rate, start in DARTS_RATES.items())
        for row in rows(read, name)
    )


def _kernels(read: Read, name: str) -> float:
    """Basic kernels of all cells: `0 & 1` are two cells with as many each."""
    return sum(len(row["cells"].split("&")) * row["basic_kernels"] for row in rows(read, name))


def _experiment(read: Read, kind: str, number: str) -> str:
    """The experiment whose text presents a table or a figure."""
    found = (row for row in rows(read, "captions") if (row["kind"], row["number"]) == (kind, int(number)))
    return next(found)["experiment"]


def _caption(read: Read, kind: str, experiment: str) -> float:
    """The number of an experiment's first table, or of the figure of its cells."""
    found = (row for row in rows(read, "captions") if (row["kind"], row["experiment"]) == (kind, experiment))
    return next(found)["number"]


def _elsewhere(read: Read, reference: str) -> float | str:
    """What another line of the thesis says, as `48@814`."""
    word = reference.partition("@")[0]
    return float(word) if word.isdecimal() else word


Rule = Callable[..., float | str]
RULES: dict[str, Rule] = {
    "best": _best,
    "caption": _caption,
    "cell": _cell,
    "compare": _compare,
    "compare_best": _compare_best,
    "count": _count,
    "deviation": _deviation,
    "difference": _difference,
    "elsewhere": _elsewhere,
    "experiment": _experiment,
    "hours_an_epoch": _hours_an_epoch,
    "kernels": _kernels,
    "mean": _mean,
    "memory": memory,
    "overall": _overall,
    "parameters": lambda read, name: parameters()[name],
    "place": _place,
    "product": _product,
    "proportion": _proportion,
    "ratio": _ratio,
    "runner_up": _runner_up,
    "scaled": _scaled,
    "selected": _selected,
    "shape": lambda read, name: SHAPES[name](),
    "with_skip": _with_skip,
    "without_skip": _without_skip,
}


def recompute(rule: str, of: str, read: Read) -> float | str:
    """Return what `rule` gives for the words `of`. Raises ValueError for an unknown rule."""
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(sorted(RULES))}")
    return RULES[rule](read, *of.split())
