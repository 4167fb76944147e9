"""Could a study have seen a difference? Decided edges, the positive control, power."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.results import MadeUpStudy
from helpers.small_table import random_table, write_table

from hdarts.data.nasbench201_table import BenchmarkTable
from hdarts.params import notebook_defaults
from hdarts.space import NASBENCH201
from hdarts.workbook.analysis import instrument
from hdarts.workbook.analysis.statistics import smallest_difference
from tests.helpers import ROOT

DEFAULTS = notebook_defaults(ROOT / "notebooks" / "03_search.ipynb")


def rows(*epochs: list[float]) -> list[torch.Tensor]:
    """Return mixture weights of one edge after each epoch."""
    return [torch.tensor([[values]], dtype=torch.float64) for values in epochs]


@pytest.mark.parametrize(
    ("epochs", "share"),
    [
        (rows([0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.91, 0.09]), 1.0),
        (rows([0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4]), 0.0),  # it changed
        (rows([0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.51, 0.49], [0.54, 0.46]), 1.0),
        (rows([0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.51, 0.49], [0.53, 0.52]), 0.0),  # it moved more
    ],
)
def test_an_edge_is_decided_if_it_stays_and_leads_by_more_than_it_moved(epochs: list[torch.Tensor], share: float):
    assert instrument.decided_share(epochs) == share


def test_the_smallest_difference_is_found_with_that_power():
    differences = np.array([-1.0, 0.5, 0.2, 1.4, -0.3, 0.9])
    found = smallest_difference(differences)
    rng, bound = np.random.default_rng(0), 2.5706  # two-sided 5 %, 5 degrees of freedom
    drawn = rng.normal(found, differences.std(ddof=1), (20_000, 6))
    t = drawn.mean(1) / (drawn.std(1, ddof=1) / 6**0.5)
    assert (np.abs(t) > bound).mean() == pytest.approx(0.8, abs=0.01)
    assert np.isnan(smallest_difference([1.0]))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpStudy:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HDARTS_DATA", str(write_table(tmp_path / "data")))
    return MadeUpStudy(tmp_path / "runs")


def add(study: MadeUpStudy, arm: str, seed: int, rank: int, lead: float, **changes) -> None:
    """Add a search whose alpha has a `lead` on one operation of each edge, and whose cell has a rank in the table."""
    table = BenchmarkTable.from_frame(random_table())
    cell = table.cells.sort_values("cifar10_test").index[rank]
    alpha = [
        {"epoch": epoch, "kind": "cell", "source": source, "node": node}
        | {name: lead * (name == "nor_conv_3x3") for name in NASBENCH201.operations}
        for epoch in range(7)
        for source, node in NASBENCH201.edges
    ]
    params = {**DEFAULTS, "method": "darts-first", "space": "nasbench201", "layers": 1, "search_seed": seed, **changes}
    tables = {"alpha": alpha, "truth": [{"epoch": 6, **table.lookup(cell)}], "timings": [{"epoch": 6, "seconds": 1.0}]}
    study.add("search", f"{arm}-{seed}", {"skips_normal": 0}, params=params, tables=tables, arm=arm, search_seed=seed)


def test_the_known_order_of_two_arms_shows_or_does_not(study: MadeUpStudy):
    decay = {"outer_term": "beta-decay", "outer_weight": 1.0}
    for seed in (2, 20, 200):
        add(study, "plain", seed, 0, 3.0)
        assert "none" in instrument.positive_control("mine") or seed > 2
        add(study, "decay", seed, -1 - seed % 3, 3.0, **decay)
    assert "the known order shows" in instrument.positive_control("mine")
    assert "(80 % power)" in instrument.positive_control("mine")


def test_where_the_known_order_does_not_show_null_results_mean_nothing(study: MadeUpStudy):
    for seed in (2, 20, 200):
        add(study, "plain", seed, -1, 3.0)
        add(study, "decay", seed, seed % 7, 3.0, outer_term="beta-decay", outer_weight=1.0)
    assert "does NOT show" in instrument.positive_control("mine")


def test_arms_that_decided_nothing_are_named(study: MadeUpStudy):
    add(study, "sure", 2, 0, 3.0)
    add(study, "flat", 2, 0, 0.0)
    table = instrument.decided_by_arm("mine").set_index("arm")
    assert table["decided_median"].to_dict() == {"sure": 1.0, "flat": 0.0}
    entropy = table["entropy_median"].to_dict()
    assert entropy["flat"] == pytest.approx(1)
    assert entropy["sure"] < 0.5
    assert "flat; there a cell rests on small differences" in instrument.decided_note(table.reset_index())
    assert "flat. Claims about their cells are not decidable here." in instrument.decided_note(table.reset_index())


def test_arms_with_another_budget_are_named(study: MadeUpStudy):
    for arm, epochs in (("one", 10), ("two", 10), ("long", 20)):
        add(study, arm, 2, 0, 1.0, epochs=epochs)
    note = instrument.unequal_budgets("mine")
    assert note.startswith("Arms with another budget than most (epochs 10, ") and note.endswith("): long (epochs 20).")
    add(study, "long", 2, 0, 1.0, epochs=10)
    assert instrument.unequal_budgets("mine") == ""
