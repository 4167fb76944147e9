"""The tables of notebook 08 have the values that are known in advance, and the page on the relatives is up to date."""

import numpy as np
import pytest
import torch

from hdarts.search.outer_term import beta_decay
from hdarts.space import NASBENCH201
from hdarts.workbook.analysis import relatives
from tests.helpers import ROOT

TINY = {"data": "generated", "limit": 80, "batch_size": 20, "crop_padding": 0, "space": "nasbench201"}


def test_the_page_has_the_parts_of_all_presets():
    table, text = relatives.parts_of_presets(), (ROOT / "docs" / "relatives.md").read_text()
    for name, *cells in table.itertuples(index=False):
        words = [f"| `{name}` |", *(f" {cell} |".replace("  ", " ") for cell in cells)]
        assert "".join(words) in text
    named = set(table["preset"])
    assert {"snas", "p-darts", "pc-darts", "dots", "darts-pt", "beta-darts", "gaea", "nasbench201-gdas"} <= named
    assert not named & {"darts-first", "nasbench201-official", "random", "wide"}


def test_parts_are_said_in_words():
    words = relatives.parts_of_presets().set_index("preset")
    assert words.loc["snas", "parametrisation"] == "gumbel, temperature 1 to 0.03"
    assert words.loc["snas", "alpha step"] == "alpha clip 10, levels one"
    assert words.loc["p-darts", "stages"] == "stages 3, operations per edge: all, 5, 3"
    assert words.loc["beta-darts", "outer term"] == "beta-decay, outer weight 0 to 25"
    assert set(words.loc["sdarts-rs"]) == {"darts", "", "uniform, perturbation 0.03 to 0.3"}


def test_rows_of_mixture_weights_have_the_sums_of_their_parametrisations():
    rows = relatives.weights_over_progress(0)
    for name, total in {"softmax": 1, "gumbel": 1, "dirichlet": 1, "group-softmax": 2}.items():
        weights = rows.loc[rows["parametrisation"] == name, "weight"].to_numpy()
        assert len(weights) and weights.reshape(-1, 5).sum(1) == pytest.approx(total)
    hard = rows.query("parametrisation == 'gumbel-hard-published' and value == 'sample'")
    assert set(hard["weight"].round(12)) == {0, 1}


def test_the_large_epsilon_is_the_gradient_of_beta_decay_at_equal_weights():
    alpha = torch.zeros(NASBENCH201.alpha_shape, dtype=torch.float64, requires_grad=True)
    (25 * beta_decay(alpha, alpha, None)).backward()
    arms = relatives.beta_decay_arms(25.0)
    assert alpha.grad is not None
    assert alpha.grad.flatten().tolist() == pytest.approx([arms["Adam, large epsilon"]["alpha_epsilon"]] * 30)
    assert arms["SGD"]["alpha_learning_rate"] * float(alpha.grad[0, 0, 0]) == pytest.approx(0.01)


def test_adversarial_points_have_at_least_the_loss_of_the_current_one():
    _, points = relatives.neighbourhoods(0, (0.1, 0.3), 5)
    shares = points[list(relatives.OPERATIONS)].to_numpy()
    assert shares.sum(axis=1) == pytest.approx(1) and shares.min() >= 0
    losses = {name: np.asarray(rows["loss"]) for name, rows in points.groupby("point")}
    assert {name: len(found) for name, found in losses.items()} == {"current": 2, "uniform": 10, "adversarial": 10}
    assert np.ptp(losses["current"]) == 0 and losses["adversarial"].min() >= losses["current"][0]


def test_removing_what_adds_nothing_loses_nothing_and_stages_keep_their_candidates(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    stages = [{"epochs": 1}, {"epochs": 1, "operations": 3}]
    run = relatives.short("mine", {**TINY, "method": "darts-first", "epochs": 2, "stages": stages})
    kept = relatives.candidates_by_stage(run)
    assert kept.groupby(["stage", "edge"])["weight"].count().to_list() == 6 * [5] + 6 * [3]
    lost = relatives.removals(run).set_index(["edge", "operation"])
    pruned = kept[(kept["stage"] == 2) & kept["weight"].isna()]
    nothing = [*zip(pruned["edge"], pruned["operation"], strict=True), *((edge, "none") for edge in range(6))]
    assert not np.any(lost.loc[nothing, "lost"]) and np.any(lost["lost"])
    moved = relatives.moves(run)
    assert sorted(moved) == [0, 1, 2] and float(moved[0].abs().max()) == 0
