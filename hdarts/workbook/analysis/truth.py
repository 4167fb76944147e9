"""True accuracies, from the table of NAS-Bench-201, of the cells that the searches of a study found."""

from math import nan

import pandas as pd

from hdarts.data.nasbench201_table import DARTS_PUBLISHED, BenchmarkTable, table_path
from hdarts.space import NASBENCH201, Genotype
from hdarts.workbook.analysis.diagnostics.methods import DIFFERENCE, DIRECT, HYPERNETWORK
from hdarts.workbook.analysis.runs import parameters
from hdarts.workbook.analysis.statistics import paired_test, rank_correlation, smallest_difference
from hdarts.workbook.analysis.table_search import best_so_far
from hdarts.workbook.analysis.tables import search_tables, snapshot_agreement, true_accuracies

# how notebook 04 names the methods of searches
METHODS = {"darts-first": DIRECT, "darts-second": DIFFERENCE, "hypernetwork": HYPERNETWORK}
ACCURACY = "cifar10_test"


def final_cells(study: str) -> pd.DataFrame:
    """Return the last row of truth.csv of each finished search: run, arm, seed, seconds, `collapsed`, and its columns.

    A cell is collapsed if no path from its input to its output contains a convolution: nothing in it can learn.
    """
    epochs = true_accuracies(study, finished=True)
    if epochs.empty:
        return epochs
    last = epochs.sort_values("epoch", kind="stable").groupby("run", as_index=False, sort=False).tail(1)
    order = list(dict.fromkeys(epochs["arm"]))
    last = last.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")
    return last.assign(collapsed=last["cell"].map(collapsed)).reset_index(drop=True)


def collapsed(cell: str) -> bool:
    """Whether no path from input to output of a cell (a string of NAS-Bench-201) contains a convolution."""
    reached, learns = {0}, set[int]()
    for (operation, source), (_, node) in zip(Genotype.from_string(cell).cell, NASBENCH201.edges, strict=True):
        if operation != "none" and source in reached:
            reached.add(node)
            if source in learns or "conv" in operation:
                learns.add(node)
    return NASBENCH201.edges[-1][1] not in learns


def by_arm(study: str) -> pd.DataFrame:
    """Return one row per arm: searches, true CIFAR-10 test accuracy (per cent), collapse rate, skips, and seconds."""
    cells = final_cells(study)
    if cells.empty:
        return cells
    groups = cells.groupby("arm", sort=False)
    accuracy = groups[ACCURACY]
    table = pd.DataFrame(
        {
            "searches": groups.size(),
            "true_accuracy_mean": accuracy.mean(),
            "true_accuracy_sd": accuracy.std(),
            "true_accuracy_median": accuracy.median(),
            "true_accuracy_best": accuracy.max(),
            "regret_mean": groups["cifar10_regret"].mean(),
            "percentile_median": groups["cifar10_percentile"].median(),
            "collapse_rate": groups["collapsed"].mean(),
            "skips_mean": groups["skips"].mean(),
            "seconds_mean": groups["seconds"].mean(),
        }
    )
    return table.reset_index()


def rankings(study: str) -> pd.DataFrame:
    """Return Kendall's tau of a ranking with true test accuracy: arm, seed, tau, n; empty without the table."""
    if table_path() is None:
        return pd.DataFrame()
    rows, table = [], BenchmarkTable.read()
    for labels, ranking in search_tables(study, "ranking"):
        true = [table.lookup(cell)[ACCURACY] for cell in ranking["cell"]]
        tau = rank_correlation(ranking["validation_accuracy"], true, "kendall")
        rows.append({**labels, "tau": tau.value, "low": tau.low, "high": tau.high, "n": tau.n})
    return pd.DataFrame(rows)


def hypergradient_errors(study: str) -> pd.DataFrame:
    """Return each search's hypergradient error and final accuracy: run, arm, seed, relative_error, cifar10_test.

    The error is that of the total, by the arm's method, against a long unrolling; a mean over the snapshots.
    """
    rows, cells = snapshot_agreement(study), final_cells(study)
    if rows.empty or cells.empty:
        return pd.DataFrame()
    method = rows["search"].map(lambda run: METHODS.get(parameters(run).get("method", "")))
    rows = rows.loc[(rows["part"] == "total") & (rows["method"] == method), ["search", "relative_error"]]
    means = rows.groupby("search", as_index=False, sort=False).mean()
    return means.merge(cells[["run", "arm", "seed", ACCURACY]], left_on="search", right_on="run").drop(columns="search")


def reference_accuracies() -> dict[str, float]:
    """Return reference values of CIFAR-10 test accuracy, per cent; without the table only the published one."""
    published = {"DARTS as published": DARTS_PUBLISHED}
    if table_path() is None:
        return published
    table = BenchmarkTable.read()
    known = {"best cell": float(table.cells[ACCURACY].to_numpy().max()), "random cell, mean": table.best_of(1)}
    return {**known, "best of 10 by validation": table.best_of(10), **published}


def table_searches() -> pd.DataFrame:
    """Return the accuracy of searches of the table by number of look-ups, one column each, mean of 20 runs."""
    if table_path() is None:
        return pd.DataFrame()
    accuracy = best_so_far(BenchmarkTable.read(), 300, 20)
    kept = accuracy.loc[accuracy["lookups"].isin([1, 10, 30, 100, 300])]
    return kept.pivot(index="lookups", columns="search", values="test_accuracy").reset_index()


def paired_accuracies(study: str, one: str, other: str) -> pd.DataFrame:
    """Return the true accuracies of two arms, a column each, for the seeds that both have finished."""
    cells = final_cells(study)
    if cells.empty:
        return pd.DataFrame(columns=[one, other])
    return cells.pivot_table(index="seed", columns="arm", values=ACCURACY).reindex(columns=[one, other]).dropna()


def compare_arms(study: str, one: str, other: str) -> tuple[str, float]:
    """Return a sentence comparing the true accuracies of two arms, paired by search seed, and the p of its test.

    Below two common seeds the sentence is "" and p is nan.
    """
    pairs = paired_accuracies(study, one, other)
    if len(pairs) < 2:
        return "", nan
    test = paired_test(pairs[one], pairs[other])
    noise = ""
    if table_path() is not None:
        noise = f"; standard deviation of one cell trained again: {BenchmarkTable.read().noise('cifar10'):.2f} points"
    sentence = (
        f"{one} minus {other}: {test.difference:+.2f} points of true accuracy, mean over {test.n} paired seeds, "
        f"{test.method}, p = {test.p:.3g} (smallest possible with {test.n} pairs: {test.smallest_p:.3g}); with this "
        f"spread they show differences from {smallest_difference(pairs[one] - pairs[other]):.2f} points on (80 % power)"
        f"{noise}"
    )
    return sentence, test.p
