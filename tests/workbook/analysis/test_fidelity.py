"""What a cheap evaluation is worth: planted accuracies give the rank correlations and costs that they must."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.results import MadeUpStudy
from helpers.small_table import random_table, write_table

from hdarts.data.nasbench201_table import BenchmarkTable
from hdarts.params import AnalysisParams, check, notebook_defaults
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import notebooks_folder
from hdarts.runs.run import Run
from hdarts.space import NASBENCH201, Genotype, every_cell
from hdarts.workbook.analysis import fidelity
from hdarts.workbook.analysis.statistics import rank_correlation
from hdarts.workbook.sections import Sections

STUDY, EPOCHS = "mine", 8
SIZES = {"small": {"limit": 100}, "large": {"limit": 1600}}
SMALL, LARGE = "100 images, 8 channels", "1,600 images, 8 channels"
STUDY_FILE = notebooks_folder().parent / "params" / "studies" / "fidelity.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, BenchmarkTable]:
    return write_table(tmp_path_factory.mktemp("table") / "data"), BenchmarkTable.from_frame(random_table())


@pytest.fixture
def table(data: tuple[Path, BenchmarkTable], tmp_path: Path, monkeypatch) -> BenchmarkTable:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HDARTS_DATA", str(data[0]))
    return data[1]


@pytest.fixture
def cells(table: BenchmarkTable) -> list[str]:
    return list(table.cells.index[:12])


def evaluate(study: MadeUpStudy, arm: str, cell: str, curve, flops: float = 80.0, finished: bool = True, **params):
    """Add an evaluation whose epochs have these accuracies and take 2 seconds each."""
    number, given = len(study.rows), {"data": "cifar10", "channels": 8, "genotype": cell, **SIZES[arm], **params}
    epochs = range(1, len(curve) + 1)
    tables = {
        "metrics": [{"epoch": e, "test_accuracy": y} for e, y in zip(epochs, curve, strict=True)],
        "timings": [{"epoch": e, "seconds": 2.0} for e in epochs],
    }
    last = {"last_test_accuracy": curve[-1], "best_test_accuracy": max(curve), "parameters": 1, "data": given["data"]}
    result = {**last, "genotype": Genotype.from_string(cell).model_dump(), "evaluation_seed": 0}
    run = study.add("evaluate", f"r{number}", result if finished else None, params=given, tables=tables, arm=arm)
    write_atomic(study.runs / run / "provenance.json", json.dumps({"starts": [{"flops": flops}]}).encode())


def planted(tmp_path: Path, table: BenchmarkTable, cells: list[str], noise: dict[str, float]) -> pd.DataFrame:
    study, draw = MadeUpStudy(tmp_path / "runs"), np.random.default_rng(0)
    for arm in SIZES:
        for cell in cells:
            true = table.lookup(cell)["cifar10_test"]
            evaluate(study, arm, cell, true + noise[arm] * draw.normal(size=EPOCHS), 80.0 * (1 + 3 * (arm == "large")))
    return fidelity.rankings(STUDY)


def test_accuracy_that_is_the_truth_with_noise_gives_the_rank_correlation_of_the_noise(table, cells, tmp_path: Path):
    found = planted(tmp_path, table, cells, {"small": 30.0, "large": 0.0})
    trained = found.loc[found["predictor"] == "trained"].set_index(["size", "epoch"])
    assert list(trained.index) == [(size, epoch) for size in (SMALL, LARGE) for epoch in range(1, EPOCHS + 1)]
    true = np.array([table.lookup(cell)["cifar10_test"] for cell in cells])
    draw = np.random.default_rng(0)
    noisy = true + 30.0 * np.array([draw.normal(size=EPOCHS) for _ in cells])[:, -1]
    wanted, row = rank_correlation(noisy, true, "kendall"), trained.loc[(SMALL, EPOCHS)]
    assert (row["tau"], row["low"], row["high"], row["n"]) == (wanted.value, wanted.low, wanted.high, len(cells))
    assert 0 < row["tau"] < 1 and row["regret"] == pytest.approx(true.max() - true[noisy.argmax()])
    assert np.allclose(trained.loc[LARGE, ["tau", "regret"]], [1, 0])


def test_cost_grows_by_epoch_and_is_that_of_all_cells(table, cells, tmp_path: Path):
    found = planted(tmp_path, table, cells, {"small": 1.0, "large": 1.0}).set_index(["predictor", "size", "epoch"])
    assert found.loc[("trained", SMALL, 2), "flops"] == pytest.approx(len(cells) * 80 * 2 / EPOCHS)
    assert found.loc[("trained", LARGE, EPOCHS), "flops"] == pytest.approx(len(cells) * 320)
    assert found.loc[("trained", SMALL, 3), "seconds"] == len(cells) * 3 * 2.0
    assert found.loc[("extrapolated", SMALL, EPOCHS // 2), "flops"] == pytest.approx(len(cells) * 40)


def test_conclusion_names_the_cheapest_size_that_is_worth_it_or_the_best_interval(table, cells, tmp_path: Path):
    found = planted(tmp_path, table, cells, {"small": 300.0, "large": 0.0})
    assert f"is above 0.5 is {LARGE}: tau 1.00" in fidelity.conclusion(found)
    sentence = fidelity.conclusion(small := found.loc[found["size"] == SMALL])
    highest = small.loc[(small["predictor"] == "trained") & (small["epoch"] == EPOCHS), "low"].max()
    assert sentence.startswith("No evaluation here") and sentence.endswith(f"{highest:.2f}.")


def test_equal_accuracies_rank_nothing(table, cells, tmp_path: Path):
    study = MadeUpStudy(tmp_path / "runs")
    for cell in cells:
        evaluate(study, "small", cell, [10.0] * EPOCHS)
    found = fidelity.rankings(STUDY)
    assert not found[["tau", "low"]].notna().to_numpy().any()
    true = [table.lookup(cell)["cifar10_test"] for cell in cells]
    assert found["regret"].iloc[0] == pytest.approx(max(true) - np.mean(true))  # any cell may be chosen
    assert "no cells were ranked" in fidelity.conclusion(found)


def test_unfinished_runs_other_images_and_few_cells_are_left_out(table, cells, tmp_path: Path):
    study = MadeUpStudy(tmp_path / "runs")
    for number, cell in enumerate(cells):
        evaluate(study, "small", cell, [10.0 + number] * EPOCHS, finished=number < 6)
        evaluate(study, "large", cell, [10.0 + number] * EPOCHS, finished=number < fidelity.LEAST - 1)
        evaluate(study, "small", cell, [50.0 - number] * EPOCHS, data="digits")
    found = fidelity.rankings(STUDY)
    assert set(found["n"]) == {6} and set(found["size"]) == {SMALL}


def test_seeds_of_a_cell_count_once(table, cells, tmp_path: Path):
    study = MadeUpStudy(tmp_path / "runs")
    for number, cell in enumerate(cells[:6]):
        for seed in (0, 1):
            evaluate(study, "small", cell, [20.0 * seed + number] * EPOCHS, evaluation_seed=seed)
    curves = fidelity.learning_curves(STUDY)
    assert len(curves) == 6 * EPOCHS
    assert curves["test_accuracy"].tolist()[0] == 10.0 and max(curves["flops"].tolist()) == 80.0


def test_without_the_table_or_evaluations_there_is_nothing(table, cells, tmp_path: Path, monkeypatch):
    assert fidelity.rankings("none").empty
    planted(tmp_path, table, cells, {"small": 1.0, "large": 1.0})
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "nothing"))
    assert fidelity.rankings(STUDY).empty


@pytest.mark.parametrize(("a", "b", "c"), [(90.0, 50.0, 0.7), (70.0, 60.0, 1.5), (95.0, 30.0, 0.4), (55.0, 45.0, 3.0)])
@pytest.mark.parametrize("points", [4, 8])
def test_extrapolation_recovers_a_power_law(a: float, b: float, c: float, points: int):
    curve = a - b * np.arange(1, points + 1.0) ** -c
    assert fidelity.extrapolated(curve, 2 * points) == pytest.approx(a - b * (2.0 * points) ** -c, abs=1e-6)


@pytest.mark.parametrize("curve", [[10.0] * 4, [30.0, 25.0, 20.0, 15.0], [0.0] * 5, [100.0] * 4])
def test_a_curve_that_does_not_rise_is_a_constant(curve: list[float]):
    assert fidelity.extrapolated(curve, 8) == pytest.approx(np.mean(curve), abs=1e-3)


def test_supernets_rank_their_candidates_and_scores_of_operations_rank_the_trained_cells(table, cells, tmp_path: Path):
    study = MadeUpStudy(tmp_path / "runs")
    for cell in cells:
        evaluate(study, "small", cell, [table.lookup(cell)["cifar10_test"]] * EPOCHS)
    ranking = [{"cell": cell, "validation_accuracy": -table.lookup(cell)["cifar10_test"]} for cell in cells[:6]]
    draw, worth = np.random.default_rng(1), {}
    for number in range(len(NASBENCH201.edges)):
        worth |= {(number, name): draw.normal() for name in NASBENCH201.operations}
    removals = [
        {
            "source": NASBENCH201.edges[e][0],
            "node": NASBENCH201.edges[e][1],
            "removed": name,
            "accuracy": 50 + e - value,
        }
        for (e, name), value in worth.items()
    ]
    for arm, tables in {"shared-weights": {"ranking": ranking}, "pt": {"perturbation": removals}}.items():
        times = {"timings": [{"epoch": 1, "seconds": 3.0}, {"epoch": 2, "seconds": 4.0}]}
        run = study.add("search", arm, {"skips_normal": 0}, tables=tables | times, arm=arm, search_seed=2)
        write_atomic(study.runs / run / "provenance.json", json.dumps({"starts": [{"flops": 5.0}]}).encode())
    found = fidelity.rankings(STUDY).set_index("predictor")
    shared, perturbed = found.loc["shared weights"], found.loc["perturbation"]
    assert shared["tau"] == pytest.approx(-1)
    assert (shared["n"], shared["flops"], shared["seconds"]) == (6, 5.0, 7.0)
    scores = [sum(worth[e, name] for e, (name, _) in enumerate(Genotype.from_string(cell).cell)) for cell in cells]
    wanted = rank_correlation(scores, [table.lookup(cell)["cifar10_test"] for cell in cells], "kendall")
    assert (perturbed["tau"], perturbed["n"]) == (pytest.approx(wanted.value), len(cells))
    assert shared["size"] == "shared-weights, seed 2" and math.isnan(shared["epoch"])


def test_section_says_in_one_sentence_that_there_is_nothing_or_shows_figure_and_table(
    table, cells, tmp_path: Path, capsys
):
    defaults = notebook_defaults(notebooks_folder() / "07_analysis.ipynb")
    sections = Sections(STUDY, run := Run.open(check(AnalysisParams, defaults | {"study": STUDY})))
    sections.fidelity()
    assert capsys.readouterr().out.count("\n") == 1 and run.table("fidelity").empty
    planted(tmp_path, table, cells, {"small": 30.0, "large": 0.0})
    sections.fidelity()
    assert (run.folder / "figures" / "tau_over_flops.svg").is_file()
    assert len(run.table("fidelity")) == 6 and len(run.table("fidelity_epochs")) == 2 * (EPOCHS + 1)
    assert sections.found == [fidelity.conclusion(fidelity.rankings(STUDY))]
    assert "The cheapest evaluation" in capsys.readouterr().out


def test_the_study_has_the_cells_that_its_stated_rule_draws():
    strings = [cell.to_string() for cell in every_cell()]
    drawn = [strings[place] for place in np.random.default_rng(22).choice(len(strings), 40, replace=False)]
    stages = yaml.safe_load(STUDY_FILE.read_text())["stages"]
    assert stages["evaluate"]["matrix"]["genotype"] == drawn
