"""What the arms of a study differ by: each arm minus the first, over pairs of searches with the same seed."""

from statistics import fmean

import pandas as pd

from hdarts.workbook.analysis import tables
from hdarts.workbook.analysis.runs import SEARCH, finished_runs, search_labels
from hdarts.workbook.analysis.statistics import smallest_difference, summary
from hdarts.workbook.analysis.truth import ACCURACY, final_cells

TRUE, TESTED, VALIDATED = "true test accuracy", "test accuracy of the last epoch", "search-validation accuracy"
KEY = ["measure", "arm", "against"]


def values(study: str) -> pd.DataFrame:
    """Return measure, arm, seed, value of all finished searches: accuracies in per cent.

    Measures: the true accuracy of the cell, the test accuracies (means over a cell's evaluations), and the best
    search-validation accuracy. Several cells of one arm and seed count as their mean.
    """
    labels, found = search_labels(study), dict[tuple[str, str, int], list[float]]()
    for cell in final_cells(study).to_dict("records"):
        found.setdefault((TRUE, cell["arm"], cell["seed"]), []).append(cell[ACCURACY])
    cells, tested = dict[tuple[str, str, int, str], list[float]](), tables.evaluations(study).to_dict("records")
    for row in tested:
        key = row["test"], row["arm"], row["search_seed"], row["search"]
        cells.setdefault(key, []).append(row[tables.LAST])
    several = len({test for test, *_ in cells}) > 1
    for (test, arm, seed, _), accuracies in cells.items():
        found.setdefault((f"{TESTED} on {test}" if several else TESTED, arm, seed), []).append(fmean(accuracies))
    for row in finished_runs(study, SEARCH):
        if "best_validation_accuracy" in row:
            key = (VALIDATED, labels[row["run"]]["arm"], int(row["search_seed"]))
            found.setdefault(key, []).append(row["best_validation_accuracy"])
    rows = [(*key, fmean(values)) for key, values in found.items()]
    return pd.DataFrame(rows, columns=["measure", "arm", "seed", "value"])


def pairs(study: str) -> pd.DataFrame:
    """Return measure, arm, against, seed and difference (points) of each pair; `against` is the first arm."""
    rows = []
    for measure, group in values(study).groupby("measure", sort=False):
        arms = group.groupby("arm", sort=False)
        (against, first), *others = ((arm, dict(zip(one["seed"], one["value"], strict=True))) for arm, one in arms)
        for arm, own in others:
            rows += [
                {"measure": measure, "arm": arm, "against": against, "seed": seed, "difference": value - first[seed]}
                for seed, value in own.items()
                if seed in first
            ]
    return pd.DataFrame(rows, columns=[*KEY, "seed", "difference"])


def differences(study: str) -> pd.DataFrame:
    """Return one row per measure and arm: n pairs, mean difference (points), 95 % t interval, `shows_from`.

    `shows_from` is the smallest difference that so many pairs would have shown (80 % power; see
    `statistics.smallest_difference`). There is no p here: what a study tests, it names as its primary comparisons.
    """
    rows = []
    for names, group in pairs(study).groupby(KEY, sort=False):
        values = group["difference"].to_numpy()
        mean = summary(values)
        assert isinstance(names, tuple)
        rows.append((*names, mean.n, mean.mean, mean.low, mean.high, smallest_difference(values)))
    return pd.DataFrame(rows, columns=[*KEY, "n", "difference", "low", "high", "shows_from"])


def conclusions(found: pd.DataFrame) -> list[str]:
    """Return for a table of `differences` what it shows, and how sure that is: one paragraph per measure."""
    return [_conclusion(str(measure), group) for measure, group in found.groupby("measure", sort=False)]


def _conclusion(measure: str, rows: pd.DataFrame) -> str:
    named = f"{measure[0].upper()}{measure[1:]}, each arm minus {rows['against'].iloc[0]}"
    tested = rows.loc[rows["low"].notna()]
    if tested.empty:
        listed = ", ".join(f"{row['arm']} {row['difference']:+.2f}" for row in rows.to_dict("records"))
        most = max(rows["n"].tolist())
        pairs = "1 pair" if most == 1 else f"{most} pairs"
        return (
            f"{named}: {listed} points, over {pairs} of searches with the same seed. "
            f"So few are an example, not a test{_missed(rows)}"
        )
    differ = tested.loc[(tested["low"] > 0) | (tested["high"] < 0)]
    others = rows.drop(index=differ.index)["difference"]
    listed = ", ".join(
        f"{row['arm']} {row['difference']:+.2f} ({row['low']:.2f} to {row['high']:.2f}; {row['n']} pairs)"
        for row in differ.to_dict("records")
    )
    shown = f"{listed} points" if listed else "no difference shows"
    rest = f"; the others {others.min():+.2f} to {others.max():+.2f} points" if len(others) else ""
    corrected = f", not corrected for {len(tested)} comparisons" if len(tested) > 1 else ""
    return f"{named}: {shown}{rest}. By 95 % t intervals{corrected}{_missed(rows)}"


def _missed(rows: pd.DataFrame) -> str:
    """Return from which size on so many pairs would have shown differences."""
    known = rows["shows_from"].dropna()
    if known.empty:
        return "."
    spread = "" if len(known) == 1 else f" to {known.max():.2f}"
    return f"; differences smaller than {known.min():.2f}{spread} points would mostly be missed (80 % power)."
