"""True accuracies, from the table of NAS-Bench-201, of the cells that the searches of a study found."""

import pandas as pd

from hdarts.data.nasbench201_table import DARTS_PUBLISHED, BenchmarkTable, table_path
from hdarts.space import NASBENCH201, Genotype
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.methods import DIFFERENCE, DIRECT, HYPERNETWORK
from hdarts.workbook.analysis.runs import parameters, primary_comparisons
from hdarts.workbook.analysis.statistics import (
    holm,
    paired_test,
    rank_correlation,
    smallest_difference,
    summary,
)
from hdarts.workbook.analysis.table_search import best_so_far
from hdarts.workbook.analysis.tables import run_flops, search_tables, snapshot_agreement, true_accuracies

# how notebook 04 names the methods of searches
METHODS = {"darts-first": DIRECT, "darts-second": DIFFERENCE, "hypernetwork": HYPERNETWORK}
ACCURACY = "cifar10_test"
ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


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


def over_flops(study: str) -> pd.DataFrame:
    """Return arm, seed, flops and cifar10_test of each finished search that recorded its operations."""
    cells, flops = final_cells(study), run_flops(study)
    rows = [row | {"flops": flops.get(row["run"], 0.0)} for row in cells.to_dict("records")]
    columns = ["arm", "seed", "flops", ACCURACY]
    return pd.DataFrame([row for row in rows if row["flops"] > 0], columns=columns)  # a random cell costs none


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


def comparisons(study: str) -> pd.DataFrame:
    """Return one row per primary comparison of a study: its arms, `known`, `n` pairs, and the difference of the first.

    `difference` in points of true accuracy, mean over pairs with the same search seed; `low`, `high`: its 95 % t
    interval; `p` of the sign-flip test, `smallest_p` that n pairs can give; `shows_from`: the smallest difference that
    they would have shown (80 % power); `p_holm`: adjusted for the comparisons that are not known beforehand.
    """
    rows: list[Row] = []
    for comparison in primary_comparisons(study):
        one, other = comparison.arms
        pairs = paired_accuracies(study, one, other)
        row: Row = {"arm": one, "against": other, "known": comparison.known, "n": len(pairs)}
        if len(pairs) > 1:
            test, mean = paired_test(pairs[one], pairs[other]), summary(pairs[one] - pairs[other])
            row |= {"difference": test.difference, "low": mean.low, "high": mean.high, "p": test.p}
            row |= {"smallest_p": test.smallest_p, "shows_from": smallest_difference(pairs[one] - pairs[other])}
        rows.append(row)
    tested = [row for row in rows if "p" in row and not row["known"]]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
    measured = ["difference", "low", "high", "p", "p_holm", "smallest_p", "shows_from"]
    return pd.DataFrame(rows, columns=["arm", "against", "known", "n", *measured])


def noise_note() -> str:
    """Return a sentence on the noise floor of true accuracies, and whether the table is the published one; or ""."""
    if table_path() is None:
        return ""
    table = BenchmarkTable.read()
    note = f"Standard deviation of one cell trained again: {table.noise('cifar10'):.2f} points of true accuracy."
    skips = float(table.lookup(ALL_SKIP)[ACCURACY])
    if abs(skips - DARTS_PUBLISHED) > 0.005:
        note += (
            f" THE TABLE IS NOT THE PUBLISHED ONE: the cell of six skip connections has {skips:.2f} in it, and "
            f"{DARTS_PUBLISHED:.2f} in the paper. Compare its accuracies with no others."
        )
    return note
