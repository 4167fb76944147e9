"""What the runs of a study say, as tables: epochs of all searches, all evaluations, and one row an arm."""

import pandas as pd

from hdarts.records import below_runs, read_result
from hdarts.statistics import summary
from hdarts.study import read_runs


def _table(run: str, name: str) -> pd.DataFrame:
    path = below_runs(run) / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def of_stage(study: str, stage: str) -> pd.DataFrame:
    """Return the runs of a stage that are done: their labels and the plain values of their results.

    Where label and result have one name (search_seed, evaluation_seed), they agree, and the result is left out.
    """
    rows = []
    for labels in read_runs(study, stage).drop(columns=["needs"]).to_dict("records"):
        result = read_result(below_runs(labels["run"]))
        if result is not None:
            plain = {k: v for k, v in result.items() if isinstance(v, bool | int | float | str) and k not in labels}
            rows.append({**labels, **plain})
    return pd.DataFrame(rows)


def missing(study: str) -> list[str]:
    """Return the names of the runs of a study that are not done, the analysis itself left out."""
    runs = read_runs(study)
    runs = runs[runs["stage"] != "analysis"]
    return [run for run in runs["run"] if read_result(below_runs(run)) is None]


def epochs(study: str) -> pd.DataFrame:
    """Return the metrics of all searches of a study: arm, seed, epoch and the columns of metrics.csv."""
    frames = []
    for labels in read_runs(study, "search").to_dict("records"):
        metrics = _table(labels["run"], "metrics")
        if len(metrics):
            metrics.insert(0, "seed", labels.get("search_seed", 0))
            metrics.insert(0, "arm", labels.get("arm", "search"))
            frames.append(metrics)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def hypergradients(study: str) -> pd.DataFrame:
    """Return the logged hypergradient norms of all searches: arm, seed, step and the norm of each part."""
    frames = []
    for labels in read_runs(study, "search").to_dict("records"):
        steps = _table(labels["run"], "hypergradients")
        if len(steps):
            norms = {part: steps[[f"{part}_normal", f"{part}_reduce"]].pow(2).sum(axis=1).pow(0.5) for part in PARTS}
            plain = {"arm": labels.get("arm", "search"), "seed": labels.get("search_seed", 0), "step": steps["step"]}
            frames.append(pd.DataFrame({**plain, **norms}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


PARTS = ("direct", "response")


def seconds(study: str) -> pd.DataFrame:
    """Return the time each search took, from its timings.csv: arm, seed, seconds."""
    rows = []
    for labels in read_runs(study, "search").to_dict("records"):
        timings = _table(labels["run"], "timings")
        if len(timings):
            plain = {"arm": labels.get("arm", "search"), "seed": labels.get("search_seed", 0)}
            rows.append({**plain, "seconds": float(timings["seconds"].sum())})
    return pd.DataFrame(rows)


def evaluations(study: str) -> pd.DataFrame:
    """Return all evaluations that are done, with the seed and the validation accuracy of the search they come from."""
    done = of_stage(study, "evaluate")
    if done.empty:
        return done
    chosen = of_stage(study, "select")
    if len(chosen) and "arm" in chosen:
        selected = chosen.set_index("arm")[["search_seed", "best_validation_accuracy"]]
        for column in selected:
            known = done[column] if column in done else pd.Series(float("nan"), done.index)
            known = pd.to_numeric(known, errors="coerce")
            done[column] = known.fillna(done["arm"].map(selected[column]))
    return done.rename(
        columns={"best_test_accuracy": "test_accuracy", "best_validation_accuracy": "validation_accuracy"}
    )


def by_arm(study: str) -> pd.DataFrame:
    """Return one row an arm: searches, selection, test accuracy over the evaluations, and time.

    The mean of test accuracies is over evaluations of *one* selected cell, with the sample standard deviation over
    evaluation seeds; for random cells it is over all cells and seeds. Search seeds and evaluation seeds are not mixed.
    """
    searches, tests, times = of_stage(study, "search"), evaluations(study), seconds(study)
    rows = []
    for arm in dict.fromkeys(searches.get("arm", [])):
        own = searches[searches["arm"] == arm]
        row = {"arm": arm, "searches": len(own)}
        if own["best_validation_accuracy"].notna().any() if "best_validation_accuracy" in own else False:
            row["validation_accuracy_mean"] = own["best_validation_accuracy"].mean()
            row["validation_accuracy_best"] = own["best_validation_accuracy"].max()
        row["skips_normal"] = " ".join(str(int(skips)) for skips in own["skips_normal"])
        if len(tests) and len(tested := tests[tests["arm"] == arm]):
            told = summary(tested["test_accuracy"])
            row |= {"cells_tested": tested["genotype"].nunique() if "genotype" in tested else 1, "tests": told.n}
            row |= {"test_accuracy_mean": told.mean, "test_accuracy_sd": told.deviation}
            row["parameters"] = int(tested["parameters"].mean())
        if len(times) and len(timed := times[times["arm"] == arm]):
            row["search_seconds"] = timed["seconds"].sum()
        rows.append(row)
    return pd.DataFrame(rows)


def genotypes(study: str) -> dict[str, dict]:
    """Return the selected cells of each arm, as in the result of the selection."""
    found = {}
    for labels in read_runs(study, "select").to_dict("records"):
        if result := read_result(below_runs(labels["run"])):
            found[labels.get("arm", "search")] = result["genotype"]
    return found
