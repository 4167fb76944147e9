"""The step that notebook 03 takes by hand is the first step of the search, bit for bit."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from hdarts import search as s
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.paths import with_defaults
from hdarts.runs.run import Run
from hdarts.workbook.analysis.first_step import first_step, relative_changes, step_weights

TINY: dict[str, Any] = {"data": "generated", "limit": 24, "image_size": 8, "space": "nasbench201"}
TINY |= {"channels": 2, "layers": 1, "batch_size": 12, "epochs": 1, "keep_checkpoint": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "hypernetwork", "hypernetwork": "linear", "noise": 0.05, "centred": True},
        {"method": "darts-second"},
        {"method": "neumann", "terms": 2, "fresh_batches": True, "part": "response"},
        {"method": "darts-first", "parametrisation": "gumbel"},
    ],
    ids=["hypernetwork", "darts-second", "neumann", "gumbel"],
)
def test_the_step_by_hand_is_that_of_a_search_of_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    params, device = with_defaults(SearchParams, TINY | changes), torch.device("cpu")
    data = s.load_splits(params, device)
    state, phase, inner, outer = first_step(params, data, s.make_supernet(params, data), device)
    hypergradient = phase.hypergradient(inner, outer)
    phase.alpha_step(s.part_of(hypergradient, params.part))
    step_weights(params, state, phase, inner)

    run = Run.open(params)
    list(s.search(params, run, data=data))
    logged = run.table("hypergradients").iloc[0]
    assert logged["direct_cell"] == pytest.approx(float(hypergradient.direct.norm()))
    saved = checkpoint.load(run.folder, identity(params))
    assert saved is not None
    assert torch.equal(saved["alpha"], state.alpha)
    for name, tensor in state.weights.tensors().items():
        assert torch.equal(saved["weights"][name], tensor), name


def test_relative_changes_are_shares_of_the_norm_of_each_part_in_each_cell():
    before = {
        "stem.0.weight": torch.tensor([3.0, 4.0]),
        "cells.0.0-1.nor_conv_3x3.0": torch.tensor([1.0, 0.0]),
        "cells.0.0-2.nor_conv_3x3.0": torch.tensor([0.0, 1.0]),
        "cells.10.preprocess0.weight": torch.zeros(2),
        "cells.2.preprocess1.weight": torch.tensor([2.0, 0.0]),
    }
    after = {name: 1.1 * tensor for name, tensor in before.items()}
    after["cells.0.0-2.nor_conv_3x3.0"] = before["cells.0.0-2.nor_conv_3x3.0"]
    table = relative_changes(before, after)
    assert list(table.columns) == ["0", "2", "10", "outside"]
    assert table.loc["stem", "outside"] == pytest.approx(10.0)
    assert table.loc["nor_conv_3x3", "0"] == pytest.approx(10.0 / 2**0.5)
    assert table.loc["preprocess", "2"] == pytest.approx(10.0)
    assert pd.isna(table.loc["preprocess", "10"]), "weights of norm 0 have no share"
    assert pd.isna(table.loc["stem", "0"])
