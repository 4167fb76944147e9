"""What the table of NAS-Bench-201 says of a study's searches: the cells they ended with, arm by arm."""

import pandas as pd

from hdarts.data.nasbench201_table import DARTS_PUBLISHED, BenchmarkTable, table_path
from hdarts.space import NASBENCH201, Genotype
from hdarts.workbook.analysis.diagnostics.methods import DIFFERENCE, DIRECT, HYPERNETWORK
from hdarts.workbook.analysis.statistics import paired_test, rank_correlation
from hdarts.workbook.analysis.table_search import best_so_far
from hdarts.workbook.analysis.tables import search_tables, snapshot_agreement, true_accuracies

# the method of an arm as notebook 04 names it; of all other arms the hypernetwork
METHOD_OF_ARM = {"darts-first": DIRECT, "darts-second": DIFFERENCE}
ACCURACY = "cifar10_test"


def final_cells(study: str) -> pd.DataFrame:
    """Return the last row of truth.csv of each search: arm, seed, seconds so far, `collapsed`, and its columns.

    A cell is collapsed when no way from its input to its output passes a convolution: nothing in it can learn.
    """
    found = true_accuracies(study)
    if found.empty:
        return found
    last = found.sort_values("epoch", kind="stable").groupby(["arm", "seed"], as_index=False, sort=False).tail(1)
    order = list(dict.fromkeys(found["arm"]))
    last = last.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable")
    return last.assign(collapsed=last["cell"].map(collapsed)).reset_index(drop=True)


def collapsed(cell: str) -> bool:
    """Whether no way from the input to the output of a cell (a string of NAS-Bench-201) passes a convolution."""
    reached, learns = {0}, set[int]()
    for (operation, source), (_, node) in zip(Genotype.from_string(cell).cell, NASBENCH201.edges, strict=True):
        if operation != "none" and source in reached:
            reached.add(node)
            if source in learns or "conv" in operation:
                learns.add(node)
    return NASBENCH201.edges[-1][1] not in learns


def by_arm(study: str) -> pd.DataFrame:
    """Return one row an arm: searches, true CIFAR-10 test accuracy (per cent), collapse rate, skips, and seconds."""
    found = final_cells(study)
    if found.empty:
        return found
    groups = found.groupby("arm", sort=False)
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
    """Return Kendall's tau between the ranking of candidates and their true test accuracy: arm, seed, tau, n.

    Empty where the table of NAS-Bench-201 is not there.
    """
    if table_path() is None:
        return pd.DataFrame()
    rows, table = [], BenchmarkTable.read()
    for labels, ranking in search_tables(study, "ranking"):
        true = [table.lookup(cell)[ACCURACY] for cell in ranking["cell"]]
        tau = rank_correlation(ranking["validation_accuracy"], true, "kendall")
        rows.append({**labels, "tau": tau.value, "low": tau.low, "high": tau.high, "n": tau.n})
    return pd.DataFrame(rows)


def hypergradient_errors(study: str) -> pd.DataFrame:
    """Return how wrong an arm's own hypergradient was and where its search ended: arm, seed, relative_error, accuracy.

    The error is the mean over the snapshots of notebook 04, of the total, against a long unrolling.
    """
    seen, ends = snapshot_agreement(study), final_cells(study)
    if seen.empty or ends.empty:
        return pd.DataFrame()
    own = seen["arm"].map(lambda arm: METHOD_OF_ARM.get(arm, HYPERNETWORK))
    rows = seen.loc[(seen["part"] == "total") & (seen["method"] == own), ["arm", "seed", "relative_error"]]
    means = rows.groupby(["arm", "seed"], as_index=False, sort=False).mean()
    return means.merge(ends[["arm", "seed", ACCURACY]], on=["arm", "seed"])


def reference_accuracies() -> dict[str, float]:
    """Return reference lines of CIFAR-10 test accuracy, per cent; without the table only what was published."""
    published = {"DARTS as published": DARTS_PUBLISHED}
    if table_path() is None:
        return published
    table = BenchmarkTable.read()
    known = {"best cell": float(table.cells[ACCURACY].to_numpy().max()), "random cell, mean": table.best_of(1)}
    return {**known, "best of 10 by validation": table.best_of(10), **published}


def table_searches() -> pd.DataFrame:
    """Return what searches of the table find, by number of look-ups: a column each, mean of 20 runs."""
    if table_path() is None:
        return pd.DataFrame()
    found = best_so_far(BenchmarkTable.read(), 300, 20)
    kept = found.loc[found["lookups"].isin([1, 10, 30, 100, 300])]
    return kept.pivot(index="lookups", columns="search", values="test_accuracy").reset_index()


def compare_arms(study: str, one: str, other: str) -> str:
    """Return one sentence on the true accuracies of two arms, paired by search seed; "" without two common seeds."""
    found = final_cells(study)
    if found.empty:
        return ""
    pairs = found.pivot(index="seed", columns="arm", values=ACCURACY).reindex(columns=[one, other]).dropna()
    if len(pairs) < 2:
        return ""
    test = paired_test(pairs[one], pairs[other])
    known = table_path() is not None
    floor = f"; one cell trained again: sd {BenchmarkTable.read().noise('cifar10'):.2f} points" if known else ""
    return (
        f"{one} less {other}: {test.difference:+.2f} points of true accuracy, mean of {test.n} paired seeds, "
        f"exact sign-flip test p = {test.p:.3g} (the least that {test.n} pairs can reach: {test.smallest_p:.3g}){floor}"
    )
