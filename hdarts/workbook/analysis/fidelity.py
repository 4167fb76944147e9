"""What a cheap evaluation is worth: rankings of cells of NAS-Bench-201 compared with the benchmark's table.

Thesis sections 3.3.1 (lower fidelity estimates) and 3.3.2 (learning curve extrapolation).
"""

from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd
import scipy  # its parts are imported where they are used
from numpy.typing import ArrayLike

from hdarts.data.nasbench201_table import BenchmarkTable, table_path
from hdarts.runs.paths import below_runs
from hdarts.runs.provenance import read_starts
from hdarts.runs.run import read_table
from hdarts.space import NASBENCH201, Genotype
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.runs import finished_evaluations
from hdarts.workbook.analysis.statistics import rank_correlation
from hdarts.workbook.analysis.tables import run_flops, search_tables
from hdarts.workbook.analysis.truth import ACCURACY

TRAINED, EXTRAPOLATED, SHARED, PERTURBED = "trained", "extrapolated", "shared weights", "perturbation"
LEAST = 5  # cells of a ranking: fewer have no interval
POINTS = 4  # of a learning curve: a power law has 3 parameters
COLUMNS = ["predictor", "size", "epoch", "n", "tau", "low", "high", "regret", "flops", "seconds"]
WORTH = 0.5  # of the lower end of tau's interval


def rankings(study: str) -> pd.DataFrame:
    """Return one row per ranking of cells: predictor, size, epoch, n, tau, low, high, regret, flops, seconds.

    `predictor`: `trained` ranks by the test accuracy of the network after that epoch; `extrapolated` by what a power
    law predicts for the last epoch from the first half, at the cost of these; `shared weights` and `perturbation` are
    supernets, one row per search. `size`: what the evaluations have in common. `tau`: Kendall's, with the true CIFAR-10
    test accuracy. `regret`: true accuracy of the best of the n cells less that of the cell ranked first (points).
    `flops` and `seconds`: of all trainings, or of the search. Empty without the table.
    """
    if table_path() is None:
        return pd.DataFrame(columns=COLUMNS)
    table = BenchmarkTable.read()
    curves = learning_curves(study)
    rows = _of_evaluations(curves, table) + _of_supernets(study, list(dict.fromkeys(curves["cell"])), table)
    return pd.DataFrame(rows, columns=COLUMNS)


def learning_curves(study: str) -> pd.DataFrame:
    """Return the epochs of all finished evaluations of cells of NAS-Bench-201 on CIFAR-10, means over their seeds.

    Columns: size, cell, epoch, test_accuracy (per cent), flops and seconds up to that epoch.
    """
    columns = ["size", "cell", "epoch", "test_accuracy", "flops", "seconds"]
    found = [(Genotype.model_validate(row["genotype"]), row) for row in finished_evaluations(study)]
    found = [(cell, row) for cell, row in found if cell.space == NASBENCH201 and row.get("data") == "cifar10"]
    names = pd.DataFrame([(row["test"], _size(row["params"])) for _, row in found]).drop_duplicates()
    named = names.iloc[:, 1:].drop_duplicates().shape == names.iloc[:, 1:].shape  # no two have the same name
    frames = []
    for cell, row in found:
        folder = below_runs(row["run"])
        curve, times, starts = read_table(folder, "metrics"), read_table(folder, "timings"), read_starts(folder)
        share = np.arange(1, len(curve) + 1) / max(len(curve), 1)  # every epoch costs as much
        whole = starts[-1].get("flops", nan) if starts else nan
        timed = times if len(times) else curve[["epoch"]].assign(seconds=nan)
        spent = curve[["epoch"]].merge(timed, how="left", on="epoch")["seconds"].cumsum()
        labels = {"size": _size(row["params"]) if named else row["test"], "cell": cell.to_string()}
        frames.append(curve[["epoch", "test_accuracy"]].assign(**labels, flops=share * whole, seconds=spent.to_numpy()))
    if not frames:
        return pd.DataFrame(columns=columns)
    groups = pd.concat(frames).groupby(["size", "cell", "epoch"], as_index=False, sort=False)
    return pd.DataFrame(groups[columns[3:]].mean())


def _size(params: Row) -> str:
    images = f"{params['limit']:,} images" if params.get("limit") else "all images"
    units = {"image_size": "px", "channels": "channels", "epochs": "epochs"}
    return ", ".join([images, *(f"{params[name]} {unit}" for name, unit in units.items() if params.get(name))])


def _of_evaluations(curves: pd.DataFrame, table: BenchmarkTable) -> list[Row]:
    rows: list[Row] = []
    for size, part in curves.groupby("size", sort=False):
        accuracy, *costs = (
            part.pivot(index="cell", columns="epoch", values=name) for name in ("test_accuracy", "flops", "seconds")
        )
        flops, seconds = (of.sum(skipna=False).tolist() for of in costs)
        cost = [{"flops": f, "seconds": s} for f, s in zip(flops, seconds, strict=True)]
        cells, last, half = list(accuracy.index), accuracy.shape[1], accuracy.shape[1] // 2
        if len(cells) < LEAST:
            continue
        for place, epoch in enumerate(accuracy.columns):
            row = {"predictor": TRAINED, "size": size, "epoch": epoch, **cost[place]}
            rows.append(row | _compared(cells, accuracy[epoch], table))
        if half >= POINTS:
            predicted = [extrapolated(curve[:half], last) for curve in accuracy.to_numpy()]
            row = {"predictor": EXTRAPOLATED, "size": size, "epoch": half, **cost[half - 1]}
            rows.append(row | _compared(cells, predicted, table))
    return rows


