"""The leaderboard is what the command makes of the kept runs; others can enter as its page says."""

import re
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers import ROOT
from helpers.command import called
from helpers.small_table import write_table

from hdarts.data.nasbench201_table import DATA_SETS, BenchmarkTable, table_path
from hdarts.space import Genotype
from hdarts.workbook.analysis import leaderboard as module
from hdarts.workbook.analysis.leaderboard import leaderboard

PAGE, ARCHIVE = ROOT / "docs" / "leaderboard.md", ROOT / "results" / "nasbench201" / "runs.tar.xz"
TINY = {"data": "generated", "limit": 80, "epochs": 1, "batch_size": 20, "crop_padding": 0, "channels": 2}


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A runs folder with the archive of the study."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    if not ARCHIVE.is_file():
        pytest.skip(f"{ARCHIVE} is missing: it has the runs of the leaderboard")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "runs", filter="data")
    return tmp_path / "runs"


def test_the_page_has_the_table_that_the_command_makes(runs, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    old = PAGE.read_text(encoding="utf-8")
    page.write_text(re.sub(r"(: begin -->\n).*(<!-- [^\n]*: end -->)", r"\1\2", old, flags=re.DOTALL))
    assert called(monkeypatch, "leaderboard", "nasbench201", "--page", page) == 0
    assert page.read_text(encoding="utf-8") == old
    assert capsys.readouterr().out in old


def test_the_page_on_choosing_has_the_means_and_the_costs_of_the_table():
    table = re.findall(
        r"^\| \d+ \| ([\w-]+) \|.*?\| \*\*([\d.]+)\*\* \((.*?)\).*\| ([\d.]+) \| \d+ \|", PAGE.read_text(), re.M
    )
    rows = {method: (mean, [float(value) for value in each.split()], cost) for method, mean, each, cost in table}
    methods = [
        rows[name] for name in ("darts-first", "darts-second", "hyperdarts-1", "hyperdarts-2", "hyperdarts-centred")
    ]
    choice = (ROOT / "docs" / "how-to-choose.md").read_text(encoding="utf-8")
    assert " | ".join(f"{mean} ({min(each):.2f} to {max(each):.2f})" for mean, each, _ in methods) in choice
    assert " | ".join(cost for *_, cost in methods) in choice


def test_kept_accuracies_are_those_of_the_benchmark(runs):
    if table_path() is None:
        pytest.skip("HDARTS_DATA contains no nasbench201/nasbench201.parquet")
    table, searches = BenchmarkTable.read(), module._searches("nasbench201")
    files = sorted(runs.glob("nasbench201/search/*/genotype.json"))
    assert len(files) == len(searches) >= 19
    for file, row in zip(files, searches, strict=True):
        true = table.lookup(Genotype.from_json(file.read_text()))
        assert [row[name] for name in DATA_SETS] == pytest.approx([true[f"{name}_test"] for name in DATA_SETS])


def test_the_kept_table_of_epochs_is_that_of_the_kept_searches(runs, tmp_path, monkeypatch):
    assert called(monkeypatch, "leaderboard", "nasbench201", "--epochs", tmp_path / "epochs.csv") == 0
    assert (tmp_path / "epochs.csv").read_text() == (ROOT / "results" / "nasbench201" / "finished.csv").read_text()


def test_a_table_of_epochs_that_cannot_be_written_is_one_sentence(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert called(monkeypatch, "leaderboard", "nasbench201", "--epochs", tmp_path / "file" / "epochs.csv") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_page_on_collapse_counts_the_searches_with_skip_connections_at_half_time():
    epochs = pd.read_csv(ROOT / "results" / "nasbench201" / "finished.csv")
    half, end = (epochs[epochs["epoch"] == epoch].reset_index() for epoch in (12, 25))
    many, low = half["skips"] >= 3, end["cifar10_test"] < 88.5
    page = (ROOT / "docs" / "my-search-collapsed.md").read_text(encoding="utf-8")
    assert f"{many.sum()} searches, of which {(many & low).sum()} ended below 88.5 %" in page
    assert f"fewer: {(~many).sum()} searches, of which {(~many & ~low).sum()} ended above 90.4 %" in page


def test_two_seeds_are_listed_and_not_ranked_and_unfinished_searches_are_left_out(runs):
    for seed in (20, 3):
        shutil.rmtree(next(runs.glob(f"nasbench201/search/darts-second-search_seed={seed}-*")))
    next(runs.glob("nasbench201/search/beta-darts-search_seed=3-*/result.json")).unlink()
    rows = [line.split(" | ")[:3] for line in leaderboard(["nasbench201"]).splitlines() if line.startswith("| ")][2:]
    assert rows[0] == ["| 1", "beta-darts", "20 30 200 2000"]
    assert rows[-1] == ["| not ranked", "darts-second", "200 2000"]
    assert len(rows) == 6


def test_another_budget_has_its_own_table_and_another_folder_its_own_methods(runs):
    (theirs,) = runs.glob("nasbench201/search/darts-first-search_seed=20-*")
    shutil.copytree(theirs, runs / "mine" / theirs.name)
    params = yaml.safe_load((theirs / "params.yaml").read_text())
    (runs / "mine" / theirs.name / "params.yaml").write_text(yaml.safe_dump(params | {"epochs": 50}))
    first, second = leaderboard(["nasbench201", "mine"]).split("\nSpace ")
    assert "25 epochs" in first and "darts-first (nasbench201)" in first and "(mine)" not in first
    assert "50 epochs" in second and second.count("\n| not ranked | darts-first (mine) | 20 |") == 1


def test_others_enter_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HDARTS_DATA", str(write_table(tmp_path / "data")))
    monkeypatch.chdir(ROOT)
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert program.count("**budget") == 1
    exec(program.replace("**budget", f"**budget, **{TINY}").replace("(20, 200, 2000)", "(20,)"), {})
    text = leaderboard(["mine"])
    assert "| not ranked | rmsprop | 20 |" in text and "not recorded" not in text


def test_folders_without_scored_searches_and_pages_without_marks_are_refused(runs, tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, "leaderboard", "nothing") == 2
    assert "no finished search" in capsys.readouterr().err
    (provenance,) = runs.glob("nasbench201/search/beta-darts-search_seed=3-*/provenance.json")
    provenance.write_text('{"starts": [{"written": "2026-12-01"}]}')
    assert called(monkeypatch, "leaderboard", "nasbench201") == 2
    assert "does not say which images" in capsys.readouterr().err
    shutil.rmtree(provenance.parent)
    page = tmp_path / "page.md"
    page.write_text("# No marks\n")
    assert called(monkeypatch, "leaderboard", "nasbench201", "--page", page) == 2
    assert "to write the table between" in capsys.readouterr().err
    assert page.read_text() == "# No marks\n"
