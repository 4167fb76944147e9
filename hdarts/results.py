"""What the runs of a study say, as tables: epochs of all searches, all evaluations, and one row an arm."""

from typing import Any

import pandas as pd

from hdarts.microscope import REFERENCES
from hdarts.params import read_yaml
from hdarts.records import below_runs, read_result
from hdarts.statistics import summary
from hdarts.study import read_runs

Row = dict[str, Any]
PARTS = ("direct", "response")


def scale_note(study: str) -> str:
    """Return what a study run at a scale says of that scale (`hdarts run --scale mini`), to be told by every figure."""
    kept = below_runs(study) / "study.yaml"
    return str(read_yaml(kept).get("scale", "")) if kept.is_file() else ""


def _labels(study: str, stage: str) -> list[Row]:
    """Return run, arm and the other labels of each run of a stage, each with the labels that it has."""
    rows = read_runs(study, stage).drop(columns="needs").to_dict("records")
    return [{"arm": stage} | {name: value for name, value in row.items() if value != ""} for row in rows]


def _table(run: str, name: str) -> pd.DataFrame:
    path = below_runs(run) / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _done(study: str, stage: str) -> list[Row]:
    """Return labels and results of the runs of a stage that are done; a label stands over a result of its name.

    The search seed of a run that has none, neither as a label nor as a result, is 0.
    """
    results = ((labels, read_result(below_runs(labels["run"]))) for labels in _labels(study, stage))
    return [{"search_seed": 0, **result, **labels} for labels, result in results if result is not None]


def missing(study: str) -> list[str]:
    """Return the names of the runs of a study that are not done, the analysis itself left out."""
    runs = read_runs(study)
    return [run for run in runs[runs["stage"] != "analysis"]["run"] if read_result(below_runs(run)) is None]


def of_searches(study: str, name: str) -> list[tuple[Row, pd.DataFrame]]:
    """Return arm and seed, and the table `name`, of each search that has one."""
    named = (({"arm": x["arm"], "seed": x.get("search_seed", 0)}, x["run"]) for x in _labels(study, "search"))
    tables = [(labels, _table(run, name)) for labels, run in named]
    return [(labels, table) for labels, table in tables if len(table)]


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def epochs(study: str) -> pd.DataFrame:
    """Return the metrics of all searches: arm, seed, and the columns of metrics.csv."""
    return _together([table.assign(**labels) for labels, table in of_searches(study, "metrics")])


def truth(study: str) -> pd.DataFrame:
    """Return what the benchmark's table says of every epoch's cell: arm, seed, `seconds` since the start, truth.csv."""
    times = _together(
        [table.assign(**labels, seconds=table["seconds"].cumsum()) for labels, table in of_searches(study, "timings")]
    )
    found = _together([table.assign(**labels) for labels, table in of_searches(study, "truth")])
    if found.empty or times.empty:
        return found.assign(seconds=0.0)
    together = found.merge(times[["arm", "seed", "epoch", "seconds"]], how="left", on=["arm", "seed", "epoch"])
    return together.fillna({"seconds": 0.0})


def hypergradients(study: str) -> pd.DataFrame:
    """Return the logged hypergradient norms of all searches: arm, seed, step, direct, response."""
    frames = []
    for labels, steps in of_searches(study, "hypergradients"):
        norms = {part: (steps.filter(regex=f"^{part}_") ** 2).sum(axis=1) ** 0.5 for part in PARTS}
        frames.append(steps[["step"]].assign(**labels, **norms))
    return _together(frames)


def snapshots(study: str) -> pd.DataFrame:
    """Return what notebook 04 found of every method at all snapshots: run, arm, seed, epoch, method, part, agreement.

    The reference itself is left out.
    """
    tables = [
        _table(row["run"], "hypergradient_methods").assign(arm=row["arm"], seed=row["search_seed"], run=row["run"])
        for row in _done(study, "hypergradients")
    ]
    found = _together(tables)
    return found.loc[found["method"] != REFERENCES[0]] if len(found) else found


def snapshot_means(study: str) -> pd.DataFrame:
    """Return means over the snapshots of an arm: cosine and relative error of each method's total and response."""
    found = snapshots(study)
    if found.empty:
        return found
    rows = found.loc[found["part"] != "direct", ["arm", "part", "method", "cosine", "relative_error"]]
    return rows.groupby(["arm", "part", "method"], as_index=False, sort=False).mean()


def seconds(study: str) -> pd.DataFrame:
    """Return the time each search took, from its timings.csv: arm, seed, seconds."""
    tables = of_searches(study, "timings")
    return pd.DataFrame([{**labels, "seconds": float(table["seconds"].to_numpy().sum())} for labels, table in tables])


def evaluations(study: str) -> pd.DataFrame:
    """Return all evaluations that are done: arm, both seeds, accuracies of the test and of the search.

    A selected cell has the seed and the validation accuracy of its search; a random cell has no validation accuracy.
    """
    chosen = {row["arm"]: row for row in _done(study, "select")}
    rows = []
    for row in _done(study, "evaluate"):
        source = chosen.get(row["arm"], {})
        rows.append(
            {
                "arm": row["arm"],
                "search_seed": int(source.get("search_seed", row["search_seed"])),
                "evaluation_seed": row["evaluation_seed"],
                "test_accuracy": row["best_test_accuracy"],
                "last_test_accuracy": row["last_test_accuracy"],
                "validation_accuracy": source.get("best_validation_accuracy", float("nan")),
                "parameters": row["parameters"],
            }
        )
    return pd.DataFrame(rows)


def genotypes(study: str) -> dict[str, Row]:
    """Return the selected cells of each arm."""
    return {row["arm"]: row["genotype"] for row in _done(study, "select")}


def by_arm(study: str) -> pd.DataFrame:
    """Return one row an arm: searches, their validation accuracies, test accuracy over the evaluations, and time.

    The mean of the test accuracies is over evaluations of *one* selected cell, with the sample standard deviation over
    evaluation seeds; for random cells it is over all cells and seeds. Search seeds and evaluation seeds are not mixed.
    """
    searches, tests, times = _done(study, "search"), evaluations(study), seconds(study)
    rows = []
    for arm in dict.fromkeys(row["arm"] for row in searches):
        own = [row for row in searches if row["arm"] == arm]
        row: Row = {"arm": arm, "searches": len(own)}
        if scores := [search["best_validation_accuracy"] for search in own if "best_validation_accuracy" in search]:
            row |= {"validation_accuracy_mean": summary(scores).mean, "validation_accuracy_best": max(scores)}
        row["skips_normal"] = " ".join(str(search["skips_normal"]) for search in own)
        tested = [test for test in tests.to_dict("records") if test["arm"] == arm]
        if tested:
            told = summary([test["test_accuracy"] for test in tested])
            row |= {"cells_tested": len({test["search_seed"] for test in tested}), "evaluations": told.n}
            row |= {"test_accuracy_mean": told.mean, "test_accuracy_sd": told.deviation}
        if spent := [time["seconds"] for time in times.to_dict("records") if time["arm"] == arm]:
            row["search_seconds"] = sum(spent)
        rows.append(row)
    return pd.DataFrame(rows)
