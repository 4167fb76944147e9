"""The thesis compared with itself: its statements against its tables and our models."""

from collections.abc import Callable, Sequence
from statistics import fmean, pstdev, stdev

import pandas as pd

from hdarts.workbook.analysis.statistics import proportion, unpaired_interval
from hdarts.workbook.claims.thesis.read import Tables, table
from hdarts.workbook.claims.thesis.stated import ACCURACIES, STATED, Stated

SLACK = 1e-9  # for the rounding of a sum


def check_statements(
    read: Callable[[int | str], pd.DataFrame] = table, statements: Sequence[Stated] = STATED
) -> pd.DataFrame:
    """Return all statements that can be recomputed: place, line, what, stated, recomputed, agrees, cause.

    A number agrees within half a unit of the last digit stated, or within the statement's `tolerance`; for `<` and `>`
    where the relation holds; words agree if they are equal.
    """
    rows, tables = [], Tables(read)
    for one in statements:
        value = one.recompute(tables)
        text = value if isinstance(value, str) else _rounded(float(value), one.value)
        rows.append({"place": one.place, "line": one.line, "what": one.what, "stated": one.value})
        rows[-1] |= {"recomputed": text, "agrees": _agrees(one, value), "cause": one.cause}
    return pd.DataFrame(rows)


def disagreements(
    read: Callable[[int | str], pd.DataFrame] = table, statements: Sequence[Stated] = STATED
) -> pd.DataFrame:
    """Return the rows of `check_statements` that do not agree, in the thesis's order, without `agrees`."""
    rows = check_statements(read, statements)
    kept = rows.loc[~rows["agrees"]].drop(columns="agrees")
    return kept.sort_values(by="line", kind="stable", ignore_index=True)


def _decimals(stated: str) -> int:
    return len(stated.partition(".")[2])


def _rounded(value: float, stated: str) -> str:
    """Return `value` with one decimal more than the thesis states, without trailing zeros."""
    text = f"{value:.{(_decimals(stated) if _is_number(stated) else 2) + 1}f}"
    return text.rstrip("0").rstrip(".")


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _agrees(one: Stated, value: float | str) -> bool:
    if isinstance(value, str) or not _is_number(one.value):
        return value == one.value
    if one.relation == "=":
        tolerance = 0.5 * 10.0 ** -_decimals(one.value) if one.tolerance is None else one.tolerance
        return abs(float(value) - float(one.value)) <= tolerance + SLACK
    return value < float(one.value) if one.relation == "<" else value > float(one.value)


def deviations() -> pd.DataFrame:
    """Return every standard deviation stated under a table, and which formula gives it.

    Columns: place, what, stated, population, sample, fits (population | sample | both | neither).

    The thesis used the population's (numpy's default): all but one fit it, half of them only it.
    """
    rows = []
    for accuracy in ACCURACIES:
        if accuracy.place in ("table 22", "table 23"):  # these repeat the others
            continue
        values, (_, stated) = Tables().column(accuracy.table, accuracy.data), accuracy.statements()
        both = {"population": pstdev(values), "sample": stdev(values)}
        fits = [name for name, value in both.items() if _agrees(stated, value)]
        word = {0: "neither", 1: fits[0] if fits else "", 2: "both"}[len(fits)]
        rows.append({"place": stated.place, "what": stated.what, "stated": stated.value, **both, "fits": word})
    return pd.DataFrame(rows)


def overfitting() -> pd.DataFrame:
    """Return the searches without a skip connection in the normal cell (overfitted, by section 5.2.2.4), by table.

    Columns: place, searches, without_skip, share, low, high (95 % interval of Clopper and Pearson). The last row adds
    to table 20 the eight searches that section 5.3.2 mentions without listing them: one of every four overfitted.
    """
    tables = {f"table {n}": table(n) for n in (11, 12, 15, 16, 17, 19, 20)}
    counts = {place: (list(rows["skip"]).count("no"), len(rows)) for place, rows in tables.items()}
    without, searches = counts["table 20"]
    counts["5.3.2, with 8 searches not listed"] = (without + 2, searches + 8)
    rows = []
    for place, (k, n) in counts.items():
        low, high = proportion(k, n)
        rows.append({"place": place, "searches": n, "without_skip": k, "share": k / n, "low": low, "high": high})
    return pd.DataFrame(rows)


def significance() -> pd.DataFrame:
    """Return what the thesis's own evaluations say of the differences between its models (it makes no test).

    Columns: models, data, difference of the means (points), low, high (Welch's 95 % t interval), p_welch, p_exact (of
    the permutation test of the difference, all assignments), n (evaluations of each). Each model has **one** cell: the
    spread is that of training it again, so the tests compare two cells and not two methods of search.
    """
    import scipy

    numbers, rows = {"DARTS": 3, "hyperDARTS-1": 13, "hyperDARTS-2": 21}, []
    for one, other in (("hyperDARTS-1", "DARTS"), ("hyperDARTS-2", "DARTS"), ("hyperDARTS-2", "hyperDARTS-1")):
        for data in ("cifar10", "cifar100"):
            a, b = (Tables().column(numbers[model], data) for model in (one, other))
            low, high = unpaired_interval(a, b)
            exact = scipy.stats.permutation_test(
                (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), vectorized=True, n_resamples=10**6, batch=10**4
            )
            row = {
                "models": f"{one} - {other}",
                "data": data,
                "difference": fmean(a) - fmean(b),
                "low": low,
                "high": high,
            }
            row |= {
                "p_welch": float(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue),
                "p_exact": float(exact.pvalue),
            }
            rows.append(row | {"n": f"{len(a)}, {len(b)}"})
    return pd.DataFrame(rows)
