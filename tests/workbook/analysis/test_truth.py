"""True accuracies of a study's searches: final cells, means by arm, collapse, and rankings compared with the table."""

import math
from pathlib import Path

import pandas as pd
import pytest
from helpers.results import MadeUpStudy
from helpers.small_table import random_table, write_table

from hdarts.data.nasbench201_table import BenchmarkTable
from hdarts.workbook.analysis import truth
from hdarts.workbook.analysis.statistics import smallest_difference
from hdarts.workbook.study.file import Comparison

STUDY = "mine"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
GOOD = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
ENDS = {("darts-second", 2): SKIPS, ("darts-second", 20): GOOD, ("hyperdarts-1", 2): GOOD, ("shared-weights", 2): GOOD}


@pytest.fixture
def table(tmp_path: Path, monkeypatch) -> BenchmarkTable:
    """A study of four searches, a fifth that is running, and a table."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HDARTS_DATA", str(write_table(tmp_path / "data")))
    table, study = BenchmarkTable.from_frame(random_table()), MadeUpStudy(tmp_path / "runs")
    for (arm, seed), cell in ENDS.items():
        truth = [{"epoch": e, **table.lookup(c)} for e, c in ((1, SKIPS), (2, cell))]
        tables = {"truth": truth, "timings": [{"epoch": e, "seconds": 2.0} for e in (1, 2)]}
        if arm == "shared-weights":
            tables["ranking"] = ranking(table)
        labels, params = {"arm": arm, "search_seed": seed}, {"method": METHOD_OF.get(arm, arm)}
        run = study.add("search", f"{arm}-{seed}", {"skips_normal": 1}, params=params, tables=tables, **labels)
        errors = [
            {"epoch": 1, "method": m, "part": p, "cosine": 0.0, "relative_error": len(m)}
            for m in METHODS
            for p in PARTS
        ]
        study.add("hypergradients", f"{arm}-{seed}", {"x": 1}, run, tables={"hypergradient_methods": errors}, **labels)
    running = [{"epoch": 1, **table.lookup(GOOD)}]
    study.add("search", "running", None, tables={"truth": running}, arm="darts-second", search_seed=200)
    return table


TWO = (("a", 0.0), ("b", 1.5))
METHOD_OF = {"hyperdarts-1": "hypernetwork"}
METHODS = ("reference", "first order", "DARTS (finite difference)", "hypernetwork")
PARTS = ("total", "direct", "response")


def ranking(table: BenchmarkTable) -> list[dict]:
    """Five cells, ranked as the table does but for the first two."""
    cells = table.cells.iloc[:5].sort_values("cifar10_test", ascending=False).index.tolist()
    return [{"cell": cell, "validation_accuracy": 50.0 - i} for i, cell in enumerate([cells[1], cells[0], *cells[2:]])]


def test_final_cell_is_that_of_the_last_epoch(table: BenchmarkTable):
    found = truth.final_cells(STUDY)
    assert list(zip(found["arm"], found["seed"], strict=True)) == list(ENDS)
    assert found["cell"].tolist() == list(ENDS.values())
    assert found["collapsed"].tolist() == [True, False, False, False]
    assert found["seconds"].tolist() == [4.0] * 4


@pytest.mark.parametrize(
    ("cell", "nothing_learns"),
    [
        (GOOD, False),
        (SKIPS, True),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|none~1|none~2|", True),  # nothing comes out
        ("|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|", True),  # they get nothing
        ("|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|", False),
    ],
)
def test_cell_is_collapsed_if_no_path_contains_a_convolution(cell: str, nothing_learns: bool):
    assert truth.collapsed(cell) == nothing_learns


def test_row_of_an_arm_has_accuracy_and_collapse_rate_of_its_cells(table: BenchmarkTable):
    found = truth.by_arm(STUDY).set_index("arm")
    two = [table.lookup(cell)["cifar10_test"] for cell in (SKIPS, GOOD)]
    darts = found.loc["darts-second"]
    assert darts["true_accuracy_mean"] == pytest.approx(sum(two) / 2)
    assert darts["true_accuracy_sd"] == pytest.approx(abs(two[0] - two[1]) / 2**0.5)
    assert darts[["searches", "collapse_rate", "skips_mean", "seconds_mean"]].tolist() == [2, 0.5, 3.5, 4.0]
    assert found.loc["hyperdarts-1", "collapse_rate"] == 0


def test_ranking_is_compared_with_the_table(table: BenchmarkTable):
    (row,) = truth.rankings(STUDY).to_dict("records")
    assert (row["arm"], row["seed"], row["n"]) == ("shared-weights", 2, 5)
    assert row["tau"] == pytest.approx(1 - 2 * 2 / (5 * 4) * 1)  # one of ten pairs is swapped


def test_error_of_an_arms_method_is_merged_with_its_final_accuracy(table: BenchmarkTable):
    found = truth.hypergradient_errors(STUDY).set_index(["arm", "seed"])
    assert found.loc[("darts-second", 2), "relative_error"] == len("DARTS (finite difference)")
    assert found.loc[("hyperdarts-1", 2), "relative_error"] == len("hypernetwork")
    assert found.loc[("darts-second", 20), "cifar10_test"] == table.lookup(GOOD)["cifar10_test"]


def compared(monkeypatch: pytest.MonkeyPatch, accuracies: dict[str, list[float]], *pairs: tuple[str, str, bool]):
    """Return the rows of primary comparisons between arms with these true accuracies, one per seed."""
    rows = [{"arm": a, "seed": s, "cifar10_test": x} for a, values in accuracies.items() for s, x in enumerate(values)]
    monkeypatch.setattr(truth, "final_cells", lambda study: pd.DataFrame(rows))
    named = [Comparison(arms=(one, other), known=known) for one, other, known in pairs]
    monkeypatch.setattr(truth, "primary_comparisons", lambda study: named)
    return truth.comparisons(STUDY).to_dict("records")


def test_one_common_seed_is_no_test(monkeypatch):
    (row,) = compared(monkeypatch, {"a": [90.0], "b": [91.0, 92.0]}, ("b", "a", False))
    assert row["n"] == 1 and math.isnan(row["p"]) and math.isnan(row["p_holm"])


def test_comparison_states_difference_test_and_what_could_have_shown(monkeypatch):
    a, b = [90.0, 91.0, 92.0, 93.0], [91.5, 92.0, 94.0, 94.5]
    (row,) = compared(monkeypatch, {"a": a, "b": b}, ("b", "a", False))
    assert (row["difference"], row["n"], row["p"], row["smallest_p"]) == (1.5, 4, 0.125, 0.125)
    assert row["low"] == pytest.approx(1.5 - 3.18245 * (1 / 6) ** 0.5 / 2, abs=1e-4)  # t, 3 degrees of freedom
    assert row["shows_from"] == pytest.approx(smallest_difference([1.5, 1.0, 2.0, 1.5]))


def test_a_known_difference_does_not_count_in_the_family(monkeypatch):
    good, bad = [94.0 + i / 10 for i in range(8)], [54.3] * 8
    pairs = ("good", "bad", True), ("good", "other", False), ("other", "bad", False)
    known, *others = compared(monkeypatch, {"good": good, "bad": bad, "other": [80.0] * 8}, *pairs)
    assert known["p"] == 2 / 2**8 and math.isnan(known["p_holm"])
    assert [row["p_holm"] for row in others] == [2 * 2 / 2**8] * 2


def test_a_table_of_another_benchmark_is_named(table: BenchmarkTable):
    skips = table.lookup(SKIPS)["cifar10_test"]
    assert f"NOT THE PUBLISHED ONE: the cell of six skip connections has {skips:.2f} in it" in truth.noise_note()


def test_reference_accuracies_are_those_of_the_table(table: BenchmarkTable, tmp_path: Path, monkeypatch):
    found = truth.reference_accuracies()
    assert found["best cell"] == table.cells["cifar10_test"].max() and found["random cell, mean"] == table.best_of(1)
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "nothing"))
    assert truth.reference_accuracies() == {"DARTS as published": 54.30}
    assert truth.rankings(STUDY).empty


def test_study_of_another_space_has_no_true_accuracies(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    assert truth.final_cells("none").empty and truth.by_arm("none").empty and truth.hypergradient_errors("none").empty