def _of_supernets(study: str, cells: Sequence[str], table: BenchmarkTable) -> list[Row]:
    """Rank the candidates of each search with shared weights, and `cells` by each selection by perturbation."""
    flops, rows = run_flops(study), []
    for name, predictor in (("ranking", SHARED), ("perturbation", PERTURBED)):
        for labels, written in search_tables(study, name, finished=True):
            if predictor == SHARED:
                ranked, scores = list(written["cell"]), list(written["validation_accuracy"])
            else:
                ranked, scores = list(cells), [perturbation_score(written, cell) for cell in cells]
            if len(ranked) < LEAST or not all(cell in table.cells.index for cell in ranked):
                continue
            seconds = [float(np.nansum(t["seconds"])) for of, t in search_tables(study, "timings") if of == labels]
            row = {"predictor": predictor, "size": f"{labels['arm']}, seed {labels['seed']}", "epoch": nan}
            cost = {"flops": flops.get(labels["run"], nan), "seconds": sum(seconds)}
            rows.append(row | cost | _compared(ranked, scores, table))
    return rows


def _compared(cells: Sequence[str], scores: ArrayLike, table: BenchmarkTable) -> Row:
    true, scores = table.cells.loc[list(cells), ACCURACY].to_numpy(), np.asarray(scores)
    tau = rank_correlation(scores, true, "kendall")
    first = true[scores == scores.max()].mean()  # of equal scores, any may be chosen
    return {"n": tau.n, "tau": tau.value, "low": tau.low, "high": tau.high, "regret": true.max() - first}


def extrapolated(accuracies: ArrayLike, epoch: int) -> float:
    """Return the accuracy at a later epoch by the power law a - b t^-c, fitted to epochs 1, 2, ... by least squares.

    0 <= a <= 100, b >= 0 and 0 <= c <= 10: a curve that falls is taken for noise about a constant.
    """
    y = np.asarray(accuracies, dtype=float)
    t, spread = np.arange(1, len(y) + 1), float(np.ptp(y))
    fit = scipy.optimize.least_squares(
        lambda p: p[0] - p[1] * t ** -p[2] - y,
        [np.clip(y[-1] + 0.1 * spread, 0.1, 99.9), spread + 0.1, 0.7],
        bounds=([0, 0, 0], [100, np.inf, 10]),
        x_scale=[10, 10, 1],
        ftol=1e-14,
        xtol=1e-14,
        gtol=1e-14,
    )
    a, b, c = fit.x
    return float(a - b * epoch**-c)


def perturbation_score(removals: pd.DataFrame, cell: str) -> float:
    """Return minus the sum, over edges, of the supernet's accuracy without the operation that a cell has there.

    `removals`: perturbation.csv of a search, in which each edge is decided once and every operation on it is removed
    once; what the edges share does not change the order of cells. Edges decided earlier were those of the search's
    own cell.
    """
    lost = {(row["source"], row["node"], row["removed"]): row["accuracy"] for row in removals.to_dict("records")}
    chosen = zip(Genotype.from_string(cell).cell, NASBENCH201.edges, strict=True)
    return -sum(lost[source, node, operation] for (operation, _), (source, node) in chosen)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Return the rankings without those of trained cells at epochs other than the last and half of it."""
    last = dict[str, int]()  # epoch of each size
    for row in (rows := found.to_dict("records")):
        if row["predictor"] == TRAINED:
            last[row["size"]] = max(row["epoch"], last.get(row["size"], 0))
    half = {size: epoch // 2 for size, epoch in last.items()}
    shown = [row["predictor"] != TRAINED or row["epoch"] in (last[row["size"]], half[row["size"]]) for row in rows]
    return found.loc[shown].reset_index(drop=True)


def conclusion(found: pd.DataFrame) -> str:
    """Return a sentence: the cheapest whole evaluation whose interval of tau is above 0.5, or that none is."""
    trained = found.loc[found["predictor"] == TRAINED]
    whole = trained.groupby("size", sort=False).tail(1).sort_values(["flops", "seconds"], kind="stable")
    worth, best = whole.loc[whole["low"] > WORTH], whole["low"].max()
    if best != best:
        return "With equal accuracies, no cells were ranked."
    if worth.empty:
        return (
            f"No evaluation here has an interval of Kendall's tau above {WORTH}: the highest lower end is {best:.2f}."
        )
    row = worth.iloc[0]
    return (
        f"The cheapest evaluation whose interval of Kendall's tau is above {WORTH} is {row['size']}: tau "
        f"{row['tau']:.2f} ({row['low']:.2f} to {row['high']:.2f}, {row['n']} cells), {row['flops']:.1e} "
        f"floating-point operations for all cells, regret {row['regret']:.2f} points."
    )
