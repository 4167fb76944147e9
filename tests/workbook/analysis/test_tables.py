"""The tables of a study contain what its run folders contain: no seed lost, none mixed, nothing added."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers.results import MadeUpStudy, put

from hdarts.params import notebook_defaults
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import notebooks_folder
from hdarts.runs.provenance import write_starts
from hdarts.workbook import claims
from hdarts.workbook.analysis import runs, tables
from hdarts.workbook.analysis.runs import search_labels

STUDY = "mine"
SCORES = {("darts", 2): 90.0, ("darts", 20): 92.0, ("hyper", 2): 95.0, ("hyper", 20): 91.0}
TESTS = {("darts", 0): 97.0, ("darts", 1): 98.0, ("hyper", 0): 96.0, ("hyper", 1): 96.5}


@pytest.fixture
def study(tmp_path: Path, monkeypatch) -> MadeUpStudy:
    """Two arms of two searches, two random cells, selections, and two evaluations per cell; one is unfinished."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    for (arm, seed), score in SCORES.items():
        epochs = [{"epoch": e, "validation_accuracy": score + e - 2} for e in (1, 2)]
        steps = [{"step": 0, "direct_normal": 3.0, "direct_reduce": 4.0, "response_normal": 0.0, "response_reduce": 1}]
        tables = {"metrics": epochs, "hypergradients": steps, "timings": [{"epoch": e, "seconds": 2.5} for e in (1, 2)]}
        result = {"best_validation_accuracy": score, "skips_normal": seed // 10}
        study.add("search", f"{arm}-{seed}", result, tables=tables, arm=arm, search_seed=seed)
    for seed in (2, 20):
        study.add("search", f"random-{seed}", {"skips_normal": 1}, arm="random", search_seed=seed)
    for arm, seed in (("darts", 20), ("hyper", 2)):
        chosen = {"chosen": f"{STUDY}/search/{arm}-{seed}", "search_seed": seed, "genotype": {"of": arm}}
        study.add("select", arm, chosen, arm=arm)
    for (arm, seed), accuracy in TESTS.items():
        tested = {"best_test_accuracy": accuracy, "last_test_accuracy": accuracy - 1, "parameters": 7}
        params = {"evaluation_seed": seed}
        study.add("evaluate", f"{arm}-{seed}", tested, f"{STUDY}/select/{arm}", params, arm=arm, evaluation_seed=seed)
    for cell in (2, 20):
        tested = {"best_test_accuracy": 90.0 + cell, "last_test_accuracy": 90.0, "parameters": 7}
        labels = {"arm": "random", "search_seed": cell, "evaluation_seed": 0}
        needs = f"{STUDY}/search/random-{cell}"
        study.add("evaluate", f"random-{cell}", tested if cell == 2 else None, needs, **labels)
    return study


def test_unfinished_runs_are_named(study: MadeUpStudy):
    assert runs.unfinished_runs(STUDY) == ["mine/evaluate/random-20"]


def test_epochs_of_all_searches_are_there(study: MadeUpStudy):
    table = tables.epochs(STUDY)
    assert len(table) == 8
    assert set(zip(table["arm"], table["seed"], strict=True)) == set(SCORES)
    last = table[table["epoch"] == 2].set_index(["arm", "seed"])["validation_accuracy"]
    assert last.to_dict() == SCORES


def test_each_method_has_the_parameters_of_its_first_arm(study: MadeUpStudy):
    defaults = notebook_defaults(notebooks_folder() / "03_search.ipynb")
    methods = {"darts-2": "darts-second", "darts-20": "darts-second", "hyper-2": "hypernetwork", "random-2": "random"}
    for name, method in methods.items():
        write_atomic(
            study.runs / STUDY / "search" / name / "params.yaml", yaml.safe_dump({**defaults, "method": method})
        )
    found = tables.methods(STUDY)
    named = {arm: params.method for arm, (params, _) in found.items()}
    assert named == {"darts": "darts-second", "hyper": "hypernetwork"}
    assert {arm: run for arm, (_, run) in found.items()} == {
        arm: next(row["run"] for row in study.rows if row.get("arm") == arm) for arm in named
    }


def test_norms_are_taken_over_both_kinds_of_cell(study: MadeUpStudy):
    table = tables.hypergradient_norms(STUDY)
    assert table["direct"].tolist() == [5.0] * 4 and table["response"].tolist() == [1.0] * 4


def test_times_are_sums_over_the_epochs(study: MadeUpStudy):
    assert tables.search_seconds(STUDY)["seconds"].tolist() == [5.0] * 4


def test_the_operations_of_an_arm_are_those_that_its_searches_recorded(study: MadeUpStudy):
    assert "search_flops" not in tables.by_arm(STUDY), "searches of earlier versions recorded none"
    darts = [run for run, labels in search_labels(STUDY).items() if labels["arm"] == "darts"]
    for run, flops in zip(darts, (2e12, 3e12), strict=True):
        write_starts(study.runs / run, [{}, {"flops": flops}])
    assert tables.by_arm(STUDY).set_index("arm")["search_flops"].dropna().to_dict() == {"darts": 5e12}


def test_true_accuracies_have_the_seconds_since_the_start(study: MadeUpStudy):
    assert tables.true_accuracies(STUDY).empty
    for seed in (2, 20):
        put(
            study.runs / STUDY / "search" / f"hyper-{seed}",
            None,
            truth=[{"epoch": e, "cifar10_test": 50.0 + e} for e in (1, 2)],
        )
    put(study.runs / STUDY / "search" / "random-2", None, truth=[{"epoch": 0, "cifar10_test": 87.0}])
    table = tables.true_accuracies(STUDY)
    assert table["arm"].tolist() == ["hyper"] * 4 + ["random"]
    assert table["seed"].tolist() == [2, 2, 20, 20, 2]
    assert table["seconds"].tolist() == [2.5, 5.0, 2.5, 5.0, 0.0]
    assert table["cifar10_test"].tolist() == [51.0, 52.0, 51.0, 52.0, 87.0]


def test_evaluation_has_the_labels_of_its_search(study: MadeUpStudy):
    table = tables.evaluations(STUDY).set_index(["arm", "search_seed", "evaluation_seed"])
    assert table.loc[("darts", 20, 1), ["last_test_accuracy", "best_epoch_test_accuracy"]].tolist() == [97.0, 98.0]
    assert table.loc[("hyper", 2, 0), "validation_accuracy"] == 95.0
    assert pd.isna(table.loc[("random", 2, 0), "validation_accuracy"])
    assert len(table) == 5


def test_row_of_an_arm_keeps_search_seeds_and_evaluation_seeds_apart(study: MadeUpStudy):
    table = tables.by_arm(STUDY).set_index("arm")
    darts = table.loc["darts"]
    assert darts[["searches", "validation_accuracy_mean", "validation_accuracy_best"]].tolist() == [2, 91.0, 92.0]
    assert darts[["cells_tested", "evaluations", "last_test_accuracy_mean", "sd_over"]].tolist() == [
        1,
        2,
        96.5,
        "evaluations",
    ]
    assert darts["best_epoch_test_accuracy_mean"] == 97.5, "a second column, since that epoch is chosen on the test set"
    assert darts["last_test_accuracy_sd"] == pytest.approx(0.5**0.5)
    assert darts["skips_normal"] == "0 2"
    assert darts["search_seconds"] == 10.0
    random = table.loc["random"]
    assert random[["searches", "cells_tested", "evaluations", "last_test_accuracy_mean"]].tolist() == [2, 1, 1, 90.0]
    assert pd.isna(random["validation_accuracy_mean"]) and pd.isna(random["last_test_accuracy_sd"])


def test_an_arm_of_given_cells_has_a_row_without_searches(study: MadeUpStudy):
    tested = {"best_test_accuracy": 80.0, "last_test_accuracy": 70.0, "parameters": 7}
    study.add("evaluate", "snas", tested, params={"genotype": "params/genotypes/snas.txt"}, arm="snas")
    row = tables.by_arm(STUDY).set_index("arm").loc["snas"]
    assert row[["searches", "cells_tested", "last_test_accuracy_mean"]].tolist() == [0, 1, 70.0]


def test_arm_of_two_settings_has_two_rows(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    labels: Any
    for rate, score in (("0.05", 80.0), ("0.1", 70.0)):
        labels = {"arm": "rate", "learning_rate": rate}
        found = {"best_validation_accuracy": score, "skips_normal": 1}
        search = study.add("search", rate, found, **labels, search_seed="2")
        select = study.add("select", rate, {"chosen": search, "genotype": {"of": rate}}, **labels)
        for data, accuracy in (("cifar10", score + 1), ("cifar100", score - 30)):
            tested = {"best_test_accuracy": 100, "last_test_accuracy": accuracy, "parameters": 7}
            labels = {"arm": "rate", "evaluation_seed": "0", "data": data}
            study.add("evaluate", f"{data}-{rate}", tested, select, params={"data": data}, **labels)
    names = ["rate, learning rate 0.05", "rate, learning rate 0.1"]
    table = tables.by_arm(STUDY).set_index("arm")
    assert list(table.index) == names == list(tables.selected_genotypes(STUDY))
    assert table["last_test_accuracy_mean"].tolist() == [81.0, 71.0] and table["evaluations"].tolist() == [1, 1]
    assert table["last_test_accuracy_mean_cifar100"].tolist() == [50.0, 40.0]
    tests = tables.evaluations(STUDY)
    assert tests["validation_accuracy"].tolist() == [80.0, 80.0, 70.0, 70.0] and set(tests["selected"]) == {True}


def test_accuracy_and_cost_has_the_thesis_rows_and_the_tested_arms(study: MadeUpStudy):
    table = claims.accuracy_and_cost(STUDY)
    theirs = table[table["panel"] == "thesis: CIFAR-100, best epoch"].set_index("model")
    assert theirs.loc["hyperDARTS-2", ["accuracy", "deviation", "cost"]].tolist() == [83.61, 0.15, 1.8]
    assert theirs.loc["P-DARTS", ["cost", "published"]].tolist() == [0.2, 0.3]
    assert theirs["published"].isna().to_dict() == {name: "hyper" in name for name in theirs.index}
    assert "SDARTS-ADV" not in theirs.index, "its paper states none"
    ours = table[table["panel"].str.startswith("here")].set_index("model")
    assert ours["accuracy"].to_dict() == {"darts": 96.5, "hyper": 95.25, "random": 90.0}, "of the last epoch"
    assert ours["cost"].tolist() == [10 / 60, 10 / 60, 0.0]


def test_genotypes_are_the_selected_ones(study: MadeUpStudy):
    assert tables.selected_genotypes(STUDY) == {"darts": {"of": "darts"}, "hyper": {"of": "hyper"}}


def test_study_without_diagnostics_has_no_snapshots(study: MadeUpStudy):
    assert tables.snapshot_agreement(STUDY).empty and tables.mean_agreement(STUDY).empty


def test_snapshot_agreement_leaves_out_the_reference_and_means_are_over_an_arm(study: MadeUpStudy):
    for seed, error in ((2, 0.5), (20, 0.75)):
        rows = [
            {"epoch": 1, "method": method, "part": part, "cosine": 1 - error, "relative_error": error}
            for method in ("reference", "first order")
            for part in ("total", "direct", "response")
        ]
        table = {"hypergradient_methods": rows}
        study.add("hypergradients", f"darts-{seed}", {"nearest": "none"}, tables=table, arm="darts", search_seed=seed)
    rows = tables.snapshot_agreement(STUDY)
    assert set(rows["method"]) == {"first order"} and len(rows) == 6
    means = tables.mean_agreement(STUDY)
    assert means["part"].tolist() == ["total", "response"]
    assert means["relative_error"].tolist() == [0.625, 0.625] and means["cosine"].tolist() == [0.375, 0.375]


def test_accuracies_of_classes_are_means_over_the_evaluations_of_an_arm(study: MadeUpStudy):
    assert tables.class_accuracies(STUDY).empty, "runs of an earlier release counted no classes"
    for (arm, seed), accuracy in TESTS.items():
        rows = [{"class": name, "images": n, "accuracy": accuracy - 10 * n} for name, n in (("cat", 2), ("dog", 3))]
        put(
            study.runs / STUDY / "evaluate" / f"{arm}-{seed}", None, classes=[*rows, {"class": "no class", "images": 0}]
        )
    found = tables.class_accuracies(STUDY)
    assert found.columns.tolist() == ["test", "class", "images", "darts", "hyper"]
    assert found[["class", "images"]].to_numpy().tolist() == [["cat", 2], ["dog", 3]]
    assert found[["darts", "hyper"]].to_numpy().tolist() == [[77.5, 76.25], [67.5, 66.25]]
