"""Runs are known by their notebooks: stages of any name, several stages, and runs that papermill made by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.results import MadeUpStudy, put

from hdarts.params import MODELS
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import with_defaults
from hdarts.workbook.analysis import runs, sweeps, tables, truth
from hdarts.workbook.claims import accuracy_and_cost, best_of_n, intervals, read_evidence, verdicts
from hdarts.workbook.claims.rules import difference


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpStudy:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    return MadeUpStudy(tmp_path)


def search(study: MadeUpStudy, stage: str, arm: str, seed: int, score: float | None, **params: Any) -> str:
    """Add a search; unfinished if `score` is None."""
    result = None if score is None else {"best_validation_accuracy": score, "skips_normal": 1, "search_seed": seed}
    whole = {"search_seed": seed, "method": arm, **params}
    tables: Any = {
        "metrics": [{"epoch": 1, "validation_accuracy": 50.0, "learning_rate": 0.1}],
        "timings": [{"epoch": 1, "seconds": 2.0}],
    }
    name = f"{arm}-{seed}"
    return study.add(stage, name, result, "", whole, tables, "03_search", arm=arm, search_seed=seed)


def evaluation(study: MadeUpStudy, stage: str, cell: str, name: str, last: float, **params: Any) -> str:
    result = {"last_test_accuracy": last, "best_test_accuracy": last + 1, "parameters": 7}
    whole = {"data": "digits", "evaluation_seed": 0, **params}
    return study.add(stage, name, result | {"data": "digits"}, cell, whole, notebook="06_evaluate", arm="darts-first")


def everything(study: str) -> None:
    """Compute every table of notebook 07."""
    for table in (
        *(tables.epochs, tables.evaluations, tables.tested_cells, tables.by_arm, tables.mean_agreement),
        *(tables.hypergradient_norms, tables.search_seconds, tables.peak_memory, tables.selected_genotypes),
        *(truth.final_cells, truth.by_arm, truth.rankings, truth.hypergradient_errors, sweeps.find_sweeps),
        *(accuracy_and_cost, runs.unfinished_runs, runs.scale_note),
    ):
        table(study)
    evidence = read_evidence(study)
    for summarise in (verdicts, intervals, best_of_n):
        summarise(evidence)


def test_stages_of_any_name_are_known_by_their_notebooks(study: MadeUpStudy):
    found = search(study, "find", "darts-first", 2, 90.0)
    chosen = study.add(
        "choose", "one", {"chosen": found, "genotype": {}}, found, notebook="05_select", arm="darts-first"
    )
    evaluation(study, "try", chosen, "one", 97.0)
    study.add("search-report", "one", None, notebook="07_analysis")
    (row,) = tables.by_arm("mine").to_dict("records")
    assert (row["arm"], row["searches"], row["cells_tested"], row["last_test_accuracy_mean"]) == (
        "darts-first",
        1,
        1,
        97,
    )
    assert runs.unfinished_runs("mine") == []
    everything("mine")


def test_arms_of_two_search_stages_stay_apart(study: MadeUpStudy):
    for stage, score in (("search", 90.0), ("search-long", 95.0)):
        for seed in (2, 20):
            found = search(study, stage, "darts-first", seed, score + seed)
            evaluation(study, "evaluate", found, f"{stage}-{seed}", score)
    search(study, "search-long", "random", 2, 60.0)
    table = tables.by_arm("mine").set_index("arm")
    names = ["darts-first, stage search", "darts-first, stage search-long", "random"]
    assert list(table.index) == names
    assert table["validation_accuracy_mean"].tolist() == [101.0, 106.0, 62.0 - 2]
    assert table["last_test_accuracy_mean"].tolist()[:2] == [90.0, 95.0]
    everything("mine")


def test_a_cell_that_is_evaluated_twice_counts_once(study: MadeUpStudy):
    """Of two cells, 90 and 96, the second was selected: counted twice, the mean would be 94."""
    cells = [search(study, "search", "darts-first", seed, 80.0 + seed) for seed in (2, 20)]
    chosen = study.add("select", "one", {"chosen": cells[1], "genotype": {}}, " ".join(cells), arm="darts-first")
    for name, cell, last in (("a", cells[0], 90.0), ("b", cells[1], 96.0), ("selected", chosen, 96.0)):
        evaluation(study, "evaluate", cell, name, last)
    evaluation(study, "evaluate", chosen, "other seed", 98.0, evaluation_seed=1)
    (row,) = tables.by_arm("mine").to_dict("records")
    assert (row["cells_tested"], row["evaluations"], row["sd_over"]) == (2, 3, "cells")
    assert row["last_test_accuracy_mean"] == (90 + 97) / 2 and row["last_test_accuracy_sd"] == pytest.approx(7 / 2**0.5)
    assert tables.evaluations("mine")["selected"].tolist() == [False, True, True]
    everything("mine")


def test_evaluations_with_other_parameters_are_another_test(study: MadeUpStudy):
    cell = search(study, "search", "darts-first", 2, 80.0)
    evaluation(study, "evaluate", cell, "short", 90.0, epochs=4)
    evaluation(study, "evaluate-long", cell, "long", 97.0, epochs=600)
    (row,) = tables.by_arm("mine").to_dict("records")
    assert row["last_test_accuracy_mean"] == 90.0 and row["last_test_accuracy_mean_digits, epochs 600"] == 97.0
    assert [cell["test"] for cell in read_evidence("mine").cells] == ["digits, epochs 4", "digits, epochs 600"]
    everything("mine")


def test_unfinished_searches_have_curves_but_no_costs_and_no_final_cells(study: MadeUpStudy):
    search(study, "search", "darts-first", 2, 80.0)
    running = search(study, "search", "darts-first", 20, None)
    assert len(tables.epochs("mine")) == 2
    assert tables.by_arm("mine")["search_seconds"].tolist() == [2.0]
    assert runs.unfinished_runs("mine") == [running]
    everything("mine")


@pytest.mark.parametrize("seeds", [1, 25])
def test_one_seed_and_more_than_twenty_are_compared(study: MadeUpStudy, seeds: int):
    for seed in range(seeds):
        for arm, bonus in (("a", 1.0), ("b", 0.0)):
            search(study, "search", arm, seed, 80.0 + bonus + seed % 3 / 10)
    everything("mine")
    finding = difference(read_evidence("mine"), ("a", "b"), "validation_accuracy", "higher")
    assert finding.verdict == ("not decidable here" if seeds == 1 else "supported")
    assert finding.p == (pytest.approx(1.0 if seeds == 1 else 0, abs=1e-4),)


def by_hand(root: Path, notebook: str, name: str, result: dict | None, **changes: Any) -> str:
    """Write a run folder as papermill leaves it, without a study; return its name."""
    values = with_defaults(MODELS[notebook], {}).model_dump() | changes | {"run": name}
    write_atomic(root / name / "params.yaml", yaml.safe_dump(values))
    put(root / name, result)
    return name


def test_runs_made_by_hand_are_known_by_their_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    found = {"best_validation_accuracy": 80.0, "skips_normal": 1, "search_seed": 2}
    one = by_hand(tmp_path, "03_search", "mine/z", found, method="darts-first", search_seed=2)
    by_hand(tmp_path, "03_search", "mine/y", found, method="random", search_seed=20)
    small, large = (
        by_hand(tmp_path, "03_search", f"mine/{n}", found, method="hypernetwork", channels=n) for n in (4, 8)
    )
    chosen = by_hand(tmp_path, "05_select", "mine/a", {"chosen": one, "genotype": {}}, searches=[one])
    tested = {"last_test_accuracy": 97.0, "best_test_accuracy": 98.0, "parameters": 7, "data": "digits"}
    for number, cell in enumerate((chosen, one, f"{tmp_path}/{small}/genotype.json")):
        by_hand(tmp_path, "06_evaluate", f"mine/t{number}", tested, genotype=cell)
    by_hand(tmp_path, "06_evaluate", "mine/file", tested, genotype="params/genotypes/darts-v2.json")
    by_hand(tmp_path, "04_hypergradients", "mine/g", None, search=large)
    by_hand(tmp_path, "07_analysis", "mine/n", None, study="mine")
    assert runs.unfinished_runs("mine") == ["mine/g"]
    table = tables.by_arm("mine").set_index("arm")
    given = "evaluate"  # the cell of a file belongs to no search
    assert set(table.index) == {"darts-first", "random", "hypernetwork, channels 4", "hypernetwork, channels 8", given}
    assert table["evaluations"].dropna().to_dict() == {"darts-first": 1, "hypernetwork, channels 4": 1, given: 1}
    everything("mine")


def test_each_notebook_is_known_by_its_parameters():
    for name, model in MODELS.items():
        assert runs._notebook_of(with_defaults(model, {}).model_dump()) == name
    assert runs._notebook_of({}) == runs._notebook_of({"run": "", "other": 1, "another": 2}) == ""


def test_a_study_at_a_scale_is_known_by_its_record(study: MadeUpStudy):
    search(study, "search", "darts-first", 2, 80.0)
    assert not read_evidence("mine").scale
    file = study.runs / "mine" / "study.yaml"
    write_atomic(file, yaml.safe_dump({**yaml.safe_load(file.read_text()), "scale": "half of the seeds"}))
    assert read_evidence("mine").scale == "half of the seeds" and not read_evidence("mine").full_scale([])
