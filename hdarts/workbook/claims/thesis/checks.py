"""The thesis, held against itself: what it states beside what its own rows, and our models, give."""

from typing import Any

import numpy as np
import pandas as pd

from hdarts.workbook.analysis.statistics import proportion
from hdarts.workbook.claims.thesis.read import Read, table, values
from hdarts.workbook.claims.thesis.recompute import recompute

SLACK = 1e-9  # of the rounding of a sum
Row = dict[str, Any]


def check_statements(read: Read = table) -> pd.DataFrame:
    """Return all that the thesis states and we can recompute: place, line, what, stated, recomputed, agrees, cause.

    A number agrees within half a unit of the last digit stated, or within `tolerance` where `stated.csv` has one (the
    thesis says "around", or a rounding was carried on); `<` and `>` are what they say; words agree if they are equal.
    """
    rows = []
    for row in read("stated").fillna("").to_dict("records"):
        value = recompute(row["rule"], row["of"], read)
        told = value if isinstance(value, str) else _rounded(float(value), row["stated"])
        agrees = _agrees(row, value)
        rows.append({name: row[name] for name in ("place", "line", "what", "stated")})
        rows[-1] |= {"recomputed": told, "agrees": agrees, "cause": row["cause"]}
    return pd.DataFrame(rows)


def disagreements(read: Read = table) -> pd.DataFrame:
    """Return the rows of `check_statements` that do not agree, in the thesis's order, without the column `agrees`.

    Whether there is a disagreement is computed; its most likely cause is our reading, typed in `stated.csv`.
    """
    found = check_statements(read)
    kept = found.loc[~found["agrees"]].drop(columns="agrees")
    return kept.sort_values(by="line", kind="stable", ignore_index=True)


def _decimals(stated: str) -> int:
    return len(stated.partition(".")[2])


def _rounded(value: float, stated: str) -> str:
    """`value` with one decimal more than the thesis states, zeros at the end left out."""
    text = f"{value:.{(_decimals(stated) if _is_number(stated) else 2) + 1}f}"
    return text.rstrip("0").rstrip(".")


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _agrees(row: Row, value: float | str) -> bool:
    stated = row["stated"]
    if isinstance(value, str) or not _is_number(stated):
        return value == stated
    if row["relation"] == "=":
        tolerance = float(row["tolerance"]) if row["tolerance"] else 0.5 * 10.0 ** -_decimals(stated)
        return abs(float(value) - float(stated)) <= tolerance + SLACK
    return value < float(stated) if row["relation"] == "<" else value > float(stated)


def deviations() -> pd.DataFrame:
    """Return every standard deviation stated under a table, and which formula gives it.

    Columns: place, what, stated, population, sample, fits (population | sample | both | neither).

    The thesis used the population's (numpy's default): all but one fit it, and half of them nothing else.
    """
    rows = []
    for row in table("stated").fillna("").to_dict("records"):
        if row["rule"] != "deviation" or row["place"] in ("table 22", "table 23"):
            continue
        x = np.array(values(table, row["of"]))
        both = {"population": float(x.std(ddof=0)), "sample": float(x.std(ddof=1))}
        fits = [name for name, value in both.items() if _agrees(row, value)]
        word = {0: "neither", 1: fits[0] if fits else "", 2: "both"}[len(fits)]
        rows.append({"place": row["place"], "what": row["what"], "stated": row["stated"], **both, "fits": word})
    return pd.DataFrame(rows)


def overfitting() -> pd.DataFrame:
    """Return, a table a row, the searches without a skip connection in the normal cell: overfitted, by section 5.2.2.4.

    Columns: place, searches, without_skip, share, low, high (95 % interval of Clopper and Pearson). The last row adds
    to table 20 the eight searches of which section 5.3.2 tells without giving them, one of every four overfitted.
    """
    tables = {f"table {n}": table(str(n)) for n in (11, 12, 15, 16, 17, 19, 20)}
    counts = {place: (list(rows["skip"]).count("no"), len(rows)) for place, rows in tables.items()}
    without, searches = counts["table 20"]
    counts["5.3.2, with 8 searches told of"] = (without + 2, searches + 8)
    rows = []
    for place, (k, n) in counts.items():
        low, high = proportion(k, n)
        rows.append({"place": place, "searches": n, "without_skip": k, "share": k / n, "low": low, "high": high})
    return pd.DataFrame(rows)
