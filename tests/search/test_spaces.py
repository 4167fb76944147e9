"""Searches in the named spaces."""

from pathlib import Path

import pandas as pd
import pytest

from hdarts.params import SearchParams
from hdarts.runs.paths import with_defaults
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.space import SPACES, Genotype

SMALL = {"limit": 80, "channels": 2, "batch_size": 20, "method": "darts-first", "discretise_epochs": 1}


def searched(name: str, epochs: int, run: str) -> tuple[Run, pd.DataFrame]:
    layers = 1 if "nasbench201" in name else 3
    params = with_defaults(SearchParams, {**SMALL, "space": name, "layers": layers, "epochs": epochs, "run": run})
    return (of := Run.open(params)), pd.DataFrame(search(params, of))


@pytest.mark.parametrize("name", [name for name in SPACES if name not in ("darts", "nasbench201")])
def test_a_search_ends_with_a_cell_of_candidates(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    run, rows = searched(name, 1, "one")
    cell, space = Genotype.from_json((run.folder / "genotype.json").read_text()), SPACES[name]
    mask = space.mask
    for k, edges in enumerate(cell.cells.values()):
        for (operation, source), node in zip(edges, space.targets, strict=True):
            at = space.edges.index((source, node)), space.operations.index(operation)
            assert mask is None or mask[k][at]
    assert not rows["discretised_accuracy"].isna().to_numpy().any()


def test_the_noise_of_a_search_is_that_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    one, two = (searched("s4", 2, run)[0].table("alpha") for run in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
