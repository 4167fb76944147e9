"""Notebook 10: weights of cells, their losses when trained alone, rankings, and the memory of hypernetworks."""

from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers.results import MadeUpStudy
from torch import Tensor

from hdarts.data import Batches, in_order
from hdarts.space import one_hot_weights
from hdarts.workbook.analysis import interference as i

TINY = {"data": "generated", "limit": 60, "batch_size": 15, "channels": 2, "search_seed": 3}
LOCAL, AT_CELL, GRAPH = "trajectory, w at its alpha", "trajectory, w at the cell", "global graph"


@pytest.fixture
def runs(tmp_path, monkeypatch) -> dict[str, Any]:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    sources = (i.SHARED, LOCAL, AT_CELL, GRAPH)
    return {source: i.train("mine", source, i.changes_of(source, 2) | TINY) for source in sources}


def test_cells_have_shared_local_or_generated_weights_and_their_losses_alone(runs) -> None:
    cells = i.drawn_cells(runs[i.SHARED], 3, 0)
    one, other = cells.cells[:2]
    differ = {source: not torch.equal(i.weights_of(run)(one), i.weights_of(run)(other)) for source, run in runs.items()}
    assert differ == {i.SHARED: False, LOCAL: False, AT_CELL: True, GRAPH: True}

    w, images = i.weights_of(runs[GRAPH])(one), cells.data.validation
    assert images is not None
    ((x, y),) = in_order(images, i.BATCH)
    logits = cells.problem.supernet.mixture(x, w, one_hot_weights(one))
    losses = cells.losses(one, w)
    assert losses["outer_loss"] == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-5)
    assert losses["outer_accuracy"] == pytest.approx(100 * float((logits.argmax(1) == y).float().mean()))

    (x, y), start = next(Batches(cells.data.train, 15).repeated(0, "fine-tuning", 0)), w.clone().requires_grad_()
    (slope,) = torch.autograd.grad(
        F.cross_entropy(cells.problem.supernet.mixture(x, start, one_hot_weights(one)), y), start
    )
    states: list[Tensor] = [state.clone() for state in cells.tuned(one, w, 2, 0.1, 0.1)]
    assert torch.equal(states[0], w) and len(states) == 3
    slope = (slope * min(1.0, 5 / float(slope.norm())) + 3e-4 * w).detach()
    torch.testing.assert_close(states[1], w - 0.1 * slope, rtol=1e-4, atol=1e-5)

    optima = i.own_optima(cells, runs[i.SHARED], 1)
    tuned = i.over_tuning(cells, GRAPH, runs[GRAPH], [1])
    assert tuned.loc[tuned["number"] == 0, "outer_loss"].iloc[0] == losses["outer_loss"]
    assert set(tuned["steps"]) == {0, 1} and len(tuned) == 6 and len(optima) == 6


def optima(*inner: tuple[float, float], accuracies: tuple[float, ...] = (10.0, 20.0, 30.0)) -> pd.DataFrame:
    """Inner losses of each cell, trained from new and from shared weights."""
    cells = [f"|{name}~0|+|{name}~0|none~1|+|{name}~0|none~1|none~2|" for name in ("none", "skip_connect")]
    cells.append(cells[1].replace("skip_connect", "nor_conv_3x3"))
    rows = [
        {"number": n, "cell": cells[n], "start": start, "inner_loss": loss, "outer_loss": loss + 1}
        | {"outer_accuracy": accuracies[n]}
        for n, both in enumerate(inner)
        for start, loss in zip(("new", "shared"), both, strict=True)
    ]
    return pd.DataFrame(rows)


def test_excess_is_that_over_the_better_training_and_its_uncertainty_their_distance() -> None:
    own = optima((1.0, 0.5), (2.0, 2.25))
    assert i.uncertainty(own) == 0.375 and i.best(own)["start"].tolist() == ["shared", "new"]
    rows = pd.DataFrame(
        [
            {"source": "a", "steps": 0, "number": n, "inner_loss": loss, "outer_loss": loss}
            for n, loss in enumerate((1.5, 4.0))
        ]
    )
    means = i.mean_excess(i.excess(rows, own))
    assert dict(zip(means["level"], means["excess"], strict=True)) == {"inner": 1.5, "outer": 0.5}


def test_rankings_are_compared_with_the_own_accuracies_and_with_the_table(monkeypatch) -> None:
    class Table:
        @classmethod
        def read(cls) -> "Table":
            return cls()

        def lookup(self, cell: str) -> dict[str, float]:
            return {"cifar10_test": 1.0 + ("skip" in cell) - ("none~0" in cell)}

    own = optima((1, 1), (1, 1), (1, 1))
    rows = pd.DataFrame(
        [{"source": "a", "steps": 0, "number": n, "outer_accuracy": -n, "cell": own["cell"][2 * n]} for n in range(3)]
    )
    monkeypatch.setattr(i, "table_path", lambda: None)
    (row,) = i.rankings(rows, own).to_dict("records")
    assert (row["source"], row["of"], row["tau"], row["n"]) == ("a", "own accuracy", -1, 3)
    monkeypatch.setattr(i, "table_path", lambda: "here")
    monkeypatch.setattr(i, "BenchmarkTable", Table)
    tau: Any = i.rankings(rows, own).set_index(["source", "of"])["tau"]
    assert tau["a", "true accuracy"] == pytest.approx(-1 / 3) and tau[i.OWN, "true accuracy"] == pytest.approx(1 / 3)


def test_tables_of_all_seeds_are_those_of_the_finished_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    for seed, result in ((3, {"cells": 2}), (5, {"cells": 2}), (7, None)):
        tables: dict[str, list[dict]] = {"excess": [{"source": "a", "excess": seed / 10}]}
        settings = {"seed": seed}
        study.add("interference", str(seed), result, "", settings, tables, "10_interference", seed=seed)
    found = i.of_all_seeds("mine", "excess")
    assert found.to_dict("records") == [{"source": "a", "excess": seed / 10, "seed": seed} for seed in (3, 5)]
    assert i.of_all_seeds("other", "excess").empty


def test_memory_at_the_thesis_size_is_that_of_the_counted_weights() -> None:
    sizes = i.at_thesis_size([1, 56])
    counted: Any = sizes.set_index(["form", "width_or_rank"])["weights"]
    assert round(counted["MLP", 56] / 1e6) == 113 and round(counted["graph", 56] / 1e5) == 1044
    assert round(counted["MLP, shared", 56] / 1e5) == 1044
    assert sizes["gib"].tolist() == [8 * n / 2**30 for n in sizes["weights"]]
