"""Notebook 07's sections: a study that is not about the thesis has none of its claims, tests, figures and tables."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.results import MadeUpStudy

from hdarts.params import AnalysisParams, check, notebook_defaults
from hdarts.runs.paths import notebooks_folder
from hdarts.runs.run import Run
from hdarts.workbook.analysis.runs import is_about_thesis
from hdarts.workbook.claims import CLAIMS, thesis
from hdarts.workbook.claims.finding import NOT_RUN
from hdarts.workbook.sections import Sections

DIRECT = [{"step": 0, "direct_normal": 3.0, "direct_reduce": 0.0, "response_normal": 1.0, "response_reduce": 0.0}]


@pytest.mark.parametrize("of_thesis", [True, False])
def test_only_a_study_of_the_thesis_carries_its_claims(of_thesis: bool, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    for seed in range(6):
        tables = {"hypergradients": DIRECT}
        study.add("search", f"one-{seed}", {"skips_normal": 0}, arm="darts-second", search_seed=seed, tables=tables)
    file = tmp_path / "mine" / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"thesis": of_thesis}))
    assert is_about_thesis("mine") is of_thesis
    defaults = notebook_defaults(notebooks_folder() / "07_analysis.ipynb")
    params = check(AnalysisParams, defaults | {"study": "mine"})
    sections = Sections("mine", run := Run.open(params))
    assert len(sections.verdicts[0]) == (len(CLAIMS) if of_thesis else 0)
    decided = [row["id"] for row in sections.verdicts[0].to_dict("records") if row["verdict"] != NOT_RUN]
    assert ("direct-darts" in decided) is of_thesis
    sections.which_runs()
    sections.thesis()
    assert ("not about the thesis" in capsys.readouterr().out) is not of_thesis
    sections.cost()
    assert ((run.folder / "figures" / "accuracy_and_cost.png").is_file()) is of_thesis
    sections.finish()
    named = json.loads((run.folder / "tables.json").read_text())
    assert {"claims", *thesis.TABLES} & named.keys() == ({"claims", *thesis.TABLES} if of_thesis else set())
    assert json.loads((run.folder / "result.json").read_text())["tests"] == len(sections.verdicts[1])
