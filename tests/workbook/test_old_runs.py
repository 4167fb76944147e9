"""Run folders written by release 0.1.0 are still read: tables, evidence, genotypes, parameters and names."""

import shutil
from pathlib import Path

import pytest
from helpers import ROOT

from hdarts.params import SearchParams, read_yaml, recorded
from hdarts.runs.paths import below_runs
from hdarts.runs.run import read_result
from hdarts.train import read_genotype
from hdarts.workbook.analysis import runs, tables
from hdarts.workbook.analysis.selection import candidate, select
from hdarts.workbook.claims.evidence import read_evidence
from hdarts.workbook.study import plan_study
from hdarts.workbook.study.runner import outcome_of

SEARCH, SELECTION = "tiny/search/linear-s2-133319f7", "tiny/select/select-05b78289"
EVALUATION = "tiny/evaluate/select-05b78289-e0-f4bfeedb"


@pytest.fixture(autouse=True)
def old_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "tests" / "fixtures" / "runs-0.1.0", tmp_path / "runs")
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))


def test_a_finished_study_of_an_old_release_is_finished_with_its_epochs(tmp_path: Path):
    study = (ROOT / "params" / "studies" / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(study.replace("data: generated,", "data: generated, drop_last: true,", 1))
    plan = plan_study(tmp_path / "tiny.yaml")
    assert [run.name for run in plan.runs] == [SEARCH, SELECTION, EVALUATION]
    assert {outcome_of(run.folder).state for run in plan.runs} == {"done"}


def test_tables_of_an_old_study_have_its_numbers():
    result = read_result(below_runs(EVALUATION))
    assert result is not None
    (row,) = tables.evaluations("tiny").to_dict("records")
    assert (row["search_seed"], row["last_test_accuracy"]) == (2, result["last_test_accuracy"])
    assert row["best_epoch_test_accuracy"] == result["best_test_accuracy"]
    (arm,) = tables.by_arm("tiny").to_dict("records")
    assert (arm["searches"], arm["evaluations"]) == (1, 1)
    assert tables.epochs("tiny")["epoch"].tolist() == [1, 2]
    assert set(tables.hypergradient_norms("tiny")) >= {"direct", "response"}


def test_evidence_is_read_from_an_old_study():
    evidence = read_evidence("tiny")
    assert [len(rows) for rows in (evidence.searches, evidence.cells, evidence.snapshots)] == [1, 1, 0]


def test_an_old_search_can_be_selected_and_evaluated():
    assert select([candidate(SEARCH)], allow_no_skip=True).chosen.run == SEARCH
    assert read_genotype(SEARCH) == read_genotype(SELECTION)


def test_a_renamed_value_of_an_old_parameter_file_is_read():
    values = read_yaml(below_runs(SEARCH) / "params.yaml")
    assert values["rest"] == "own"
    assert recorded(SearchParams, values).rest == "learned"
    (row,) = runs.finished_runs("tiny", runs.SEARCH)
    assert row["rest"] == "learned"
